package detector

import (
	"math"
	"math/bits"
	"slices"
	"time"

	"github.com/platelet-sdn/platelet/detector/bounded"
	"github.com/platelet-sdn/platelet/flowcollector/flow"
)

// LateralConfig tunes the detection of hosts that begin to administer others.
// Each new pair of client and administered service is an event of a Poisson
// process; CUSUM (Page 1954) tests its rate: S <- max(0, S - (r1-r0)*dt +
// ln(r1/r0)), alarm when S > Threshold.
type LateralConfig struct {
	// Normal is how many new pairs an hour any host may begin without
	// notice, Ratio how many times as many are looked for.
	Normal, Ratio float64
	// Threshold is the alarm level: a false alarm is expected once in
	// exp(Threshold) such intervals at least (Lorden, Annals of Mathematical
	// Statistics 42, 1971), if new pairs are as independent as the test
	// assumes.
	Threshold float64
	// Most bounds what a host's history may raise Normal to.
	Most float64
	// Learn is how long it takes to know who administers whom. Before that
	// every pair is new, and what counts is only who tries several ways into
	// the same host.
	Learn time.Duration
	// Entered is how long after a host was entered its own new pairs are
	// taken for the continuation.
	Entered time.Duration
	// Ports are services of administration besides the usual ones.
	Ports []uint16
	// Hosts bounds the hosts that are followed, 530 bytes each.
	Hosts int
}

func defaultLateral() LateralConfig {
	return LateralConfig{Normal: 1, Ratio: 8, Threshold: 9.2, Most: 60, Learn: 24 * time.Hour, Entered: time.Hour, Hosts: 1 << 13}
}

func (c *LateralConfig) valid() bool {
	return c.Normal > 0 && c.Ratio > 1 && c.Threshold > 0 && c.Most >= c.Normal && c.Learn >= 0 && c.Entered >= 0 && c.Hosts > 0
}

// way is a way into a host. Services that one program uses together are one.
type way uint8

const (
	wayShell way = 1 << iota
	wayTelnet
	wayWindows // RPC, file sharing and service control
	wayDesktop
	wayScreen // VNC
	wayRemoting
	wayOther
)

// wayOf tells by which way a service lets administrators in, 0 if it is none.
func (c *LateralConfig) wayOf(k contactKey) way {
	if k.proto() != flow.ProtoTCP {
		return 0
	}
	switch port := k.port(); port {
	case 22:
		return wayShell
	case 23:
		return wayTelnet
	case 135, 139, 445:
		return wayWindows
	case 3389:
		return wayDesktop
	case 5900:
		return wayScreen
	case 5985, 5986:
		return wayRemoting
	default:
		if slices.Contains(c.Ports, port) {
			return wayOther
		}
	}
	return 0
}

// movedTo is how many of its latest targets are remembered of a mover.
const movedTo = 16

// mover is what is remembered of one host that administers, or that is entered.
type mover struct {
	seen, at  int64   // latest record; when s last changed
	s         float64 // the statistic
	base      float64 // learned new pairs per hour
	first     int64   // of the episode
	pairs     uint32  // new ones in the episode
	ever      uint32  // new ones before
	accepted  uint32
	several   uint32 // of these, further ways into a host
	ways      way
	targets   [movedTo]ways
	filled    int
	next      int
	entered   int64 // when another host began to administer this one
	from      address
	depth     uint8 // hosts in a row that were entered and went on
	continued bool  // it went on after it was entered
	firing    bool
}

// ways are those that were tried into one host.
type ways struct {
	host address
	set  way
}

// lateralWatch finds hosts that begin to administer others, and chains of them:
// from host to host as the graph of logins shows it (Bowman et al., Detecting
// lateral movement in enterprise computer networks with unsupervised graph AI,
// RAID 2020; Ho et al., Hopper, USENIX Security 2021). Successes count as much
// as failures: whoever stole a password is let in.
type lateralWatch struct {
	e      *Engine
	movers *bounded.Table[address, mover]
}

func newLateralWatch(e *Engine) *lateralWatch {
	w := &lateralWatch{e: e}
	w.movers = bounded.New[address](e.cfg.Lateral.Hosts, func(m *mover) int64 {
		switch {
		case m.firing:
			return rank(3, m.seen)
		case m.s > 0:
			return rank(2, m.seen)
		case m.ever > 0:
			return rank(1, m.seen)
		}
		return rank(0, m.seen)
	})
	return w
}

func (w *lateralWatch) edge(ev *edgeEvent) {
	if ev.what != edgeOpened && ev.what != edgeAccepted {
		return
	}
	c := &w.e.cfg.Lateral
	way := c.wayOf(ev.key)
	if way == 0 || !w.e.inside(ev.key.src) || !w.e.inside(ev.key.dst) {
		return
	}
	if ev.what == edgeAccepted {
		if ev.edge.accepts == 1 {
			w.accepted(ev)
		}
		return
	}
	if !ev.edge.lateral.known {
		w.pair(ev, way)
	}
}

// lateralEdge is what an edge remembers for this detector.
type lateralEdge struct {
	known   bool // it belongs to who administers whom
	tainted bool // it began in an episode that was found
}

// settle is how old a pair must be that is used again without suspicion to
// count as known. One that began in an attack waits for as long as it takes
// to learn a network, or coming back would be enough to be learned.
const settle = 10 * time.Minute

// settled reports whether a pair is known from now on.
func (w *lateralWatch) settled(m *mover, ev *edgeEvent) bool {
	x, age := &ev.edge.lateral, settle
	if x.tainted {
		age = w.e.cfg.Lateral.Learn
	}
	x.tainted = x.tainted || m.firing
	if ev.now-ev.edge.first < int64(age) || m.firing || m.s >= w.e.cfg.Lateral.Threshold/2 {
		return false
	}
	x.known = true
	return true
}

func (w *lateralWatch) mover(a address) *mover {
	now := w.e.clock.now
	_, m, fresh := w.movers.Put(a, rank(0, now))
	if m == nil {
		return nil
	}
	if fresh {
		m.at = now
	}
	m.seen = now
	return m
}

// pair takes a client that opens a service of administration which it is not
// known to use.
func (w *lateralWatch) pair(ev *edgeEvent, way way) {
	m := w.mover(ev.key.src)
	if m == nil {
		return
	}
	c := &w.e.cfg.Lateral
	normal := w.pass(m)
	if w.settled(m, ev) {
		return
	}
	m.ways |= way
	weight := w.weigh(m, ev, way)
	if ev.again && weight <= 0 {
		return
	}
	if m.pairs == 0 {
		m.first = ev.now
	}
	m.pairs++
	if m.s < c.Threshold/2 { // nothing is learned while suspicious
		m.base = min(m.base+float64(time.Hour)/float64(habitTau), c.Most)
	}
	if weight <= 0 {
		return
	}
	if m.s == 0 {
		w.inherit(m)
	}
	m.s = min(m.s+weight*math.Log(c.Ratio), 2*c.Threshold)
	w.decide(ev, m, normal)
}

const (
	// habitTau is the time constant of how many new pairs are normal for a
	// host.
	habitTau = 24 * time.Hour
	// episode is how long a host without suspicion must begin no new pair
	// before it is forgotten which it began.
	episode = 10 * time.Minute
)

// pass lets time pass for a host, and returns how many new pairs per hour are
// normal for it.
func (w *lateralWatch) pass(m *mover) float64 {
	c := &w.e.cfg.Lateral
	dt := float64(w.e.clock.now - m.at)
	m.at = w.e.clock.now
	m.base *= math.Exp(-dt / float64(habitTau))
	normal := min(max(c.Normal, 2*m.base), c.Most)
	m.s = max(m.s-dt/float64(time.Hour)*normal*(c.Ratio-1), 0)
	if m.s == 0 && !m.firing && dt > float64(episode) {
		m.over()
	}
	return normal
}

// weigh says how much a new pair counts.
func (w *lateralWatch) weigh(m *mover, ev *edgeEvent, way way) float64 {
	weight := m.try(ev.key.dst, way)
	if weight == 0 {
		return 0 // another port of the same way
	}
	if weight > 1 {
		m.several++
	}
	if w.e.clock.now-w.e.clock.start < int64(w.e.cfg.Lateral.Learn) {
		// The first way is what every administrator does, and two are what
		// monitors look at.
		weight--
		if bits.OnesCount8(uint8(m.ways)) < 3 {
			weight = 0
		}
	} else {
		weight = 1
		if w.goesOn(m) {
			weight = 2
		}
	}
	return weight
}

// try notes a way into a host; it returns 0 when it was tried lately, 1 for the
// first way and 2 for a further one.
func (m *mover) try(host address, way way) float64 {
	for i := range m.filled {
		t := &m.targets[i]
		if t.host != host {
			continue
		}
		if t.set&way != 0 {
			return 0
		}
		t.set |= way
		return 2
	}
	m.targets[m.next] = ways{host, way}
	m.next = (m.next + 1) % movedTo
	m.filled = min(m.filled+1, movedTo)
	return 1
}

// goesOn reports whether a host was entered not long ago and had never
// administered others before.
func (w *lateralWatch) goesOn(m *mover) bool {
	return m.entered != 0 && m.ever == 0 && w.e.clock.now-m.entered < int64(w.e.cfg.Lateral.Entered)
}

// inherit begins a host's statistic with half of that of the host that entered
// it: who goes on where another left off needs less evidence of its own.
func (w *lateralWatch) inherit(m *mover) {
	if !w.goesOn(m) {
		return
	}
	_, from := w.movers.Find(m.from)
	if from == nil || from.s < w.e.cfg.Lateral.Threshold/2 && !from.firing {
		return
	}
	m.s = w.e.cfg.Lateral.Threshold / 2
	m.depth, m.continued = min(from.depth, math.MaxUint8-1)+1, true
}

// accepted notes that a host is administered by one that did not before.
func (w *lateralWatch) accepted(ev *edgeEvent) {
	if _, m := w.movers.Find(ev.key.src); m != nil {
		m.accepted++
	}
	if t := w.mover(ev.key.dst); t != nil {
		if _, from := w.movers.Find(t.from); from != nil && from.firing && w.goesOn(t) {
			return // the entrance that is already known for one
		}
		t.entered, t.from = ev.now, ev.key.src
	}
}

func (w *lateralWatch) decide(ev *edgeEvent, m *mover, normal float64) {
	c := &w.e.cfg.Lateral
	state := StateFiring
	// Many ways into one host, none of which opens, is what a scan of its
	// ports looks like.
	scan := m.filled < 2 && m.accepted < 2
	if (m.s < c.Threshold || scan) && !m.firing {
		if !w.e.cfg.EmitPending || m.s < c.Threshold/2 {
			return
		}
		state = StatePending
	}
	if state == StateFiring && !m.firing {
		m.firing = true
		w.taint(m, ev.key.src)
	}
	r := report{
		key:   findingKey{kind: KindLateralMovement, host: ev.key.src},
		state: state, first: m.first, owner: w, host: ev.key.src,
		proto: ev.key.proto(), records: int64(m.pairs + m.accepted),
		score: 1 - math.Exp(-3*m.s/c.Threshold), confidence: 0.9,
	}
	if ev.now-w.e.clock.start < int64(c.Learn) {
		r.confidence = 0.7 // who administers whom is not known yet
	}
	for i := range m.filled {
		r.victims = append(r.victims, m.targets[(m.next+i)%m.filled].host)
	}
	hours := max(float64(ev.now-m.first)/float64(time.Hour), 1)
	r.evidence = []Evidence{
		{"new_admin_pairs", float64(m.pairs), normal * hours, 0.6},
		{"further_ways_into_a_host", float64(m.several), 0, 0.3},
		{"admin_targets", float64(m.filled), 1, 0.1},
		{"accepted_sessions", float64(m.accepted), 0, 0},
		{"movement_statistic", m.s, 0, 0},
	}
	r.limits = []Limit{{"movement_statistic", justBelow(c.Threshold)}}
	if m.continued {
		r.evidence = append(r.evidence, Evidence{"hosts_in_a_chain", float64(m.depth) + 1, 1, 0})
	}
	w.e.ledger.report(&r)
}

// taint keeps the pairs of an episode that is found from being learned.
func (w *lateralWatch) taint(m *mover, client address) {
	ports := append([]uint16{22, 23, 135, 139, 445, 3389, 5900, 5985, 5986}, w.e.cfg.Lateral.Ports...)
	for i := range m.filled {
		for _, port := range ports {
			if _, x := w.e.edges.table.Find(contactKeyOf(client, m.targets[i].host, port, flow.ProtoTCP)); x != nil {
				x.lateral.tainted = x.lateral.tainted || !x.lateral.known
			}
		}
	}
}

// resolved begins the host's next episode.
func (w *lateralWatch) resolved(k findingKey) {
	if _, m := w.movers.Find(k.host); m != nil {
		m.firing, m.s = false, 0
		m.over()
	}
}

// over ends an episode.
func (m *mover) over() {
	m.ever += m.pairs
	m.pairs, m.accepted, m.several, m.ways, m.filled, m.next, m.continued = 0, 0, 0, 0, 0, 0, false
}

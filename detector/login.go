package detector

import (
	"math"
	"time"

	"github.com/platelet-sdn/platelet/detector/bounded"
	"github.com/platelet-sdn/platelet/flowcollector/flow"
)

// LoginConfig tunes the detection of guessed passwords. It counts sessions
// that look like a login that failed, per client and service, against what
// drains: more than Sessions net of Drain per minute decide. The counts are
// those with which Zeek's policy of guessed passwords begins (30 within 30
// minutes, policy/protocols/ssh/detect-bruteforcing), the bound on size is the
// idea of its heuristic for failed logins (authentication_data_size).
type LoginConfig struct {
	// Sessions that decide: where their sizes are known, and where nothing
	// but their begin is.
	Sessions, Blind float64
	// Drain is how many sessions per minute anybody may have.
	Drain float64
	// Bytes bounds, per direction, a session in which nobody got in. A
	// larger one shows that the client knows a password.
	Bytes float64
	// Spacing ends a series: who comes back later than that is not guessing
	// fast, whatever else.
	Spacing time.Duration
	// Knocks is how many attempts from outside at a closed login service
	// are reported.
	Knocks uint32
	// Clients bounds the clients and services followed at once, 168 bytes
	// each.
	Clients int
}

func defaultLogin() LoginConfig {
	return LoginConfig{Sessions: 30, Blind: 60, Drain: 0.5, Bytes: 8 << 10, Spacing: 2 * time.Minute, Knocks: 10, Clients: 1 << 14}
}

func (c *LoginConfig) valid() bool {
	return c.Sessions >= 2 && c.Blind >= c.Sessions && c.Drain > 0 && c.Bytes > 0 && c.Spacing > 0 && c.Knocks > 1 && c.Clients > 0
}

// door is how a service lets clients in.
type door uint8

const (
	doorNone door = iota
	// doorPerson is for people and jobs, whose sessions are few and long.
	doorPerson
	// doorPool is for programs, which come often and stay as long as a
	// question takes: only sizes that are known and all the same tell
	// guessing from work there.
	doorPool
)

// doorOf tells the services that ask for a password by their ports (IANA).
// Services on other ports, and HTTP, where a session may be anything, are
// judged by the refusals in their payload alone.
func doorOf(k contactKey) door {
	if k.proto() != flow.ProtoTCP {
		return doorNone
	}
	switch k.port() {
	case 21, 22, 23, 139, 445, 512, 513, 514, 990, 992, 2222, 2323, 3389, 5900, 5901, 5902, 5903, 5985, 5986:
		return doorPerson
	case 25, 110, 143, 389, 465, 587, 636, 993, 995, 1433, 1521, 3306, 5432, 6379, 27017:
		return doorPool
	}
	return doorNone
}

const (
	// least is what a client says at least in a session in which it tries a
	// password, in bytes: a name and the password, and where the protocol is
	// encrypted its half of the key exchange. Monitors that read a banner and
	// leave say less.
	least, leastEncrypted = 24, 400
	// alike is how far the answer to one guess is from those to others,
	// relative, beyond alikeBytes.
	alike, alikeBytes = 0.15, 64
	// steady is the relative deviation of intervals below which a clock
	// makes them; a person's guessing tool is as steady only when it is
	// faster than steadyFrom.
	steady, steadyFrom = 0.05, 20 * float64(time.Second)
	// proofOfWork is how many guesses one session takes back that shows that
	// the client knows a password.
	proofOfWork = 5
	// slowWeight and foreignWeight are what a session counts that comes
	// later than Spacing, from inside and from outside.
	slowWeight, foreignWeight = 0.05, 0.5
)

func leastOf(port uint16) float64 {
	switch port {
	case 22, 2222, 465, 636, 990, 992, 993, 995, 3389, 5986:
		return leastEncrypted
	}
	return least
}

// loginEdge is what an edge remembers for this detector.
type loginEdge struct {
	down, up  float64 // bytes of the edge when the latest session began
	at        int64   // when that was
	gap, jerk float32 // smoothed interval and its deviation, nanoseconds
	answer    float32 // smoothed bytes of the server per session
	closes    uint32  // of the edge when the latest session began
	sessions  uint32
	knocked   uint32 // attempts that were reported and are over
	beside    bool   // the latest session began before the one before ended
	greeted   bool   // its protocol is one of logins, whatever the port
}

// guessKey names who guesses at which service, wherever it is.
type guessKey struct {
	client  address
	service uint64
}

// guesser is the evidence against a client.
type guesser struct {
	first, last int64
	net         float64 // sessions net of what drains
	sessions    uint32  // in the episode
	alike       uint32  // of these, whose answers were of the same size
	sized       uint32  // of these, whose sizes are known
	grown       float32 // bytes of the largest session after it was found
	down, up    float64 // bytes of the episode, scaled
	samples     uint32  // records behind these
	targets     sketch64
	// refusals counts answers that refuse a login, scaled, net of what
	// drains; doubt is the log likelihood ratio of all such answers.
	refusals, doubt float64
	refused         uint32 // of these, in records
	firing          bool
	records         int64
}

// loginWatch finds who guesses passwords: brute force on one account, and
// spraying over many hosts. After Hellemans et al., SSHCure: a flow-based SSH
// intrusion detection system (AIMS 2012), which knows the phase of guessing by
// the equal number of packets per flow, and Javed and Paxson, Detecting
// stealthy, distributed SSH brute-forcing (CCS 2013), for sites as a whole.
type loginWatch struct {
	e        *Engine
	guessers *bounded.Table[guessKey, guesser]
}

func newLoginWatch(e *Engine) *loginWatch {
	w := &loginWatch{e: e}
	w.guessers = bounded.New[guessKey](e.cfg.Login.Clients, func(g *guesser) int64 {
		switch {
		case g.firing:
			return rank(3, g.last)
		case e.clock.now-g.last > hostIdle:
			return rank(0, g.last)
		}
		return rank(int64(min(g.net/8, 2)), g.last)
	})
	return w
}

// edge counts sessions as they begin; a session's size is known when the next
// one begins, or at once in logs.
func (w *loginWatch) edge(ev *edgeEvent) {
	d := doorOf(ev.key)
	if ev.r.Login != flow.LoginUnknown {
		w.hear(ev)
	}
	if d == doorNone && ev.edge.login.greeted {
		d = doorPerson
	}
	if d == doorNone {
		return
	}
	switch ev.what {
	case edgeAccepted:
		if ev.r.Proto == flow.ProtoTCP && !w.repeated(ev) {
			w.session(ev, d)
		}
	case edgeOpened, edgeFailed:
		w.knock(ev, d)
	case edgeTraffic:
		w.grow(ev)
	case edgeClosed:
	}
}

// repeated reports whether an accepting packet is one that was counted, sent
// again or sampled by another telemetry.
func (w *loginWatch) repeated(ev *edgeEvent) bool {
	x := &ev.edge.login
	if ev.r.Rate > 1 || ev.r.Source != flow.SourceLog && x.sessions >= ev.edge.opens {
		return true
	}
	x.sessions++
	return false
}

// session counts one session.
func (w *loginWatch) session(ev *edgeEvent, d door) {
	x := &ev.edge.login
	size, known := w.size(ev)
	gap := float64(ev.now - x.at)
	first := x.at == 0
	x.at = ev.now
	g := w.guesser(ev)
	if g == nil {
		return
	}
	g.targets.add(w.e.keys.address(ev.key.dst))
	weight := w.weigh(g, ev, d, size, known)
	switch {
	case !first:
		weight *= w.pace(ev, x, gap)
	case !known && !g.sampled(ev.key.port()):
		weight = 0 // a command on every host begins like this
	default:
		weight /= 2
	}
	w.count(g, weight)
	w.decide(ev, g, d)
}

// transfer is what a session carried, in bytes.
type transfer struct{ up, down float64 }

// size returns the size of the latest session that is known: of this one in
// a log, else of the one before. Known is false when there is none, when it
// was not over, or when samples do not say.
func (w *loginWatch) size(ev *edgeEvent) (t transfer, known bool) {
	x, e := &ev.edge.login, ev.edge
	t = transfer{e.up.bytes - x.up, e.down.bytes - x.down}
	// Sessions side by side cannot be told apart by the bytes of the edge.
	overlap, beside := x.closes == e.closes, x.beside
	x.up, x.down, x.closes, x.beside = e.up.bytes, e.down.bytes, e.closes, overlap
	if ev.r.Source == flow.SourceLog {
		return t, t.up+t.down > 0
	}
	return t, ev.r.Source == flow.SourcePacket && x.at != 0 && !overlap && !beside
}

// guesser finds or makes the evidence of a client, and lets time pass in it.
func (w *loginWatch) guesser(ev *edgeEvent) *guesser {
	_, g, fresh := w.guessers.Put(guessKey{ev.key.src, ev.key.service}, rank(0, ev.now))
	if g == nil {
		return nil
	}
	if fresh {
		g.first, g.last = ev.now, ev.now
	}
	drained := float64(ev.now-g.last) / float64(time.Minute) * w.e.cfg.Login.Drain
	g.net, g.refusals = max(g.net-drained, 0), max(g.refusals-drained, 0)
	g.last = ev.now
	if g.net+g.refusals <= 0 && !g.firing {
		*g = guesser{first: ev.now, last: ev.now}
	}
	return g
}

// weigh says how much a session looks like a guess, by its size.
func (w *loginWatch) weigh(g *guesser, ev *edgeEvent, d door, t transfer, known bool) float64 {
	x := &ev.edge.login
	if !known {
		if d == doorPool {
			return 0
		}
		return 1
	}
	limit := w.e.cfg.Login.Bytes
	switch {
	case t.up > limit || t.down > limit:
		if g.firing {
			g.grown = max(g.grown, float32(t.up+t.down))
		}
		x.answer = 0
		return -proofOfWork
	case t.up < leastOf(ev.key.port()) || t.down <= 0:
		return 0 // a port check
	}
	g.sized++
	same := x.answer != 0 && math.Abs(t.down-float64(x.answer)) <= alike*float64(x.answer)+alikeBytes
	if x.answer == 0 {
		x.answer = float32(t.down)
	}
	x.answer += (float32(t.down) - x.answer) / 8
	switch {
	case same:
		g.alike++
		return 1
	case d == doorPool:
		return -1 // programs' answers differ
	}
	return 0.5
}

// pace says how much a session counts by when it comes. What a clock starts is
// a job's, unless it comes from outside.
func (w *loginWatch) pace(ev *edgeEvent, x *loginEdge, gap float64) float64 {
	if x.gap == 0 {
		x.gap, x.jerk = float32(gap), float32(gap)
	}
	off := math.Abs(gap - float64(x.gap))
	x.gap += (float32(gap) - x.gap) / 8
	x.jerk += (float32(off) - x.jerk) / 8
	foreign := !w.e.inside(ev.key.src) && w.e.inside(ev.key.dst)
	regular := x.jerk < steady*x.gap && float64(x.gap) >= steadyFrom
	switch {
	case gap > float64(w.e.cfg.Login.Spacing) && foreign:
		return foreignWeight
	case gap > float64(w.e.cfg.Login.Spacing):
		return slowWeight
	case regular && !foreign:
		return 0
	}
	return 1
}

// count adds a session. A session that proves a password takes more back than
// it is.
func (w *loginWatch) count(g *guesser, weight float64) {
	g.net = min(max(g.net+weight, 0), 2*w.e.cfg.Login.Blind)
	if weight > 0 {
		g.sessions++
		g.records++
	}
}

// grow adds what packets tell of sessions, sampled or not, and notices one that goes on after
// the guessing.
func (w *loginWatch) grow(ev *edgeEvent) {
	_, g := w.guessers.Find(guessKey{ev.key.src, ev.key.service})
	if g == nil || ev.r.Source == flow.SourceLog {
		return
	}
	g.samples++
	if ev.up {
		g.up += ev.r.ScaledBytes()
	} else {
		g.down += ev.r.ScaledBytes()
	}
	if e := ev.edge; g.firing {
		size := e.up.bytes + e.down.bytes - e.login.up - e.login.down
		if size > 2*w.e.cfg.Login.Bytes {
			g.grown = max(g.grown, float32(size))
		}
	}
}

// enoughSamples is how many sampled packets tell the mean size of a session to
// about a third.
const enoughSamples = 8

// sampled reports whether packets say that sessions are, on average, neither
// port checks nor empty.
func (g *guesser) sampled(port uint16) bool {
	n := float64(g.sessions)
	return g.samples >= enoughSamples && g.up >= leastOf(port)*n && g.down > 0
}

// Of a client that is let in in the end, half of the answers are refusals (it
// asks without a password first), of one that guesses nearly all. refusedDoubt
// is the log likelihood ratio that decides: one in a hundred.
const (
	refusedHonest, refusedGuessing = 0.5, 0.98
	refusedDoubt                   = 4.6
)

// hear takes what the server says about logins. A client whose password has
// expired is refused as steadily as one that guesses, so that the number
// counts as well; it cannot be told from one that guesses fast.
func (w *loginWatch) hear(ev *edgeEvent) {
	if ev.r.Login == flow.LoginGreeting {
		ev.edge.login.greeted = true
		return
	}
	if ev.up {
		return // only servers say so
	}
	if _, g := w.guessers.Find(guessKey{ev.key.src, ev.key.service}); g == nil && ev.r.Login != flow.LoginRefused {
		return
	}
	g := w.guesser(ev)
	if g == nil {
		return
	}
	if ev.r.Login == flow.LoginAnswered {
		g.doubt = max(g.doubt+math.Log((1-refusedGuessing)/(1-refusedHonest)), 0)
		return
	}
	g.targets.add(w.e.hash(ev.key.dst.lo ^ mix(ev.key.dst.hi)))
	g.doubt = min(g.doubt+math.Log(refusedGuessing/refusedHonest), 2*refusedDoubt)
	g.refusals = min(g.refusals+ev.r.ScaledPackets(), 2*w.e.cfg.Login.Sessions)
	g.refused++
	g.records++
	if g.firing || g.refusals >= w.e.cfg.Login.Sessions && g.doubt >= refusedDoubt {
		g.firing = true
		w.raise(ev, g, StateFiring, w.e.cfg.Login.Sessions)
	}
}

// decide compares with the threshold.
func (w *loginWatch) decide(ev *edgeEvent, g *guesser, d door) {
	c := &w.e.cfg.Login
	threshold := c.Blind
	if 2*g.sized >= g.sessions || g.sampled(ev.key.port()) {
		threshold = c.Sessions
	}
	if d == doorPool {
		threshold = 2 * c.Sessions
		if float64(g.alike) < 0.9*float64(g.sized) {
			return
		}
	}
	state := StateFiring
	switch {
	case g.net < threshold && !g.firing:
		if !w.e.cfg.EmitPending || g.net < threshold/2 {
			return
		}
		state = StatePending
	case g.samples >= enoughSamples && max(g.up, g.down) > c.Bytes*float64(g.sessions):
		g.net = 0 // clearly at work, on average
		return
	}
	g.firing = g.firing || state == StateFiring
	w.raise(ev, g, state, threshold)
}

func (w *loginWatch) raise(ev *edgeEvent, g *guesser, state State, threshold float64) {
	r := report{
		key:   findingKey{kind: KindBruteForce, host: ev.key.src, service: ev.key.service},
		state: state, first: g.first, owner: w, host: ev.key.src, victims: []address{ev.key.dst},
		proto: ev.key.proto(), port: ev.key.port(), records: g.records,
		score: 1 - math.Exp(-3*g.net/threshold), confidence: 0.7,
	}
	told := g.doubt >= refusedDoubt // by the server itself
	known := float64(g.sized) / float64(max(g.sessions, 1))
	switch {
	case told:
		known, r.confidence = 1, 0.95
		r.score = max(r.score, 1-math.Exp(-3*g.refusals/threshold))
	case known > 0.5:
		r.confidence = 0.9
	case g.sampled(ev.key.port()):
		r.confidence = 0.8
	}
	// Without sizes, work that comes in bursts looks the same: no vote.
	r.score *= 0.9 + 0.1*min(known, 1)
	targets := math.Round(g.targets.estimate())
	if targets >= 2 {
		r.technique = "T1110.003" // Password Spraying
	}
	per := float64(g.sessions) / max(float64(ev.now-g.first)/float64(time.Minute), 1)
	if told {
		r.evidence = []Evidence{{"refused_logins", g.refusals, 0, 1}}
		r.limits = []Limit{{"refused_logins", justBelow(w.e.cfg.Login.Sessions)}}
		w.e.ledger.report(&r)
		return
	}
	r.evidence = []Evidence{
		{"login_sessions", float64(g.sessions), w.e.cfg.Login.Drain * float64(ev.now-g.first) / float64(time.Minute), 0.7},
		{"login_sessions_per_minute", per, w.e.cfg.Login.Drain, 0.1},
		{"equal_answers", float64(g.alike), float64(g.sessions) / 4, 0.2 * known},
		{"login_targets", targets, 1, 0},
		{"login_sessions_above_normal", g.net, 0, 0},
	}
	r.limits = []Limit{{"login_sessions_above_normal", justBelow(threshold)}}
	if g.grown > 0 {
		r.evidence = append(r.evidence, Evidence{"session_after_guesses_bytes", float64(g.grown), w.e.cfg.Login.Bytes, 0})
	}
	w.e.ledger.report(&r)
}

// isFileService tells services that clients look for on their own and for ever,
// because a drive was once mapped.
func isFileService(port uint16) bool { return port == 139 || port == 445 }

// knock reports who tries again and again to reach a login service from
// outside that never let it in. Little is known then: someone who forgot that
// a server is gone does the same, if not for long.
func (w *loginWatch) knock(ev *edgeEvent, d door) {
	x := ev.edge
	if d != doorPerson || x.accepts > 0 || isFileService(ev.key.port()) || w.e.inside(ev.key.src) || ev.key.src.near(ev.key.dst) {
		return
	}
	tries := x.fails
	if x.opens > 0 && ev.r.Source != flow.SourceLog {
		tries = max(tries, x.opens-1) // the last may still be answered
	}
	if tries < x.login.knocked+w.e.cfg.Login.Knocks {
		return
	}
	n := float64(tries - x.login.knocked)
	w.e.ledger.report(&report{
		key:   findingKey{kind: KindBruteForce, host: ev.key.src, peer: ev.key.dst, service: ev.key.service},
		state: StateFiring, first: x.first, owner: w, host: ev.key.src, victims: []address{ev.key.dst},
		proto: ev.key.proto(), port: ev.key.port(), records: int64(tries), severity: SeverityLow,
		score: 0.9 * (1 - math.Exp(-3*n/float64(w.e.cfg.Login.Knocks))), confidence: 0.7,
		evidence: []Evidence{{"failed_login_contacts", n, 0, 1}},
		limits:   []Limit{{"failed_login_contacts", float64(w.e.cfg.Login.Knocks) - 1}},
	})
}

// resolved starts afresh: what was reported does not count again.
func (w *loginWatch) resolved(k findingKey) {
	if k.peer != (address{}) {
		if _, x := w.e.edges.table.Find(contactKey{k.host, k.peer, k.service}); x != nil {
			x.login.knocked = max(x.fails, x.opens)
		}
		return
	}
	if i, g := w.guessers.Find(guessKey{k.host, k.service}); g != nil {
		w.guessers.Delete(i)
	}
}

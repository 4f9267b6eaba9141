package response

import (
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/platelet-sdn/platelet/controller/response/exposure"
	"github.com/platelet-sdn/platelet/flowcollector/flow"
)

// Watch counts, behind the enforcement point, what still passes of contained
// traffic, and whether known-good conversations of everyone else go on. The
// tap stands behind the emergency rules, so a record of the tap is a packet
// that passed; a record with SignalDropped is one that did not. It also keeps what
// was said in the last hour.
type Watch struct {
	set     atomic.Pointer[watchSet]
	traffic *exposure.Ledger

	mu     sync.Mutex
	health health
}

// NewWatch returns a watch that follows nothing yet.
func NewWatch() *Watch {
	w := &Watch{health: newHealth(), traffic: exposure.New()}
	w.set.Store(&watchSet{})
	return w
}

// watchSet is replaced as a whole, so that the receive threads read it
// without a lock.
type watchSet struct {
	bySource map[netip.Addr][]*watched // quarantines last: what is narrower counts first
	byMAC    map[flow.MAC]*watched
	byVictim map[netip.Addr]*watched
	byPort   map[uint32]*watched // locked ones, by kernel interface index
}

type watched struct {
	target  Target
	open    []netip.Addr // stays reachable from quarantine
	known   []flow.MAC   // pass a locked port
	spared  []netip.Addr // go on behind a station that is cut off
	sweep   bool         // caught asking for neighbours, whatever its address
	ifIndex uint32
	alone   bool  // does not count: what it is about goes on
	since   int64 // Unix nanoseconds; records before it do not count
	passed  atomic.Uint64
	dropped atomic.Uint64
	last    atomic.Int64 // time of the last record of the attack
}

// Observe counts a batch of records; it is called by the receive threads.
func (w *Watch) Observe(batch []flow.Record) {
	w.traffic.Observe(batch)
	set := w.set.Load()
	follow := len(set.bySource)+len(set.byMAC)+len(set.byVictim)+len(set.byPort) > 0
	for i := range batch {
		r := &batch[i]
		if r.Signal == flow.SignalLogged || r.Signal == flow.SignalForged || follow && set.count(r) {
			continue
		}
		switch r.Signal {
		case flow.SignalAttempt, flow.SignalAccept, flow.SignalFinish:
			w.mu.Lock()
			w.health.observe(r)
			w.mu.Unlock()
		}
	}
}

// count attributes a record to the containment that it belongs to.
func (s *watchSet) count(r *flow.Record) bool {
	var t *watched
	for _, x := range s.bySource[r.Src] {
		if x.target.concerns(r) {
			t = x
			break
		}
	}
	if t == nil && len(s.byMAC) > 0 {
		// Behind the MAC of one who sweeps there may be others.
		if t = s.byMAC[r.SrcMAC]; t != nil && t.target.Host.IsValid() && r.Signal != flow.SignalARPRequest {
			t = nil
		}
	}
	if t == nil {
		if t = s.byVictim[r.Dst]; t != nil && (t.target.Proto != r.Proto || r.Signal == flow.SignalNone || r.Signal == flow.SignalFinish) {
			t = nil
		}
	}
	if t == nil {
		if t = s.byPort[r.InPort]; t != nil && slices.Contains(t.known, r.SrcMAC) {
			t = nil
		}
	}
	if t != nil && t.target.Forged && slices.Contains(t.spared, r.Src) {
		return false
	}
	if t != nil && t.target.Asking && (r.InPort != t.ifIndex || r.DstPort != t.target.Reflector) {
		return false // the victim's own
	}
	if t == nil || r.InPort != t.ifIndex || r.Time < t.since {
		return t != nil
	}
	switch {
	case r.Signal == flow.SignalDropped || r.Verdict == flow.VerdictDropped:
		t.dropped.Add(uint64(r.ScaledPackets()))
	case r.Source == flow.SourceSFlow:
		return true // samples stand before our rules: they prove nothing
	case r.Signal == flow.SignalARPReply, slices.Contains(t.open, r.Dst):
		return true // kept on purpose
	default:
		t.passed.Add(uint64(r.ScaledPackets()))
	}
	t.last.Store(r.Time)
	return true
}

// Traffic is what was said in the last hour.
func (w *Watch) Traffic() *exposure.Ledger { return w.traffic }

// follow replaces what is watched. Counters of targets that stay are kept.
func (w *Watch) follow(list []*watched) {
	set := &watchSet{bySource: map[netip.Addr][]*watched{}, byMAC: map[flow.MAC]*watched{}, byVictim: map[netip.Addr]*watched{}, byPort: map[uint32]*watched{}}
	for _, t := range list {
		if t.sweep {
			set.byMAC[t.target.MAC] = t
		}
		switch {
		case t.target.Lock:
			set.byPort[t.ifIndex] = t
		case t.target.Asking:
			set.bySource[t.target.Victim] = append(set.bySource[t.target.Victim], t)
		case t.target.Host.IsValid() && t.target.segments():
			set.bySource[t.target.Host] = slices.Insert(set.bySource[t.target.Host], 0, t)
		case t.target.Host.IsValid():
			set.bySource[t.target.Host] = append(set.bySource[t.target.Host], t)
		case t.target.Victim.IsValid():
			set.byVictim[t.target.Victim] = t
		default:
			set.byMAC[t.target.MAC] = t
		}
	}
	w.set.Store(set)
}

// success returns how many known-good conversations were attempted within
// the given times, and which share of them was answered.
func (w *Watch) success(from, to time.Time) (attempts int, share float64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.health.success(from.UnixNano(), to.UnixNano())
}

// Impact is what depends on a host, in switch ports: those behind which somebody
// has had a conversation lately that ended well. Ports are what an attacker cannot
// have many of: conversations and addresses it could make up, to be too important to
// be cut off.
type Impact struct {
	Served int `json:"served"` // with the host as the server
	Known  int `json:"known"`  // with anybody; the host's own port never counts
}

// Share is the part of all ports with clients that depends on the host.
func (i Impact) Share() float64 {
	if i.Known == 0 {
		return 0
	}
	return float64(i.Served) / float64(i.Known)
}

// impact looks at what depends on a host behind a port (kernel interface index).
func (w *Watch) impact(host netip.Addr, port uint32) Impact {
	w.mu.Lock()
	defer w.mu.Unlock()
	served, known := map[uint32]bool{}, map[uint32]bool{}
	for p, u := range w.health.good {
		if u.port == 0 || u.port == port {
			continue
		}
		known[u.port] = true
		if p.server == host {
			served[u.port] = true
		}
	}
	return Impact{Served: len(served), Known: len(known)}
}

// pair is a service that a client uses.
type pair struct {
	client, server netip.Addr
	port           uint16
}

const (
	healthPairs   = 4096
	healthSlots   = 256
	healthSlotLen = int64(100 * time.Millisecond)
)

// health knows which services clients have used to the end lately, and counts,
// in slots of 100 ms, attempts on those and answers to them. Only a FIN makes a
// pair known: what scans and floods attempt is never finished, so that they
// neither fill the map nor look like harm.
type health struct {
	good   map[pair]use
	forgot int64
	slots  [healthSlots]healthSlot
}

type healthSlot struct {
	at                int64 // number of the slot since the epoch
	attempts, accepts int
}

// use is what is known of a service that a client uses.
type use struct {
	last int64
	port uint32 // where the client's packets entered first; 0 when that is not known
}

func newHealth() health { return health{good: map[pair]use{}} }

func (h *health) observe(r *flow.Record) {
	switch r.Signal {
	case flow.SignalFinish:
		h.learn(r)
	case flow.SignalAttempt:
		p := pair{r.Src, r.Dst, r.DstPort}
		if u, ok := h.good[p]; ok {
			u.last = r.Time
			h.good[p] = u
			h.slot(r.Time).attempts++
		}
	case flow.SignalAccept:
		if _, ok := h.good[pair{r.Dst, r.Src, r.SrcPort}]; ok {
			h.slot(r.Time).accepts++
		}
	}
}

func (h *health) slot(t int64) *healthSlot {
	n := t / healthSlotLen
	s := &h.slots[n%healthSlots]
	if s.at != n {
		s.at, s.attempts, s.accepts = n, 0, 0
	}
	return s
}

// learn takes the lower port for the service's: a FIN comes from both sides.
func (h *health) learn(r *flow.Record) {
	p := pair{r.Src, r.Dst, r.DstPort}
	if r.SrcPort < r.DstPort {
		p = pair{r.Dst, r.Src, r.SrcPort}
	}
	if _, known := h.good[p]; !known && len(h.good) >= healthPairs {
		if r.Time-h.forgot < int64(time.Second) {
			return
		}
		h.forgot = r.Time
		for q, u := range h.good {
			if r.Time-u.last > int64(time.Minute) {
				delete(h.good, q)
			}
		}
		if len(h.good) >= healthPairs {
			return
		}
	}
	u := h.good[p]
	if u.last = r.Time; u.port == 0 && r.Src == p.client {
		u.port = r.InPort
	}
	h.good[p] = u
}

func (h *health) success(from, to int64) (attempts int, share float64) {
	accepts := 0
	for i := range h.slots {
		if at := h.slots[i].at * healthSlotLen; at >= from && at < to {
			attempts += h.slots[i].attempts
			accepts += h.slots[i].accepts
		}
	}
	if attempts == 0 {
		return 0, 1
	}
	return attempts, min(1, float64(accepts)/float64(attempts))
}

package topology

import (
	"context"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/platelet-sdn/platelet/flowcollector/flow"
)

const (
	// DefaultMaxHosts bounds a tracker made with a limit of zero.
	DefaultMaxHosts = 65536

	// A new host, a moved one or a new binding shows in a snapshot after
	// republishChange; mere times of last sight after republishSeen.
	republishChange = 100 * time.Millisecond
	republishSeen   = time.Second

	// refresh is how old a host's time of last sight may be.
	refresh = int64(time.Second)
	// contested is how long another port has to give two-way evidence for a
	// bound address, and the port that holds it none, before the binding
	// moves: one forged answer moves nothing.
	contested = 2 * int64(time.Second)
)

// Tracker learns from flow records which hosts stand behind which edge port.
//
// Sources can be forged, so an address that merely sends is "seen" there.
// It is bound to a port by two-way evidence: it accepted a connection from
// there, or the switch forwarded traffic for it to that port alone. ARP
// replies can be forged as well and only count as sightings. Evidence from
// another port moves a binding when it persists, is asked for, and the port
// that holds the binding stays silent.
//
// Observe may be called from several threads, the rest from any.
type Tracker struct {
	publishing sync.Mutex // held while a snapshot is made; before mu
	start      time.Time
	builtAt    atomic.Int64 // when the last snapshot was made, since start
	buildTime  atomic.Int64 // how long that took
	staleness  atomic.Uint32
	current    atomic.Pointer[Snapshot]

	mu    sync.Mutex
	edges map[uint32]int32 // kernel interface index to index into ports
	ports []PortID         // the edge ports
	table hostTable
	asked attempts
	fresh recent
}

// How far the table is ahead of the snapshot.
const (
	staleNot uint32 = iota
	staleSeen
	staleChange
)

// NewTracker returns a tracker of at most max hosts; zero means
// DefaultMaxHosts.
func NewTracker(max int) *Tracker {
	if max <= 0 {
		max = DefaultMaxHosts
	}
	t := &Tracker{start: time.Now(), edges: map[uint32]int32{}, table: newHostTable(max), fresh: newRecent()}
	s := NewSnapshot(map[string]Switch{})
	s.Hosts = map[netip.Addr]Host{}
	t.current.Store(s)
	return t
}

// Observe learns from a batch of records.
func (t *Tracker) Observe(batch []flow.Record) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.edges) == 0 {
		return
	}
	for i := range batch {
		r := &batch[i]
		if r.Signal == flow.SignalForged {
			continue // and known to be
		}
		if r.Signal == flow.SignalAttempt {
			t.asked.note(r.Src, r.Dst, r.Time)
		}
		if r.InPort != 0 && r.Src.IsValid() {
			if port, ok := t.edges[r.InPort]; ok {
				t.sawSource(r, port)
			}
		}
		// sFlow alone says where the switch sent this very packet; zero
		// stands for several ports, as when it flooded.
		if r.OutPort != 0 && r.Source == flow.SourceSFlow && r.Verdict == flow.VerdictForwarded && r.Dst.IsValid() {
			if port, ok := t.edges[r.OutPort]; ok {
				t.sawDestination(r, port)
			}
		}
	}
}

// sawSource learns from a packet that entered at an edge port.
func (t *Tracker) sawSource(r *flow.Record, port int32) {
	accepted, kind := r.Signal == flow.SignalAccept, uint32(kindSource)
	if accepted {
		kind = kindAccept
	}
	if t.fresh.again(r.Src.As16(), r.SrcMAC, port, kind, r.Time) {
		return
	}
	e := t.table.find(r.Src)
	switch {
	case e == nil:
		t.add(r.Src, r.SrcMAC, port, accepted, r.Time)
	case accepted:
		t.bind(e, r.SrcMAC, port, r.Time, t.asked.seen(r.Dst, r.Src, r.Time))
	case e.port == port:
		if r.Time-e.seen >= refresh {
			e.seen = r.Time
			t.stale(staleSeen)
			if !e.bound && e.mac != r.SrcMAC && r.SrcMAC != (flow.MAC{}) {
				e.mac = r.SrcMAC
				t.stale(staleChange)
			}
		}
	case e.bound:
		// Either forged, or the host has moved: then it will soon answer
		// from its new port.
		t.table.stats.Contradictions++
	case r.Time-e.seen >= refresh:
		t.table.place(e, port, false)
		e.mac, e.seen = r.SrcMAC, r.Time
		t.stale(staleChange)
	}
}

// sawDestination learns from a packet that left at one edge port only.
func (t *Tracker) sawDestination(r *flow.Record, port int32) {
	if r.DstMAC[0]&1 != 0 {
		return // a group address says nothing of one host
	}
	if t.fresh.again(r.Dst.As16(), r.DstMAC, port, kindDestination, r.Time) {
		return
	}
	e := t.table.find(r.Dst)
	if e == nil {
		t.add(r.Dst, r.DstMAC, port, true, r.Time)
		return
	}
	// Whoever writes his own address above a neighbour's MAC gets it
	// forwarded to the neighbour's port; he must not be bound there.
	if unknown := (flow.MAC{}); e.mac != r.DstMAC && e.mac != unknown && r.DstMAC != unknown {
		t.table.stats.Contradictions++
		return
	}
	t.bind(e, r.DstMAC, port, r.Time, true)
}

// bind applies two-way evidence to a known host. Asked says that the evidence
// cannot have been made up from nothing.
func (t *Tracker) bind(e *entry, mac flow.MAC, port int32, now int64, asked bool) {
	if e.bound && e.port == port {
		e.rivalSince = 0
		if now-e.evidence < refresh {
			return
		}
	}
	if e.bound && e.port != port && !t.moves(e, port, now, asked) {
		t.table.stats.Contradictions++
		return
	}
	if mac == (flow.MAC{}) {
		mac = e.mac
	}
	if !e.bound || e.port != port || e.mac != mac {
		t.stale(staleChange)
	}
	t.table.place(e, port, true)
	e.mac, e.evidence, e.rivalSince = mac, now, 0
	e.seen = max(e.seen, now)
	t.stale(staleSeen)
}

// moves decides whether evidence from another port takes a binding over.
func (t *Tracker) moves(e *entry, port int32, now int64, asked bool) bool {
	if !asked || now-e.evidence < contested {
		return false
	}
	if e.rivalSince == 0 || e.rival != port {
		e.rival, e.rivalSince = port, now
		return false
	}
	return now-e.rivalSince >= contested
}

func (t *Tracker) add(addr netip.Addr, mac flow.MAC, port int32, bound bool, now int64) {
	if !unicast(addr) {
		return
	}
	e := entry{addr: addr.Unmap(), mac: mac, port: port, bound: bound, seen: now}
	if bound {
		e.evidence = now
	}
	if t.table.add(e) {
		t.stale(staleChange)
	}
}

// unicast reports whether one host can have an address.
func unicast(a netip.Addr) bool {
	return !a.IsUnspecified() && !a.IsMulticast() && !a.IsLoopback() && a != netip.AddrFrom4([4]byte{255, 255, 255, 255})
}

// SetSwitches replaces the switches and publishes a snapshot at once. Hosts
// behind ports that are gone are forgotten. The map must not be changed
// afterwards.
func (t *Tracker) SetSwitches(switches map[string]Switch) {
	t.publishing.Lock()
	defer t.publishing.Unlock()
	edges := map[uint32]int32{}
	var ports []PortID
	numbers := map[PortID]int32{}
	for _, sw := range switches {
		for _, p := range sw.Ports {
			if p.Type != PortEdge {
				continue
			}
			n := int32(len(ports))
			ports = append(ports, p.ID)
			numbers[p.ID] = n
			if p.IfIndex != 0 {
				edges[p.IfIndex] = n
			}
		}
	}
	t.mu.Lock()
	old := t.ports
	t.table.renumber(len(ports), func(port int32) (int32, bool) {
		n, ok := numbers[old[port]]
		return n, ok
	})
	t.fresh.reset()
	t.edges, t.ports = edges, ports
	t.mu.Unlock()
	t.publish(NewSnapshot(switches))
}

// Snapshot is the current view. It costs nothing, and is behind what was
// observed by a tenth of a second, or more where there are many hosts; see
// Publish for the very latest.
func (t *Tracker) Snapshot() *Snapshot { return t.current.Load() }

// Run makes new snapshots when they are due, until ctx ends. Neither the
// receiving threads nor a decision ever waits for that: under a flood of
// forged sources a snapshot takes many milliseconds.
func (t *Tracker) Run(ctx context.Context) error {
	tick := time.NewTicker(republishChange / 4)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		if t.due() {
			t.Publish()
		}
	}
}

// due reports whether the snapshot is out of date by more than is allowed.
func (t *Tracker) due() bool {
	var limit time.Duration
	switch t.staleness.Load() {
	case staleNot:
		return false
	case staleSeen:
		limit = republishSeen
	case staleChange:
		limit = republishChange
	}
	// A large table is copied less often: at a twentieth of a core.
	limit = max(limit, 20*time.Duration(t.buildTime.Load()))
	return time.Since(t.start)-time.Duration(t.builtAt.Load()) >= limit
}

// Publish makes and returns a snapshot of all that was observed so far.
func (t *Tracker) Publish() *Snapshot {
	t.publishing.Lock()
	defer t.publishing.Unlock()
	return t.publish(t.current.Load().sameSwitches())
}

// publish fills in the hosts of a snapshot and makes it current. Only copying
// the table holds Observe up, not building the map.
func (t *Tracker) publish(s *Snapshot) *Snapshot {
	began := time.Now()
	t.mu.Lock()
	entries := t.table.copy()
	ports := t.ports
	t.staleness.Store(staleNot)
	t.mu.Unlock()
	s.Hosts = make(map[netip.Addr]Host, len(entries))
	for i := range entries {
		e := &entries[i]
		s.Hosts[e.addr] = Host{Addr: e.addr, MAC: e.mac, Port: ports[e.port], Bound: e.bound, LastSeen: e.seen}
	}
	s.hostIndex.Do(s.indexHosts)
	t.current.Store(s)
	t.builtAt.Store(int64(time.Since(t.start)))
	t.buildTime.Store(int64(time.Since(began)))
	return s
}

// stale notes how far the table is ahead of the snapshot; mu is held.
func (t *Tracker) stale(how uint32) {
	if t.staleness.Load() < how {
		t.staleness.Store(how)
	}
}

// Stats counts what the tracker holds and what it had to leave out.
func (t *Tracker) Stats() TrackerStats {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.table.stats
}

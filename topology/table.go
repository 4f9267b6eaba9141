package topology

import (
	"net/netip"
	"slices"
	"time"

	"github.com/platelet-sdn/platelet/flowcollector/flow"
)

// TrackerStats counts what a tracker holds and what it had to leave out.
type TrackerStats struct {
	// Hosts is the number of hosts held, Bound of those bound to a port.
	Hosts, Bound int
	// Evicted hosts made room for others.
	Evicted uint64
	// Refused are sightings of new sources that found no room, or came
	// faster than hosts appear on a network: forged ones, most likely.
	Refused uint64
	// Contradictions are sightings that disagree with a binding.
	Contradictions uint64
}

const (
	// clockScan is how many entries an eviction looks at.
	clockScan = 32
	// Under a flood with forged sources every packet is a new host. So many
	// per interval are let in; the rest costs one failed look-up.
	admitInterval = int64(100 * time.Millisecond)
	admitLimit    = 4096
	// idle is how long a bound host must not have been seen before it makes
	// room for another.
	idle = 5 * int64(time.Minute)
)

// entry is a host in the tracker's table.
type entry struct {
	addr     netip.Addr
	seen     int64 // last sighting or evidence, Unix nanoseconds
	evidence int64 // last two-way evidence, valid when bound
	// rival is another port that gives evidence for a bound address, since
	// rivalSince; valid when that is not zero.
	rivalSince int64
	rival      int32
	port       int32 // index into Tracker.ports
	mac        flow.MAC
	bound      bool
}

// hostTable is a bounded table of hosts. When it is full, or one port has
// filled half of it, newcomers displace what is worth least: never what is
// proven for what merely appeared, and never the hosts of other ports for
// those of a port that crowds the table.
type hostTable struct {
	max     int
	index   map[netip.Addr]int32
	entries []entry
	perPort []int
	hand    int // where the next eviction starts looking
	stats   TrackerStats

	interval int64
	admitted int
}

func newHostTable(max int) hostTable {
	return hostTable{max: max, index: map[netip.Addr]int32{}}
}

// find returns the entry of an address; it is valid until the next add.
func (t *hostTable) find(addr netip.Addr) *entry {
	if addr.Is4In6() {
		addr = addr.Unmap()
	}
	if i, ok := t.index[addr]; ok {
		return &t.entries[i]
	}
	return nil
}

// add inserts a host that is not in the table and reports whether there was
// room for it.
func (t *hostTable) add(e entry) bool {
	if !t.admit(e.seen) {
		t.stats.Refused++
		return false
	}
	at := len(t.entries)
	if at < t.max && !t.crowded(e.port) {
		t.entries = append(t.entries, e)
	} else {
		var ok bool
		if at, ok = t.victim(&e); !ok {
			t.stats.Refused++
			return false
		}
		t.evict(at)
		t.entries[at] = e
	}
	t.index[e.addr] = int32(at)
	t.perPort[e.port]++
	t.stats.Hosts++
	if e.bound {
		t.stats.Bound++
	}
	return true
}

// admit bounds how many hosts enter per interval.
func (t *hostTable) admit(now int64) bool {
	if i := now / admitInterval; i != t.interval {
		t.interval, t.admitted = i, 0
	}
	t.admitted++
	return t.admitted <= admitLimit
}

// crowded reports whether a port has its share of the table.
func (t *hostTable) crowded(port int32) bool {
	return t.perPort[port] >= (t.max+1)/2
}

// victim finds the host that has to go: among the next few the unbound one
// seen longest ago or, for a bound newcomer, such a bound one.
func (t *hostTable) victim(e *entry) (int, bool) {
	crowded := t.crowded(e.port)
	unbound, bound := -1, -1
	for range min(clockScan, len(t.entries)) {
		i := t.hand
		t.hand = (t.hand + 1) % len(t.entries)
		old, best := &t.entries[i], &unbound
		if crowded && old.port != e.port {
			continue
		}
		if old.bound {
			if !e.bound || !crowded && e.seen-old.seen < idle {
				continue
			}
			best = &bound
		}
		if *best < 0 || old.seen < t.entries[*best].seen {
			*best = i
		}
	}
	if unbound >= 0 {
		return unbound, true
	}
	return bound, bound >= 0
}

func (t *hostTable) evict(at int) {
	e := &t.entries[at]
	delete(t.index, e.addr)
	t.perPort[e.port]--
	t.stats.Hosts--
	if e.bound {
		t.stats.Bound--
	}
	t.stats.Evicted++
}

// place moves a host to a port, bound or merely seen there.
func (t *hostTable) place(e *entry, port int32, bound bool) {
	t.perPort[e.port]--
	t.perPort[port]++
	e.port = port
	if bound && !e.bound {
		t.stats.Bound++
	}
	e.bound = bound
}

// renumber maps the ports of all hosts, ports in number, and forgets the hosts
// whose port is gone.
func (t *hostTable) renumber(ports int, to func(port int32) (int32, bool)) {
	kept := t.entries[:0]
	clear(t.index)
	t.perPort = make([]int, ports)
	t.stats.Bound = 0
	for _, e := range t.entries {
		port, ok := to(e.port)
		if !ok {
			continue
		}
		e.port, e.rivalSince = port, 0
		t.index[e.addr] = int32(len(kept))
		t.perPort[port]++
		kept = append(kept, e)
		if e.bound {
			t.stats.Bound++
		}
	}
	t.entries, t.hand, t.stats.Hosts = kept, 0, len(kept)
}

// copy returns the entries at this moment.
func (t *hostTable) copy() []entry { return slices.Clone(t.entries) }

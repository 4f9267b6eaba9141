package segment

import (
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"time"

	"github.com/platelet-sdn/platelet/flowcollector/flow"
	"github.com/platelet-sdn/platelet/topology"
)

const (
	// remember is how long an address that was not seen any more still is its
	// port's. A workload that is silent for a night is no less protected.
	remember = 30 * 24 * time.Hour
	// maxRemembered bounds the memory.
	maxRemembered = 1 << 17
)

// memory knows which addresses belong to which port, from two-way evidence. It
// outlives the controller: while nobody has been seen yet, groups must not be
// empty, or what is enforced would be undone until they are.
type memory struct {
	Hosts   map[netip.Addr]remembered
	changed bool // since it was last written down
}

type remembered struct {
	Port topology.PortID `json:"port"`
	MAC  flow.MAC        `json:"mac"`
	Seen int64           `json:"seen"` // Unix seconds
}

// learn takes what a snapshot shows. An address that is bound at another port
// has moved; what merely is seen somewhere moves nothing.
func (m *memory) learn(s *topology.Snapshot, now time.Time) {
	for a, h := range s.Hosts {
		if !h.Bound {
			continue
		}
		was, known := m.Hosts[a]
		next := remembered{h.Port, h.MAC, h.LastSeen / int64(time.Second)}
		if known && was.Port == next.Port && was.MAC == next.MAC && next.Seen-was.Seen < 3600 {
			continue
		}
		if !known && len(m.Hosts) >= maxRemembered {
			continue
		}
		m.Hosts[a], m.changed = next, true
	}
	for a, h := range m.Hosts {
		if now.Unix()-h.Seen > int64(remember/time.Second) {
			delete(m.Hosts, a)
			m.changed = true
		}
	}
}

// at lists the hosts of each edge port: first those that are remembered, and
// then those that were only seen there and are nobody else's. There are at
// most maxPerPort of each port.
func (m *memory) at(s *topology.Snapshot) map[topology.PortID][]topology.Host {
	out := map[topology.PortID][]topology.Host{}
	for a, h := range m.Hosts {
		out[h.Port] = append(out[h.Port], topology.Host{Addr: a, MAC: h.MAC, Port: h.Port, Bound: true})
	}
	for a, h := range s.Hosts {
		if _, known := m.Hosts[a]; !known && !h.Bound {
			out[h.Port] = append(out[h.Port], h)
		}
	}
	for port, hosts := range out {
		slices.SortFunc(hosts, func(a, b topology.Host) int {
			return cmp.Or(boolRank(a.Bound)-boolRank(b.Bound), a.Addr.Compare(b.Addr))
		})
		out[port] = hosts[:min(len(hosts), maxPerPort)]
	}
	return out
}

func boolRank(bound bool) int {
	if bound {
		return 0
	}
	return 1
}

// copy is what the memory knows now.
func (m *memory) copy() *memory { return &memory{Hosts: maps.Clone(m.Hosts)} }

// encode writes the memory down.
func (m *memory) encode() ([]byte, error) { return json.Marshal(m.Hosts) }

// decodeMemory reads what encode wrote; nil is an empty memory.
func decodeMemory(raw []byte) (*memory, error) {
	m := &memory{Hosts: map[netip.Addr]remembered{}}
	if raw == nil {
		return m, nil
	}
	if err := json.Unmarshal(raw, &m.Hosts); err != nil {
		return nil, fmt.Errorf("addresses of workloads: %w", err)
	}
	if m.Hosts == nil {
		m.Hosts = map[netip.Addr]remembered{}
	}
	return m, nil
}

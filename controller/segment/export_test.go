package segment

import (
	"net/netip"
	"time"

	"github.com/platelet-sdn/platelet/topology"
)

// Remember is what a memory makes of a snapshot, written down and read again.
func Remember(s *topology.Snapshot) map[topology.PortID][]topology.Host {
	m := &memory{Hosts: map[netip.Addr]remembered{}}
	m.learn(s, time.Unix(0, 0))
	raw, err := m.encode()
	if err != nil {
		panic(err)
	}
	if m, err = decodeMemory(raw); err != nil {
		panic(err)
	}
	return m.at(s)
}

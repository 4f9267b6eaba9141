package topology

import (
	"net/netip"
	"slices"

	"github.com/platelet-sdn/platelet/flowcollector/flow"
)

// Host finds a learned host by address.
func (s *Snapshot) Host(addr netip.Addr) (Host, bool) {
	h, ok := s.Hosts[addr.Unmap()]
	return h, ok
}

// HostsAt lists the hosts behind a port, by address. The result must not be
// changed.
func (s *Snapshot) HostsAt(id PortID) []Host {
	s.hostIndex.Do(s.indexHosts)
	return s.byPort[id]
}

// HostByMAC finds where an Ethernet address was seen. An address often has
// several hosts (IPv4, IPv6, link-local): a bound one is preferred, then the
// one seen last.
func (s *Snapshot) HostByMAC(mac flow.MAC) (Host, bool) {
	s.hostIndex.Do(s.indexHosts)
	h, ok := s.byMAC[mac]
	return h, ok
}

// indexHosts is done by the tracker before it publishes, and by the first
// reader of a snapshot made otherwise.
func (s *Snapshot) indexHosts() {
	s.byPort = map[PortID][]Host{}
	s.byMAC = map[flow.MAC]Host{}
	for _, h := range s.Hosts {
		s.byPort[h.Port] = append(s.byPort[h.Port], h)
		if h.MAC == (flow.MAC{}) {
			continue
		}
		if old, ok := s.byMAC[h.MAC]; !ok || better(h, old) {
			s.byMAC[h.MAC] = h
		}
	}
	for _, hosts := range s.byPort {
		slices.SortFunc(hosts, func(a, b Host) int { return a.Addr.Compare(b.Addr) })
	}
}

// better orders the hosts of one MAC; the address decides last, so that the
// answer does not depend on map order.
func better(a, b Host) bool {
	switch {
	case a.Bound != b.Bound:
		return a.Bound
	case a.LastSeen != b.LastSeen:
		return a.LastSeen > b.LastSeen
	}
	return a.Addr.Less(b.Addr)
}

package ovsdb

import (
	"fmt"

	"github.com/vishvananda/netlink"

	"github.com/platelet-sdn/platelet/topology"
)

// joinByVeth marks the ports that a veth pair joins to another bridge of the
// same machine as links. The database knows patch ports alone as such, and to
// it both ends of the pair look like ports that hosts stand behind.
func joinByVeth(switches map[string]topology.Switch) error {
	if len(switches) < 2 {
		return nil
	}
	links, err := netlink.LinkList()
	if err != nil {
		return fmt.Errorf("list the machine's interfaces: %w", err)
	}
	// In this namespace alone: an index of another's says nothing here.
	names, peers := map[int]string{}, map[string]int{}
	for _, l := range links {
		a := l.Attrs()
		names[a.Index] = a.Name
		if l.Type() == "veth" && a.NetNsID < 0 && a.ParentIndex > 0 {
			peers[a.Name] = a.ParentIndex
		}
	}
	bridges := map[string]string{} // by interface
	for _, sw := range switches {
		for name := range sw.Ports {
			bridges[name] = sw.Name
		}
	}
	for _, sw := range switches {
		for name, p := range sw.Ports {
			peer := names[peers[name]]
			if far, ok := bridges[peer]; !ok || far == sw.Name || p.Type != topology.PortEdge {
				continue
			}
			p.Type, p.Peer = topology.PortLink, peer
			sw.Ports[name] = p
		}
	}
	return nil
}

package clab

import (
	"fmt"
	"net/netip"
	"slices"
)

// checkMgmt reports addresses of the management network that no network has.
func (r *reader) checkMgmt(t *Topology) {
	for _, f := range []struct{ key, subnet, gateway, rng string }{
		{"ipv4", t.Mgmt.IPv4Subnet, t.Mgmt.IPv4Gateway, t.Mgmt.IPv4Range},
		{"ipv6", t.Mgmt.IPv6Subnet, t.Mgmt.IPv6Gateway, t.Mgmt.IPv6Range},
	} {
		path := "mgmt." + f.key
		if f.subnet == "" || f.subnet == "auto" {
			continue
		}
		subnet, err := netip.ParsePrefix(f.subnet)
		if err != nil || subnet.Addr().Is4() != (f.key == "ipv4") {
			r.report(path+"-subnet", "needs an %s subnet such as %s, got %q", f.key, DefaultMgmtIPv4, f.subnet)
			continue
		}
		if gw, err := netip.ParseAddr(f.gateway); f.gateway != "" && (err != nil || !subnet.Contains(gw)) {
			r.report(path+"-gw", "needs an address of %s, got %q", subnet, f.gateway)
		}
		if rng, err := netip.ParsePrefix(f.rng); f.rng != "" && (err != nil || !subnet.Contains(rng.Addr()) || rng.Bits() < subnet.Bits()) {
			r.report(path+"-range", "needs a part of %s, got %q", subnet, f.rng)
		}
	}
	r.checkStatic(t)
}

// checkStatic reports static addresses that are none or used twice.
func (r *reader) checkStatic(t *Topology) {
	used := map[netip.Addr]string{}
	for _, n := range t.Nodes {
		for _, f := range []struct{ key, addr string }{{"mgmt-ipv4", n.MgmtIPv4}, {"mgmt-ipv6", n.MgmtIPv6}} {
			if f.addr == "" {
				continue
			}
			path := fmt.Sprintf("topology.nodes.%s.%s", n.Name, f.key)
			addr, err := netip.ParseAddr(f.addr)
			if err != nil || addr.Is4() != (f.key == "mgmt-ipv4") {
				r.report(path, "needs an address without a prefix length, got %q", f.addr)
				continue
			}
			if other, ok := used[addr]; ok {
				r.report(path, "%s is already the address of node %q", addr, other)
			}
			used[addr] = n.Name
		}
	}
}

// UsesMgmt reports whether a node has an interface in the management
// network: a container in a mode other than these of its own.
func (t *Topology) UsesMgmt(n Node) bool {
	return n.Kind == KindLinux && !slices.Contains([]string{"none", "host"}, n.NetworkMode) && !n.SharesNamespace()
}

package attack

import (
	"net/netip"

	"github.com/platelet-sdn/platelet/lab/runner"
)

// taken are the addresses that nodes of the lab have; none where there is no
// lab to ask.
func taken(lab *runner.Lab) (map[netip.Addr]bool, error) {
	used := map[netip.Addr]bool{}
	if lab == nil {
		return used, nil
	}
	for _, node := range lab.Nodes() {
		if !lab.Isolated(node) {
			continue
		}
		addrs, err := lab.Addrs(node, "")
		if err != nil {
			return nil, err
		}
		for _, a := range addrs {
			used[a.Addr()] = true
		}
	}
	return used, nil
}

// free are the addresses of an IPv4 subnet that nobody has, of the first /24
// in it those between two last octets.
func free(subnet netip.Prefix, used map[netip.Addr]bool, from, to int) []netip.Addr {
	var out []netip.Addr
	b := subnet.Addr().As4()
	base := int(b[3])
	for octet := max(from, base+1); octet <= to; octet++ {
		b[3] = byte(octet)
		a := netip.AddrFrom4(b)
		if !subnet.Contains(a) || used[a] || isBroadcast(subnet, a) {
			continue
		}
		out = append(out, a)
	}
	return out
}

// isBroadcast reports whether an address is the last one of its subnet.
func isBroadcast(subnet netip.Prefix, a netip.Addr) bool {
	return subnet.Bits() < 31 && !subnet.Contains(a.Next())
}

// sweepTargets are the addresses that sweeps go over.
func sweepTargets(r Roles) []netip.Addr {
	var out []netip.Addr
	b := r.Subnet.Addr().As4()
	for octet := sweepFrom; octet <= sweepTo; octet++ {
		b[3] = byte(octet)
		if a := netip.AddrFrom4(b); r.Subnet.Contains(a) {
			out = append(out, a)
		}
	}
	return out
}

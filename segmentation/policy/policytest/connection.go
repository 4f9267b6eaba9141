package policytest

import (
	"net/netip"
	"slices"

	"pgregory.net/rapid"

	"github.com/platelet-sdn/platelet/flowcollector/flow"
	"github.com/platelet-sdn/platelet/segmentation/oracle"
	"github.com/platelet-sdn/platelet/segmentation/policy"
)

// Connections draws connections at the edges of what a world names: addresses
// of workloads, the first, the last and the neighbours of prefixes, and ports
// and types on both sides of every boundary. None is implied.
func Connections(w World) *rapid.Generator[oracle.Connection] {
	addrs := edges(w)
	return rapid.Custom(func(t *rapid.T) oracle.Connection {
		c := oracle.Connection{Src: rapid.SampledFrom(addrs).Draw(t, "src")}
		same := slices.DeleteFunc(slices.Clone(addrs), func(a netip.Addr) bool { return a.Is4() != c.Src.Is4() })
		c.Dst = rapid.SampledFrom(same).Draw(t, "dst")
		icmp := policy.Proto(flow.ProtoICMPv6)
		if c.Src.Is4() {
			icmp = policy.Proto(flow.ProtoICMP)
		}
		c.Proto = rapid.SampledFrom([]policy.Proto{6, 6, 6, 17, 17, 132, icmp, icmp, 47, 50}).Draw(t, "proto")
		switch {
		case c.Proto.HasPorts():
			c.SrcPort = rapid.Uint16Range(32768, 65535).Draw(t, "src port")
			edge := int(rapid.SampledFrom(ports()).Draw(t, "edge")) + rapid.IntRange(-1, 1).Draw(t, "beside")
			c.DstPort = uint16(min(max(edge, 0), 65535))
		case c.Proto.IsICMP():
			c.Type = rapid.SampledFrom(append(icmpTypes(), 15)).Draw(t, "type")
			c.Code = rapid.SampledFrom([]uint8{0, 0, 1, 2}).Draw(t, "code")
		}
		return c
	})
}

// edges returns addresses of both families; all are those of an endpoint.
func edges(w World) []netip.Addr {
	out := []netip.Addr{netip.MustParseAddr("198.51.100.7"), netip.MustParseAddr("2001:db8:ffff::7")}
	for _, x := range w.Inventory.Workloads {
		out = append(out, x.Addrs...)
	}
	add := func(p netip.Prefix) {
		first, last := p.Masked().Addr(), lastOf(p)
		out = append(out, first, last, first.Prev(), last.Next())
	}
	for _, g := range w.Set.Groups {
		for _, p := range slices.Concat(g.CIDRs, g.Except) {
			add(p.Prefix)
		}
	}
	for _, named := range []map[string][]netip.Prefix{w.Inventory.Feeds, w.Inventory.Assets} {
		for _, list := range named {
			for _, p := range list {
				add(p)
			}
		}
	}
	for _, p := range w.Set.Protected {
		if p.Group == "" {
			add(p.Prefix)
		}
	}
	for _, p := range w.Set.Policies {
		peers := slices.Clone(p.AppliesTo)
		for _, r := range slices.Concat(p.Ingress, p.Egress) {
			peers = append(peers, slices.Concat(r.From, r.To)...)
		}
		for _, peer := range peers {
			if peer.Group == "" {
				add(peer.Prefix)
			}
		}
	}
	out = slices.DeleteFunc(out, func(a netip.Addr) bool { return !a.IsValid() })
	slices.SortFunc(out, netip.Addr.Compare) // maps have no order, and rapid needs one
	return slices.Compact(out)
}

func lastOf(p netip.Prefix) netip.Addr {
	b := p.Masked().Addr().AsSlice()
	for i := p.Bits(); i < len(b)*8; i++ {
		b[i/8] |= 0x80 >> (i % 8)
	}
	a, _ := netip.AddrFromSlice(b)
	return a
}

package ipcmd

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Apply does a command by a handle, in the network namespace that the handle
// was made in, and writes what it shows to out. What the kernel refuses comes
// as an error that wraps its number.
func Apply(h *netlink.Handle, c Command, out io.Writer) error {
	if c.Verb == VerbShow {
		return show(h, c, out)
	}
	var on netlink.Link
	if c.Dev != "" {
		var err error
		if on, err = h.LinkByName(c.Dev); err != nil {
			var missing netlink.LinkNotFoundError
			if errors.As(err, &missing) {
				return fmt.Errorf("cannot find device %q: %w", c.Dev, unix.ENODEV)
			}
			return fmt.Errorf("device %q: %w", c.Dev, err)
		}
	}
	switch c.Object {
	case ObjectAddress:
		return applyAddress(h, c, on)
	case ObjectLink:
		return applyLink(h, c.Link, on)
	case ObjectRoute:
		return applyRoute(h, c, on)
	default:
		return applyNeighbour(h, c, on)
	}
}

func applyAddress(h *netlink.Handle, c Command, on netlink.Link) error {
	if c.Verb == VerbFlush {
		return flushAddresses(h, c, on)
	}
	a := &netlink.Addr{IPNet: ipNet(c.Address.Prefix), Label: c.Address.Label, Scope: c.Address.Scope,
		ValidLft: c.Address.ValidLft, PreferedLft: c.Address.PreferredLft}
	if a.Scope < 0 {
		a.Scope = unix.RT_SCOPE_UNIVERSE
		if c.Address.Prefix.Addr().IsLoopback() && c.Verb != VerbDelete {
			a.Scope = unix.RT_SCOPE_HOST
		}
	}
	if c.Address.Peer.IsValid() {
		a.Peer = ipNet(c.Address.Peer)
	}
	if c.Address.NoDAD {
		a.Flags |= unix.IFA_F_NODAD
	}
	if c.Address.NoPrefixRoute {
		a.Flags |= unix.IFA_F_NOPREFIXROUTE
	}
	switch {
	case c.Address.Broadcast.IsValid():
		a.Broadcast = c.Address.Broadcast.AsSlice()
	case c.Address.Prefix.Addr().Is4():
		a.Broadcast = net.IPv4zero // the library's word for none
	}
	act := map[Verb]func(netlink.Link, *netlink.Addr) error{VerbAdd: h.AddrAdd, VerbReplace: h.AddrReplace, VerbDelete: h.AddrDel}[c.Verb]
	if err := act(on, a); err != nil {
		return fmt.Errorf("address %s %s dev %s: %w", c.Verb, c.Address.Prefix, c.Dev, err)
	}
	return nil
}

func flushAddresses(h *netlink.Handle, c Command, on netlink.Link) error {
	list, err := h.AddrList(on, family(c.Family))
	if err != nil {
		return fmt.Errorf("address flush dev %s: %w", c.Dev, err)
	}
	for _, a := range list {
		// Secondary addresses go with the first of their subnet.
		if err := h.AddrDel(on, &a); err != nil && !errors.Is(err, unix.EADDRNOTAVAIL) {
			return fmt.Errorf("address flush dev %s: %w", c.Dev, err)
		}
	}
	return nil
}

// applyLink sets one thing after the other, what needs the link down first,
// in the order of iproute2: the name and the state come last.
func applyLink(h *netlink.Handle, l Link, on netlink.Link) error {
	steps := []struct {
		what string
		set  bool
		do   func() error
	}{
		{"mtu", l.MTU > 0, func() error { return h.LinkSetMTU(on, l.MTU) }},
		{"address", l.HardwareAddr != nil, func() error { return h.LinkSetHardwareAddr(on, l.HardwareAddr) }},
		{"promisc", l.Promisc != nil, func() error {
			if *l.Promisc {
				return h.SetPromiscOn(on)
			}
			return h.SetPromiscOff(on)
		}},
		{"arp", l.ARP != nil, func() error {
			if *l.ARP {
				return h.LinkSetARPOn(on)
			}
			return h.LinkSetARPOff(on)
		}},
		{"txqueuelen", l.TxQueueLen != nil, func() error { return h.LinkSetTxQLen(on, *l.TxQueueLen) }},
		{"name", l.Rename != "", func() error { return h.LinkSetName(on, l.Rename) }},
		{"up", l.Up != nil && *l.Up, func() error { return h.LinkSetUp(on) }},
		{"down", l.Up != nil && !*l.Up, func() error { return h.LinkSetDown(on) }},
	}
	for _, s := range steps {
		if !s.set {
			continue
		}
		if err := s.do(); err != nil {
			return fmt.Errorf("link set dev %s %s: %w", on.Attrs().Name, s.what, err)
		}
	}
	return nil
}

func applyRoute(h *netlink.Handle, c Command, on netlink.Link) error {
	if c.Verb == VerbFlush {
		return flushRoutes(h, c, on)
	}
	r := netlinkRoute(c)
	if on != nil {
		r.LinkIndex = on.Attrs().Index
	}
	act := map[Verb]func(*netlink.Route) error{VerbAdd: h.RouteAdd, VerbReplace: h.RouteReplace, VerbDelete: h.RouteDel}[c.Verb]
	if err := act(r); err != nil {
		return fmt.Errorf("route %s %s: %w", c.Verb, c.Route.Dst, err)
	}
	return nil
}

func netlinkRoute(c Command) *netlink.Route {
	in := c.Route
	r := &netlink.Route{
		Dst: ipNet(in.Dst), Priority: in.Metric, Table: in.Table, MTU: in.MTU, Family: family(c.Family),
		Type: map[string]int{"unicast": unix.RTN_UNICAST, "blackhole": unix.RTN_BLACKHOLE, "unreachable": unix.RTN_UNREACHABLE, "prohibit": unix.RTN_PROHIBIT}[in.Type],
	}
	if in.Via.IsValid() {
		r.Gw = in.Via.AsSlice()
	}
	if in.Src.IsValid() {
		r.Src = in.Src.AsSlice()
	}
	if in.OnLink {
		r.Flags = int(netlink.FLAG_ONLINK)
	}
	if in.Protocol >= 0 {
		r.Protocol = netlink.RouteProtocol(in.Protocol)
	}
	switch {
	case in.Scope >= 0:
		r.Scope = netlink.Scope(in.Scope)
	case c.Verb == VerbDelete:
		r.Scope = netlink.SCOPE_NOWHERE // whatever it has
		if in.Type == "unicast" {
			r.Type = unix.RTN_UNSPEC
		}
	case in.Type == "unicast" && !in.Via.IsValid() && c.Family == FamilyV4:
		r.Scope = netlink.SCOPE_LINK
	}
	return r
}

func flushRoutes(h *netlink.Handle, c Command, on netlink.Link) error {
	list, err := routes(h, c, on)
	if err != nil {
		return err
	}
	for _, r := range list {
		if err := h.RouteDel(&r); err != nil && !errors.Is(err, unix.ESRCH) {
			return fmt.Errorf("route flush dev %s: %w", c.Dev, err)
		}
	}
	return nil
}

func applyNeighbour(h *netlink.Handle, c Command, on netlink.Link) error {
	if c.Verb == VerbFlush {
		return flushNeighbours(h, c, on)
	}
	n := &netlink.Neigh{LinkIndex: on.Attrs().Index, IP: c.Neighbour.Addr.AsSlice(), HardwareAddr: c.Neighbour.HardwareAddr,
		State: c.Neighbour.State, Family: family(c.Family)}
	if n.State == 0 && c.Verb != VerbDelete {
		n.State = unix.NUD_PERMANENT
	}
	if c.Neighbour.Proxy {
		n.Flags = netlink.NTF_PROXY
	}
	act := map[Verb]func(*netlink.Neigh) error{VerbAdd: h.NeighAdd, VerbReplace: h.NeighSet, VerbDelete: h.NeighDel}[c.Verb]
	if err := act(n); err != nil {
		return fmt.Errorf("neighbour %s %s dev %s: %w", c.Verb, c.Neighbour.Addr, c.Dev, err)
	}
	return nil
}

// flushNeighbours spares permanent entries, as iproute2 does.
func flushNeighbours(h *netlink.Handle, c Command, on netlink.Link) error {
	list, err := h.NeighList(on.Attrs().Index, family(c.Family))
	if err != nil {
		return fmt.Errorf("neighbour flush dev %s: %w", c.Dev, err)
	}
	for _, n := range list {
		if n.State&(unix.NUD_PERMANENT|unix.NUD_NOARP) != 0 {
			continue
		}
		if err := h.NeighDel(&n); err != nil && !errors.Is(err, unix.ENOENT) {
			return fmt.Errorf("neighbour flush dev %s: %w", c.Dev, err)
		}
	}
	return nil
}

func ipNet(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}

func family(f Family) int {
	switch f {
	case FamilyV4:
		return unix.AF_INET
	case FamilyV6:
		return unix.AF_INET6
	}
	return unix.AF_UNSPEC
}

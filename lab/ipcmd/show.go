package ipcmd

import (
	"fmt"
	"io"
	"net"
	"slices"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// show prints what there is, in iproute2's words.
func show(h *netlink.Handle, c Command, out io.Writer) error {
	var on netlink.Link
	links, err := h.LinkList()
	if err != nil {
		return fmt.Errorf("list links: %w", err)
	}
	names := map[int]string{}
	for _, l := range links {
		names[l.Attrs().Index] = l.Attrs().Name
		if l.Attrs().Name == c.Dev {
			on = l
		}
	}
	if c.Dev != "" && on == nil {
		return fmt.Errorf("device %q does not exist: %w", c.Dev, unix.ENODEV)
	}
	if on != nil {
		links = []netlink.Link{on}
	}
	var entries []string
	switch c.Object {
	case ObjectLink:
		for _, l := range links {
			entries = append(entries, showLink(l))
		}
	case ObjectAddress:
		entries, err = showAddresses(h, c, links)
	case ObjectRoute:
		entries, err = showRoutes(h, c, on, names)
	default:
		entries, err = showNeighbours(h, c, on, names)
	}
	if err != nil {
		return err
	}
	for _, e := range entries {
		if c.OneLine {
			e = strings.ReplaceAll(e, "\n", `\`)
		}
		if _, err := fmt.Fprintln(out, e); err != nil {
			return fmt.Errorf("show: %w", err)
		}
	}
	return nil
}

// linkFlags are the flags in the order in which iproute2 prints them.
func linkFlags(flags uint32) string {
	var words []string
	if flags&unix.IFF_UP != 0 && flags&unix.IFF_RUNNING == 0 {
		words = append(words, "NO-CARRIER")
	}
	for _, f := range []struct {
		bit  uint32
		name string
	}{
		{unix.IFF_LOOPBACK, "LOOPBACK"}, {unix.IFF_BROADCAST, "BROADCAST"}, {unix.IFF_POINTOPOINT, "POINTOPOINT"}, {unix.IFF_MULTICAST, "MULTICAST"},
		{unix.IFF_NOARP, "NOARP"}, {unix.IFF_PROMISC, "PROMISC"}, {unix.IFF_UP, "UP"}, {unix.IFF_LOWER_UP, "LOWER_UP"},
	} {
		if flags&f.bit != 0 {
			words = append(words, f.name)
		}
	}
	return strings.Join(words, ",")
}

func linkHead(l netlink.Link) string {
	a := l.Attrs()
	name := a.Name
	if a.ParentIndex > 0 {
		name = fmt.Sprintf("%s@if%d", name, a.ParentIndex)
	}
	return fmt.Sprintf("%d: %s: <%s> mtu %d state %s", a.Index, name, linkFlags(a.RawFlags), a.MTU, strings.ToUpper(a.OperState.String()))
}

func showLink(l netlink.Link) string {
	a := l.Attrs()
	kind, broadcast := "ether", "ff:ff:ff:ff:ff:ff"
	mac := a.HardwareAddr
	if a.Flags&net.FlagLoopback != 0 {
		kind, broadcast, mac = "loopback", "00:00:00:00:00:00", make(net.HardwareAddr, 6)
	}
	return fmt.Sprintf("%s qlen %d\n    link/%s %s brd %s", linkHead(l), a.TxQLen, kind, mac, broadcast)
}

func showAddresses(h *netlink.Handle, c Command, links []netlink.Link) ([]string, error) {
	var entries []string
	for _, l := range links {
		list, err := h.AddrList(l, family(c.Family))
		if err != nil {
			return nil, fmt.Errorf("list addresses of %s: %w", l.Attrs().Name, err)
		}
		if c.OneLine {
			for _, a := range list {
				entries = append(entries, fmt.Sprintf("%d: %s    %s", l.Attrs().Index, l.Attrs().Name, strings.TrimSpace(showAddress(l, a))))
			}
			continue
		}
		if c.Family != FamilyAny && len(list) == 0 && c.Dev == "" {
			continue
		}
		entry := linkHead(l)
		if c.Family == FamilyAny {
			entry = showLink(l)
		}
		for _, a := range list {
			entry += "\n" + showAddress(l, a)
		}
		entries = append(entries, entry)
	}
	return entries, nil
}

func showAddress(l netlink.Link, a netlink.Addr) string {
	var b strings.Builder
	v4 := a.IP.To4() != nil
	bits, _ := a.Mask.Size()
	name := "inet6"
	if v4 {
		name = "inet"
	}
	fmt.Fprintf(&b, "    %s %s", name, a.IP)
	if a.Peer != nil && a.Peer.IP != nil && !a.Peer.IP.Equal(a.IP) {
		peer, _ := a.Peer.Mask.Size()
		fmt.Fprintf(&b, " peer %s/%d", a.Peer.IP, peer)
	} else {
		fmt.Fprintf(&b, "/%d", bits)
	}
	if v4 && a.Broadcast != nil && !a.Broadcast.IsUnspecified() {
		fmt.Fprintf(&b, " brd %s", a.Broadcast)
	}
	fmt.Fprintf(&b, " scope %s", nameOf(scopes(), a.Scope))
	for _, f := range addressFlags() {
		if a.Flags&f.bit != 0 && (f.bit != unix.IFA_F_PERMANENT) {
			word := f.name
			if f.bit == unix.IFA_F_SECONDARY && !v4 {
				word = "temporary"
			}
			b.WriteString(" " + word)
		}
	}
	if v4 {
		label := a.Label
		if label == "" {
			label = l.Attrs().Name
		}
		b.WriteString(" " + label)
	}
	fmt.Fprintf(&b, " \n       valid_lft %s preferred_lft %s", lifetime(a.ValidLft), lifetime(a.PreferedLft))
	if v4 {
		return strings.Replace(b.String(), " \n", "\n", 1)
	}
	return b.String()
}

type flagName struct {
	bit  int
	name string
}

// addressFlags are in the order in which iproute2 prints them.
func addressFlags() []flagName {
	return []flagName{
		{unix.IFA_F_SECONDARY, "secondary"}, {unix.IFA_F_NODAD, "nodad"}, {unix.IFA_F_OPTIMISTIC, "optimistic"}, {unix.IFA_F_DADFAILED, "dadfailed"},
		{unix.IFA_F_DEPRECATED, "deprecated"}, {unix.IFA_F_TENTATIVE, "tentative"}, {unix.IFA_F_MANAGETEMPADDR, "mngtmpaddr"},
		{unix.IFA_F_NOPREFIXROUTE, "noprefixroute"},
	}
}

// lifetime writes seconds; the kernel's greatest number is forever.
func lifetime(seconds int) string {
	if seconds == 0 || uint32(seconds) == 0xffffffff {
		return "forever"
	}
	return fmt.Sprintf("%dsec", seconds)
}

// nameOf finds the name of a number, or writes the number.
func nameOf(names map[string]int, n int) string {
	for name, v := range names {
		if v == n {
			return name
		}
	}
	return fmt.Sprint(n)
}

// routes lists those that the command selects.
func routes(h *netlink.Handle, c Command, on netlink.Link) ([]netlink.Route, error) {
	filter := &netlink.Route{Table: c.Route.Table}
	mask := uint64(netlink.RT_FILTER_TABLE)
	if filter.Table == 0 {
		filter.Table = unix.RT_TABLE_MAIN
	}
	if on != nil {
		filter.LinkIndex = on.Attrs().Index
		mask |= netlink.RT_FILTER_OIF
	}
	version := unix.AF_INET
	if c.Family == FamilyV6 {
		version = unix.AF_INET6
	}
	list, err := h.RouteListFiltered(version, filter, mask)
	if err != nil {
		return nil, fmt.Errorf("list routes: %w", err)
	}
	if dst := c.Route.Dst; dst.IsValid() {
		list = slices.DeleteFunc(list, func(r netlink.Route) bool { return r.Dst == nil || r.Dst.String() != ipNet(dst).String() })
	}
	return list, nil
}

func showRoutes(h *netlink.Handle, c Command, on netlink.Link, names map[int]string) ([]string, error) {
	list, err := routes(h, c, on)
	if err != nil {
		return nil, err
	}
	var entries []string
	for _, r := range list {
		entries = append(entries, showRoute(r, on != nil, names)+" ")
	}
	return entries, nil
}

func showRoute(r netlink.Route, oneDev bool, names map[int]string) string {
	words := []string{}
	for i, t := range []int{unix.RTN_BLACKHOLE, unix.RTN_UNREACHABLE, unix.RTN_PROHIBIT} {
		if r.Type == t {
			words = append(words, routeTypes()[i+1])
		}
	}
	ones, bits := 0, 0
	if r.Dst != nil {
		ones, bits = r.Dst.Mask.Size()
	}
	switch ones {
	case 0:
		words = append(words, "default")
	case bits:
		words = append(words, r.Dst.IP.String())
	default:
		words = append(words, r.Dst.String())
	}
	if r.Gw != nil {
		words = append(words, "via", r.Gw.String())
	}
	if r.LinkIndex > 0 && !oneDev {
		words = append(words, "dev", names[r.LinkIndex])
	}
	if r.Protocol != unix.RTPROT_BOOT {
		words = append(words, "proto", nameOf(protocols(), int(r.Protocol)))
	}
	if r.Scope != netlink.SCOPE_UNIVERSE {
		words = append(words, "scope", nameOf(scopes(), int(r.Scope)))
	}
	if r.Src != nil {
		words = append(words, "src", r.Src.String())
	}
	if r.Priority > 0 {
		words = append(words, "metric", fmt.Sprint(r.Priority))
	}
	if r.MTU > 0 {
		words = append(words, "mtu", fmt.Sprint(r.MTU))
	}
	if r.Flags&int(netlink.FLAG_ONLINK) != 0 {
		words = append(words, "onlink")
	}
	return strings.Join(words, " ")
}

func showNeighbours(h *netlink.Handle, c Command, on netlink.Link, names map[int]string) ([]string, error) {
	index := 0
	if on != nil {
		index = on.Attrs().Index
	}
	list, err := h.NeighList(index, family(c.Family))
	if err != nil {
		return nil, fmt.Errorf("list neighbours: %w", err)
	}
	var entries []string
	for _, n := range list {
		if n.State&unix.NUD_NOARP != 0 || n.State == unix.NUD_NONE || n.Family != unix.AF_INET && n.Family != unix.AF_INET6 {
			continue // iproute2 shows those on demand alone
		}
		entry := n.IP.String()
		if on == nil {
			entry += " dev " + names[n.LinkIndex]
		}
		if len(n.HardwareAddr) > 0 {
			entry += " lladdr " + n.HardwareAddr.String()
		}
		entries = append(entries, entry+" "+strings.ToUpper(nameOf(states(), n.State))+" ")
	}
	return entries, nil
}

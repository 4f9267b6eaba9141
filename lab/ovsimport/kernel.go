package ovsimport

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"github.com/platelet-sdn/platelet/lab/namespace"
)

// place is one network namespace.
type place struct {
	// name is that of a named namespace; empty for the switch's own and for
	// those of containers, which have none.
	name   string
	own    bool
	fd     netns.NsHandle
	handle *netlink.Handle
	links  []netlink.Link
	ids    map[int]*place // other namespaces by the ID that this one has for them
	node   *node          // that reproduces it, once there is one
}

// kernel is the network namespaces of the machine, the switch's own first.
type kernel struct {
	root   *place
	places []*place
	can    map[string]bool // kinds of virtual interface, see probe
}

// readKernel opens the switch's own namespace, which must be ours, every
// named one, and those of processes that a virtual cable leads to.
func readKernel() (*kernel, error) {
	k := &kernel{}
	fd, err := netns.Get()
	if err != nil {
		return nil, fmt.Errorf("own namespace: %w", err)
	}
	if k.root, err = openPlace("", fd); err != nil {
		return nil, err
	}
	k.root.own = true
	k.places = append(k.places, k.root)
	entries, err := os.ReadDir(namespace.Dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, errors.Join(fmt.Errorf("named namespaces: %w", err), k.close())
	}
	for _, e := range entries {
		// A name may outlive its namespace; that one has no hosts.
		_ = k.add(e.Name(), namespace.Path(e.Name()))
	}
	k.addProcesses()
	k.can = probe()
	return k, nil
}

// probe finds out which kinds of virtual interface the kernel has, in a
// namespace that nobody sees and that ends with its thread.
func probe() map[string]bool {
	can := map[string]bool{}
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread() // never unlocked: the thread ends with us
		if unix.Unshare(unix.CLONE_NEWNET) != nil {
			return
		}
		h, err := netlink.NewHandle()
		if err != nil {
			return
		}
		defer h.Close()
		attrs := netlink.NewLinkAttrs()
		attrs.Name = "probe"
		if h.LinkAdd(&netlink.Veth{LinkAttrs: attrs, PeerName: "peer"}) != nil {
			return
		}
		parent, err := h.LinkByName("probe")
		if err != nil {
			return
		}
		attrs.Name, attrs.ParentIndex = "try", parent.Attrs().Index
		for _, l := range []netlink.Link{&netlink.Vlan{LinkAttrs: attrs, VlanId: 2}, &netlink.Macvlan{LinkAttrs: attrs, Mode: netlink.MACVLAN_MODE_BRIDGE}} {
			if can[l.Type()] = h.LinkAdd(l) == nil; can[l.Type()] {
				_ = h.LinkDel(l)
			}
		}
	}()
	<-done
	return can
}

func (k *kernel) close() error {
	var errs []error
	for _, p := range k.places {
		p.handle.Close()
		errs = append(errs, p.fd.Close())
	}
	return errors.Join(errs...)
}

func openPlace(name string, fd netns.NsHandle) (*place, error) {
	p := &place{name: name, fd: fd}
	var err error
	if p.handle, err = netlink.NewHandleAt(fd, unix.NETLINK_ROUTE); err == nil {
		p.links, err = p.handle.LinkList()
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("interfaces of namespace %q: %w", name, err), fd.Close())
	}
	return p, nil
}

// add opens a namespace that is not open yet.
func (k *kernel) add(name, path string) error {
	fd, err := netns.GetFromPath(path)
	if err != nil {
		return err
	}
	for _, p := range k.places {
		if p.fd.Equal(fd) {
			return fd.Close()
		}
	}
	p, err := openPlace(name, fd)
	if err != nil {
		return err
	}
	k.places = append(k.places, p)
	return nil
}

// addProcesses opens the namespaces of containers: those without a name that
// processes are in. It looks only when a cable leads to one.
func (k *kernel) addProcesses() {
	unknown := slices.ContainsFunc(k.root.links, func(l netlink.Link) bool {
		id := l.Attrs().NetNsID
		return l.Type() == "veth" && id >= 0 && k.byID(k.root, id) == nil
	})
	if !unknown {
		return
	}
	k.root.ids = nil
	entries, _ := filepath.Glob("/proc/[0-9]*/ns/net")
	slices.SortFunc(entries, func(a, b string) int { return cmp.Or(cmp.Compare(len(a), len(b)), cmp.Compare(a, b)) })
	for _, path := range entries {
		_ = k.add("", path) // processes come and go
	}
}

// byID finds a namespace by the ID that another has for it.
func (k *kernel) byID(from *place, id int) *place {
	if from.ids == nil {
		from.ids = map[int]*place{}
		for _, p := range k.places {
			if got, err := from.handle.GetNetNsIdByFd(int(p.fd)); err == nil && got >= 0 {
				from.ids[got] = p
			}
		}
	}
	return from.ids[id]
}

// link finds an interface by name.
func (p *place) link(name string) netlink.Link {
	for _, l := range p.links {
		if l.Attrs().Name == name {
			return l
		}
	}
	return nil
}

// peer finds the other end of a virtual cable.
func (k *kernel) peer(from *place, l netlink.Link) (*place, netlink.Link) {
	if l.Type() != "veth" {
		return nil, nil
	}
	p := from
	if id := l.Attrs().NetNsID; id >= 0 {
		if p = k.byID(from, id); p == nil {
			return nil, nil
		}
	}
	for _, far := range p.links {
		if far.Attrs().Index == l.Attrs().ParentIndex && far.Type() == "veth" {
			return p, far
		}
	}
	return nil, nil
}

// internal finds where an internal port is: it may have been moved to
// another namespace, where a userspace switch no longer sees its address.
func (k *kernel) internal(name, mac string) (*place, netlink.Link) {
	var place *place
	var found netlink.Link
	for _, p := range k.places {
		l := p.link(name)
		if l == nil || l.Type() != "tuntap" && l.Type() != "openvswitch" {
			continue
		}
		if l.Attrs().HardwareAddr.String() == mac {
			return p, l
		}
		if found != nil {
			return nil, nil // which of them?
		}
		place, found = p, l
	}
	return place, found
}

// inside runs f on a thread of its own that is in the namespace.
func (p *place) inside(f func() error) error {
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with us
		err := netns.Set(p.fd)
		if err == nil {
			err = f()
		}
		done <- err
	}()
	return <-done
}

// carried are the settings of a namespace that change whom its host answers
// and what it passes on, with the value that is not the default.
func carried() map[string]string {
	return map[string]string{
		"net.ipv4.ip_forward": "1", "net.ipv6.conf.all.forwarding": "1",
		"net.ipv4.conf.all.arp_ignore": "1", "net.ipv4.conf.all.arp_announce": "2",
	}
}

func (p *place) sysctls() (map[string]string, error) {
	out := map[string]string{}
	err := p.inside(func() error {
		for key, value := range carried() {
			data, err := os.ReadFile("/proc/sys/" + strings.ReplaceAll(key, ".", "/"))
			if errors.Is(err, fs.ErrNotExist) {
				continue // a kernel without IPv6
			}
			if err != nil {
				return err
			}
			if strings.TrimSpace(string(data)) == value {
				out[key] = value
			}
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("settings of namespace %q: %w", p.name, err)
	}
	return out, nil
}

// addresses are those of an interface that somebody gave it: not what the
// kernel or a router made up. IPv4 in the kernel's order, which says which
// is primary.
func (p *place) addresses(l netlink.Link) ([]netlink.Addr, error) {
	var out []netlink.Addr
	for _, family := range []int{netlink.FAMILY_V4, netlink.FAMILY_V6} {
		list, err := p.handle.AddrList(l, family)
		if err != nil {
			return nil, fmt.Errorf("addresses of %s: %w", l.Attrs().Name, err)
		}
		if family == netlink.FAMILY_V6 {
			slices.SortFunc(list, func(a, b netlink.Addr) int { return cmp.Compare(a.IPNet.String(), b.IPNet.String()) })
		}
		for _, a := range list {
			auto := family == netlink.FAMILY_V6 && a.Flags&unix.IFA_F_PERMANENT == 0
			if !auto && !a.IP.IsLinkLocalUnicast() && !a.IP.IsLoopback() {
				out = append(out, a)
			}
		}
	}
	return out, nil
}

// neighbour is an address that some host on the machine has resolved, with
// the subnet that the resolver shares with it.
type neighbour struct{ prefix netip.Prefix }

// neighbours maps MAC to the addresses seen for it, everywhere.
func (k *kernel) neighbours() map[string][]neighbour {
	out := map[string][]neighbour{}
	for _, p := range k.places {
		entries, err := p.handle.NeighList(0, netlink.FAMILY_ALL)
		if err != nil {
			continue // only a hint
		}
		for _, e := range entries {
			mac := e.HardwareAddr.String()
			ip, ok := netip.AddrFromSlice(e.IP)
			if ip = ip.Unmap(); !ok || mac == "" || ip.IsLinkLocalUnicast() || ip.IsMulticast() {
				continue
			}
			if n, ok := p.onLink(e.LinkIndex, ip); ok && !slices.Contains(out[mac], n) {
				out[mac] = append(out[mac], n)
			}
		}
	}
	for _, list := range out {
		slices.SortFunc(list, func(a, b neighbour) int { return a.prefix.Addr().Compare(b.prefix.Addr()) })
	}
	return out
}

// onLink finds the subnet that an interface shares with an address.
func (p *place) onLink(index int, ip netip.Addr) (neighbour, bool) {
	for _, l := range p.links {
		if l.Attrs().Index != index {
			continue
		}
		addrs, err := p.handle.AddrList(l, netlink.FAMILY_ALL)
		if err != nil {
			return neighbour{}, false
		}
		for _, a := range addrs {
			if bits, _ := a.Mask.Size(); a.Contains(net.IP(ip.AsSlice())) {
				return neighbour{netip.PrefixFrom(ip, bits)}, true
			}
		}
	}
	return neighbour{}, false
}

// routes are `ip route add` arguments for the routes that somebody added,
// those without a gateway first, as gateways must be reachable.
func (p *place) routes(known func(index int) bool) (lines, lost []string, err error) {
	for _, family := range []int{netlink.FAMILY_V4, netlink.FAMILY_V6} {
		list, err := p.handle.RouteListFiltered(family, &netlink.Route{Table: unix.RT_TABLE_MAIN}, netlink.RT_FILTER_TABLE)
		if err != nil {
			return nil, nil, fmt.Errorf("routes of namespace %q: %w", p.name, err)
		}
		var direct, via []string
		for _, r := range list {
			if r.Protocol == unix.RTPROT_KERNEL || r.Protocol == unix.RTPROT_RA || r.Protocol == unix.RTPROT_REDIRECT {
				continue
			}
			line, gateway, ok := p.route(r, family, known)
			switch {
			case !ok:
				lost = append(lost, line)
			case gateway:
				via = append(via, line)
			default:
				direct = append(direct, line)
			}
		}
		slices.Sort(direct)
		slices.Sort(via)
		lines = append(append(lines, direct...), via...)
	}
	return lines, lost, nil
}

// route writes one route; ok is false when it leads over an interface that
// is not carried over.
func (p *place) route(r netlink.Route, family int, known func(int) bool) (line string, gateway, ok bool) {
	words := []string{"ip"}
	if family == netlink.FAMILY_V6 {
		words = append(words, "-6")
	}
	words = append(words, "route", "add")
	switch r.Type {
	case unix.RTN_BLACKHOLE:
		words = append(words, "blackhole")
	case unix.RTN_UNREACHABLE:
		words = append(words, "unreachable")
	case unix.RTN_PROHIBIT:
		words = append(words, "prohibit")
	}
	ok = r.Type != unix.RTN_UNICAST
	if r.Dst == nil || r.Dst.IP.IsUnspecified() && strings.HasSuffix(r.Dst.String(), "/0") {
		words = append(words, "default")
	} else {
		words = append(words, r.Dst.String())
	}
	words = append(words, routeOptions(r, family)...)
	if r.Type == unix.RTN_UNICAST {
		hops := r.MultiPath
		if len(hops) == 0 {
			hops = []*netlink.NexthopInfo{{LinkIndex: r.LinkIndex, Gw: r.Gw, Via: r.Via, Flags: r.Flags}}
		}
		ok = true
		for _, hop := range hops {
			if len(r.MultiPath) > 0 {
				words = append(words, "nexthop")
			}
			if hop.Gw != nil {
				words, gateway = append(words, "via", hop.Gw.String()), true
			}
			words = append(words, "dev", p.nameOf(hop.LinkIndex))
			if len(r.MultiPath) > 0 {
				words = append(words, "weight", strconv.Itoa(hop.Hops+1))
			}
			if hop.Flags&int(netlink.FLAG_ONLINK) != 0 {
				words = append(words, "onlink")
			}
			ok = ok && hop.Via == nil && known(hop.LinkIndex)
		}
	}
	return strings.Join(words, " "), gateway, ok && r.Encap == nil
}

func routeOptions(r netlink.Route, family int) (words []string) {
	if r.Src != nil {
		words = append(words, "src", r.Src.String())
	}
	// 1024 is what the kernel gives IPv6 routes that name none.
	if r.Priority != 0 && (family != netlink.FAMILY_V6 || r.Priority != 1024) {
		words = append(words, "metric", strconv.Itoa(r.Priority))
	}
	if r.MTU != 0 {
		words = append(words, "mtu", strconv.Itoa(r.MTU))
	}
	return words
}

func (p *place) nameOf(index int) string {
	for _, l := range p.links {
		if l.Attrs().Index == index {
			return nicName(l.Attrs().Name)
		}
	}
	return "?"
}

// permanent are `ip neigh` lines for the neighbours that somebody entered.
func (p *place) permanent(known func(index int) bool) []string {
	entries, err := p.handle.NeighList(0, netlink.FAMILY_ALL)
	if err != nil {
		return nil
	}
	var out []string
	for _, e := range entries {
		if e.State&netlink.NUD_PERMANENT != 0 && len(e.HardwareAddr) == 6 && known(e.LinkIndex) && !e.IP.IsMulticast() {
			out = append(out, fmt.Sprintf("ip neigh replace %s lladdr %s dev %s", e.IP, e.HardwareAddr, p.nameOf(e.LinkIndex)))
		}
	}
	slices.Sort(out)
	return out
}

package ovsimport

import (
	"cmp"
	"fmt"
	"net"
	"net/netip"
	"slices"

	"github.com/vishvananda/netlink"
)

// behindMax is how many learned addresses a host stands in for.
const behindMax = 32

// nic is an interface of a node beside what its cables bring, or the
// addresses of one that they bring.
type nic struct {
	name string
	kind string // vlan, macvlan, dummy; empty for one that is there
	// parent, id and mac are those of a virtual interface; mac may be empty.
	parent string
	id     int
	mac    string
	addrs  []string // as `ip addr add` takes them, after "ip [-6]"
	down   bool
}

// lines are the commands that make the interfaces, parents before children.
func lines(nics []nic) []string {
	var out []string
	made := map[string]bool{}
	for _, n := range nics {
		made[n.name] = n.kind == ""
	}
	for again := true; again; {
		again = false
		for _, n := range nics {
			if made[n.name] || n.parent != "" && !made[n.parent] {
				continue
			}
			made[n.name], again = true, true
			line := "ip link add "
			if n.parent != "" {
				line += "link " + n.parent + " "
			}
			line += "name " + n.name
			if n.mac != "" {
				line += " address " + n.mac
			}
			switch n.kind {
			case "vlan":
				line += fmt.Sprintf(" type vlan id %d", n.id)
			case "macvlan":
				line += " type macvlan mode bridge"
			default:
				line += " type " + n.kind
			}
			out = append(out, line)
			if !n.down {
				out = append(out, "ip link set dev "+n.name+" up")
			}
		}
	}
	for _, n := range nics {
		for _, a := range n.addrs {
			out = append(out, a+" dev "+n.name)
		}
	}
	return out
}

// addLine is the start of the command that adds an address. Duplicate
// address detection would only delay IPv6 addresses that are in use already.
func addLine(prefix, peer string, six bool) string {
	if peer != "" {
		prefix += " peer " + peer
	}
	if six {
		return "ip -6 addr add " + prefix + " nodad"
	}
	return "ip addr add " + prefix
}

// furnish reads a host's interfaces, addresses, routes and settings.
func (p *plan) furnish(n *node) error {
	carries := p.carried(n)
	known := func(index int) bool { _, ok := carries[index]; return ok }
	var nics []nic
	for _, l := range n.place.links {
		how, ok := carries[l.Attrs().Index]
		if !ok {
			if l.Attrs().Flags&net.FlagUp != 0 {
				p.note("host %s: interface %s, a %s", n.name, l.Attrs().Name, kindOf(l))
			}
			continue
		}
		addrs, err := n.place.addresses(l)
		if err != nil {
			return err
		}
		for _, a := range addrs {
			peer := ""
			if a.Peer != nil && a.Peer.String() != a.IPNet.String() {
				peer = a.Peer.String()
			}
			how.addrs = append(how.addrs, addLine(a.IPNet.String(), peer, a.IP.To4() == nil))
		}
		how.down = l.Attrs().Flags&net.FlagUp == 0
		nics = append(nics, how)
	}
	slices.SortFunc(nics, func(a, b nic) int { return cmp.Compare(a.name, b.name) })
	slices.Sort(n.exec)
	n.exec = append(n.exec, lines(nics)...)
	routes, lost, err := n.place.routes(known)
	if err != nil {
		return err
	}
	for _, r := range lost {
		p.note("host %s: %s", n.name, r)
	}
	n.exec = append(append(n.exec, routes...), n.place.permanent(known)...)
	for _, i := range nics {
		if i.down && i.kind == "" && i.name != "lo" {
			n.exec = append(n.exec, "ip link set dev "+i.name+" down")
		}
	}
	n.sysctls, err = n.place.sysctls()
	return err
}

// carried says how each interface of a host comes to be in the lab, by
// index: by a cable, or made on top of one.
func (p *plan) carried(n *node) map[int]nic {
	out := map[int]nic{}
	mac := map[int]string{}
	for _, l := range n.place.links {
		mac[l.Attrs().Index] = l.Attrs().HardwareAddr.String()
		if n.linked[l.Attrs().Index] || l.Type() == "device" && l.Attrs().Name == "lo" || l.Attrs().Name == "lo" {
			out[l.Attrs().Index] = nic{name: nicName(l.Attrs().Name)}
		}
	}
	for again := true; again; {
		again = false
		for _, l := range n.place.links {
			a := l.Attrs()
			if _, ok := out[a.Index]; ok {
				continue
			}
			parent, onTop := out[a.ParentIndex]
			v := nic{name: nicName(a.Name), kind: l.Type(), parent: parent.name, mac: a.HardwareAddr.String()}
			switch l := l.(type) {
			case *netlink.Vlan:
				if v.id = l.VlanId; mac[a.ParentIndex] == v.mac {
					v.mac = ""
				}
			case *netlink.Macvlan:
				onTop = onTop && l.Mode == netlink.MACVLAN_MODE_BRIDGE
			case *netlink.Dummy:
				v.parent, onTop = "", true
			default:
				onTop = false
			}
			if onTop && a.NetNsID < 0 {
				out[a.Index], again = v, true
			}
		}
	}
	return out
}

// standIn puts a host behind a port whose own cannot be moved to the lab. It
// answers for the addresses that are known there. near is the interface of
// the switch's host that is there, if any.
func (p *plan) standIn(i *iface, own *place, near netlink.Link, why string) {
	n := &node{name: p.taken.take(fit(i.name, nodeNameMax), nodeNameMax), ifaces: []*iface{i}}
	main := nic{name: "eth1"}
	mac := stableMAC(p.o.Lab + "/" + n.name)
	mtu := defaultMTU
	nics := []nic{}
	if near != nil {
		mac, mtu = near.Attrs().HardwareAddr.String(), near.Attrs().MTU
		addrs, err := own.addresses(near)
		if err != nil {
			p.note("port %s: %v", i.name, err)
		}
		for _, a := range addrs {
			main.addrs = append(main.addrs, addLine(a.IPNet.String(), "", a.IP.To4() == nil))
		}
	} else {
		if l := p.kernel.root.link(i.name); l != nil {
			mtu = l.Attrs().MTU
		}
		if behind := p.behind(i); len(behind) > 0 {
			mac = behind[0].mac
			nics = p.impersonate(n, i, &main, behind)
		}
	}
	nics = append(nics, main)
	slices.SortFunc(nics, func(a, b nic) int { return cmp.Compare(a.name, b.name) })
	n.exec = lines(nics)
	p.note("port %s of bridge %s: %s; node %s stands in for what is behind it", i.name, i.bridge.name, why, n.name)
	p.nodes = append(p.nodes, n)
	p.attach(i, endpoint{n.name, main.name, mac}, mtu)
}

// behind are the addresses learned at a port: those whose IP address is
// known first, untagged before tagged.
func (p *plan) behind(i *iface) []learnedMAC {
	var out []learnedMAC
	for _, l := range p.learned[i.bridge] {
		if l.port != i.ofport {
			continue
		}
		// An access port's VLAN is the switch's affair.
		if i.port.row.one("tag") == fmt.Sprint(l.vlan) && i.port.row.one("vlan_mode") != "native-tagged" {
			l.vlan = 0
		}
		out = append(out, l)
	}
	rank := func(l learnedMAC) int {
		if len(p.known[l.mac]) > 0 {
			return 0
		}
		return 1
	}
	slices.SortFunc(out, func(a, b learnedMAC) int {
		return cmp.Or(cmp.Compare(min(a.vlan, 1), min(b.vlan, 1)), cmp.Compare(rank(a), rank(b)), cmp.Compare(a.vlan, b.vlan), cmp.Compare(a.mac, b.mac))
	})
	return out
}

// impersonate gives a host the addresses learned behind a port: the first on
// the cable itself, further ones on interfaces on top.
func (p *plan) impersonate(n *node, i *iface, main *nic, behind []learnedMAC) []nic {
	var nics []nic
	given := map[netip.Prefix]bool{}
	addrs := func(mac string) (out []string) {
		for _, k := range p.known[mac] {
			if !given[k.prefix] {
				given[k.prefix] = true
				out = append(out, addLine(k.prefix.String(), "", k.prefix.Addr().Is6()))
			}
		}
		return out
	}
	vlans := map[int]string{}
	left := 0
	for at, l := range behind {
		v := nic{parent: main.name, mac: l.mac}
		switch {
		case l.vlan == 0 && l.mac == behind[0].mac:
			main.addrs = append(main.addrs, addrs(l.mac)...)
			continue
		case at >= behindMax, !p.kernel.can["vlan"] && l.vlan != 0, !p.kernel.can["macvlan"] && (l.vlan == 0 || vlans[l.vlan] != ""), len(p.known[l.mac]) == 0 && vlans[l.vlan] != "", l.vlan == 0 && len(p.known[l.mac]) == 0:
			left++
			continue
		case l.vlan != 0 && vlans[l.vlan] == "":
			v.name, v.kind, v.id = fmt.Sprintf("%s.%d", main.name, l.vlan), "vlan", l.vlan
			vlans[l.vlan] = v.name
			if l.mac == behind[0].mac {
				v.mac = ""
			}
		default:
			v.name, v.kind = fmt.Sprintf("mac%d", at), "macvlan"
			v.parent = cmp.Or(vlans[l.vlan], main.name)
			n.sysctls = map[string]string{"net.ipv4.conf.all.arp_ignore": "1", "net.ipv4.conf.all.arp_announce": "2"}
		}
		v.addrs = addrs(l.mac)
		nics = append(nics, v)
	}
	if left > 0 {
		p.note("port %s of bridge %s: %d more addresses learned behind it", i.name, i.bridge.name, left)
	}
	return nics
}

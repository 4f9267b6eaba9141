package ovsimport

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/vishvananda/netlink"
)

// defaultMTU is for links that have none, as those between patch ports.
const defaultMTU = 1500

// endpoint is one end of a link, in the topology's names.
type endpoint struct{ node, nic, mac string }

// link is a virtual cable of the topology.
type link struct {
	a, b endpoint
	mtu  int
}

// node is a host of the topology.
type node struct {
	name    string
	labels  map[string]string
	sysctls map[string]string
	exec    []string
	ifaces  []*iface // the switch's ends of its cables
	// linked are the interfaces that its cables bring, by index in place;
	// nil for a host that stands in for one that cannot be seen.
	linked map[int]bool
	place  *place
}

// plan is a topology in the making.
type plan struct {
	o         Options
	bridges   []*bridge
	kernel    *kernel
	learned   map[*bridge][]learnedMAC
	known     map[string][]neighbour // by MAC
	bridgeOf  map[*bridge]string     // names in the topology
	portOf    map[*port]string
	ifaceOf   map[*iface]string
	wasCalled map[string]string // the name on the imported host, by that in the topology
	extra     map[*iface]map[string]string
	done      map[*iface]bool
	taken     names // node names
	nodes     []*node
	links     []link
	setup     string // the node of kind host, which sets the switch up
	exec      []step // its commands
	files     map[string][]byte
	notes     []string
}

func newPlan(o Options, bridges []*bridge, k *kernel, learned map[*bridge][]learnedMAC) *plan {
	return &plan{
		o: o, bridges: bridges, kernel: k, learned: learned, known: k.neighbours(),
		bridgeOf: map[*bridge]string{}, portOf: map[*port]string{}, ifaceOf: map[*iface]string{}, wasCalled: map[string]string{},
		extra: map[*iface]map[string]string{}, done: map[*iface]bool{}, taken: names{}, files: map[string][]byte{},
	}
}

func (p *plan) note(format string, args ...any) {
	p.notes = append(p.notes, fmt.Sprintf(format, args...))
}

// build plans everything.
func (p *plan) build() error {
	p.nameAll()
	for _, b := range p.bridges {
		if b.skipped > 0 {
			p.note("bridge %s: %d flows and meters of Platelet's own", b.name, b.skipped)
		}
		for _, port := range b.ports {
			for _, i := range port.ifaces {
				p.connect(i)
			}
		}
	}
	p.beyond()
	for _, n := range p.nodes {
		p.label(n)
		if n.linked != nil {
			if err := p.furnish(n); err != nil {
				return fmt.Errorf("host %s: %w", n.name, err)
			}
		}
	}
	slices.SortFunc(p.nodes, func(a, b *node) int { return cmp.Compare(a.name, b.name) })
	slices.SortFunc(p.links, func(x, y link) int {
		return cmp.Or(cmp.Compare(x.b.node, y.b.node), cmp.Compare(x.b.nic, y.b.nic), cmp.Compare(x.a.node, y.a.node))
	})
	return p.planRestore()
}

// nameAll decides what bridges, ports and interfaces are called in the lab.
func (p *plan) nameAll() {
	inUse := names{} // one space: the kernel's, and that of Open vSwitch
	name := func(old string, ids map[string]string, ours bool) string {
		out := old
		if p.o.Rename && !ours {
			out = prefixed(p.o.Lab, old)
		}
		out = inUse.take(fit(out, nameMax), nameMax)
		switch was, again := ids[importedKey]; {
		case again:
			p.wasCalled[out] = was
		case out != old:
			p.wasCalled[out] = old
		}
		return out
	}
	for _, b := range p.bridges {
		ids := b.row["external_ids"].pairs
		p.bridgeOf[b] = name(b.name, ids, ids[labKey] == p.o.Lab)
		p.taken.take(p.bridgeOf[b], nameMax)
	}
	p.setup = p.taken.take("restore", nodeNameMax)
	for _, b := range p.bridges {
		for _, port := range b.ports {
			for _, i := range port.ifaces {
				p.ifaceOf[i] = name(i.name, i.ids, i.ids[labKey] == p.o.Lab)
			}
			if len(port.ifaces) == 1 && port.ifaces[0].name == port.name {
				p.portOf[port] = p.ifaceOf[port.ifaces[0]]
				continue
			}
			ids := port.row["external_ids"].pairs
			p.portOf[port] = name(port.name, ids, ids[labKey] == p.o.Lab)
		}
	}
}

// nodeNameMax keeps the names of namespaces readable.
const nodeNameMax = 40

// connect finds what is behind an interface.
func (p *plan) connect(i *iface) {
	if p.done[i] {
		return // reached from the other end
	}
	p.done[i] = true
	near := p.kernel.root.link(i.name)
	switch {
	case i.kind == "patch":
		if far := p.find(i.row["options"].pairs["peer"]); far != nil && far.kind == "patch" {
			p.join(i, far, defaultMTU)
			return
		}
		p.standIn(i, nil, nil, "a patch port to a bridge that is not imported")
	case i.kind == "internal":
		place, far := p.kernel.internal(i.name, i.row.one("mac_in_use"))
		switch {
		case far == nil:
			p.standIn(i, nil, nil, "an internal port whose interface cannot be seen")
		case place.own:
			p.standIn(i, place, far, "an internal port of the host itself, of which its addresses remain")
		default:
			p.host(i, place, far, far.Attrs().MTU)
		}
	case i.kind != "" && i.kind != "system":
		p.standIn(i, nil, nil, "a port of type "+i.kind)
	case near == nil:
		p.standIn(i, nil, nil, "an interface that cannot be seen")
	case near.Type() == "veth":
		p.follow(i, near)
	default:
		p.standIn(i, nil, nil, "a "+kindOf(near))
	}
}

// kindOf says what an interface is.
func kindOf(l netlink.Link) string {
	switch l.Type() {
	case "device":
		return "network card"
	case "tuntap":
		return "tap"
	}
	return l.Type()
}

// follow finds what is at the other end of a virtual cable.
func (p *plan) follow(i *iface, near netlink.Link) {
	place, far := p.kernel.peer(p.kernel.root, near)
	if far == nil {
		p.standIn(i, nil, nil, "a virtual cable into a namespace that cannot be seen")
		return
	}
	if !place.own {
		p.host(i, place, far, near.Attrs().MTU)
		return
	}
	if other := p.find(far.Attrs().Name); other != nil && (other.kind == "" || other.kind == "system") {
		p.join(i, other, near.Attrs().MTU)
		return
	}
	p.standIn(i, place, far, "a virtual cable to the host itself, of which its addresses remain")
}

// find finds an imported interface by its name on the host.
func (p *plan) find(name string) *iface {
	for i := range p.ifaceOf {
		if i.name == name {
			return i
		}
	}
	return nil
}

// join links two bridges.
func (p *plan) join(i, other *iface, mtu int) {
	p.done[other] = true
	a, b := i, other
	if cmp.Or(cmp.Compare(p.bridgeOf[a.bridge], p.bridgeOf[b.bridge]), cmp.Compare(p.ifaceOf[a], p.ifaceOf[b])) > 0 {
		a, b = b, a
	}
	p.links = append(p.links, link{endpoint{p.bridgeOf[a.bridge], p.ifaceOf[a], ""}, endpoint{p.bridgeOf[b.bridge], p.ifaceOf[b], ""}, mtu})
	p.extra[a], p.extra[b] = p.labels(a), p.labels(b)
}

// host links a host whose namespace can be seen.
func (p *plan) host(i *iface, place *place, far netlink.Link, mtu int) {
	n := p.nodeAt(place, cmp.Or(i.ids[nodeKey], p.nameOf(place), i.name))
	n.ifaces = append(n.ifaces, i)
	n.linked[far.Attrs().Index] = true
	if far.Attrs().MTU != mtu {
		n.exec = append(n.exec, fmt.Sprintf("ip link set dev %s mtu %d", nicName(far.Attrs().Name), far.Attrs().MTU))
	}
	p.attach(i, endpoint{n.name, nicName(far.Attrs().Name), far.Attrs().HardwareAddr.String()}, mtu)
}

// nameOf is what the host in a namespace is called.
func (p *plan) nameOf(place *place) string {
	return strings.TrimPrefix(place.name, "clab-"+p.o.Lab+"-") // when a lab is imported again
}

// nodeAt is the node of a namespace.
func (p *plan) nodeAt(place *place, name string) *node {
	if place.node == nil {
		place.node = &node{name: p.taken.take(fit(name, nodeNameMax), nodeNameMax), place: place, linked: map[int]bool{}}
		p.nodes = append(p.nodes, place.node)
	}
	return place.node
}

// beyond follows the cables between hosts, to those that stand behind the
// ones at the switch.
func (p *plan) beyond() {
	for at := 0; at < len(p.nodes); at++ { // grows as we go
		n := p.nodes[at]
		if n.place == nil {
			continue
		}
		for _, l := range n.place.links {
			place, far := p.kernel.peer(n.place, l)
			if far == nil || place.own || place == n.place || place.name == "" && place.node == nil || n.linked[l.Attrs().Index] {
				continue
			}
			other := p.nodeAt(place, p.nameOf(place))
			n.linked[l.Attrs().Index], other.linked[far.Attrs().Index] = true, true
			a := endpoint{n.name, nicName(l.Attrs().Name), l.Attrs().HardwareAddr.String()}
			b := endpoint{other.name, nicName(far.Attrs().Name), far.Attrs().HardwareAddr.String()}
			if a.node > b.node || a.node == b.node && a.nic > b.nic {
				a, b = b, a
			}
			p.links = append(p.links, link{a, b, l.Attrs().MTU})
		}
	}
}

// attach links a node to the switch.
func (p *plan) attach(i *iface, e endpoint, mtu int) {
	p.links = append(p.links, link{a: e, b: endpoint{p.bridgeOf[i.bridge], p.ifaceOf[i], ""}, mtu: mtu})
}

// label gives a node the labels that all its ports share; the rest stays
// with the ports.
func (p *plan) label(n *node) {
	for at, i := range n.ifaces {
		ids := p.labels(i)
		if at == 0 {
			n.labels = maps.Clone(ids)
		}
		maps.DeleteFunc(n.labels, func(k, v string) bool { other, ok := ids[k]; return !ok || other != v })
		p.extra[i] = ids
	}
	for _, i := range n.ifaces {
		maps.DeleteFunc(p.extra[i], func(k, _ string) bool { _, ok := n.labels[k]; return ok })
	}
}

// labels are what a port's external_ids say of what is behind it.
func (p *plan) labels(i *iface) map[string]string {
	return p.plainIDs(i.ids, "interface "+i.name)
}

// plainIDs leaves out the marks of lab and import, and what a topology file
// cannot hold.
func (p *plan) plainIDs(ids map[string]string, where string) map[string]string {
	out := map[string]string{}
	for k, v := range ids {
		switch {
		case strings.HasPrefix(k, labKey), k == nodeKey, k == importedKey:
		case !carriable(k), !carriable(v):
			p.note("%s: external_ids:%q, whose text a topology file cannot hold", where, k)
		default:
			out[k] = v
		}
	}
	return out
}

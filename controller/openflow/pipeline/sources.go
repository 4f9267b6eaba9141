package pipeline

import (
	"fmt"
	"net/netip"

	"github.com/platelet-sdn/platelet/controller/openflow"
	"github.com/platelet-sdn/platelet/flowcollector/flow"
	"github.com/platelet-sdn/platelet/segmentation/sourceguard"
)

// Guarded sources. A packet that comes in by a guarded port has to name
// addresses of the port as those of its sender, or goes no further. Three
// tables look at it in turn, each at one kind of address, so that a port costs
// a few flows for each of its addresses, and not for each pair of them: the
// station (Ethernet source, and what ARP and neighbour discovery say of it),
// the target that neighbour discovery claims, and the sender (source address).
//
// They stand before the guard rules of protected hosts, because those believe
// source addresses: who forges a gateway's is not to be exempt by it. That a
// gateway is never cut off is seen to where ports are chosen (package
// sourceguard). They stand before the tap as well: what is forged says nothing
// of whom it names, and has reports of its own.

// Priorities in these tables.
const (
	sourceOwn     uint16 = 40 // what names the port's addresses
	sourceNobody  uint16 = 40 // what a host without an address may send
	sourceForged  uint16 = 30 // the rest of what could name others
	sourceStation uint16 = 20
	sourceStrange uint16 = 10 // from any other station
)

// sourcePort is a guarded port, and what we know of it on the switch. It is not
// changed once made.
type sourcePort struct {
	sourceguard.Port
	object uint32
	count  *ruleCount
}

// sourceSet is all guarded ports of a bridge. Once made it is not changed.
type sourceSet struct {
	ports   map[string]*sourcePort // by interface name
	objects map[uint32]*sourcePort
}

func newSourceSet() *sourceSet {
	return &sourceSet{ports: map[string]*sourcePort{}, objects: map[uint32]*sourcePort{}}
}

// next returns the set for these ports of a bridge. What is known of a port is
// taken over; another guard begins to count anew.
func (s *sourceSet) next(bridge string, ports []sourceguard.Port) (*sourceSet, error) {
	n := newSourceSet()
	for _, p := range ports {
		if err := checkSource(bridge, &p); err != nil {
			return nil, err
		}
		if n.ports[p.Port] != nil {
			return nil, fmt.Errorf("port %s is guarded twice", p.Port)
		}
		x := &sourcePort{Port: p}
		if old := s.ports[p.Port]; old != nil && old.Guard == p.Guard && old.Enforce == p.Enforce {
			x.object, x.count = old.object, old.count
			if old.Same(&p) {
				x = old
			}
		}
		n.ports[p.Port] = x
		if x.object != 0 {
			n.objects[x.object] = x
		}
	}
	for _, p := range ports { // in this order, whatever was there before
		if x := n.ports[p.Port]; x.object == 0 {
			x.object, x.count = n.freeObject(&p), newRuleCount()
			n.objects[x.object] = x
		}
	}
	return n, nil
}

// freeObject returns the object of a guarded port, or another one if two have
// the same hash; 0 is nobody's, and reports carry the object.
func (s *sourceSet) freeObject(p *sourceguard.Port) uint32 {
	mode := "staged"
	if p.Enforce {
		mode = "enforced"
	}
	object := ObjectID("source/"+mode+"/"+p.Guard+"/"+p.Port) & flow.MaxRule
	for object == 0 || s.objects[object] != nil {
		object = (object + 1) & flow.MaxRule
	}
	return object
}

// checkSource reports what cannot be enforced as it reads.
func checkSource(bridge string, p *sourceguard.Port) error {
	if p.Switch != bridge || p.Port == "" {
		return fmt.Errorf("guarded port %s/%s is not one of %s", p.Switch, p.Port, bridge)
	}
	if len(p.Addrs) == 0 {
		return fmt.Errorf("guarded port %s: no addresses, so that nothing could be sent", p.Port)
	}
	for _, a := range p.Addrs {
		if !a.IsValid() || a.Is4In6() || a.Zone() != "" || a.IsUnspecified() || a.IsMulticast() {
			return fmt.Errorf("guarded port %s: nobody can send from %s", p.Port, a)
		}
	}
	for _, m := range p.MACs {
		if m.IsZero() || m[0]&1 != 0 {
			return fmt.Errorf("guarded port %s: nobody can send from %s", p.Port, m)
		}
	}
	return nil
}

// sourceFrame is what is the same for all guarded ports: the way through their
// tables, and what a host sends before it has an address.
func (l Layout) sourceFrame() []openflow.Flow {
	out := []openflow.Flow{l.miss(tableStation, tableGuard), l.miss(tableNeighbour, tableSender), l.miss(tableSender, tableGuard)}
	add := func(n uint32, m openflow.Match) {
		out = append(out, openflow.Flow{
			Table: l.table(tableSender), Priority: sourceNobody, Cookie: cookie(CategorySource, clauseBit|n), Match: m,
			Instructions: openflow.Instructions{Actions: []openflow.Action{openflow.Resubmit{Table: l.table(tableGuard)}}},
		})
	}
	v4, v6 := netip.PrefixFrom(netip.IPv4Unspecified(), 32), netip.PrefixFrom(netip.IPv6Unspecified(), 128)
	// RFC 2131, section 4.1; RFC 3376, section 4.2.13.
	add(0, openflow.Match{openflow.EthType(flow.EtherIPv4), openflow.IPSrc(v4), openflow.IPDst(netip.PrefixFrom(netip.AddrFrom4([4]byte{255, 255, 255, 255}), 32)),
		openflow.IPProto(flow.ProtoUDP), openflow.UDPSrc(68), openflow.UDPDst(67)})
	add(1, openflow.Match{openflow.EthType(flow.EtherIPv4), openflow.IPSrc(v4), openflow.IPDst(netip.MustParsePrefix("224.0.0.0/4")), openflow.IPProto(protoIGMP)})
	// RFC 4861, section 4.1; RFC 2710 and 3810.
	for i, t := range []uint8{133, 131, 132, 143} {
		add(uint32(2+i), openflow.Match{openflow.EthType(flow.EtherIPv6), openflow.IPSrc(v6), openflow.IPDst(netip.MustParsePrefix("ff00::/8")),
			openflow.IPProto(flow.ProtoICMPv6), openflow.ICMPv6Type(t)})
	}
	return out
}

// protoIGMP is RFC 1112's.
const protoIGMP = 2

// sourcePlace is what compiling a guarded port needs to know of the switch.
type sourcePlace struct {
	layout Layout
	tap    TapConfig
	port   func(string) (uint32, bool)
}

// sourcePlace returns the place as it is now. The caller holds mu.
func (b *Bridge) sourcePlace() sourcePlace {
	return sourcePlace{b.cfg.Layout, b.tap, b.ports.number}
}

// flows compiles a guarded port; none while it is not on the switch.
func (s sourcePlace) flows(p *sourcePort) []openflow.Flow {
	number, ok := s.port(p.Port.Port)
	if !ok {
		return nil
	}
	w := sourceWriter{sourcePlace: s, port: p, in: openflow.InPort(number)}
	w.stations()
	w.neighbours()
	w.senders()
	return w.out
}

// sourceWriter collects the flows of a guarded port.
type sourceWriter struct {
	sourcePlace
	port *sourcePort
	in   openflow.OXM
	out  []openflow.Flow
}

// good lets packets go on to another table.
func (w *sourceWriter) good(table uint8, priority uint16, to uint8, m ...openflow.OXM) {
	w.add(table, priority, clauseBit|w.port.object, m, openflow.Resubmit{Table: w.layout.table(to)})
}

// bad counts packets that name a sender who is not there and ends them, where
// that is enforced.
func (w *sourceWriter) bad(table uint8, priority uint16, m ...openflow.OXM) {
	var actions []openflow.Action
	if w.tap.CollectorSet != 0 {
		actions = append(actions, openflow.Sample{Probability: flow.ForgedProbability, CollectorSet: w.tap.CollectorSet, Domain: w.tap.Domain,
			Point: flow.RulePoint(flow.RuleForged, w.port.object)})
	}
	if !w.port.Enforce {
		actions = append(actions, openflow.Resubmit{Table: w.layout.table(tableGuard)})
	}
	w.add(table, priority, w.port.object, m, actions...)
}

func (w *sourceWriter) add(table uint8, priority uint16, object uint32, m openflow.Match, actions ...openflow.Action) {
	w.out = append(w.out, openflow.Flow{
		Table: w.layout.table(table), Priority: priority, Cookie: cookie(CategorySource, object), Match: append(openflow.Match{w.in}, m...).Canonical(),
		Instructions: openflow.Instructions{Actions: actions},
	})
}

// discovery matches a message of neighbour discovery.
func discovery(icmpType uint8, more ...openflow.OXM) []openflow.OXM {
	return append([]openflow.OXM{openflow.EthType(flow.EtherIPv6), openflow.IPProto(flow.ProtoICMPv6), openflow.ICMPv6Type(icmpType)}, more...)
}

// stations holds the Ethernet addresses of senders against those of the port,
// where these are declared. ARP and neighbour discovery must say the same one
// as the frame that carries them; the latter may leave it out.
func (w *sourceWriter) stations() {
	types := []uint8{flow.ICMPv6Solicitation, flow.ICMPv6Advertisement}
	if len(w.port.MACs) == 0 {
		for _, t := range types {
			w.good(tableStation, sourceOwn, tableNeighbour, discovery(t)...)
		}
		w.good(tableStation, sourceStation, tableSender)
		return
	}
	arp := openflow.EthType(flow.EtherARP)
	for _, m := range w.port.MACs {
		w.good(tableStation, sourceOwn, tableSender, arp, openflow.EthSrc(m), openflow.ARPSHA(m))
		for _, said := range []flow.MAC{m, {}} {
			w.good(tableStation, sourceOwn, tableNeighbour, discovery(types[0], openflow.EthSrc(m), openflow.NDSLL(said))...)
			w.good(tableStation, sourceOwn, tableNeighbour, discovery(types[1], openflow.EthSrc(m), openflow.NDTLL(said))...)
		}
		w.good(tableStation, sourceStation, tableSender, openflow.EthSrc(m))
	}
	w.bad(tableStation, sourceForged, arp)
	for _, t := range types {
		w.bad(tableStation, sourceForged, discovery(t)...)
	}
	w.bad(tableStation, sourceStrange)
}

// neighbours holds what neighbour discovery claims against the port's
// addresses: the target of an advertisement, and that of a solicitation by
// which a host without an address tells which one it is going to take (RFC
// 4862, section 5.4). A foreign target there would keep its owner from it.
func (w *sourceWriter) neighbours() {
	nobody := openflow.IPSrc(netip.PrefixFrom(netip.IPv6Unspecified(), 128))
	for _, p := range w.port.Sources() {
		if p.Addr().Is4() {
			continue
		}
		w.good(tableNeighbour, sourceOwn, tableSender, discovery(flow.ICMPv6Advertisement, openflow.NDTargetIn(p))...)
		w.good(tableNeighbour, sourceOwn, tableGuard, discovery(flow.ICMPv6Solicitation, nobody, openflow.NDTargetIn(p))...)
	}
	w.bad(tableNeighbour, sourceForged, discovery(flow.ICMPv6Advertisement)...)
	w.bad(tableNeighbour, sourceForged, discovery(flow.ICMPv6Solicitation, nobody)...)
}

// senders holds source addresses against those of the port.
func (w *sourceWriter) senders() {
	v4, v6, arp := openflow.EthType(flow.EtherIPv4), openflow.EthType(flow.EtherIPv6), openflow.EthType(flow.EtherARP)
	nobody := openflow.ARPSPA(netip.PrefixFrom(netip.IPv4Unspecified(), 32))
	for _, p := range w.port.Sources() {
		if !p.Addr().Is4() {
			w.good(tableSender, sourceOwn, tableGuard, v6, openflow.IPSrc(p))
			continue
		}
		w.good(tableSender, sourceOwn, tableGuard, v4, openflow.IPSrc(p))
		w.good(tableSender, sourceOwn, tableGuard, arp, openflow.ARPSPA(p))
		w.good(tableSender, sourceOwn, tableGuard, arp, openflow.ARPOp(1), nobody, openflow.ARPTPA(p)) // RFC 5227: is it free?
	}
	for _, kind := range []openflow.OXM{v4, v6, arp} {
		w.bad(tableSender, sourceForged, kind)
	}
}

// sourceFlows calls add for every flow of the guarded ports, and returns those
// that wait because they are not on the switch. The caller holds mu.
func (b *Bridge) sourceFlows(add func(openflow.Flow, *sourcePort)) (waiting []string) {
	place := b.sourcePlace()
	for name, p := range b.sources.ports {
		flows := place.flows(p)
		if len(flows) == 0 {
			waiting = append(waiting, "source guard at "+name)
		}
		for _, f := range flows {
			add(f, p)
		}
	}
	return waiting
}

// sourceOf returns the guarded port that a cookie of ours names, nil if there
// is none.
func (s *sourceSet) sourceOf(cookie uint64) *sourcePort {
	if cookieCategory(cookie) != CategorySource {
		return nil
	}
	return s.objects[cookieObject(cookie)&^clauseBit]
}

// SourcePort returns the guarded port that a flow.Record of this bridge with
// flow.SignalForged names in Rule.
func (b *Bridge) SourcePort(number uint32) (sourceguard.Port, bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	p := b.sources.objects[number]
	if p == nil {
		return sourceguard.Port{}, false
	}
	return p.Port, true
}

// hits is what guarded ports have met, by port.
func (s *sourceSet) hits() map[string]Hits {
	out := make(map[string]Hits, len(s.ports))
	for name, p := range s.ports {
		out[name] = p.count.total
	}
	return out
}

// counting reports whether flows of a cookie count what meets a rule of a
// policy or a guard.
func counting(cookie uint64) bool {
	c := cookieCategory(cookie)
	return (c.policy() || c == CategorySource) && cookieObject(cookie)&clauseBit == 0
}

package recommend

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"

	"github.com/platelet-sdn/platelet/flowcollector/flow"
	"github.com/platelet-sdn/platelet/segmentation/connection"
	"github.com/platelet-sdn/platelet/segmentation/policy"
)

// Reasons to leave connections out.
const (
	unanswered = "nobody answered"
	guessed    = "who opened it is a guess"
	scanning   = "opened by a host that tries what is there"
	transit    = "between two hosts outside the internal networks"
	tooRare    = "too rare"
)

// read takes the connections that rules may be learned from.
func (n *network) read(in Input) {
	list := slices.Clone(in.Connections)
	connection.Sort(list)
	sweeps := connection.Sweeps(connection.Each(list))
	tainted := taint(in.Suspects, list)
	var taken []*connection.Entry
	for i := range list {
		e := &list[i]
		why := n.reject(e, sweeps[e.Opener])
		if why == "" {
			why = tainted.why(e)
		}
		from, to := n.node(e.Opener), outside
		if e.Answered() || why == "" { // the addresses that a scan tries need not be hosts
			to = n.responder(e)
		}
		if from != outside {
			n.nodes[from].opened = true
		}
		if why == "" && !isHost(from) && !isHost(to) {
			why = transit
		}
		if why == "" && from == to {
			continue // a host with itself, by two of its addresses
		}
		if why != "" {
			n.leave(why, e)
			continue
		}
		taken = append(taken, e)
	}
	dynamic := n.dynamic(taken)
	both := n.overBoth(taken)
	for _, e := range taken {
		from, to := n.node(e.Opener), n.responder(e)
		n.edges = append(n.edges, edge{from, to, n.service(e.Service, dynamic[dynamicKey{to, e.Proto}], both), e})
	}
}

// reject says why a connection teaches nothing; "" when it does.
func (n *network) reject(e *connection.Entry, s connection.Sweep) string {
	switch {
	case n.toEverybody(e) && s.Scanning():
		return scanning
	case n.toEverybody(e):
		return ""
	case !e.Answered():
		return unanswered
	case e.Opening == connection.Guessed:
		return guessed
	case s.Scanning():
		return scanning
	}
	return ""
}

// toEverybody reports whether nobody in particular is meant. That a frame went
// to everybody proves nothing of an address that a workload has.
func (n *network) toEverybody(e *connection.Entry) bool {
	_, known := n.byAddr[e.Responder]
	return e.Everybody && !e.Answered() && !known || e.Responder.IsMulticast() || e.Responder == netip.AddrFrom4([4]byte{255, 255, 255, 255})
}

// responder finds or makes the node of who answers.
func (n *network) responder(e *connection.Entry) int {
	if n.toEverybody(e) {
		return everybody
	}
	return n.node(e.Responder)
}

// taints say whose connections are not to be learned from.
type taints struct {
	suspects map[netip.Addr]Suspect
	// reached is when a suspect, or one that it had reached, first reached a
	// host by a service.
	reached map[reach]Suspect
}

type reach struct {
	host    netip.Addr
	service connection.Service
}

// taint follows suspects: what a worm has taken goes on as the worm did, and
// need not have been found out when the recording ends.
func taint(suspects []Suspect, list []connection.Entry) taints {
	t := taints{map[netip.Addr]Suspect{}, map[reach]Suspect{}}
	for _, s := range suspects {
		if first, has := t.suspects[s.Host]; !has || s.Since < first.Since || s.Since == first.Since && s.Why < first.Why {
			t.suspects[s.Host] = s
		}
	}
	byTime := slices.SortedFunc(slices.Values(list), func(a, b connection.Entry) int { return cmp.Or(cmp.Compare(a.First, b.First), a.Key.Compare(b.Key)) })
	for i := range byTime {
		e := &byTime[i]
		s, is := t.of(e)
		if k := (reach{e.Responder, e.Service}); is && e.Answered() {
			if _, has := t.reached[k]; !has {
				t.reached[k] = Suspect{Since: e.First, Why: s.Why}
			}
		}
	}
	return t
}

// of finds the suspicion that a connection is under.
func (t taints) of(e *connection.Entry) (Suspect, bool) {
	if s, is := t.suspects[e.Opener]; is && e.First >= s.Since {
		return s, true
	}
	s, is := t.reached[reach{e.Opener, e.Service}]
	return s, is && e.First >= s.Since
}

// why says what is against a connection; "" when nothing is.
func (t taints) why(e *connection.Entry) string {
	s, is := t.of(e)
	if !is {
		return ""
	}
	if own, has := t.suspects[e.Opener]; has && e.First >= own.Since {
		return "opened by a host with a finding (" + s.Why + ")"
	}
	return "opened by a host that one with a finding (" + s.Why + ") had reached in the same way"
}

// leave notes a connection that is left out.
func (n *network) leave(why string, e *connection.Entry) {
	l := n.left[why]
	if l == nil {
		l = &leftOut{}
		n.left[why] = l
	}
	l.connections++
	busier := func(a, b *connection.Entry) int {
		return cmp.Or(cmp.Compare(b.Opens(), a.Opens()), a.Key.Compare(b.Key))
	}
	l.examples = append(l.examples, e)
	slices.SortFunc(l.examples, busier)
	l.examples = l.examples[:min(len(l.examples), 3)]
}

type dynamicKey struct {
	node  int
	proto uint8
}

const (
	// dynamicLeast is how many ports of a host, of those that hosts take for
	// themselves, make a service that has no fixed port.
	dynamicLeast = 8
	firstDynamic = 32768 // Linux
	ianaDynamic  = 49152 // RFC 6335
)

// dynamic finds hosts that serve on ports as they come, as remote procedure
// calls and passive file transfers do, and the first of the range.
func (n *network) dynamic(taken []*connection.Entry) map[dynamicKey]uint16 {
	ports := map[dynamicKey]map[uint16]bool{}
	for _, e := range taken {
		to := n.responder(e)
		if _, named := n.names.Of(e.Service); named || !isHost(to) || !policy.Proto(e.Proto).HasPorts() || e.Port < firstDynamic {
			continue
		}
		k := dynamicKey{to, e.Proto}
		if ports[k] == nil {
			ports[k] = map[uint16]bool{}
		}
		ports[k][e.Port] = true
	}
	out := map[dynamicKey]uint16{}
	for k, set := range ports {
		if len(set) < dynamicLeast {
			continue
		}
		out[k] = ianaDynamic
		for p := range set {
			if p < ianaDynamic {
				out[k] = firstDynamic
			}
		}
	}
	return out
}

// overBoth finds names of services that were seen over TCP and UDP: they are
// two services then.
func (n *network) overBoth(taken []*connection.Entry) map[string]bool {
	over, both := map[string]uint8{}, map[string]bool{}
	for _, e := range taken {
		name, named := n.names.Of(e.Service)
		if !named || !policy.Proto(e.Proto).HasPorts() {
			continue
		}
		if p, has := over[name]; has && p != e.Proto {
			both[name] = true
		}
		over[name] = e.Proto
	}
	return both
}

// service names a service, and notes it for the file.
func (n *network) service(s connection.Service, dynamic uint16, both map[string]bool) string {
	name, named := n.names.Of(s)
	proto := flow.ProtoName(s.Proto)
	def := policy.Service{Proto: policy.Proto(s.Proto)}
	switch {
	case def.Proto.HasPorts() && !named && dynamic != 0 && s.Port >= dynamic:
		name, def.Ports = fmt.Sprintf("dynamic-%s-%d", proto, dynamic), []policy.PortRange{{First: dynamic, Last: 65535}}
	case def.Proto.HasPorts():
		if !named {
			name = fmt.Sprintf("%s-%d", proto, s.Port)
		} else if both[name] {
			name += "-" + proto
		}
		def.Ports = []policy.PortRange{{First: s.Port, Last: s.Port}}
	case def.Proto.IsICMP():
		def.Type, def.Code = &s.Type, &s.Code
		if !named {
			name = fmt.Sprintf("%s-%d-%d", proto, s.Type, s.Code)
		}
	default:
		if !named {
			name = "protocol-" + proto
		}
	}
	if !slices.ContainsFunc(n.services[name], func(have policy.Service) bool { return have.Proto == def.Proto }) {
		n.services[name] = append(n.services[name], def)
		slices.SortFunc(n.services[name], func(a, b policy.Service) int { return cmp.Compare(a.Proto, b.Proto) })
	}
	return name
}

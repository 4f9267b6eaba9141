package compile

import (
	"cmp"
	"net/netip"
	"slices"

	"github.com/platelet-sdn/platelet/segmentation/policy"
)

// Connection is what a verdict is asked for: the packet that opens it.
type Connection struct {
	Src, Dst netip.Addr
	Proto    policy.Proto
	DstPort  uint16
	// Type and Code are those of ICMP.
	Type, Code uint8
}

// Side is what one side's rules say of a connection.
type Side struct {
	// Rule decides; the zero value says that none does, which allows.
	Rule   policy.RuleID
	Action policy.Action
}

// Decided reports whether a rule decides.
func (s Side) Decided() bool { return s.Rule != policy.RuleID{} }

// Consents reports whether the connection may be, as far as this side goes.
func (s Side) Consents() bool { return !s.Decided() || s.Action.Consents() }

// Evaluator answers what a program does with connections, as a switch would.
// Its answers are remembered by classes, so that many connections cost little.
// It is for one goroutine at a time.
type Evaluator struct {
	program   *Program
	lengths   [2][]int // falling
	rules     [2][]Rule
	endpoints map[netip.Addr]Class
	sides     map[[3]Class][2]Side
}

// The memories of an evaluator begin anew when they are this large: a flood of
// forged addresses must not fill them.
const maxRemembered = 1 << 16

// NewEvaluator returns an evaluator of a program.
func NewEvaluator(p *Program) *Evaluator {
	e := &Evaluator{program: p, endpoints: map[netip.Addr]Class{}, sides: map[[3]Class][2]Side{}}
	seen := [2]map[int]bool{{}, {}}
	for x := range p.Endpoints {
		f := family(x.Addr())
		if !seen[f][x.Bits()] {
			seen[f][x.Bits()] = true
			e.lengths[f] = append(e.lengths[f], x.Bits())
		}
	}
	for f := range e.lengths {
		slices.SortFunc(e.lengths[f], func(a, b int) int { return cmp.Compare(b, a) })
	}
	for _, id := range p.Order() {
		i := 0
		if id.Direction == policy.Ingress {
			i = 1
		}
		e.rules[i] = append(e.rules[i], p.Rules[id])
	}
	return e
}

func family(a netip.Addr) int {
	if a.Is4() {
		return 0
	}
	return 1
}

// Verdict returns what the opener's egress rules and the responder's ingress
// rules say.
func (e *Evaluator) Verdict(c Connection) (egress, ingress Side) {
	key := [3]Class{e.Endpoint(c.Src), e.Endpoint(c.Dst), e.Service(c)}
	sides, ok := e.sides[key]
	if !ok {
		if len(e.sides) >= maxRemembered {
			clear(e.sides)
		}
		sides = [2]Side{decide(e.rules[0], key), decide(e.rules[1], key)}
		e.sides[key] = sides
	}
	return sides[0], sides[1]
}

// Endpoint returns an address's class.
func (e *Evaluator) Endpoint(a netip.Addr) Class {
	if id, ok := e.endpoints[a]; ok {
		return id
	}
	var id Class
	for _, bits := range e.lengths[family(a)] {
		if p, err := a.Prefix(bits); err == nil {
			if c, ok := e.program.Endpoints[p]; ok {
				id = c
				break
			}
		}
	}
	if len(e.endpoints) >= maxRemembered {
		clear(e.endpoints)
	}
	e.endpoints[a] = id
	return id
}

// Service returns the class of a connection's service.
func (e *Evaluator) Service(c Connection) Class {
	switch {
	case c.Proto.HasPorts():
		for mask := uint32(1<<16 - 1); mask != 0; mask = mask << 1 & (1<<16 - 1) {
			if id, ok := e.program.Services[ServiceMatch{Proto: c.Proto, Port: c.DstPort & uint16(mask), PortMask: uint16(mask)}]; ok {
				return id
			}
		}
	case c.Proto.IsICMP():
		m := ServiceMatch{Proto: c.Proto, Type: c.Type, HasType: true, Code: c.Code, HasCode: true}
		if id, ok := e.program.Services[m]; ok {
			return id
		}
		m.Code, m.HasCode = 0, false
		if id, ok := e.program.Services[m]; ok {
			return id
		}
	}
	return e.program.Services[ServiceMatch{Proto: c.Proto}]
}

// decide walks one direction's rules.
func decide(rules []Rule, key [3]Class) Side {
	passed := policy.Tier(0)
	for i := range rules {
		r := &rules[i]
		if r.Tier == passed || !in(r.Opener, key[0]) || !in(r.Responder, key[1]) || !in(r.Service, key[2]) {
			continue
		}
		if r.Action == policy.ActionPass {
			passed = r.Tier
			continue
		}
		return Side{r.ID, r.Action}
	}
	return Side{}
}

// in reports whether a list has a class; nil has all.
func in(list []Class, c Class) bool {
	if list == nil {
		return true
	}
	_, ok := slices.BinarySearch(list, c)
	return ok
}

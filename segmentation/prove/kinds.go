package prove

import (
	"fmt"
	"slices"
	"strings"

	"github.com/platelet-sdn/platelet/segmentation/policy"
)

// Kind is what differs.
type Kind string

// The kinds. All but verdicts are effects: connections fare as they did, but
// not in all that comes with it.
const (
	// KindVerdict is another verdict, or another rate.
	KindVerdict Kind = "verdict"
	// KindLog is whether a rule that is met reports the connection.
	KindLog Kind = "log"
	// KindMirror is where rules that are met copy the packets to.
	KindMirror Kind = "mirror"
	// KindEstablished is whether connections go on that exist already, and
	// would be refused if they were new.
	KindEstablished Kind = "established"
	// KindStaged is what would become of a connection if staged policies were
	// enforced, where that makes a difference.
	KindStaged Kind = "staged"
)

func kinds() []Kind { return []Kind{KindVerdict, KindLog, KindMirror, KindEstablished, KindStaged} }

// outcome is what rules make of a connection, as far as a kind asks.
type outcome struct {
	action policy.Action
	rates  []policy.Rate
	value  string
	// named says of which side the rules are told, if there are any, and world
	// under which rules.
	named [policy.Egress + 1]bool
	world int
}

func (o outcome) equal(p outcome) bool {
	return o.action == p.action && o.value == p.value && slices.Equal(o.rates, p.rates)
}

// code is what one side says in each of the worlds that are compared: before,
// after, and both again under other rules.
type code [4]says

// other is the world of a kind that is held against a world.
func (k Kind) other(world int) int {
	if k == KindEstablished || k == KindStaged {
		return world + 2
	}
	return world
}

// verdict is what becomes of a connection in a world.
func (c *comparison) verdict(world int, egress, ingress code) outcome {
	o := outcome{action: policy.ActionAllow, world: world}
	for _, x := range []struct {
		d  policy.Direction
		by int
	}{{policy.Egress, egress[world].by}, {policy.Ingress, ingress[world].by}} {
		o.named[x.d] = true
		if x.by == nobody {
			continue
		}
		r := &c.worlds[world].sides[x.d].rules[x.by]
		switch {
		case !r.action.Consents():
			o = outcome{action: r.action, world: world}
			o.named[x.d] = true
			return o
		case r.action == policy.ActionRateLimit:
			o.action, o.rates = r.action, append(o.rates, r.rate)
		}
	}
	return o
}

// outcome is what becomes of a connection before (0) or after (1).
func (c *comparison) outcome(k Kind, world int, egress, ingress code) outcome {
	verdict := c.verdict(world, egress, ingress)
	switch k {
	case KindLog, KindMirror:
		return c.told(k, world, egress, ingress)
	case KindEstablished:
		lasting := c.verdict(k.other(world), egress, ingress)
		switch {
		case verdict.action.Consents():
			return outcome{value: "as new ones", world: world}
		case lasting.action.Consents():
			return outcome{value: "go on", named: verdict.named, world: world}
		}
		return outcome{value: "as new ones", named: lasting.named, world: lasting.world}
	case KindStaged:
		would := c.verdict(k.other(world), egress, ingress)
		if would.equal(verdict) {
			return outcome{value: "no change", world: world}
		}
		would.value = would.action.String()
		return would
	}
	return verdict
}

// told is what the rules say beside the verdict that a connection meets.
func (c *comparison) told(k Kind, world int, egress, ingress code) outcome {
	o := outcome{world: world}
	var ports []string
	for _, x := range []struct {
		d policy.Direction
		code
	}{{policy.Egress, egress}, {policy.Ingress, ingress}} {
		s := c.worlds[world].sides[x.d]
		for _, i := range k.named(s, x.code[world]) {
			o.named[x.d] = true
			if port := s.rules[i].mirror; port != "" && !slices.Contains(ports, port) {
				ports = append(ports, port)
			}
		}
		if !s.consents(x.code[world].by) {
			break // the other side is not asked
		}
	}
	logged := o.named[policy.Egress] || o.named[policy.Ingress]
	switch {
	case k == KindLog && logged:
		o.value = "logged"
	case k == KindLog:
		o.value = "not logged"
	case logged:
		slices.Sort(ports)
		o.value = "to " + strings.Join(ports, " and ")
	default:
		o.value = "not mirrored"
	}
	return o
}

// named are the rules of what one side says that a kind tells of.
func (k Kind) named(s *side, x says) []int {
	switch {
	case k == KindLog, k == KindMirror:
		return slices.DeleteFunc(slices.Clone(s.met(x)), func(i int) bool { return k == KindLog && !s.rules[i].log || k == KindMirror && s.rules[i].mirror == "" })
	case x.by == nobody:
		return nil
	}
	return []int{x.by}
}

// alike is equal for codes that make the same difference to a kind, whatever
// the other side says.
func (c *comparison) alike(k Kind, d policy.Direction, x code) string {
	text := ""
	for world := range c.worlds {
		s := c.worlds[world].sides[d]
		switch named := k.named(s, x[world]); k {
		case KindLog:
			text += fmt.Sprint(s.consents(x[world].by), len(named) > 0, ";")
		case KindMirror:
			text += fmt.Sprint(s.consents(x[world].by), ";")
			for _, i := range named {
				text += s.rules[i].mirror + " "
			}
		default:
			text += fmt.Sprint(s.action(x[world].by), s.rate(x[world].by), ";")
		}
	}
	return text
}

package pipeline_test

import (
	"cmp"
	"net/netip"
	"slices"

	"github.com/platelet-sdn/platelet/controller/openflow/pipeline"
	"github.com/platelet-sdn/platelet/segmentation/compile"
	"github.com/platelet-sdn/platelet/segmentation/policy"
)

// want is a rule as people say it: on whose side it stands, about whom and
// which service. Zero fields are everything.
type want struct {
	name        string
	tier        policy.Tier
	direction   policy.Direction // ingress unless said otherwise
	rank        uint16
	action      policy.Action
	own, peer   netip.Prefix
	proto       uint8
	port        uint16
	established policy.Established
	rate        policy.Rate
	mirror      string
	log         bool
}

func (w *want) id() policy.RuleID {
	return policy.RuleID{Policy: "p", Direction: cmp.Or(w.direction, policy.Ingress), Rule: w.name}
}

// programOf compiles rules: each prefix and each service that is named is a
// class of its own.
func programOf(wants ...want) *compile.Program {
	p := &compile.Program{Endpoints: map[netip.Prefix]compile.Class{}, Services: map[compile.ServiceMatch]compile.Class{},
		Rules: map[policy.RuleID]compile.Rule{}, Tracked: map[netip.Prefix]bool{}}
	for _, w := range wants {
		for _, x := range []netip.Prefix{w.own, w.peer} {
			if x.IsValid() && p.Endpoints[x] == 0 {
				p.Endpoints[x] = compile.Class(len(p.Endpoints) + 1)
			}
		}
		if s, ok := w.service(); ok && p.Services[s] == 0 {
			p.Services[s] = compile.Class(len(p.Services) + 1)
		}
	}
	for _, w := range wants {
		r := compile.Rule{ID: w.id(), Tier: w.tier, Rank: w.rank, Action: w.action, Established: w.established, Rate: w.rate, Mirror: w.mirror, Log: w.log}
		r.Opener, r.Responder = within(p, w.peer), within(p, w.own)
		if w.direction == policy.Egress {
			r.Opener, r.Responder = r.Responder, r.Opener
		}
		if s, ok := w.service(); ok {
			for other, c := range p.Services {
				if other.Proto == s.Proto && (s.PortMask == 0 || s == other) {
					r.Service = append(r.Service, c)
				}
			}
			slices.Sort(r.Service)
		}
		p.Rules[r.ID] = r
		for _, x := range []netip.Prefix{netip.MustParsePrefix("0.0.0.0/0"), netip.MustParsePrefix("::/0")} {
			if w.own.IsValid() {
				x = w.own
			}
			p.Tracked[x] = true
		}
	}
	return p
}

func (w *want) service() (m compile.ServiceMatch, ok bool) {
	m = compile.ServiceMatch{Proto: policy.Proto(w.proto), Port: w.port}
	if w.port != 0 {
		m.PortMask = 0xffff
	}
	return m, w.proto != 0
}

// within returns the classes of the prefixes that lie in one, nil for all.
func within(p *compile.Program, whole netip.Prefix) (list []compile.Class) {
	if !whole.IsValid() {
		return nil
	}
	for x, c := range p.Endpoints {
		if whole.Overlaps(x) && x.Bits() >= whole.Bits() {
			list = append(list, c)
		}
	}
	slices.Sort(list)
	return list
}

// rule is an ingress rule for one host.
func (l *lab) rule(name string, tier policy.Tier, rank uint16, action policy.Action, to int, proto uint8, port uint16) want {
	return want{name: name, tier: tier, rank: rank, action: action, own: l.prefix(to), proto: proto, port: port}
}

// enforce sets policies and checks that they are in force; none takes them
// away.
func (l *lab) enforce(b *running, wants ...want) {
	l.t.Helper()
	var program *compile.Program
	if len(wants) > 0 {
		program = programOf(wants...)
	}
	r, err := b.SetPolicy(l.ctx, program)
	if err != nil || !r.ReadBack || r.Installed != len(wants) || len(r.Waiting) > 0 {
		l.t.Fatalf("%+v, %v", r, err)
	}
}

// hits is what the rules of a name have met.
func (l *lab) hits(b *running, name string) (sum pipeline.Hits) {
	l.t.Helper()
	h, err := b.PolicyHits(l.ctx)
	if err != nil {
		l.t.Fatal(err)
	}
	for id, x := range h.Rules {
		if id.Rule == name {
			sum.Connections, sum.Packets, sum.Bytes = sum.Connections+x.Connections, sum.Packets+x.Packets, sum.Bytes+x.Bytes
		}
	}
	return sum
}

// met counts the packets that rules of a name have met.
func (l *lab) met(b *running, name string) func() uint64 {
	return func() uint64 { l.t.Helper(); return l.hits(b, name).Packets }
}

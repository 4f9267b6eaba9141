package lint

import (
	"slices"

	"github.com/platelet-sdn/platelet/flowcollector/flow"
	"github.com/platelet-sdn/platelet/segmentation/policy"
)

// sample is one service of a class that no rule tells apart.
type sample struct {
	proto      policy.Proto
	port       uint16
	kind, code uint8
}

// Services that are asked for by name: name resolution.
func dnsSamples() []sample {
	return []sample{{proto: policy.Proto(flow.ProtoUDP), port: 53}, {proto: policy.Proto(flow.ProtoTCP), port: 53}}
}

// entries lists what a rule's services are; nil is everything.
func entries(s *policy.Set, refs []policy.ServiceRef) []policy.Service {
	var out []policy.Service
	for _, ref := range refs {
		if ref.Inline != nil {
			out = append(out, *ref.Inline)
		} else {
			out = append(out, s.Services[ref.Name]...)
		}
	}
	return out
}

func (x sample) fits(s *policy.Service) bool {
	return (s.Proto == 0 || s.Proto == x.proto) &&
		(s.Ports == nil || slices.ContainsFunc(s.Ports, func(r policy.PortRange) bool { return r.First <= x.port && x.port <= r.Last })) &&
		(s.Type == nil || *s.Type == x.kind) && (s.Code == nil || *s.Code == x.code)
}

// always reports whether a service is allowed whatever rules say: neighbour
// discovery and multicast listener discovery.
func (x sample) always() bool {
	return uint8(x.proto) == flow.ProtoICMPv6 && (x.kind >= 130 && x.kind <= 137 || x.kind == 143)
}

// samples lists one service for each combination that services tell apart, and
// a few that have names.
func samples(all []policy.Service) []sample {
	var protos [256]bool
	ports := map[policy.Proto][]uint16{}
	types := map[policy.Proto][]sample{}
	for _, p := range []uint8{flow.ProtoTCP, flow.ProtoUDP, flow.ProtoICMP, flow.ProtoICMPv6, flow.ProtoSCTP} {
		protos[p] = true
	}
	for _, s := range all {
		protos[s.Proto] = true
		for _, r := range s.Ports {
			ports[s.Proto] = append(ports[s.Proto], r.First, r.Last+1) // which wraps round to 0
		}
		if s.Type != nil {
			x := sample{proto: s.Proto, kind: *s.Type}
			if s.Code != nil {
				x.code = *s.Code
			}
			types[s.Proto] = append(types[s.Proto], x)
		}
	}
	protos[0] = false
	if i := slices.Index(protos[1:], false); i >= 0 { // one that nothing names
		protos[i+1] = true
	}
	out := dnsSamples()
	for n := range protos {
		p := policy.Proto(n)
		switch {
		case !protos[n]:
		case p.HasPorts():
			for _, port := range append(ports[p], 0, 54) {
				out = append(out, sample{proto: p, port: port})
			}
		case p.IsICMP():
			out = append(out, icmpSamples(p, types[p])...)
		default:
			out = append(out, sample{proto: p})
		}
	}
	return slices.DeleteFunc(out, sample.always)
}

// icmpSamples lists each type with each code that is named, and with others.
func icmpSamples(p policy.Proto, named []sample) []sample {
	var kinds, codes [256]bool
	for _, x := range named {
		kinds[x.kind], codes[x.code] = true, true
	}
	for _, list := range []*[256]bool{&kinds, &codes} {
		if i := slices.Index(list[:], false); i >= 0 {
			list[i] = true
		}
	}
	var out []sample
	for k := range kinds {
		for c := range codes {
			if kinds[k] && codes[c] {
				out = append(out, sample{proto: p, kind: uint8(k), code: uint8(c)})
			}
		}
	}
	return out
}

package kubernetes

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/platelet-sdn/platelet/segmentation/policy"
)

// isolated stands behind the name of a NetworkPolicy that isolates.
const isolated = "/isolate"

// networkPolicy translates the i-th NetworkPolicy: one policy that allows, and
// one that denies the rest.
func (t *translator) networkPolicy(p networkAt, i int) {
	spec := &p.Spec
	at := p.below("spec")
	group := fmt.Sprintf("np.%s.%s", p.Metadata.Namespace, p.Metadata.Name)
	name := fmt.Sprintf("np/%s/%s", p.Metadata.Namespace, p.Metadata.Name)
	ingress, egress := t.types(at, p)
	selected, ok := t.pods(at.below("podSelector"), group, &spec.PodSelector, nil, p.Metadata.Namespace)
	if !ok {
		t.note(at.below("podSelector"), "%s selects no pod", name)
		return
	}
	allow := policy.Policy{Name: name, Tier: policy.TierApplication, Priority: firstAllow + i, Mode: t.opt.Mode, AppliesTo: []policy.Peer{selected}}
	places := map[policy.Direction][]origin{}
	if ingress {
		for n, r := range spec.Ingress {
			rule := policy.Rule{Name: fmt.Sprintf("in-%d", n), Action: policy.ActionAllow}
			o := at.below("ingress[%d]", n)
			if rule.From, rule.Services, ok = t.npRule(o, "from", fmt.Sprintf("%s.in-%d", group, n), r.From, r.Ports, p.Metadata.Namespace); ok {
				allow.Ingress, places[policy.Ingress] = append(allow.Ingress, rule), append(places[policy.Ingress], o)
			}
		}
	}
	if egress {
		for n, r := range spec.Egress {
			rule := policy.Rule{Name: fmt.Sprintf("out-%d", n), Action: policy.ActionAllow}
			o := at.below("egress[%d]", n)
			if rule.To, rule.Services, ok = t.npRule(o, "to", fmt.Sprintf("%s.out-%d", group, n), r.To, r.Ports, p.Metadata.Namespace); ok {
				allow.Egress, places[policy.Egress] = append(allow.Egress, rule), append(places[policy.Egress], o)
			}
		}
	}
	if len(allow.Ingress)+len(allow.Egress) > 0 {
		t.put(allow, p.origin, places)
	}
	isolate := policy.Policy{Name: name + isolated, Tier: policy.TierApplication, Priority: firstIsolate + i, Mode: t.opt.Mode, AppliesTo: allow.AppliesTo}
	everybody := []policy.Peer{{Group: policy.Any}}
	if ingress {
		isolate.Ingress = []policy.Rule{{Name: "in", Action: policy.ActionDeny, From: everybody}}
	}
	if egress {
		isolate.Egress = []policy.Rule{{Name: "out", Action: policy.ActionDeny, To: everybody}}
	}
	t.put(isolate, p.origin, nil)
}

// Isolates reports whether a policy is one that denies what NetworkPolicies do
// not allow. Pods are often isolated by several, of which one would do.
func Isolates(name string) bool {
	return strings.HasPrefix(name, "np/") && strings.HasSuffix(name, isolated)
}

// types tells for which directions a NetworkPolicy isolates: for those that it
// names, or else for ingress, and for egress when it has rules of it.
func (t *translator) types(at origin, p networkAt) (ingress, egress bool) {
	if len(p.Spec.PolicyTypes) == 0 {
		return true, len(p.Spec.Egress) > 0
	}
	for i, word := range p.Spec.PolicyTypes {
		t.want(at)(word == "Ingress" || word == "Egress", fmt.Sprintf("policyTypes[%d]", i), "%q is not Ingress or Egress", word)
	}
	ingress, egress = slices.Contains(p.Spec.PolicyTypes, "Ingress"), slices.Contains(p.Spec.PolicyTypes, "Egress")
	if !ingress && len(p.Spec.Ingress) > 0 {
		t.note(at.below("ingress"), "the rules have no effect: policyTypes has no Ingress")
	}
	if !egress && len(p.Spec.Egress) > 0 {
		t.note(at.below("egress"), "the rules have no effect: policyTypes has no Egress")
	}
	return ingress, egress
}

// npRule translates what a rule is about; ok is false when that is nothing.
func (t *translator) npRule(at origin, key, group string, from []npPeer, ports []npPort, namespace string) ([]policy.Peer, []policy.ServiceRef, bool) {
	services, some := t.npPorts(at, ports)
	if len(from) == 0 {
		return []policy.Peer{{Group: policy.Any}}, services, some
	}
	var peers []policy.Peer
	for i := range from {
		o := at.below("%s[%d]", key, i)
		if p, ok := t.npPeer(o, fmt.Sprintf("%s.%s-%d", group, key, i), &from[i], namespace); ok {
			peers = append(peers, p)
		}
	}
	if len(peers) == 0 {
		t.note(at.below("%s", key), "selects no pod")
	}
	return peers, services, some && len(peers) > 0
}

func (t *translator) npPeer(at origin, group string, p *npPeer, namespace string) (policy.Peer, bool) {
	want := t.want(at)
	if p.IPBlock != nil {
		want(p.PodSelector == nil && p.NamespaceSelector == nil, "", "has ipBlock beside selectors")
		return t.block(at.below("ipBlock"), group, p.IPBlock), true
	}
	want(p.PodSelector != nil || p.NamespaceSelector != nil, "", "needs podSelector, namespaceSelector or ipBlock")
	return t.pods(at, group, p.PodSelector, p.NamespaceSelector, namespace)
}

// pods makes a group of pods by their labels, and by those of their namespace,
// or by its name. ok is false when the selectors contradict themselves.
func (t *translator) pods(at origin, name string, pods, namespaces *labelSelector, namespace string) (policy.Peer, bool) {
	all := map[string]*wanted{NamespaceLabel: {in: []string{namespace}}}
	want := t.want(at)
	if namespaces != nil {
		all[NamespaceLabel] = &wanted{exists: true}
		namespaces.add(want, namespacePrefix, all)
	}
	if pods != nil {
		pods.add(want, "", all)
	}
	labels, ok := selector(all)
	if !ok {
		return policy.Peer{}, false
	}
	return t.group(name, policy.Group{Selector: labels}, at), true
}

// block makes a peer of addresses, whoever has them.
func (t *translator) block(at origin, name string, b *ipBlock) policy.Peer {
	cidr, ok := t.cidr(at, "cidr", b.CIDR)
	if !ok {
		return policy.Peer{}
	}
	if len(b.Except) == 0 {
		return policy.Peer{Prefix: cidr}
	}
	g := policy.Group{CIDRs: []policy.Prefix{{Prefix: cidr}}}
	for i, text := range b.Except {
		path := fmt.Sprintf("except[%d]", i)
		if x, ok := t.cidr(at, path, text); ok {
			t.want(at)(cidr.Overlaps(x) && x.Bits() > cidr.Bits(), path, "%s is not within %s", x, cidr)
			g.Except = append(g.Except, policy.Prefix{Prefix: x})
		}
	}
	return t.group(name, g, at)
}

// cidr reads a prefix; bits beyond its length mean nothing, as in Kubernetes.
func (t *translator) cidr(at origin, path, text string) (netip.Prefix, bool) {
	p, err := netip.ParsePrefix(text)
	ok := err == nil && !p.Addr().Is4In6()
	t.want(at)(ok, path, "%q is not a CIDR", text)
	return p.Masked(), ok
}

// npPorts translates ports; none are every service, and ok is false when they
// are there and name nothing.
func (t *translator) npPorts(at origin, ports []npPort) ([]policy.ServiceRef, bool) {
	if len(ports) == 0 {
		return nil, true
	}
	var out services
	for i, p := range ports {
		o := at.below("ports[%d]", i)
		want := t.want(o)
		proto := t.proto(o, "protocol", p.Protocol)
		switch {
		case p.Port == nil:
			want(p.EndPort == nil, "endPort", "needs a port")
			out.add(proto, nil)
		case p.Port.name != "":
			want(p.EndPort == nil, "endPort", "needs a port that is a number")
			s := t.namedPort(o, "port", p.Port.name)
			if s.Proto == proto {
				out.add(proto, s.Ports)
			}
		default:
			last := p.Port.number
			if p.EndPort != nil {
				last = *p.EndPort
			}
			out.add(proto, t.ports(o, "port", p.Port.number, last))
		}
	}
	if len(out) == 0 {
		t.note(at.below("ports"), "the named ports are not of these protocols: nothing fits")
	}
	return out.refs(), len(out) > 0
}

// proto reads a protocol; TCP if there is none.
func (t *translator) proto(at origin, path, word string) policy.Proto {
	protos := map[string]policy.Proto{"": 6, "TCP": 6, "UDP": 17, "SCTP": 132}
	p, ok := protos[word]
	t.want(at)(ok, path, "%q is not TCP, UDP or SCTP", word)
	return p
}

func (t *translator) ports(at origin, path string, first, last int64) []policy.PortRange {
	ok := 1 <= first && first <= last && last <= 65535
	t.want(at)(ok, path, "%d to %d is not a port or a range of ports from 1 to 65535", first, last)
	return []policy.PortRange{{First: uint16(first), Last: uint16(last)}}
}

// namedPort resolves a port of containers.
func (t *translator) namedPort(at origin, path, name string) policy.Service {
	s, ok := t.opt.Ports[name]
	t.want(at)(ok, path, "nothing here knows which port of a pod is called %q: name its number", name)
	return s
}

// services gathers the ports of each protocol.
type services []policy.Service

// add adds ports of a protocol; nil are all of them.
func (s *services) add(p policy.Proto, ports []policy.PortRange) {
	i := slices.IndexFunc(*s, func(x policy.Service) bool { return x.Proto == p })
	switch {
	case i < 0:
		*s = append(*s, policy.Service{Proto: p, Ports: ports})
	case ports == nil || (*s)[i].Ports == nil:
		(*s)[i].Ports = nil
	default:
		(*s)[i].Ports = append(slices.Clone((*s)[i].Ports), ports...)
	}
}

func (s services) refs() []policy.ServiceRef {
	var out []policy.ServiceRef
	for i := range s {
		out = append(out, policy.ServiceRef{Inline: &s[i]})
	}
	return out
}

package kubernetes

import (
	"fmt"
	"regexp"
	"strings"

	"github.com/platelet-sdn/platelet/segmentation/policy"
)

// maxAdmin bounds the lists of an AdminNetworkPolicy, as its API does.
const maxAdmin = 100

// adminPolicy translates an AdminNetworkPolicy or the baseline's.
func (t *translator) adminPolicy(p adminAt, tier policy.Tier, prefix string, priority int) {
	at := p.below("spec")
	group := prefix + "." + p.Metadata.Name
	out := policy.Policy{Name: prefix + "/" + p.Metadata.Name, Tier: tier, Priority: priority, Mode: t.opt.Mode}
	t.want(at)(p.Spec.Subject.Networks == nil, "subject.networks", "a subject is namespaces or pods")
	subject, ok := t.adminPeer(at.below("subject"), group, &p.Spec.Subject)
	if !ok {
		t.note(at.below("subject"), "%s selects no pod", out.Name)
		return
	}
	out.AppliesTo = subject
	places := map[policy.Direction][]origin{}
	for _, d := range []policy.Direction{policy.Ingress, policy.Egress} {
		rules := p.Spec.Ingress
		if d == policy.Egress {
			rules = p.Spec.Egress
		}
		t.want(at)(len(rules) <= maxAdmin, d.String(), "%d rules, at most %d are allowed", len(rules), maxAdmin)
		for i := range rules {
			o := at.below("%s[%d]", d, i)
			rule, ok := t.adminRule(o, group, d, i, &rules[i], tier)
			if !ok {
				continue
			}
			if d == policy.Egress {
				out.Egress = append(out.Egress, rule)
			} else {
				out.Ingress = append(out.Ingress, rule)
			}
			places[d] = append(places[d], o)
		}
	}
	if len(out.Ingress)+len(out.Egress) == 0 {
		t.note(at, "%s has no rules that could match", out.Name)
		return
	}
	t.put(out, p.origin, places)
}

// adminRule translates a rule; ok is false when it can match nothing.
func (t *translator) adminRule(at origin, group string, d policy.Direction, i int, r *adminRule, tier policy.Tier) (policy.Rule, bool) {
	want := t.want(at)
	short, key, peers, other := "in", "from", r.From, r.To
	if d == policy.Egress {
		short, key, peers, other = "out", "to", r.To, r.From
	}
	actions := map[string]policy.Action{"Allow": policy.ActionAllow, "Deny": policy.ActionDeny, "Pass": policy.ActionPass}
	action := actions[r.Action]
	want(action != 0, "action", "%q is not Allow, Deny or Pass", r.Action)
	want(action != policy.ActionPass || tier != policy.TierBaseline, "action", "there is nothing behind the baseline that could decide")
	want(other == nil, "", "%s of what is %s", map[string]string{"from": "to", "to": "from"}[key], d)
	want(len(peers) > 0 && len(peers) <= maxAdmin, key, "needs 1 to %d peers", maxAdmin)
	rule := policy.Rule{Name: fmt.Sprintf("%s-%d%s", short, i, suffix(r.Name)), Action: action}
	var all []policy.Peer
	for n := range peers {
		o := at.below("%s[%d]", key, n)
		t.want(o)(d == policy.Egress || peers[n].Networks == nil, "networks", "networks are for egress")
		if p, ok := t.adminPeer(o, fmt.Sprintf("%s.%s-%d.%s-%d", group, short, i, key, n), &peers[n]); ok {
			all = append(all, p...)
		}
	}
	if len(all) == 0 {
		t.note(at.below("%s", key), "selects no pod")
		return rule, false
	}
	var ok bool
	rule.Services, ok = t.adminPorts(at, r.Ports)
	if d == policy.Egress {
		rule.To = all
	} else {
		rule.From = all
	}
	return rule, ok
}

// adminPeer translates what a subject or a peer says; ok is false when that is
// nobody.
func (t *translator) adminPeer(at origin, group string, p *adminPeer) ([]policy.Peer, bool) {
	keys := 0
	for _, has := range []bool{p.Namespaces != nil, p.Pods != nil, p.Networks != nil} {
		if has {
			keys++
		}
	}
	t.want(at)(keys == 1, "", "needs one of namespaces, pods and, for egress, networks")
	switch {
	case p.Pods != nil:
		peer, ok := t.podsWithin(at.below("pods"), group, &p.Pods.PodSelector, &p.Pods.NamespaceSelector)
		return []policy.Peer{peer}, ok
	case p.Namespaces != nil:
		peer, ok := t.podsWithin(at.below("namespaces"), group, nil, p.Namespaces)
		return []policy.Peer{peer}, ok
	}
	var out []policy.Peer
	for i, text := range p.Networks {
		if cidr, ok := t.cidr(at, fmt.Sprintf("networks[%d]", i), text); ok {
			out = append(out, policy.Peer{Prefix: cidr})
		}
	}
	return out, len(out) > 0
}

// podsWithin makes a group of the pods of namespaces that labels select.
func (t *translator) podsWithin(at origin, name string, pods, namespaces *labelSelector) (policy.Peer, bool) {
	return t.pods(at, name, pods, namespaces, "")
}

func (t *translator) adminPorts(at origin, ports *[]adminPort) ([]policy.ServiceRef, bool) {
	if ports == nil {
		return nil, true
	}
	t.want(at)(len(*ports) > 0 && len(*ports) <= maxAdmin, "ports", "needs 1 to %d ports", maxAdmin)
	var out services
	for i, p := range *ports {
		o := at.below("ports[%d]", i)
		switch {
		case p.PortNumber != nil && p.PortRange == nil && p.NamedPort == "":
			out.add(t.proto(o, "portNumber.protocol", p.PortNumber.Protocol), t.ports(o, "portNumber.port", p.PortNumber.Port, p.PortNumber.Port))
		case p.PortRange != nil && p.PortNumber == nil && p.NamedPort == "":
			out.add(t.proto(o, "portRange.protocol", p.PortRange.Protocol), t.ports(o, "portRange", p.PortRange.Start, p.PortRange.End))
		case p.NamedPort != "" && p.PortNumber == nil && p.PortRange == nil:
			s := t.namedPort(o, "namedPort", p.NamedPort)
			out.add(s.Proto, s.Ports)
		default:
			t.want(o)(false, "", "needs one of portNumber, portRange and namedPort")
		}
	}
	return out.refs(), len(out) > 0
}

var unnameable = regexp.MustCompile(`[^A-Za-z0-9._:-]+`)

// suffix is what of a rule's own name can stand behind its number.
func suffix(name string) string {
	name = strings.Trim(unnameable.ReplaceAllString(name, "-"), "-.:")
	if name == "" {
		return ""
	}
	return "-" + strings.TrimRight(name[:min(len(name), 100)], "-.:")
}

package policy

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// ImpliedRule is something that is allowed before all rules, and that nobody
// writes: without it a host has no address and no neighbours.
type ImpliedRule struct {
	Name string `json:"name"`
	What string `json:"what"`
}

// ImpliedRules lists what is allowed whatever the policies say.
func ImpliedRules() []ImpliedRule {
	return []ImpliedRule{
		{"arp", "ARP (RFC 826)"},
		{"nd", "icmp6 types 133 to 137 (RFC 4861)"},
		{"mld", "icmp6 types 130 to 132, 143 (RFC 2710, 3810)"},
		{"dhcp", "udp 68 to 67, 67 to 68, 67 to 67 between IPv4 addresses (RFC 2131)"},
		{"dhcp6", "udp 546 to 547, 547 to 546, 547 to 547 between IPv6 addresses (RFC 8415)"},
	}
}

// Default is what becomes of connections of a group that no rule names: they
// are allowed, unless a rule about any peer and every service denies the rest.
type Default struct {
	Group string `json:"group"` // or what else policies apply to
	// Ingress and Egress are the rules that deny the rest, "policy/rule"; ""
	// where there is none, and the rest is allowed.
	Ingress string `json:"ingress"`
	Egress  string `json:"egress"`
}

// Defaults lists the defaults of everything that enforced policies apply to,
// and of all others, by name. Schedules and ends are left aside.
func (s *Set) Defaults() []Default {
	all := map[string]*Default{Any: {Group: Any}}
	for i := range s.Policies {
		for _, p := range s.Policies[i].AppliesTo {
			all[p.String()] = &Default{Group: p.String()}
		}
	}
	settled := map[string]bool{} // by group and direction
	for i := range s.Policies {
		p := &s.Policies[i]
		if p.Mode != ModeEnforce {
			continue
		}
		for _, d := range []Direction{Ingress, Egress} {
			rule, ok := p.rest(d)
			for _, x := range all {
				key := d.String() + " " + x.Group
				applies := slices.ContainsFunc(p.AppliesTo, func(own Peer) bool { return own.IsAny() || own.String() == x.Group })
				if !ok || settled[key] || !applies {
					continue
				}
				settled[key] = true
				if d == Ingress {
					x.Ingress = rule
				} else {
					x.Egress = rule
				}
			}
		}
	}
	out := make([]Default, 0, len(all))
	for _, name := range slices.Sorted(maps.Keys(all)) {
		out = append(out, *all[name])
	}
	return out
}

// rest finds the rule that decides about every peer and every service, which
// leaves nothing to those behind it; "" if it allows.
func (p *Policy) rest(d Direction) (name string, ok bool) {
	for i := range p.Rules(d) {
		r := &p.Rules(d)[i]
		if len(r.Services) > 0 || !slices.ContainsFunc(r.Peers(d), Peer.IsAny) {
			continue
		}
		if r.Action.Consents() {
			return "", true
		}
		return p.Name + "/" + r.Name, r.Action != ActionPass
	}
	return "", false
}

// String is "tcp 80,8000-8100", "icmp 8/0" or "any".
func (s *Service) String() string {
	text := s.Proto.String()
	var ports []string
	for _, r := range s.Ports {
		ports = append(ports, r.String())
	}
	if len(ports) > 0 {
		text += " " + strings.Join(ports, ",")
	}
	if s.Type != nil {
		text += fmt.Sprintf(" %d", *s.Type)
	}
	if s.Code != nil {
		text += fmt.Sprintf("/%d", *s.Code)
	}
	return text
}

package policy

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"unicode"

	"github.com/platelet-sdn/platelet/segmentation/strictyaml"
)

// Bounds of what is read: far above what people write, so that a file that is
// beyond them is a mistake.
const (
	maxPolicies    = 10_000 // of a set
	maxNames       = 10_000 // groups, and services, of a set
	maxList        = 10_000 // entries of a list
	maxName        = 400    // bytes; a name taken over from Kubernetes has up to 330
	maxText        = 2_000  // bytes of a description
	maxPriority    = 1<<31 - 1
	maxGroupLevels = 32 // groups within groups
	maxFaults      = 50 // that are worth reading at once
	// MaxRules is how many rules a tier may have in one direction.
	MaxRules = 50_000
)

// check is told of everything that must hold, with the path of the value.
type check func(ok bool, path, format string, args ...any)

// under puts what a part says below its path.
func (want check) under(prefix string) check {
	return func(ok bool, path, format string, args ...any) {
		if !ok && path != "" && path[0] != '[' {
			path = "." + path
		}
		want(ok, prefix+path, format, args...)
	}
}

// at checks what stands in a document below a path.
func (r *reader) at(doc document, path string) check {
	want := check(func(ok bool, path, format string, args ...any) {
		if !ok && len(r.errs) < maxFaults {
			r.errs = append(r.errs, doc.Errorf(path, format, args...))
		}
	})
	if path == "" {
		return want
	}
	return want.under(path)
}

func (r *reader) check() {
	for _, p := range r.parts {
		want := r.at(p.doc, "")
		want(p.APIVersion == APIVersion, "apiVersion", "%q is not %s", p.APIVersion, APIVersion)
		for i, peer := range p.Protected {
			path := fmt.Sprintf("protected[%d]", i)
			want(!peer.IsAny(), path, "a network in which everything is protected can have no policies")
			if !slices.Contains(AssetClasses(), peer.Group) {
				r.peer(want, path, peer, AssetClasses())
			}
		}
		want(len(p.Protected) <= maxList, "protected", "%d entries, at most %d are allowed", len(p.Protected), maxList)
	}
	r.checkGroups()
	r.checkServices()
	r.checkSourceGuards()
	r.checkPolicies()
	r.checkInvariants()
}

func (r *reader) checkServices() {
	for _, name := range slices.Sorted(maps.Keys(r.services)) {
		at := r.services[name]
		want := r.at(at.doc, at.path)
		checkName(want, "", name)
		entries := r.set.Services[name]
		want(len(entries) > 0 && len(entries) <= maxList, "", "has %d entries, 1 to %d are allowed", len(entries), maxList)
		for i := range entries {
			entries[i].check(want.under(fmt.Sprintf("[%d]", i)))
		}
	}
	if len(r.services) > maxNames {
		r.at(r.parts[0].doc, "")(false, "services", "%d services, at most %d are allowed", len(r.services), maxNames)
	}
}

func (s *Service) check(want check) {
	notEmpty(want, "ports", s.Ports)
	want(len(s.Ports) == 0 || s.Proto.HasPorts(), "ports", "%s has no ports; tcp, udp and sctp do", s.Proto)
	want(s.Type == nil || s.Proto.IsICMP(), "type", "%s has no types; icmp and icmp6 do", s.Proto)
	want(s.Code == nil || s.Type != nil, "code", "a code needs a type")
}

func (r *reader) checkPolicies() {
	type rank struct {
		tier     Tier
		priority int
	}
	names, ranks, rules := map[string]int{}, map[rank]int{}, map[Tier][3]int{}
	for i := range r.set.Policies {
		p := &r.set.Policies[i]
		at := r.policies[i]
		want := r.at(at.doc, at.path)
		if first, taken := names[p.Name]; taken {
			want(false, "name", "the name %s is taken in %s", p.Name, r.policies[first].position())
		} else {
			names[p.Name] = i
		}
		if first, taken := ranks[rank{p.Tier, p.Priority}]; taken && p.Tier != 0 {
			want(false, "priority", "priority %d of tier %s is taken by %s in %s: which decides first must not be left open",
				p.Priority, p.Tier, r.set.Policies[first].Name, r.policies[first].position())
		} else {
			ranks[rank{p.Tier, p.Priority}] = i
		}
		r.policy(want, p)
		count := rules[p.Tier]
		count[Ingress] += len(p.Ingress)
		count[Egress] += len(p.Egress)
		rules[p.Tier] = count
	}
	if len(r.parts) == 0 {
		return
	}
	want := r.at(r.parts[0].doc, "")
	want(len(r.set.Policies) <= maxPolicies, "policies", "%d policies, at most %d are allowed", len(r.set.Policies), maxPolicies)
	for tier := TierEmergency; tier <= TierBaseline; tier++ {
		count := rules[tier]
		want(max(count[Ingress], count[Egress]) <= MaxRules, "policies", "tier %s has %d ingress and %d egress rules, at most %d are allowed",
			tier, count[Ingress], count[Egress], MaxRules)
	}
}

func (r *reader) policy(want check, p *Policy) {
	want(policyForm.MatchString(p.Name) && len(p.Name) <= maxName, "name", "%q is not a name of letters, digits and . _ : / -", p.Name)
	want(len(p.Description) <= maxText && printable(p.Description), "description", "is longer than %d bytes, or not text of one line", maxText)
	want(p.Tier != 0, "tier", "is missing (valid: emergency, admin, application, baseline)")
	want(p.Mode != 0, "mode", "is missing (valid: staged, enforce)")
	want(p.Priority >= 0 && p.Priority <= maxPriority, "priority", "%d is outside 0 to %d", p.Priority, maxPriority)
	want(p.Tier != TierEmergency || p.ExpiresAt != nil, "expiresAt", "is missing: nothing of the emergency tier stays for ever")
	want(p.Origin == nil || p.Origin.Decision != "" && len(p.Origin.Decision) <= maxName && printable(p.Origin.Decision), "origin.decision", "is missing, too long or not text")
	if p.Schedule != nil {
		p.Schedule.check(want.under("schedule"))
	}
	r.peers(want, "appliesTo", p.AppliesTo, "needs those whose connections the rules are about")
	want(len(p.Ingress)+len(p.Egress) > 0, "", "has neither ingress nor egress rules")
	seen := map[string]string{}
	for _, d := range []Direction{Ingress, Egress} {
		notEmpty(want, d.String(), p.Rules(d))
		for i := range p.Rules(d) {
			rule := &p.Rules(d)[i]
			path := fmt.Sprintf("%s[%d]", d, i)
			under := want.under(path)
			under(seen[rule.Name] == "", "name", "the name %s is taken by %s of this policy", rule.Name, seen[rule.Name])
			seen[rule.Name] = path
			r.rule(under, rule, d)
		}
	}
}

func (r *reader) rule(want check, rule *Rule, d Direction) {
	want(ruleForm.MatchString(rule.Name) && len(rule.Name) <= maxName, "name", "%q is not a name of letters, digits and . _ : -", rule.Name)
	want(rule.Action != 0, "action", "is missing (valid: allow, deny, reject, pass, rate-limit)")
	switch {
	case d == Ingress && rule.To != nil:
		want(false, "to", "an ingress rule is about what comes from somewhere: use from")
	case d == Egress && rule.From != nil:
		want(false, "from", "an egress rule is about what goes to somewhere: use to")
	case d == Ingress:
		r.peers(want, "from", rule.From, "needs a peer; [any] is everybody")
	default:
		r.peers(want, "to", rule.To, "needs a peer; [any] is everybody")
	}
	r.serviceRefs(want, rule.Services)
	want((rule.Action == ActionRateLimit) == (rule.Rate != nil), "rate", "rate-limit needs a rate, and nothing else has one")
	if rule.Rate != nil {
		want((rule.Rate.PacketsPerSecond == 0) != (rule.Rate.KilobitsPerSecond == 0), "rate", "needs one of pktps and kbps, above 0")
	}
	want(rule.Mirror == "" || placeForm.MatchString(rule.Mirror), "mirror", `%q is not "port" or "switch/port"`, rule.Mirror)
}

// serviceRefs checks a list of services, which may be left out.
func (r *reader) serviceRefs(want check, list []ServiceRef) {
	notEmpty(want, "services", list)
	for i, s := range list {
		path := fmt.Sprintf("services[%d]", i)
		if s.Inline != nil {
			s.Inline.check(want.under(path))
		} else if _, known := r.set.Services[s.Name]; !known {
			want(false, path, "there is no service %q%s", s.Name, meant(s.Name, r.set.Services))
		}
	}
}

// peers checks a list of them, which must not be empty.
func (r *reader) peers(want check, path string, list []Peer, missing string) {
	want(len(list) > 0, path, "%s", missing)
	want(len(list) <= maxList, path, "%d entries, at most %d are allowed", len(list), maxList)
	for i, p := range list {
		r.peer(want, fmt.Sprintf("%s[%d]", path, i), p, []string{Any})
	}
}

// peer checks that a group is known, or one of some words.
func (r *reader) peer(want check, path string, p Peer, words []string) {
	want(p.Group != "" || p.Prefix.IsValid(), path, "names nobody")
	if p.Group == "" || p.IsAny() {
		return
	}
	if _, known := r.set.Groups[p.Group]; !known {
		want(false, path, "there is no group %q%s", p.Group, meant(p.Group, r.set.Groups, words...))
	}
}

// check holds a time window to what can be meant.
func (s *Schedule) check(want check) {
	notEmpty(want, "days", s.Days)
	want(s.From != s.To || s.From == 0, "to", "is when it begins; leave both out for the whole day")
	want(s.From < 24*60, "from", "%s is the end of a day, not a beginning", s.From)
	want(len(s.Days) > 0 || s.From != s.To, "", "neither days nor times: leave it out for always")
	for i, d := range s.Days {
		want(!slices.Contains(s.Days[:i], d), fmt.Sprintf("days[%d]", i), "%s is there twice", d)
	}
}

var (
	// Names of policies say where they come from by slashes, and may hold the
	// address that they are about; those of groups stand where addresses may.
	policyForm = regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9._:/-]*[A-Za-z0-9_])?$`)
	ruleForm   = regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9._:-]*[A-Za-z0-9_])?$`)
	nameForm   = regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9_])?$`)
	placeForm  = regexp.MustCompile(`^[!-.0-~]+(/[!-.0-~]+)?$`)
)

// checkName is for groups and services.
func checkName(want check, path, name string) {
	want(nameForm.MatchString(name) && len(name) <= maxName, path, "%q is not a name of letters, digits and . _ -", name)
}

// notEmpty refuses lists that are there and empty, which can be read as
// nothing or as everything.
func notEmpty[T any](want check, path string, list []T) {
	want(list == nil || len(list) > 0, path, "an empty list; leave it out")
	want(len(list) <= maxList, path, "%d entries, at most %d are allowed", len(list), maxList)
}

// printable reports whether a text is of one line, and survives being written
// and read.
func printable(s string) bool {
	for _, c := range s {
		if !unicode.IsPrint(c) || c == unicode.ReplacementChar {
			return false
		}
	}
	return true
}

// meant is the end of a message about an unknown name.
func meant[T any](name string, known map[string]T, words ...string) string {
	if near := strictyaml.Nearest(name, append(slices.Sorted(maps.Keys(known)), words...)); near != "" {
		return fmt.Sprintf(" (did you mean %q?)", near)
	}
	return ""
}

package segment

import (
	"net/netip"
	"slices"
	"time"

	"github.com/platelet-sdn/platelet/controller/response"
	"github.com/platelet-sdn/platelet/flowcollector/flow"
	"github.com/platelet-sdn/platelet/segmentation/compile"
	"github.com/platelet-sdn/platelet/segmentation/policy"
)

// Row is a policy in a listing.
type Row struct {
	Name     string      `json:"name"`
	Tier     policy.Tier `json:"tier"`
	Priority int         `json:"priority"`
	Mode     policy.Mode `json:"mode"`
	// State is active, staged, scheduled (outside its times), expired, or
	// not-enforced: what would be active, in read-only mode.
	State     string   `json:"state"`
	AppliesTo []string `json:"applies_to"`
	// Rules of the policy, and those of them that can match anything now.
	Rules     int        `json:"rules"`
	Effective int        `json:"effective"`
	ExpiresAt *time.Time `json:"expires_at,omitempty"`
	// Decision is that of the healer, of which this is the policy.
	Decision string `json:"decision,omitempty"`
}

// Listing is what `platelet policy ls` shows.
type Listing struct {
	Files    []string `json:"files"`
	Policies []Row    `json:"policies"`
	// Implied is what is allowed beside all policies.
	Implied []string `json:"implied"`
	// Workloads, and addresses of the program.
	Workloads int       `json:"workloads"`
	Endpoints int       `json:"endpoints"`
	Changed   time.Time `json:"changed,omitzero"`
	// ReadOnly: nothing is enforced, everything is judged as if it were staged.
	ReadOnly bool `json:"read_only,omitempty"`
	// Error says why the files are not what is enforced.
	Error string `json:"error,omitempty"`
	// Waiting says which files are being read, since when, where that takes long:
	// what was read before is in force.
	Waiting map[string]time.Time `json:"waiting,omitempty"`
	// Failed says which switches do not enforce it, and why.
	Failed map[string]string `json:"failed,omitempty"`
}

// implied lists what no policy can take away: what is allowed whatever policies
// say, and what the controller sees to besides.
func implied() (out []string) {
	for _, r := range policy.ImpliedRules() {
		out = append(out, r.What)
	}
	return append(out, "answers to what is allowed, and ICMP errors about it", "what protected assets open")
}

// Listing shows policies and what became of them; those of decisions that hold
// come first, as their tier says. The program of what is staged, nil if there is
// none, says which of its rules can match anything.
func (k *Keeper) Listing(decisions []response.Decision, staged *compile.Program, now time.Time) Listing {
	k.mu.Lock()
	defer k.mu.Unlock()
	out := Listing{Files: k.read.Files, Policies: []Row{}, Implied: implied(), Workloads: len(k.inv.Workloads), Changed: k.at.UTC(),
		ReadOnly: k.cfg.Switches == nil, Waiting: k.waiting(now)}
	effective := effective(k.program, staged)
	if k.program != nil {
		out.Endpoints = len(k.program.Endpoints)
	}
	for i := range decisions {
		if p, ok := OfDecision(&decisions[i]); ok {
			out.Policies = append(out.Policies, row(&p, "active", len(p.Ingress)+len(p.Egress)))
		}
	}
	for i := range k.read.Set.Policies {
		p := &k.read.Set.Policies[i]
		state := state(p, now)
		if state == "active" && out.ReadOnly {
			state = NotEnforced
		}
		out.Policies = append(out.Policies, row(p, state, effective[p.Name]))
	}
	if err := k.fault(); err != nil {
		out.Error = err.Error()
	}
	if len(k.failed) > 0 {
		out.Failed = map[string]string{}
		for sw, why := range k.failed {
			out.Failed[sw] = why
		}
	}
	return out
}

// NotEnforced is the state of a policy that is enforced but in read-only mode.
const NotEnforced = "not-enforced"

// effective counts the rules of each policy that can match anything: of what is
// enforced, and else of what is staged.
func effective(enforced, staged *compile.Program) map[string]int {
	out := map[string]int{}
	seen := map[policy.RuleID]bool{}
	for _, p := range []*compile.Program{enforced, staged} {
		if p == nil {
			continue
		}
		for id := range p.Rules {
			if !seen[id] {
				seen[id] = true
				out[id.Policy]++
			}
		}
	}
	return out
}

func state(p *policy.Policy, now time.Time) string {
	switch {
	case p.ExpiresAt != nil && !now.Before(*p.ExpiresAt):
		return "expired"
	case !p.Active(now):
		return "scheduled"
	case p.Mode == policy.ModeStaged:
		return "staged"
	}
	return "active"
}

func row(p *policy.Policy, state string, effective int) Row {
	r := Row{Name: p.Name, Tier: p.Tier, Priority: p.Priority, Mode: p.Mode, State: state, AppliesTo: []string{}, Rules: len(p.Ingress) + len(p.Egress),
		Effective: effective, ExpiresAt: p.ExpiresAt}
	for _, peer := range p.AppliesTo {
		r.AppliesTo = append(r.AppliesTo, peer.String())
	}
	if p.Origin != nil {
		r.Decision = p.Origin.Decision
	}
	return r
}

// Workloads lists those that groups are resolved against.
func (k *Keeper) Workloads() []policy.Workload {
	k.mu.Lock()
	defer k.mu.Unlock()
	return slices.Clone(k.inv.Workloads)
}

// Program is what is enforced, nil before the first.
func (k *Keeper) Program() *compile.Program {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.program
}

// Policies are what is in force.
func (k *Keeper) Policies() *Policies {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.read
}

// OfDecision is the emergency policy that a decision amounts to; ok is false
// for one that holds nothing, or that no policy can say: a reroute, and what
// is about stations rather than addresses.
func OfDecision(d *response.Decision) (p policy.Policy, ok bool) {
	if !d.State.Holds() || !d.Target.Host.IsValid() && !d.Target.Victim.IsValid() || d.Target.Lock || d.Target.Forged {
		return p, false
	}
	until := d.Renewed
	if until.IsZero() {
		until = d.Applied
	}
	until = until.Add(d.TTL).UTC()
	p = policy.Policy{Name: d.ID, Description: d.Why, Tier: policy.TierEmergency, Mode: policy.ModeEnforce, ExpiresAt: &until, Origin: &policy.Origin{Decision: d.ID}}
	anybody := []policy.Peer{{Group: policy.Any}}
	t := &d.Target
	switch d.Action {
	case response.ActionQuarantine:
		p.AppliesTo = []policy.Peer{one(t.Host)}
		p.Ingress = []policy.Rule{{Name: "in", Action: policy.ActionDeny, From: anybody}}
		p.Egress = []policy.Rule{{Name: "out", Action: policy.ActionDeny, To: anybody}}
	case response.ActionSegment:
		peer := anybody
		if t.Peer.IsValid() {
			peer = []policy.Peer{one(t.Peer)}
		}
		p.AppliesTo = []policy.Peer{one(t.Host)}
		p.Egress = []policy.Rule{{Name: "out", Action: policy.ActionDeny, To: peer, Services: service(t.Proto, t.Service)}}
	case response.ActionRateLimit:
		if !t.Victim.IsValid() || len(d.Intents) == 0 {
			return p, false
		}
		from := anybody
		if t.Host.IsValid() {
			from = []policy.Peer{one(t.Host)}
		}
		limit := d.Intents[len(d.Intents)-1].Limit
		if limit.PacketsPerSecond == 0 { // a drop
			return p, false
		}
		p.AppliesTo = []policy.Peer{one(t.Victim)}
		p.Ingress = []policy.Rule{{Name: "in", Action: policy.ActionRateLimit, From: from, Services: service(t.Proto, 0),
			Rate: &policy.Rate{PacketsPerSecond: limit.PacketsPerSecond, Burst: limit.Burst}}}
	default:
		return p, false
	}
	return p, true
}

func one(a netip.Addr) policy.Peer { return policy.Peer{Prefix: netip.PrefixFrom(a, a.BitLen())} }

// service is what a target names; none is every service.
func service(proto uint8, port uint16) []policy.ServiceRef {
	if proto == 0 {
		return nil
	}
	s := policy.Service{Proto: policy.Proto(proto)}
	if port != 0 && proto != flow.ProtoICMP && proto != flow.ProtoICMPv6 {
		s.Ports = []policy.PortRange{{First: port, Last: port}}
	}
	return []policy.ServiceRef{{Inline: &s}}
}

package measure

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/platelet-sdn/platelet/lab/agent"
	"github.com/platelet-sdn/platelet/lab/attack"
	"github.com/platelet-sdn/platelet/lab/runner"
)

// culprit is a node that truly attacked, and what it goes by.
type culprit struct {
	node  string
	since time.Time // zero: from the beginning
	addrs []netip.Addr
	ports []string // switch ports that it alone is behind
	macs  []string
}

// culprits are the nodes that an attack is cast with and those that joined
// in, such as a worm's victims, from when on they attacked.
func culprits(lab *runner.Lab, parties []attack.Party, truth *agent.Truth) ([]culprit, error) {
	var out []culprit
	for _, p := range parties {
		out = append(out, culprit{node: p.Node, addrs: append(slices.Clone(p.Addrs), truth.Addrs(p.Node)...), ports: []string{p.Port}, macs: []string{p.MAC}})
	}
	for node, since := range truth.Attackers() {
		if slices.ContainsFunc(out, func(c culprit) bool { return c.node == node }) {
			continue
		}
		c := culprit{node: node, since: since, addrs: truth.Addrs(node)}
		for _, iface := range lab.Interfaces(node) {
			addrs, err := lab.Addrs(node, iface)
			if err != nil {
				return nil, err
			}
			for _, a := range addrs {
				c.addrs = append(c.addrs, a.Addr())
			}
			mac, err := lab.MAC(node, iface)
			if err != nil {
				return nil, err
			}
			c.macs = append(c.macs, mac.String())
			if port, err := lab.HostSide(node, iface); err == nil { // a link to another node is no port
				c.ports = append(c.ports, port)
			}
		}
		out = append(out, c)
	}
	slices.SortFunc(out, func(a, b culprit) int { return strings.Compare(a.node, b.node) })
	return out, nil
}

// is reports whether an event is about the culprit: what acts at the port that
// it is behind cannot hit anyone else, and elsewhere the address must be one
// of its own.
func (c culprit) is(e Event) bool {
	if !c.since.IsZero() && e.Time.Before(c.since) {
		return false
	}
	if e.Port != "" && slices.Contains(c.ports, e.Port) {
		return true
	}
	if host, err := netip.ParseAddr(e.Host); err == nil {
		return slices.Contains(c.addrs, host)
	}
	return e.MAC != "" && slices.Contains(c.macs, e.MAC)
}

// About reports whether an event is about the attacker of a cast.
func About(e Event, roles attack.Roles) bool {
	return culprit{addrs: roles.AttackerAddrs, ports: []string{roles.Port}, macs: []string{roles.AttackerMAC}}.is(e)
}

// bench judges one attack.
type bench struct {
	attack   attack.Attack
	victims  []string // addresses
	culprits []culprit
	hold     time.Duration
	// firstAction is when the first agent acted; zero when it is not known.
	firstAction time.Time
	// victimPort is the switch port that the victim is behind, if it is known.
	victimPort string
	// former are the culprits of earlier attacks: what is only now found of
	// those is no mistake.
	former []culprit
	// anyMeans credits whatever ends delivery, see Config.
	anyMeans bool
}

// guilty reports whether an event is about a node that attacked.
func (b bench) guilty(e Event) bool {
	return slices.ContainsFunc(b.culprits, func(c culprit) bool { return c.is(e) })
}

// about reports whether a finding is about the attack. One about forged
// sources names no host, but whom they attack; where it names neither, its
// kind must be right.
func (b bench) about(e Event) bool {
	if e.Host != "" || b.guilty(e) {
		return b.guilty(e)
	}
	if len(e.Victims) == 0 {
		return e.MAC == "" && e.Port == "" && e.Kind == b.attack.Finding
	}
	return slices.ContainsFunc(e.Victims, func(v string) bool { return slices.Contains(b.victims, v) })
}

// before is by how much a finding must precede the first packet of the capture
// for that not to have been the attack's first.
const before = time.Millisecond

// begin makes sure that times count from the attack's beginning. The first
// thing that leaves a host may be none of the packets that its capture knows:
// one that goes through a subnet of which few addresses exist asks for most of
// them by ARP, and may be found by that. Then times count from its agent's
// first action.
func (b bench) begin(o *observation) {
	i := slices.IndexFunc(o.events, func(e Event) bool { return e.Type == Finding && e.State == StateFiring && b.about(e) })
	if i < 0 || !o.events[i].Time.Before(o.first.Add(-before)) {
		return
	}
	if acted := b.firstAction; !acted.IsZero() && acted.Before(o.events[i].Time) {
		o.note = appendNote(o.note, fmt.Sprintf("found %.0f ms before a packet that the capture knows had left: times count from the agent's first action", millis(o.first.Sub(o.events[i].Time))))
		o.first = acted
		return
	}
	o.note = appendNote(o.note, "found before a packet that the capture knows had left: the time to detect is not known")
}

// judge derives an attack's figures from what was observed.
func (b bench) judge(o observation) Outcome {
	b.begin(&o)
	out := Outcome{
		First: o.first, Sent: o.sent, Delivered: len(o.delivered), Missed: o.missed, Ended: Took(o.ended.Sub(o.first)), Note: o.note,
		Kinds: []string{}, Actions: []string{}, False: []string{}, Strange: []string{}, Attackers: []string{},
	}
	for _, c := range b.culprits {
		out.Attackers = append(out.Attackers, c.node)
	}
	for _, e := range o.events {
		switch {
		case e.Type == Finding && e.State == StateFiring:
			b.finding(&out, e)
		case e.Type == Decision:
			b.decision(&out, e)
		}
	}
	b.contained(&out, o)
	out.Right = slices.Contains(out.Kinds, b.attack.Finding) || b.early(out)
	out.Release = released(o)
	out.Steps = b.steps(o)
	return out
}

// early is how long before the controller says that it acted delivery may have
// ended because of it: rules take effect in the datapath before the switch
// confirms them, and on a busy machine much earlier.
const early = 250 * time.Millisecond

// contained credits the controller with the end of delivery. Not where it did
// nothing about the attack; nor where attack packets had ceased to arrive long
// before it acted, such as a worm's that has found everybody; nor where they
// ceased because their victim was cut off, which is what a flood is after. Of an
// attack that spreads, every host that took part must have been contained.
func (b bench) contained(out *Outcome, o observation) {
	ttc, ended := o.trace.contained(out.Limit, b.hold)
	end := o.first.Add(ttc)
	acted := slices.IndexFunc(o.events, func(e Event) bool {
		return e.Type == Decision && e.State == StateApplied && (b.anyMeans || b.guilty(e))
	})
	cut := slices.ContainsFunc(o.events, func(e Event) bool {
		return e.Type == Decision && e.State == StateApplied && b.hits(e) && e.Time.Before(end.Add(early))
	})
	loose := b.loose(o)
	switch {
	case !ended:
	case acted < 0:
		out.Note = appendNote(out.Note, "delivery ended without the controller having acted")
	case o.trace.silent(end, o.events[acted].Time.Add(-early)):
		out.Note = appendNote(out.Note, "delivery had ended before the controller acted")
	case spreads(b.attack) && len(loose) > 0:
		out.Note = appendNote(out.Note, fmt.Sprintf("delivery ended, but %d of %d attacking hosts were never contained", len(loose), len(b.culprits)))
	case cut && !b.anyMeans:
		out.Note = appendNote(out.Note, "delivery ended when the victim was cut off")
	default:
		out.TTC = Took(ttc)
	}
}

// loose are the culprits that nothing was done about.
func (b bench) loose(o observation) []culprit {
	return slices.DeleteFunc(slices.Clone(b.culprits), func(c culprit) bool {
		return slices.ContainsFunc(o.events, func(e Event) bool { return e.Type == Decision && e.State == StateApplied && c.is(e) })
	})
}

// hits reports whether a decision acts against the victim itself.
func (b bench) hits(e Event) bool {
	return !b.guilty(e) && (slices.Contains(b.victims, e.Host) || e.Port != "" && e.Port == b.victimPort)
}

// finding takes a finding that fired in.
func (b bench) finding(out *Outcome, e Event) {
	about := b.about(e)
	if b.late(e, out.First) && (!about || e.Kind != b.attack.Finding) {
		return
	}
	if !about {
		out.Strange = appendNew(out.Strange, strings.TrimSpace(e.Kind+" "+e.who()))
		return
	}
	after := Took(e.Time.Sub(out.First))
	if e.Time.Before(out.First.Add(-before)) {
		after = Span{} // not known
	}
	if len(out.Kinds) == 0 {
		out.TTD = after
	}
	if e.Kind == b.attack.Finding && !slices.Contains(out.Kinds, e.Kind) {
		out.Named = after
	}
	out.Kinds = appendNew(out.Kinds, e.Kind)
}

// early reports whether an attack was contained before it had reached anybody,
// and called what it was until then.
func (b bench) early(out Outcome) bool {
	return out.TTC.OK && slices.Contains(out.Kinds, b.attack.Early) && !slices.ContainsFunc(b.culprits, func(c culprit) bool { return !c.since.IsZero() })
}

// late reports whether a finding is about an earlier attack, of which some
// detectors judge whole minutes.
func (b bench) late(e Event, first time.Time) bool {
	return !e.Began.IsZero() && e.Began.Before(first) && slices.ContainsFunc(b.former, func(c culprit) bool { return c.is(e) })
}

// decision takes a decision that reached a state in.
func (b bench) decision(out *Outcome, e Event) {
	switch e.State {
	case StateApplied:
		if !b.guilty(e) {
			out.False = appendNew(out.False, fmt.Sprintf("%s of %s for %s (%s)", e.Action, e.who(), e.Kind, e.ID))
			return
		}
		out.Actions = appendNew(out.Actions, e.Action)
		out.Limit = max(out.Limit, e.Limit)
	case StateVerified:
		if b.guilty(e) && !out.Verified.OK {
			out.Verified = Took(e.Time.Sub(out.First))
		}
	}
}

// released is how long after the attack's end the last containment of the run
// was taken off. There is none to measure where nothing was contained, or
// something still is, or was given up in another way than by release.
func released(o observation) Span {
	open, last := map[string]bool{}, time.Time{}
	for _, e := range o.events {
		if e.Type != Decision {
			continue
		}
		switch e.State {
		case StateApplied:
			open[e.ID] = true
		case StateReleased:
			if open[e.ID] {
				delete(open, e.ID)
				last = e.Time
			}
		case StateRolledBack:
			delete(open, e.ID)
		}
	}
	if len(open) > 0 || last.IsZero() || last.Before(o.ended) {
		return Span{}
	}
	return Took(last.Sub(o.ended))
}

// most is how many steps of one run are kept.
const most = 200

// steps are the controller's events, relative to the first packet.
func (b bench) steps(o observation) []Step {
	var out []Step
	for _, e := range o.events {
		if len(out) == most {
			break
		}
		s := Step{At: millis(e.Time.Sub(o.first)), Type: e.Type, State: e.State, Kind: e.Kind, What: e.Action, Who: e.who()}
		if s.Ours = b.guilty(e); e.Type == Finding {
			s.Ours = b.about(e)
		}
		out = append(out, s)
	}
	return out
}

// who names what an event is about.
func (e Event) who() string {
	for _, name := range []string{e.Host, e.Target, e.Port, e.MAC} {
		if name != "" {
			return name
		}
	}
	return "forged sources"
}

func appendNew(list []string, word string) []string {
	if slices.Contains(list, word) {
		return list
	}
	return append(list, word)
}

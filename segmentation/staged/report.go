package staged

import (
	"cmp"
	"maps"
	"net/netip"
	"slices"
	"time"

	"github.com/platelet-sdn/platelet/segmentation/compile"
	"github.com/platelet-sdn/platelet/segmentation/connection"
	"github.com/platelet-sdn/platelet/segmentation/policy"
)

// Report is what the policies did, and would do, to the connections of a
// window.
type Report struct {
	Coverage Coverage `json:"coverage"`
	// Denied is what the enforced policies deny, WouldDeny what the staged
	// ones would deny besides, and WouldAllow what of the denied they would
	// let be.
	Denied     Totals `json:"denied"`
	WouldDeny  Totals `json:"would_deny"`
	WouldAllow Totals `json:"would_allow"`
	// Undecided is what no rule decides on either side, with the staged
	// policies enforced: allowed, because nobody said otherwise.
	Undecided Totals `json:"undecided"`
	// Affected are those who would be denied something that somebody serves,
	// apart from those who try what is there: names, or addresses. Whom
	// enforcing the staged policies would hurt, if their rules are wrong.
	Affected []string `json:"affected"`
	// Rules are all rules of the set, in the order in which they decide.
	Rules []Rule `json:"rules"`
}

// Coverage says how much of what happens the report is about.
type Coverage struct {
	From time.Time `json:"from"`
	To   time.Time `json:"to"`
	// Records were looked at, by kind of telemetry in Sources.
	Records uint64            `json:"records"`
	Sources map[string]uint64 `json:"sources"`
	// RateFrom and RateTo are the smallest and the largest sampling rate,
	// packets per sample, apart from the connection tap's.
	RateFrom float64 `json:"rate_from"`
	RateTo   float64 `json:"rate_to"`
	// TapTo is how many connection attempts one that the tap shows has stood
	// for, at most. Above 1 the tap was thinned, for attacks: of these,
	// connections are those that were seen, and conversations are estimated.
	TapTo float64 `json:"tap_to"`
	// OpenerKnown is the share of records of which it is known, not guessed,
	// who opened the connection.
	OpenerKnown float64 `json:"opener_known"`
	// Connections are held; Forgotten found no room, unanswered.
	Connections int    `json:"connections"`
	Forgotten   uint64 `json:"forgotten"`
	// Uncounted denials are in the totals of packets, but not among the
	// connections, hosts and examples: there was no room for them.
	Uncounted uint64 `json:"uncounted"`
	// Unjudged records are on connections for which there was no room at all.
	Unjudged uint64 `json:"unjudged"`
	// Fault says why policies are judged as they were in force earlier.
	Fault string `json:"fault,omitempty"`
}

// Totals sums connections up. Connections are distinct in opener, responder
// and service; each is any number of conversations.
type Totals struct {
	Openers       int     `json:"openers"`
	Connections   int     `json:"connections"`
	Answered      int     `json:"answered"` // connections that somebody serves
	Scans         int     `json:"scans"`    // connections of openers that try what is there
	Conversations float64 `json:"conversations"`
	Packets       float64 `json:"packets"`
	Bytes         float64 `json:"bytes"`

	openers map[netip.Addr]bool
}

// Rule is what a rule decides. With staged policies enforced, that is.
type Rule struct {
	ID     policy.RuleID `json:"-"`
	Policy string        `json:"policy"`
	// Direction, Rule: as in the file, At where it stands.
	Direction string `json:"direction"`
	Rule      string `json:"rule"`
	At        string `json:"at,omitempty"`
	Action    string `json:"action"`
	Mode      string `json:"mode"`
	// Hits is how many conversations it decides, for one of the sides; a rule
	// with Hit false decided nothing in the window.
	Hit  bool    `json:"hit"`
	Hits float64 `json:"hits"`
	// Denied, WouldDeny and WouldAllow are those of the report for which this
	// rule is the reason.
	Denied     Totals `json:"denied"`
	WouldDeny  Totals `json:"would_deny"`
	WouldAllow Totals `json:"would_allow"`
	// Exchanges are the connections that would be denied or allowed, or else
	// are denied, with most conversations, at most MaxExchanges.
	Exchanges []Exchange `json:"exchanges,omitempty"`
}

// MaxExchanges is how many connections stand as examples with a rule.
const MaxExchanges = 10

// Exchange is one connection that a rule denies or would deny or allow.
type Exchange struct {
	Effect        string     `json:"effect"` // denied, would deny, would allow
	Opener        netip.Addr `json:"opener"`
	OpenerName    string     `json:"opener_name,omitempty"`
	Responder     netip.Addr `json:"responder"`
	ResponderName string     `json:"responder_name,omitempty"`
	Service       string     `json:"service"`
	Answered      bool       `json:"answered"`
	Scan          bool       `json:"scan"` // its opener tries what is there
	OpenerKnown   string     `json:"opener_known"`
	Conversations float64    `json:"conversations"`
	Packets       float64    `json:"packets"`
	Bytes         float64    `json:"bytes"`
	First         time.Time  `json:"first"`
	Last          time.Time  `json:"last"`
}

// Effects of policies on a connection.
const (
	Denied     = "denied"
	WouldDeny  = "would deny"
	WouldAllow = "would allow"
)

// Report sums up what was seen so far. Observe waits meanwhile: with full tables
// about a tenth of a second (BenchmarkReport).
func (e *Evaluator) Report() *Report {
	e.mu.Lock()
	defer e.mu.Unlock()
	b := &builder{e: e, rules: map[policy.RuleID]*Rule{}, names: map[netip.Addr]string{}, hurt: map[string]bool{}, sweeps: connection.Sweeps(e.table.Each())}
	for i := range e.inv.Workloads {
		w := &e.inv.Workloads[i]
		for _, a := range w.Addrs {
			b.names[a] = w.Name
		}
	}
	b.report.Coverage = e.coverage()
	b.list()
	for _, o := range e.outcomes[1:] {
		b.outcome(o)
	}
	for i, k := range e.details.All() {
		b.detail(k, e.details.At(i))
	}
	return b.finish()
}

// Connections returns what was seen so far, in the order of openers, responders
// and services, and how well: what policies are learned from.
func (e *Evaluator) Connections() ([]connection.Entry, connection.Stats) {
	e.mu.Lock()
	stats := e.table.Stats()
	out := make([]connection.Entry, 0, stats.Connections)
	for k, c := range e.table.Each() {
		out = append(out, connection.Entry{Key: k, Connection: *c})
	}
	e.mu.Unlock()
	connection.Sort(out)
	return out, stats
}

func (e *Evaluator) coverage() Coverage {
	s := e.table.Stats()
	c := Coverage{Records: s.Records, Sources: s.Sources, RateFrom: s.RateFrom, RateTo: s.RateTo, TapTo: s.TapTo, OpenerKnown: s.Known(),
		Connections: s.Connections, Forgotten: s.Forgotten, Uncounted: e.details.Rejected() + e.details.Evicted(),
		Unjudged: s.NoRoom + e.outcomes[0].records}
	if e.err != nil {
		c.Fault = e.err.Error()
	}
	if s.Records > 0 {
		c.From, c.To = instant(s.First), instant(s.Last)
	}
	return c
}

func instant(ns int64) time.Time { return time.Unix(0, ns).UTC() }

// builder puts a report together.
type builder struct {
	e      *Evaluator
	report Report
	rules  map[policy.RuleID]*Rule
	names  map[netip.Addr]string
	sweeps map[netip.Addr]connection.Sweep
	hurt   map[string]bool
}

// list begins with all rules of the set.
func (b *builder) list() {
	for i := range b.e.set.Policies {
		p := &b.e.set.Policies[i]
		for _, d := range []policy.Direction{policy.Egress, policy.Ingress} {
			for _, r := range p.Rules(d) {
				id := policy.RuleID{Policy: p.Name, Direction: d, Rule: r.Name}
				out := Rule{ID: id, Policy: p.Name, Direction: d.String(), Rule: r.Name, Action: r.Action.String(), Mode: p.Mode.String()}
				if at := b.e.set.RuleAt(id); at.Line > 0 {
					out.At = at.String()
				}
				b.report.Rules = append(b.report.Rules, out)
			}
		}
	}
	for i := range b.report.Rules {
		b.rules[b.report.Rules[i].ID] = &b.report.Rules[i]
	}
}

// effect says what an outcome is to a connection, and which rule is the
// reason.
func (o *outcome) effect() (string, policy.RuleID) {
	now, deniedNow := denies(o.now)
	staged, deniedStaged := denies(o.staged)
	switch {
	case deniedNow && deniedStaged:
		return Denied, now.Rule
	case deniedNow:
		for i, s := range o.now { // what takes the refusing side's place
			if !s.Consents() && o.staged[i].Decided() {
				return WouldAllow, o.staged[i].Rule
			}
		}
		return WouldAllow, policy.RuleID{}
	case deniedStaged:
		return WouldDeny, staged.Rule
	}
	return "", policy.RuleID{}
}

// outcome counts what is known without details.
func (b *builder) outcome(o *outcome) {
	if o.records == 0 {
		return
	}
	hits := max(o.opens, float64(o.connections))
	for _, s := range o.staged {
		if r := b.rules[s.Rule]; r != nil && s.Decided() {
			r.Hit = true
			r.Hits += hits
		}
	}
	for _, t := range b.totals(o) {
		t.Conversations += hits
		t.Packets += o.packets
		t.Bytes += o.bytes
	}
	if b.undecided(o) {
		b.report.Undecided.Connections += int(o.connections)
	}
}

func (b *builder) undecided(o *outcome) bool {
	none := [2]compile.Side{}
	return o.staged == none
}

// totals are those that an outcome counts for.
func (b *builder) totals(o *outcome) []*Totals {
	effect, id := o.effect()
	r := b.rules[id]
	if r == nil {
		r = &Rule{} // of policies that were replaced
	}
	switch effect {
	case Denied:
		return []*Totals{&b.report.Denied, &r.Denied}
	case WouldDeny:
		return []*Totals{&b.report.WouldDeny, &r.WouldDeny}
	case WouldAllow:
		// It is denied as long as the policies are staged.
		return []*Totals{&b.report.Denied, &b.report.WouldAllow, &r.WouldAllow}
	}
	if b.undecided(o) {
		return []*Totals{&b.report.Undecided}
	}
	return nil
}

// detail counts one connection.
func (b *builder) detail(k detailKey, d *detail) {
	o, key := b.e.outcomes[k.outcome], k.id.Key()
	if d.opening == connection.Guessed && b.e.table.Find(key) == nil {
		return // it was found to be the other way round
	}
	scan := b.sweeps[key.Opener].Scanning()
	for _, t := range b.totals(o) {
		if t.openers == nil {
			t.openers = map[netip.Addr]bool{}
		}
		t.openers[key.Opener] = true
		t.Connections++
		if d.answered {
			t.Answered++
		}
		if scan {
			t.Scans++
		}
	}
	effect, id := o.effect()
	if effect == WouldDeny && d.answered && !scan {
		b.hurt[cmp.Or(b.names[key.Opener], key.Opener.String())] = true
	}
	r := b.rules[id]
	if r == nil {
		return
	}
	r.Exchanges = append(r.Exchanges, Exchange{
		Effect: effect, Opener: key.Opener, OpenerName: b.names[key.Opener], Responder: key.Responder, ResponderName: b.names[key.Responder],
		Service: key.Service.String(), Answered: d.answered, Scan: scan, OpenerKnown: d.opening.String(),
		Conversations: max(1, d.opens), Packets: d.packets, Bytes: d.bytes, First: instant(d.first), Last: instant(d.last),
	})
}

// finish orders everything.
func (b *builder) finish() *Report {
	count := func(t *Totals) { t.Openers, t.openers = len(t.openers), nil }
	for _, t := range []*Totals{&b.report.Denied, &b.report.WouldDeny, &b.report.WouldAllow, &b.report.Undecided} {
		count(t)
	}
	for i := range b.report.Rules {
		r := &b.report.Rules[i]
		for _, t := range []*Totals{&r.Denied, &r.WouldDeny, &r.WouldAllow} {
			count(t)
		}
		slices.SortFunc(r.Exchanges, compareExchanges)
		r.Exchanges = r.Exchanges[:min(len(r.Exchanges), MaxExchanges)]
	}
	b.report.Affected = slices.AppendSeq([]string{}, maps.Keys(b.hurt))
	slices.Sort(b.report.Affected)
	return &b.report
}

// compareExchanges puts changes before what is denied anyway, what somebody
// serves before what nobody does, and the busiest first.
func compareExchanges(a, b Exchange) int {
	class := func(x Exchange) int {
		n := 0
		if x.Effect == Denied {
			n += 2
		}
		if !x.Answered {
			n++
		}
		return n
	}
	return cmp.Or(cmp.Compare(class(a), class(b)), cmp.Compare(b.Conversations, a.Conversations),
		a.Opener.Compare(b.Opener), a.Responder.Compare(b.Responder), cmp.Compare(a.Service, b.Service), cmp.Compare(a.Effect, b.Effect))
}

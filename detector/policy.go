package detector

import (
	"math"
	"net/netip"
	"slices"

	"github.com/platelet-sdn/platelet/detector/bounded"
	"github.com/platelet-sdn/platelet/flowcollector/flow"
)

// PolicyConfig says what segmentation allows, so that traffic which it denies
// can be reported, whether the switch drops it or (where a policy is not
// enforced) lets it pass.
type PolicyConfig struct {
	// Verdict says whether a conversation is allowed, and by which rule; known
	// is false where no policy applies. It is asked once per conversation,
	// on the goroutine that calls Observe. May be nil.
	Verdict func(client, server netip.Addr, proto uint8, port uint16) (allowed, known bool, rule string)
	// Guarded says whose port it is that a packet with a forged source came in
	// by: the address by which its owner is known, and the guard in words. Asked
	// of such packets alone. May be nil.
	Guarded func(inPort uint32) (owner netip.Addr, about string, ok bool)
	// Segments are asked where Verdict does not know.
	Segments []Segment
	// Attempts are how many denied conversations of a host make a finding;
	// one that is answered does at once.
	Attempts uint32
	// Hosts bounds the hosts that are followed at once, 98 bytes each.
	Hosts int
}

// Segment is a part of the network that only some may reach. Whoever is in it
// may reach the rest of it.
type Segment struct {
	Name     string
	Prefixes []netip.Prefix
	From     []netip.Prefix
}

func defaultPolicy() PolicyConfig { return PolicyConfig{Attempts: 3, Hosts: 1 << 12} }

func (c *PolicyConfig) valid() bool { return c.Attempts > 0 && c.Hosts > 0 }

// verdict returns what is known of a conversation.
func (c *PolicyConfig) verdict(client, server netip.Addr, proto uint8, port uint16) (allowed, known bool, rule string) {
	if c.Verdict != nil {
		if allowed, known, rule = c.Verdict(client, server, proto, port); known {
			return allowed, true, rule
		}
	}
	in := func(list []netip.Prefix, a netip.Addr) bool {
		return slices.ContainsFunc(list, func(p netip.Prefix) bool { return p.Contains(a) })
	}
	for _, s := range c.Segments {
		if in(s.Prefixes, server) {
			return in(s.From, client) || in(s.Prefixes, client), true, s.Name
		}
	}
	return false, false, ""
}

// violator is what is remembered of a host that does what is denied.
type violator struct {
	first, last int64
	attempts    uint32 // denied conversations
	answered    uint32 // of these, that were answered
	dropped     uint32 // packets that a switch or firewall says it dropped
	pairs       sketch64
	rule        string // the latest
	firing      bool
}

// policyEdge is what an edge remembers for this detector.
type policyEdge struct {
	denied bool // the latest conversation
	told   bool // its answer
}

// policyWatch finds traffic that segmentation denies. A verdict is exact, but a
// denied packet is no attack yet: the severity is low unless it gets through.
type policyWatch struct {
	e         *Engine
	violators *bounded.Table[address, violator]
}

func newPolicyWatch(e *Engine) *policyWatch {
	w := &policyWatch{e: e}
	w.violators = bounded.New[address](e.cfg.Policy.Hosts, func(v *violator) int64 {
		if v.firing {
			return rank(1, v.last)
		}
		return rank(0, v.last)
	})
	return w
}

// idle reports whether there is no policy to hold anything against.
func (w *policyWatch) idle() bool {
	return w.e.cfg.Policy.Verdict == nil && len(w.e.cfg.Policy.Segments) == 0
}

func (w *policyWatch) edge(ev *edgeEvent) {
	x := &ev.edge.policy
	dropped := ev.r.Verdict == flow.VerdictDropped
	switch {
	case ev.what == edgeOpened, ev.what == edgeTraffic && ev.fresh && ev.key.port() < ephemeral: // else who opened is a guess
		x.denied, x.told = false, false
		if w.idle() {
			return
		}
		k := &ev.key
		allowed, known, rule := w.e.cfg.Policy.verdict(k.src.netip(), k.dst.netip(), k.proto(), k.port())
		if !known || allowed {
			return
		}
		x.denied = true
		w.attempt(ev, dropped, rule)
	case x.denied && ev.what == edgeAccepted && !x.told:
		x.told = true
		w.passed(ev)
	}
}

// dropped handles a packet that a rule of ours dropped and that belongs to no
// finding. Only a verdict tells that it was segmentation: containment goes on
// for a while after its finding is over.
func (w *policyWatch) dropped(r *flow.Record) {
	if w.idle() || !r.Src.IsValid() || !r.Dst.IsValid() {
		return
	}
	allowed, known, rule := w.e.cfg.Policy.verdict(r.Src, r.Dst, r.Proto, r.DstPort)
	if !known || allowed {
		return
	}
	src, dst := addressOf(r.Src), addressOf(r.Dst)
	if v := w.violator(src); v != nil {
		w.note(v, contactKeyOf(src, dst, r.DstPort, r.Proto), rule)
		v.dropped++
		w.decide(v, contactKeyOf(src, dst, r.DstPort, r.Proto))
	}
}

func (w *policyWatch) violator(a address) *violator {
	now := w.e.clock.now
	_, v, fresh := w.violators.Put(a, rank(0, now))
	if v == nil {
		return nil
	}
	if fresh || !v.firing && now-v.last > hostIdle {
		*v = violator{first: now}
	}
	v.last = now
	return v
}

func (w *policyWatch) note(v *violator, k contactKey, rule string) {
	v.attempts++
	v.rule = rule
	v.pairs.add(w.e.hash(k.dst.hi ^ mix(k.dst.lo^mix(k.service))))
}

func (w *policyWatch) attempt(ev *edgeEvent, dropped bool, rule string) {
	v := w.violator(ev.key.src)
	if v == nil {
		return
	}
	w.note(v, ev.key, rule)
	if dropped {
		v.dropped++
	}
	w.decide(v, ev.key)
}

// passed handles the answer to a denied conversation.
func (w *policyWatch) passed(ev *edgeEvent) {
	if v := w.violator(ev.key.src); v != nil {
		v.answered++
		w.decide(v, ev.key)
	}
}

func (w *policyWatch) decide(v *violator, k contactKey) {
	c := &w.e.cfg.Policy
	if v.attempts < c.Attempts && v.answered == 0 && !v.firing {
		return
	}
	v.firing = true
	pairs := math.Round(v.pairs.estimate())
	r := report{
		key: findingKey{kind: KindPolicyViolation, host: k.src}, state: StateFiring, first: v.first, owner: w,
		host: k.src, victims: []address{k.dst}, proto: k.proto(), records: int64(v.attempts + v.answered),
		// That policy denies it is certain; that somebody means harm is the
		// more likely the more is tried.
		score: 1 - 0.5*math.Exp(-pairs/4), confidence: 0.99,
		evidence: []Evidence{
			{"denied_conversations", float64(v.attempts), 0, 0.5},
			{"denied_pairs", pairs, 0, 0.5},
			{"denied_but_answered", float64(v.answered), 0, 0},
			{"dropped_packets", float64(v.dropped), 0, 0},
			{"rule " + v.rule, 1, 0, 0},
		},
		limits: []Limit{{"denied_conversations", float64(c.Attempts - 1)}, {"denied_but_answered", 0}},
	}
	if pairs < 2 {
		r.port = k.port()
	}
	if v.answered > 0 {
		r.severity = SeverityMedium
	}
	w.e.ledger.report(&r)
}

func (w *policyWatch) resolved(k findingKey) {
	if i, v := w.violators.Find(k.host); v != nil {
		w.violators.Delete(i)
	}
}

package evaluate

import (
	"net/netip"

	"github.com/platelet-sdn/platelet/detector"
	"github.com/platelet-sdn/platelet/flowcollector/flow"
)

const (
	// manyTargets and manyFailures are the thresholds per minute of the
	// trivial rules, neither the best nor the worst for any set.
	manyTargets  = 20
	manyFailures = 10
	minute       = int64(60e9)
	// maxRuleHosts bounds what the rules remember.
	maxRuleHosts = 1 << 20
)

// rule is one of the rules of one line that detectors are compared with.
type rule struct {
	name, about string
	// alarm says whether it alarms about the source, or for failures about
	// the destination, of a record.
	alarm func(r *flow.Record) (netip.Addr, bool)
}

// rules returns the trivial rules for a set: they may know of it what no
// detector does, its own networks and its median.
func (t *truth) rules() []rule {
	home, median := t.home(), t.medianBytes()
	sent := map[netip.Addr]float64{}
	targets := newPerMinute()
	failures := newPerMinute()
	return []rule{
		{"stranger", "the source is outside the home networks", func(r *flow.Record) (netip.Addr, bool) {
			return r.Src, isBegin(r) && r.Src.IsGlobalUnicast() && !r.Src.IsPrivate() && !home.Contains(r.Src)
		}},
		{"bytes", "the source has sent more than the median host of the set does", func(r *flow.Record) (netip.Addr, bool) {
			if _, ok := sent[r.Src]; ok || len(sent) < maxRuleHosts {
				sent[r.Src] += r.ScaledBytes()
			}
			return r.Src, sent[r.Src] > median
		}},
		{"fan-out", "more than 20 destinations within a minute", func(r *flow.Record) (netip.Addr, bool) {
			return r.Src, isBegin(r) && targets.add(r.Src, r.Time, r.Dst) > manyTargets
		}},
		{"failures", "more than 10 failed connections within a minute", func(r *flow.Record) (netip.Addr, bool) {
			switch r.Signal {
			case flow.SignalRefuse, flow.SignalSilence, flow.SignalUnreachable:
				return r.Dst, failures.add(r.Dst, r.Time, netip.Addr{}) > manyFailures
			}
			return netip.Addr{}, false
		}},
	}
}

// isBegin reports whether a record may begin a flow, as far as a rule of one
// line can tell.
func isBegin(r *flow.Record) bool {
	switch r.Signal {
	case flow.SignalAttempt, flow.SignalUDP, flow.SignalICMP:
		return true
	}
	return false
}

// home is the network that the most frequent address outside the private ones
// is in, a /16 or /48.
func (t *truth) home() netip.Prefix {
	var best netip.Addr
	most := 0
	for h, p := range t.parties {
		if h.Addr.IsGlobalUnicast() && (p.opened > most || p.opened == most && h.Addr.Less(best)) {
			best, most = h.Addr, p.opened
		}
	}
	if !best.IsValid() {
		return netip.Prefix{}
	}
	bits := 16
	if best.Is6() {
		bits = 48
	}
	p, err := best.Prefix(bits)
	if err != nil {
		return netip.Prefix{}
	}
	return p
}

// perMinute counts distinct things per host within clock minutes.
type perMinute struct {
	hosts map[netip.Addr]*minuteOf
}

type minuteOf struct {
	minute   int64
	count    int
	distinct map[netip.Addr]struct{}
}

func newPerMinute() *perMinute { return &perMinute{hosts: map[netip.Addr]*minuteOf{}} }

// add counts a thing, once if it is valid, and returns the count.
func (p *perMinute) add(h netip.Addr, at int64, thing netip.Addr) int {
	m := p.hosts[h]
	if m == nil {
		if len(p.hosts) >= maxRuleHosts {
			return 0
		}
		m = &minuteOf{minute: -1}
		p.hosts[h] = m
	}
	if at/minute != m.minute {
		m.minute, m.count = at/minute, 0
		clear(m.distinct)
	}
	if !thing.IsValid() {
		m.count++
		return m.count
	}
	if _, ok := m.distinct[thing]; !ok && m.count <= manyTargets {
		if m.distinct == nil {
			m.distinct = map[netip.Addr]struct{}{}
		}
		m.distinct[thing] = struct{}{}
		m.count++
	}
	return m.count
}

// ruleRun lets a rule alarm about a host at most once an hour.
type ruleRun struct {
	rule
	silent map[netip.Addr]int64
	alarms []alarm
}

func (u *ruleRun) observe(r *flow.Record) {
	h, ok := u.alarm(r)
	if !ok || !h.IsValid() {
		return
	}
	if until, had := u.silent[h]; had && r.Time < until {
		return
	}
	u.silent[h] = r.Time + hour
	u.alarms = append(u.alarms, alarm{time: r.Time, host: Host{Addr: h}, kind: detector.Kind(u.name), severity: detector.SeverityMedium})
}

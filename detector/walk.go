package detector

import (
	"math"

	"github.com/platelet-sdn/platelet/flowcollector/flow"
)

// fail moves a host's walk up, if the failure is news.
func (w *scanWatch) fail(c *contact, h *host, k contactKey, how outcome) {
	now := w.e.clock.now
	late := c.state == silent // the silence was counted, now its reason is known
	w.unfocus(c, h)
	c.state = how
	w.count(how)
	if late {
		return
	}
	s := w.suspect(k.src)
	t := target{k.dst, k.service}
	if s == nil || s.has(t) && (how != odd || k.port() != 0) {
		return // a retry of what already failed, its contact long evicted
	}
	weight := w.up
	if how == silent && k.proto() != flow.ProtoTCP {
		weight *= w.e.cfg.Scan.SilentUDP
	}
	s.fail(t, how, now, &w.e.keys)
	s.tried(now, 1)
	h.fade(now, w.e.cfg.Scan.CreditHalfLife)
	// Beyond twice the threshold there is nothing left to say, only more
	// for later successes to take back.
	h.walk = min(h.walk+weight, 2*w.threshold)
	h.failures = uint16(min(int(h.failures)+1, math.MaxUint16))
	c.counted, c.weight = true, float32(weight)
	kind, narrow := w.narrow.failed(h, k, how, weight/w.up)
	decided := w.decide(h, s, k)
	if h.firing == 0 {
		w.crowd.failed(k)
	}
	if decided || !narrow {
		return
	}
	// Found half of what it looked for: a test with a bound as well, but of
	// what some honest programs do, such as peers of a network that is dying.
	w.raise(h, s, k, kind, StateFiring, w.narrow.threshold, kind == KindPortScan)
}

func (w *scanWatch) count(how outcome) {
	switch how {
	case refused:
		w.e.stats.Refused++
	case unreachable:
		w.e.stats.Unreachable++
	case silent:
		w.e.stats.Silent++
	}
}

func (w *scanWatch) suspect(src address) *suspect {
	now := w.e.clock.now
	_, s, fresh := w.suspects.Put(src, rank(0, now))
	if fresh {
		s.first = now
	}
	return s
}

func (s *suspect) fail(t target, how outcome, now int64, keys *keys) {
	s.note(t, keys)
	s.last = now
	s.failures++
	s.records++
	switch how {
	case refused:
		s.refused++
		s.records++
	case unreachable:
		s.unreachable++
		s.records++
	case silent:
		s.silent++
	case odd:
		s.odd++
	}
}

// early decides on contacts that are unanswered at once.
func (w *scanWatch) early(h *host, k contactKey) {
	s := w.suspect(k.src)
	if s == nil {
		return
	}
	if h.firing == 0 {
		s.early = uint32(h.unanswered)
		s.last = w.e.clock.now
		s.records += int64(h.unanswered)
	}
	s.note(target{k.dst, k.service}, &w.e.keys)
	w.raise(h, s, k, KindPortScan, StateFiring, w.threshold, true)
}

// decide compares the walk with the threshold. It reports whether there is a
// finding.
func (w *scanWatch) decide(h *host, s *suspect, k contactKey) bool {
	if s.failures < 2 {
		return false
	}
	kind, concentrated := s.shape()
	walk := max(h.walk, min(float64(s.odd)*w.up, 2*w.threshold))
	switch {
	case concentrated && (walk >= w.threshold || h.firing > 0):
		w.raise(h, s, k, kind, StateFiring, max(walk, w.threshold), walk >= w.threshold)
		return true
	case concentrated && w.e.cfg.EmitPending && walk >= w.threshold/2:
		w.raise(h, s, k, kind, StatePending, walk, true)
	}
	return false
}

// raise makes or refreshes the finding about a host. sure says that it may
// contain.
func (w *scanWatch) raise(h *host, s *suspect, k contactKey, kind Kind, state State, walk float64, sure bool) {
	key := findingKey{kind: kind, host: k.src}
	a, changed := w.e.ledger.raise(w, key, state, s.first, k.src)
	if a == nil {
		return
	}
	a.victim(k.dst)
	f := &a.finding
	f.Records = s.records
	f.Score = 1 / (1 + math.Exp(-walk)) // posterior at even prior odds
	f.Confidence = w.confidence(s)
	f.Rate = s.rate(w.e.clock.now)
	w.explain(a, h, s, kind)
	surer := sure && !f.Sequential
	if !changed && !surer {
		return
	}
	f.Sequential = f.Sequential || sure
	if f.Severity = SeverityHigh; !f.Sequential {
		f.Severity = SeverityMedium
	}
	if !changed {
		w.e.ledger.emit(a)
		return
	}
	for i := range s.filled {
		a.victim(s.recent[i].dst)
	}
	f.Host, f.HostMAC = k.src.netip(), h.mac
	f.Exporter, f.InPort = w.e.exporters.at(h.exporter), h.inPort
	f.Proto = k.proto()
	if _, ports := s.distinct(); kind == KindHostSweep && ports == 1 {
		f.DstPort = k.port()
	}
	f.Technique = "T1046" // Network Service Discovery
	if f.Proto == flow.ProtoICMP || f.Proto == flow.ProtoICMPv6 {
		f.Technique = "T1018" // Remote System Discovery
	}
	if state == StateFiring {
		h.firing++
	}
	w.e.ledger.emit(a)
	if kind == KindHostSweep && state == StateFiring && f.Sequential {
		w.e.worm.swept(k.src, false)
	}
}

// confidence is the detection probability that the test aims at, less where
// silence, which a dead server also gives, is most of the evidence.
func (w *scanWatch) confidence(s *suspect) float64 {
	silence := float64(s.silent+s.early) / float64(max(s.failures+s.early, 1))
	return w.e.cfg.Scan.Beta * (1 - 0.1*silence)
}

// explain splits the likelihood ratio by how the contacts failed.
func (w *scanWatch) explain(a *active, h *host, s *suspect, kind Kind) {
	n := float64(s.failures + s.early)
	base := (1 - w.e.cfg.Scan.Theta0) * (n + float64(h.successes))
	a.explain(
		Evidence{"failed_first_contacts", n, base, float64(s.refused+s.unreachable) / n},
		Evidence{"silent_first_contacts", float64(s.silent + s.early), base, float64(s.silent+s.early) / n},
	)
	if s.odd > 0 {
		a.explain(Evidence{"malformed_segments", float64(s.odd), 0, float64(s.odd) / n})
	}
	// One failure less for each step that the walk is above its threshold.
	a.bound("failed_first_contacts", max(n-1-math.Floor(max(h.walk-w.threshold, 0)/w.up), 0))
	hosts, ports := finite(s.hosts.estimate()), finite(s.ports.estimate())
	if kind == KindPortScan {
		a.explain(Evidence{"distinct_ports", max(ports, float64(s.early)), 1, 0})
	} else {
		a.explain(Evidence{"distinct_hosts", hosts, 1, 0})
	}
}

func finite(x float64) float64 { return math.Round(min(x, 1000)) }

// resolved ends the episode of a host: what it tried is forgotten, so that the
// same scan counts as new contacts when it comes back.
func (w *scanWatch) resolved(key findingKey) {
	_, h := w.e.hosts.Find(key.host)
	if h == nil || h.firing == 0 {
		return
	}
	if h.firing--; h.firing > 0 {
		return
	}
	h.walk, h.failures = 0, 0
	h.unanswered, h.focus = 0, address{}
	h.epoch++
	if i, s := w.suspects.Find(key.host); s != nil {
		w.suspects.Delete(i)
	}
}

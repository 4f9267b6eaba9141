package detector

import (
	"math"
	"slices"
	"time"

	"github.com/platelet-sdn/platelet/detector/bounded"
	"github.com/platelet-sdn/platelet/flowcollector/flow"
)

const (
	// arpOutstanding is how many requests of a station are followed at once.
	arpOutstanding = 64
	// arpCredit bounds the benefit of past answers, in requests.
	arpCredit = 128
	// habitWindow is how long unanswered requests are counted for a habit,
	// habitDecay what is left of one after a window without it: a half-life
	// of an hour, since a monitor's round may be minutes long.
	habitWindow = int64(10 * time.Second)
	habitDecay  = 0.998
	// habitMargin is how much more than its habit a station may do.
	habitMargin = 1.5
	// Packets from sources that nobody had heard of before, not longer ago
	// than novelty, excuse as many questions of who received them, up to
	// provokedMost; half of the excuses are left after provokedHalf.
	novelty      = int64(10 * time.Second)
	provokedMost = 128
	provokedHalf = float64(time.Second)
)

// arpWatch finds stations that ask for absent neighbours, by ARP (RFC 826) or
// neighbour solicitation (RFC 4861). It counts requests minus replies, because
// the connection tap shows no addresses of ARP.
type arpWatch struct {
	e        *Engine
	stations *bounded.Table[flow.MAC, station]
	queue    deadlines // of slots of stations
}

// station is what is remembered of one Ethernet address.
type station struct {
	seen     int64
	asked    [arpOutstanding]request
	waiting  int
	failures float64 // net of answers; negative is credit
	leaked   int64   // when failures last leaked
	first    int64   // of the failures
	provoked float64 // questions that others gave it cause for
	at       int64   // when provoked last faded
	missed   float64 // unanswered requests in the current window
	window   int64   // its start
	habit    float64 // unanswered requests per window that are normal
	records  int64

	addr      address // the only IP address seen behind it
	ambiguous bool    // there were several: a router
	inPort    uint32
	exporter  uint16
	talker    address // the latest that contacted anybody new from behind it
	firing    bool
	dead      [recentFailures]address // targets that failed lately, if known
	nextDead  int
}

type request struct {
	at     int64
	target address // zero where the exporter does not show it
}

func newARPWatch(e *Engine) *arpWatch {
	w := &arpWatch{e: e, queue: newDeadlines(e.cfg.Limit.Pending)}
	w.stations = bounded.New[flow.MAC](e.cfg.Limit.MACs, func(s *station) int64 {
		switch {
		case s.firing:
			return rank(3, s.seen)
		case s.failures >= 2 || s.habit >= 1:
			return rank(2, s.seen)
		case s.addr != (address{}) && !s.ambiguous:
			return rank(1, s.seen)
		}
		return rank(0, s.seen)
	})
	return w
}

// learn notes that an address was seen behind a station.
func (w *arpWatch) learn(mac flow.MAC, addr address) {
	if s := w.station(mac); s != nil {
		s.ambiguous = s.ambiguous || s.addr != (address{}) && s.addr != addr
		s.addr = addr
	}
}

// talks notes that an address behind a station contacts somebody new; nil where
// the station is not known, for it asked for no address.
func (w *arpWatch) talks(mac flow.MAC, addr address) *station {
	_, s := w.stations.Find(mac)
	if s != nil {
		s.talker = addr
	}
	return s
}

func (w *arpWatch) station(mac flow.MAC) *station {
	if mac == (flow.MAC{}) || group(mac) {
		return nil
	}
	now := w.e.clock.now
	_, s, fresh := w.stations.Put(mac, rank(0, now))
	if s == nil {
		return nil
	}
	if fresh {
		s.leaked, s.window = now, now
	}
	s.seen = now
	return s
}

// provoke notes a packet from a source that may be forged: to answer it, the
// station must ask for a neighbour who may not exist. A scan among decoys on
// the victim's own subnet would otherwise make the victim look like one who
// sweeps. Packets that come from the station's own port are no excuse.
func (w *arpWatch) provoke(r *flow.Record) {
	_, s := w.stations.Find(r.DstMAC)
	if s == nil || r.InPort == s.inPort {
		return
	}
	s.calmDown(w.e.clock.now)
	s.provoked = min(s.provoked+max(r.Rate, 1), provokedMost)
}

// calmDown lets excuses fade.
func (s *station) calmDown(now int64) {
	if s.provoked > 0 && now > s.at {
		s.provoked *= math.Exp2(-float64(now-s.at) / provokedHalf)
	}
	s.at = now
}

// excused uses up an excuse for a question that was not answered.
func (s *station) excused(now int64) bool {
	s.calmDown(now)
	if s.provoked < 1 {
		return false
	}
	s.provoked--
	return true
}

// request handles a question for an address.
func (w *arpWatch) request(r *flow.Record) {
	if w.e.link(r.InPort) {
		return
	}
	if r.Rate > 1 {
		w.e.stats.Abstained++
		return
	}
	target := address{}
	if r.Src.IsValid() && r.Dst.IsValid() {
		sender := addressOf(r.Src)
		target = addressOf(r.Dst)
		if !sender.unicast() || sender == target {
			return // probing or announcing one's own address (RFC 5227)
		}
		w.learn(r.SrcMAC, sender)
	}
	s := w.station(r.SrcMAC)
	if s == nil || s.waitsFor(target) {
		return
	}
	now := w.e.clock.now
	s.inPort, s.exporter = r.InPort, w.e.exporters.number(r.Exporter)
	s.records++
	slot, _ := w.stations.Find(r.SrcMAC)
	if s.waiting == arpOutstanding || !w.queue.push(deadline{since: now, slot: slot}) {
		w.e.stats.Shed++
		return
	}
	s.asked[s.waiting] = request{at: now, target: target}
	s.waiting++
	w.e.due = min(w.e.due, now+int64(w.e.cfg.ARP.Timeout))
}

// waitsFor reports whether asking for a target is no news: it was asked for
// just now, or failed lately.
func (s *station) waitsFor(target address) bool {
	if target == (address{}) {
		return false
	}
	return slices.Contains(s.dead[:], target) ||
		slices.ContainsFunc(s.asked[:s.waiting], func(q request) bool { return q.target == target })
}

// reply handles an answer.
func (w *arpWatch) reply(r *flow.Record) {
	_, s := w.stations.Find(r.DstMAC)
	if s == nil || s.waiting == 0 {
		return
	}
	s.records++
	i := 0
	if r.Src.IsValid() {
		answered := addressOf(r.Src)
		i = slices.IndexFunc(s.asked[:s.waiting], func(q request) bool {
			return q.target == answered || q.target == (address{})
		})
		if i < 0 {
			return
		}
	}
	s.forget(i)
	s.leak(w.e.clock.now, w.e.cfg.ARP.Leak)
	s.failures = max(s.failures-1, -arpCredit)
}

func (s *station) forget(i int) {
	copy(s.asked[i:s.waiting], s.asked[i+1:s.waiting])
	s.waiting--
}

// leak moves the count towards zero from either side.
func (s *station) leak(now int64, perSecond float64) {
	d := perSecond * float64(now-s.leaked) / 1e9
	s.leaked = now
	if s.failures > 0 {
		s.failures = max(s.failures-d, 0)
	} else {
		s.failures = min(s.failures+d, 0)
	}
}

// expire handles the requests that were not answered in time, and returns the
// next deadline.
func (w *arpWatch) expire(now int64) int64 {
	timeout := int64(w.e.cfg.ARP.Timeout)
	for {
		d, ok := w.queue.pop(now, timeout)
		if !ok {
			break
		}
		s := w.stations.At(d.slot)
		if mac, ok := w.stations.Key(d.slot); ok && s.waiting > 0 && s.asked[0].at <= d.since {
			w.miss(s, mac, now)
		}
	}
	return w.queue.due(timeout, timeout, math.MaxInt64)
}

// miss counts the oldest request of a station as unanswered.
func (w *arpWatch) miss(s *station, mac flow.MAC, now int64) {
	c := &w.e.cfg.ARP
	target := s.asked[0].target
	s.forget(0)
	if s.excused(now) {
		return
	}
	s.leak(now, c.Leak)
	if s.failures <= 0 {
		s.first = now - int64(c.Timeout)
	}
	s.failures++
	s.roll(now, c.MaxHabit)
	s.missed++
	if target != (address{}) {
		s.dead[s.nextDead] = target
		s.nextDead = (s.nextDead + 1) % len(s.dead)
	}
	limit := c.Failures + habitMargin*s.habit
	switch {
	case s.failures >= limit:
		w.raise(s, mac, target, StateFiring, limit)
	case w.e.cfg.EmitPending && s.failures >= limit/2:
		w.raise(s, mac, target, StatePending, limit)
	}
}

// roll closes windows and learns what a station does anyway. What it did while
// it was found sweeping is not learned.
func (s *station) roll(now int64, most float64) {
	n := (now - s.window) / habitWindow
	if n <= 0 {
		return
	}
	s.habit *= math.Pow(habitDecay, float64(n))
	if !s.firing {
		s.habit = max(s.habit, min(s.missed, most))
	}
	s.missed, s.window = 0, now
}

func (w *arpWatch) raise(s *station, mac flow.MAC, target address, state State, limit float64) {
	who := s.addr
	if s.ambiguous {
		who = address{}
	}
	key := findingKey{kind: KindARPSweep, mac: mac, inPort: s.inPort, exporter: s.exporter}
	a, changed := w.e.ledger.raise(w, key, state, s.first, who)
	if a == nil {
		return
	}
	if target != (address{}) {
		a.victim(target)
	}
	f := &a.finding
	f.Records = s.records
	f.Score = 1 - math.Exp(-3.5*s.failures/limit)
	f.Confidence = 0.95 // requests and replies are counted, not matched
	if target != (address{}) {
		f.Confidence = 0.99
	}
	a.explain(Evidence{"unanswered_address_requests", s.failures, s.habit, 1})
	a.bound("unanswered_address_requests", math.Ceil(limit)-1)
	if !changed {
		return
	}
	f.Host, f.HostMAC = who.netip(), mac
	f.Exporter, f.InPort = w.e.exporters.at(s.exporter), s.inPort
	f.Severity, f.Technique = SeverityMedium, "T1018" // Remote System Discovery
	f.Sequential = true
	s.firing = s.firing || state == StateFiring
	w.e.ledger.emit(a)
	if s.firing {
		w.e.worm.swept(s.talker, true)
	}
}

func (w *arpWatch) resolved(k findingKey) {
	if _, s := w.stations.Find(k.mac); s != nil {
		s.firing, s.failures, s.missed = false, 0, 0
		s.dead = [recentFailures]address{}
	}
}

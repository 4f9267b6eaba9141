package detector

import (
	"math"

	"github.com/platelet-sdn/platelet/detector/bounded"
	"github.com/platelet-sdn/platelet/flowcollector/flow"
)

const (
	// orphanMost is how many records of one connection that nobody answers
	// are counted. A flood invents connections, an asymmetric path shows one
	// direction of a few that last.
	orphanMost = 3
	// opening is how many segments of unknown connections a sampled SYN
	// excuses: where the SYNs of most connections are not sampled, those of
	// some still are, and a flood of segments has none.
	opening = 32
	// afterReset is how long a sender may go on after a reset: what is on the
	// way, and a few retransmissions.
	afterReset = int64(1e9)
	// answerWithin is how long what comes at once, as when clocks strike in a
	// thousand sensors, may wait for its answers.
	answerWithin = int64(20e6)
)

// sessionKey is a TCP connection, its ends in order.
type sessionKey struct {
	a, b  address
	ports uint32
}

// session is what is known of a TCP connection.
type session struct {
	last  int64
	reset int64 // when one side that had said nothing else refused it; 0 never
	// counted is how many packets went into the test, to be taken back when
	// the connection proves to be one.
	counted float32
	records uint8
	sides   uint8 // that sent something other than a reset: 1 is a, 2 is b
	known   bool  // seen to open, or both sides sent
}

// sessions remembers TCP connections, so that segments that belong to none can
// be told.
type sessions struct {
	table *bounded.Table[sessionKey, session]
}

func newSessions(capacity int) sessions {
	return sessions{bounded.New[sessionKey](capacity, func(s *session) int64 {
		if s.known {
			return rank(1, s.last)
		}
		return rank(0, s.last)
	})}
}

// sessionKeyOf orders the ends of a connection and tells which one sent.
func sessionKeyOf(r *flow.Record, src, dst address) (k sessionKey, side uint8) {
	if src.hi < dst.hi || src.hi == dst.hi && (src.lo < dst.lo || src.lo == dst.lo && r.SrcPort <= r.DstPort) {
		return sessionKey{src, dst, uint32(r.SrcPort)<<16 | uint32(r.DstPort)}, 1
	}
	return sessionKey{dst, src, uint32(r.DstPort)<<16 | uint32(r.SrcPort)}, 2
}

func (s sessions) put(k sessionKey, now int64) *session {
	_, x, _ := s.table.Put(k, rank(0, now))
	return x
}

// opened notes a connection that was seen to open: whatever it sends has its
// place. Where SYNs are sampled it also speaks for those that were not seen.
func (w *floodWatch) opened(r *flow.Record, src, dst address) {
	if r.Proto != flow.ProtoTCP {
		return
	}
	k, side := sessionKeyOf(r, src, dst)
	if x := w.sessions.put(k, w.e.clock.now); x != nil {
		x.last, x.known = w.e.clock.now, true
		if r.Signal == flow.SignalAccept {
			x.sides |= side
		}
	}
	if r.Rate <= 1 || r.Signal != flow.SignalAttempt {
		return
	}
	if _, x := w.cells.Find(w.key(dst, r.InPort, r, classACK)); x != nil {
		w.excuse(x, classACK, opening*r.Rate)
	}
}

// reset notes that src refuses a connection. Of one that it took part in that
// is an end, of another it says that there is none.
func (w *floodWatch) reset(r *flow.Record, src, dst address) {
	if r.Proto != flow.ProtoTCP {
		return
	}
	k, side := sessionKeyOf(r, src, dst)
	_, x := w.sessions.table.Find(k)
	if x != nil && x.reset == 0 && x.sides&side == 0 {
		x.reset = w.e.clock.now
	}
	_, h := w.e.hosts.Find(src)
	if h == nil {
		return
	}
	h.seen = w.e.clock.now // it speaks, if only to refuse
	// What a SYN flood from a real address is accepted for, its own kernel
	// resets, having asked for nothing.
	if x != nil && x.known && x.sides == 3&^side && h.aborts < math.MaxUint8 {
		h.aborts++
	}
}

// segment feeds the ACK flood test with a TCP segment that neither opens nor
// resets, which belongs to a connection that was seen to open or whose other
// side sends as well. Others are orphans: many of them that nobody answers are
// a flood. Resets are what a flood is answered with, so they count for nothing.
func (w *floodWatch) segment(r *flow.Record, src, dst address) level {
	if w.e.link(r.InPort) || !dst.unicast() || group(r.DstMAC) {
		return calm
	}
	now := w.e.clock.now
	k, side := sessionKeyOf(r, src, dst)
	s := w.sessions.put(k, now)
	if s == nil {
		return calm
	}
	news := s.sides&side == 0
	s.last, s.sides = now, s.sides|side
	if s.known && (s.reset == 0 || now-s.reset < afterReset) {
		return calm
	}
	if news {
		w.joined(r, src, dst, s)
	}
	if s.sides == 3 && s.reset == 0 {
		s.known = true
		return calm
	}
	if s.records >= orphanMost && !s.refused(now) {
		return calm
	}
	s.records = min(s.records+1, orphanMost)
	// Until the connections of before the start are known, nothing is an
	// orphan.
	if now-w.e.clock.start < int64(w.e.cfg.WarmUp) {
		return calm
	}
	return w.orphan(r, src, dst, s)
}

// refused reports whether a connection goes on though it was refused.
func (s *session) refused(now int64) bool { return s.reset != 0 && now-s.reset >= afterReset }

// joined credits a side's first segment in a connection to the cell of what
// comes to it: in honest traffic a connection is as often seen from the one
// side first as from the other.
func (w *floodWatch) joined(r *flow.Record, src, dst address, s *session) {
	if r.Rate > 1 {
		w.vouch(r, dst)
	}
	x := w.asking(r, src, dst, classACK)
	if x == nil {
		return
	}
	if s.counted > 0 {
		x.answers++
	}
	w.excuse(x, classACK, max(float64(s.counted), max(r.Rate, 1))*w.e.cfg.ACK.Credit)
	s.counted = 0
}

// vouch lets a sampled segment excuse an attempt of an unknown source: where few
// connections are sampled twice, that those who attempt also send the rest is
// seen from their sum alone.
func (w *floodWatch) vouch(r *flow.Record, dst address) {
	_, x := w.cells.Find(w.key(dst, r.InPort, r, classSYN))
	if x == nil {
		return
	}
	w.pass(x, classSYN, w.e.clock.now)
	x.tests[testUnknown].lower(r.Rate)
	x.tests[testUnknown].bin -= r.Rate
}

// orphan counts a segment of a connection that may not exist.
func (w *floodWatch) orphan(r *flow.Record, src, dst address, s *session) level {
	x := w.cell(w.key(dst, r.InPort, r, classACK), classACK)
	if x == nil {
		return calm
	}
	packets := max(r.Rate, 1) * float64(min(max(r.Packets, 1), orphanMost))
	if s.refused(w.e.clock.now) {
		packets = w.weigh(r, &x.tests[0], &w.e.cfg.ACK)
	}
	s.counted += float32(packets)
	x.count += packets
	lvl := w.add(x, 0, &w.e.cfg.ACK, packets, r, src)
	if !x.fires && w.e.clock.now-x.tests[0].began < answerWithin {
		lvl = min(lvl, suspicious)
	}
	w.report(x, lvl, r, dst, classACK)
	return lvl
}

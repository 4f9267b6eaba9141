package detector

import (
	"math"

	"github.com/platelet-sdn/platelet/detector/bounded"
	"github.com/platelet-sdn/platelet/flowcollector/flow"
)

// scanWatch runs the threshold random walk over first contacts.
type scanWatch struct {
	e        *Engine
	contacts *bounded.Table[contactKey, contact]
	suspects *bounded.Table[address, suspect]
	narrow   narrowWalks
	crowd    crowdWatch
	packets  deadlines // contacts seen packet by packet
	flows    deadlines // contacts seen in aggregated flows

	up, down  float64 // steps of the walk, in log likelihood
	threshold float64
	floor     float64
	// thinned is when an answer was last seen that the tap samples thinly,
	// which makes silence worthless.
	thinned int64
}

func newScanWatch(e *Engine) *scanWatch {
	c := &e.cfg.Scan
	w := &scanWatch{
		e:         e,
		contacts:  bounded.New[contactKey](e.cfg.Limit.Contacts, func(c *contact) int64 { return c.worth(e.clock.now) }),
		suspects:  bounded.New[address](e.cfg.Limit.Suspects, func(s *suspect) int64 { return s.worth(e.clock.now) }),
		packets:   newDeadlines(e.cfg.Limit.Pending),
		flows:     newDeadlines(e.cfg.Limit.Pending),
		up:        math.Log((1 - c.Theta1) / (1 - c.Theta0)),
		down:      math.Log(c.Theta1 / c.Theta0),
		threshold: math.Log(c.Beta / c.Alpha),
		thinned:   math.MinInt64 / 2,
	}
	w.narrow = newNarrowWalks(e)
	w.crowd = newCrowdWatch(e)
	w.floor = c.MaxCredit * w.down
	return w
}

// open notes an attempt. Only the first one towards a service counts:
// retransmissions and later connections are no news.
func (w *scanWatch) open(r *flow.Record, i uint32, h *host, k contactKey) {
	queue := &w.packets
	if r.Source == flow.SourceIPFIX {
		queue = &w.flows
	}
	young := h.contacts == 0
	if young && queue.crowded() {
		w.e.stats.Shed++
		return
	}
	now := w.e.clock.now
	class := int64(1)
	if young {
		class = 0
	}
	slot, c, fresh := w.contacts.Put(k, rank(class, now))
	if c == nil || !fresh && c.epoch == h.epoch && c.host == i {
		return
	}
	*c = contact{at: now, host: i, epoch: h.epoch, young: young}
	w.e.stats.Contacts++
	h.contacts++
	h.recent[h.next%4] = slot + 1
	h.next++
	if r.Source == flow.SourceLog && r.Proto != flow.ProtoICMP && r.Proto != flow.ProtoICMPv6 {
		return // a log states its outcomes, except that of an echo request
	}
	if !queue.push(deadline{since: now, slot: slot}) {
		w.e.stats.Shed++
		c.state = unknown
		return
	}
	w.e.due = min(w.e.due, now+int64(w.e.cfg.Scan.AnswerMargin))
}

// find returns a contact and its host, if both are still held.
func (w *scanWatch) find(k contactKey) (*contact, *host) {
	_, c := w.contacts.Find(k)
	if c == nil {
		return nil, nil
	}
	return c, w.owner(c, k)
}

func (w *scanWatch) owner(c *contact, k contactKey) *host {
	src, ok := w.e.hosts.Key(c.host)
	if !ok || src != k.src {
		return nil
	}
	if h := w.e.hosts.At(c.host); h.epoch == c.epoch {
		return h
	}
	return nil
}

// accepted handles an answer that accepts, from src to dst.
func (w *scanWatch) accepted(r *flow.Record, src, dst address) {
	if r.Source == flow.SourceTap && r.Rate > 1 {
		w.thinned = w.e.clock.now
	}
	w.answered(contactKeyOf(dst, src, r.SrcPort, r.Proto))
}

// answered makes a contact a success; false if there is no such contact. An
// answer after the timeout takes the failure back.
func (w *scanWatch) answered(k contactKey) bool {
	c, h := w.find(k)
	if c == nil {
		return false
	}
	if h == nil || !c.open() {
		return true
	}
	now := w.e.clock.now
	if c.state == silent && c.counted {
		w.retract(c, h, k)
	}
	w.unfocus(c, h)
	c.state = succeeded
	h.answer(now - c.at)
	h.fade(now, w.e.cfg.Scan.CreditHalfLife)
	h.walk = max(h.walk+w.down, w.floor)
	h.successes++
	w.narrow.succeeded(h, k)
	w.e.stats.Successes++
	return true
}

// closed handles the source's own end of a connection: it must have had one,
// even if its answer was not observed. It earns no credit, since anyone can
// send a FIN, and a reset still counts.
func (w *scanWatch) closed(k contactKey) {
	if c, h := w.find(k); h != nil && c.state == unanswered {
		w.unfocus(c, h)
		c.state = unknown
	}
}

// retract takes back a failure that was only late.
func (w *scanWatch) retract(c *contact, h *host, k contactKey) {
	w.e.stats.Late++
	h.walk -= float64(c.weight)
	w.narrow.retract(h, k, float64(c.weight)/w.up)
	c.counted = false
	if h.failures > 0 {
		h.failures--
	}
	if _, s := w.suspects.Find(k.src); s != nil && s.failures > 0 {
		s.failures--
		if s.silent > 0 {
			s.silent--
		}
		s.drop(target{k.dst, k.service})
	}
}

// refused handles a TCP reset. Only one that answers a pending contact is a
// failure: closing a busy connection alone can cause hundreds of others.
func (w *scanWatch) refused(r *flow.Record, src, dst address) {
	if r.Source == flow.SourceTap && r.Rate > 1 {
		w.thinned = w.e.clock.now
	}
	k := contactKeyOf(dst, src, r.SrcPort, r.Proto)
	c, h := w.find(k)
	if h != nil && (c.open() || c.state == stray && w.single(k)) {
		w.fail(c, h, k, refused)
	}
}

// unreachable handles an ICMP error, which names the packet it answers or,
// from a tap, only the host that sent it.
func (w *scanWatch) unreachable(r *flow.Record, src, dst address) {
	if t := r.Inner; t.Valid() {
		k := contactKeyOf(addressOf(t.Src), addressOf(t.Dst), t.DstPort, t.Proto)
		if c, h := w.find(k); h != nil && c.state == unanswered {
			w.fail(c, h, k, unreachable)
		}
		if t.Proto == flow.ProtoUDP {
			w.e.datagrams.unreachable(r, k.dst, k.src)
		}
		return
	}
	_, h := w.e.hosts.Find(dst)
	if h == nil {
		w.e.datagrams.unreachable(r, src, dst)
		return
	}
	// Of the latest contacts take the oldest that waits for the very host
	// that complains; a router's complaint fits any, so it proves nothing
	// that silence will not.
	for n := range uint8(len(h.recent)) {
		slot := h.recent[(h.next+n)%4]
		if slot == 0 {
			continue
		}
		k, ok := w.contacts.Key(slot - 1)
		c := w.contacts.At(slot - 1)
		if ok && k.src == dst && k.dst == src && c.state == unanswered && c.epoch == h.epoch {
			w.fail(c, h, k, unreachable)
			return
		}
	}
	w.e.datagrams.unreachable(r, src, dst)
}

// unanswered handles a log's statement that nobody answered; false if there is
// no such contact.
func (w *scanWatch) unanswered(k contactKey) bool {
	c, h := w.find(k)
	if h != nil && c.state == unanswered {
		w.fail(c, h, k, silent)
	}
	return c != nil
}

// expire handles the deadlines that passed and returns the next.
func (w *scanWatch) expire(now int64) int64 {
	c := &w.e.cfg.Scan
	margin, reply, flows := int64(c.AnswerMargin), int64(c.ReplyTimeout), int64(c.FlowTimeout)
	for {
		d, ok := w.packets.age(now, margin)
		if !ok {
			break
		}
		w.age(d)
	}
	w.timeouts(&w.packets, now, reply)
	w.timeouts(&w.flows, now, flows)
	w.flows.aged = w.flows.tail // only packets are timed that finely
	const never = math.MaxInt64
	return min(w.packets.due(reply, margin, never), w.flows.due(flows, flows, never))
}

func (w *scanWatch) timeouts(q *deadlines, now, timeout int64) {
	for {
		d, ok := q.pop(now, timeout)
		if !ok {
			return
		}
		c, h, k := w.waiting(d)
		if h == nil {
			continue
		}
		if now-w.thinned < 2*timeout {
			w.unfocus(c, h)
			c.state = unknown
			w.e.stats.Abstained++
			continue
		}
		w.fail(c, h, k, silent)
	}
}

// waiting returns the contact behind a deadline if it still waits.
func (w *scanWatch) waiting(d deadline) (*contact, *host, contactKey) {
	k, ok := w.contacts.Key(d.slot)
	c := w.contacts.At(d.slot)
	if !ok || c.state != unanswered || c.at != d.since {
		return nil, nil, k
	}
	return c, w.owner(c, k), k
}

// age counts a contact that waits for longer than answers take. Many ports of
// one target at once is nothing that a client does, so there it decides
// without waiting for the timeout. One port of many targets is what a crawler
// does, far from its targets: those wait.
func (w *scanWatch) age(d deadline) {
	c, h, k := w.waiting(d)
	if h == nil {
		return
	}
	now := w.e.clock.now
	if h.focus != k.dst && h.unanswered > 0 && now-h.focusSince < int64(2*w.e.cfg.Scan.ReplyTimeout) {
		return
	}
	if h.focus != k.dst || h.unanswered == 0 {
		h.focus, h.focusSince, h.unanswered = k.dst, c.at, 0
	}
	c.aged = true
	h.unanswered++
	if int(h.unanswered) < w.e.cfg.Scan.MaxUnanswered {
		return
	}
	if now-h.focusSince < 4*1000*int64(h.answerTime) || now-w.thinned < int64(2*w.e.cfg.Scan.ReplyTimeout) {
		return
	}
	if h.fade(now, w.e.cfg.Scan.CreditHalfLife); h.walk+float64(h.unanswered)*w.up >= w.threshold {
		w.early(h, k)
	}
}

func (w *scanWatch) unfocus(c *contact, h *host) {
	if c.aged && h.unanswered > 0 {
		h.unanswered--
	}
	c.aged = false
}

package detector

import (
	"math"
	"time"

	"github.com/platelet-sdn/platelet/flowcollector/flow"
)

// hostIdle is how long a silent host keeps its precedence over newcomers when
// a table is full.
const hostIdle = int64(time.Hour)

// host is what is remembered of one source address.
type host struct {
	seen, born int64
	// walk is the log likelihood ratio of "scans" against "does not".
	// Negative values are credit; they fade, see fade.
	walk   float64
	walked int64

	contacts, successes uint32
	inPort              uint32 // where it was last seen
	home                uint32 // where it last proved to be real
	homeMAC             flow.MAC
	homeSeen            int64 // when a record last came from there
	exporter            uint16
	// unproven counts its SYNs in the flood test for unknown sources, to be
	// taken back when it turns out to be real.
	unproven uint16
	failures uint16 // of the current episode, saturating
	epoch    uint8  // contacts of earlier epochs are forgotten
	proven   bool   // completed a conversation, so its address is not invented
	firing   uint8  // findings that name it as scanner
	mac      flow.MAC

	answerTime uint32 // smoothed, microseconds
	// focus is the target with the most unanswered contacts, by majority
	// vote (Boyer and Moore); unanswered how many those are, since when.
	focus      address
	focusSince int64
	unanswered uint16
	recent     [4]uint32 // slots of its latest contacts, plus 1
	next       uint8
	// aborts counts connections that it reset as soon as they were accepted,
	// since it last sent anything else in one.
	aborts uint8
}

// worth orders hosts for eviction: those with evidence, those that are real,
// the rest; within a class the longest unseen go first.
func (h *host) worth(now int64) int64 {
	class := int64(0)
	switch {
	case h.firing > 0:
		class = 3
	case now-h.seen > hostIdle:
	case h.failures >= 2:
		class = 2
	case h.proven || h.successes > 0:
		class = 1
	}
	return rank(class, h.seen)
}

// rank joins a class and a time into one order.
func rank(class, t int64) int64 { return class<<60 | t>>2&(1<<60-1) }

// homeKept is how long a host that proved to be real keeps its place against
// another station at another port that says it is the same. A host that was
// moved keeps its Ethernet address; one that was replaced has been silent.
const homeKept = int64(10 * time.Minute)

// prove notes that the host really is behind its address, and where.
func (e *Engine) prove(h *host, r *flow.Record) {
	h.proven = true
	if r.InPort == 0 || e.astray(h, r) {
		return
	}
	h.home, h.homeSeen = r.InPort, e.clock.now
	if r.SrcMAC != (flow.MAC{}) {
		h.homeMAC = r.SrcMAC
	}
}

// astray reports whether a record carries the address of a host that is known
// to be elsewhere: neither its port nor its station. Somebody borrows the
// address, as decoys of a scanner do, and nothing that comes of it is the
// host's doing.
func (e *Engine) astray(h *host, r *flow.Record) bool {
	return h.home != 0 && r.InPort != h.home && e.edge(r.InPort) != 0 && e.edge(h.home) != 0 &&
		h.homeMAC != (flow.MAC{}) && r.SrcMAC != (flow.MAC{}) && r.SrcMAC != h.homeMAC &&
		e.clock.now-h.homeSeen < homeKept
}

// fade halves credit once per half-life.
func (h *host) fade(now int64, halfLife time.Duration) {
	if h.walk < 0 && now > h.walked {
		h.walk *= math.Exp2(-float64(now-h.walked) / float64(halfLife))
	}
	h.walked = now
}

// answer smooths the time that answers take (gain 1/8, as in RFC 6298).
func (h *host) answer(d int64) {
	us := min(max(d/1000, 1), math.MaxInt32)
	if h.answerTime != 0 {
		old := int64(h.answerTime)
		us = old + (us-old)/8
	}
	h.answerTime = uint32(us)
}

// viewed is how long ago a host must have been seen to send for its answers and
// questions to be in view.
const viewed = int64(time.Minute)

// inView reports whether what a host sends would be seen.
func (e *Engine) inView(a address) bool {
	_, h := e.hosts.Find(a)
	return h != nil && e.clock.now-h.seen < viewed
}

// source finds or makes the host that sent a record; nil when there is no
// room for it or it cannot be one host.
func (e *Engine) source(r *flow.Record, src address) (uint32, *host) {
	if !src.unicast() {
		return 0, nil
	}
	now := e.clock.now
	i, h, fresh := e.hosts.Put(src, rank(0, now))
	if h == nil {
		return 0, nil
	}
	if fresh {
		h.born, h.walked = now, now
	}
	if h.home != 0 && e.astray(h, r) {
		return i, h
	}
	h.seen = now
	if r.InPort == h.home {
		h.homeSeen = now
	}
	if r.InPort != h.inPort && e.edge(r.InPort) != 0 {
		h.inPort = r.InPort
	}
	h.exporter = e.exporters.number(r.Exporter)
	if r.SrcMAC != h.mac && r.SrcMAC != (flow.MAC{}) && !e.link(r.InPort) {
		h.mac = r.SrcMAC
		e.arp.learn(h.mac, src)
	}
	return i, h
}

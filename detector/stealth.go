package detector

import (
	"slices"

	"github.com/platelet-sdn/platelet/flowcollector/flow"
)

// Scans that do without SYN, as nmap names them: FIN, NULL and Xmas send
// segments that no state of a connection allows, to which RFC 9293 (section
// 3.10.7.1) has closed ports answer with a reset and open ones be silent. Maimon
// (Phrack 49, 15) ends connections that never were.

// probed handles a segment that no honest stack sends. It is a failure by
// itself: no answer is waited for, and no earlier success excuses it. One
// within a conversation that is known is a broken stack's or somebody's way
// around a filter, not a scan.
func (w *scanWatch) probed(r *flow.Record, src, dst address) {
	if !src.unicast() || !dst.unicast() || src == dst || group(r.DstMAC) {
		return
	}
	k := contactKeyOf(src, dst, r.DstPort, r.Proto)
	// The switch does not show the ports of a fragment that is cut before its
	// control bits; there is nothing to tell the second of these from a retry,
	// but nothing honest sends even one.
	cut := r.SrcPort == 0 && r.DstPort == 0
	if c, h := w.find(k); h != nil && !cut && c.state != unanswered {
		return
	}
	i, h := w.e.source(r, src)
	if h == nil {
		return
	}
	if c := w.begin(i, h, k, odd); c != nil {
		w.e.stats.Odd++
		w.fail(c, h, k, odd)
	}
}

// single reports whether all that failed lately was on one target: a server
// that forgot its clients refuses the end of their connections as a closed port
// refuses a probe, and many servers may, but not many ports of one.
func (w *scanWatch) single(k contactKey) bool {
	_, s := w.suspects.Find(k.src)
	return s == nil || !slices.ContainsFunc(s.recent[:s.filled], func(t target) bool { return t.dst != k.dst })
}

// begin puts a contact that waits for no answer in the table; nil when there
// is no room for it.
func (w *scanWatch) begin(i uint32, h *host, k contactKey, state outcome) *contact {
	now := w.e.clock.now
	young := h.contacts == 0
	class := int64(1)
	if young {
		class = 0
	}
	_, c, _ := w.contacts.Put(k, rank(class, now))
	if c == nil {
		return nil
	}
	*c = contact{at: now, host: i, epoch: h.epoch, young: young, state: state}
	w.e.stats.Contacts++
	h.contacts++
	return c
}

// finished handles the end of a connection. Where its beginning was not seen it
// may be a probe, which only a reset from the port tells: see refused. What goes
// to a higher port than it comes from is a server's end of a conversation.
func (w *scanWatch) finished(r *flow.Record, src, dst address) {
	k := contactKeyOf(src, dst, r.DstPort, r.Proto)
	if _, c := w.contacts.Find(k); c != nil {
		w.closed(k)
		return
	}
	w.strayed(r, k)
}

// acknowledged handles a bare ACK in a capture of all packets, such as those of an
// ACK or window scan; in between, the other side's data shows that there is a
// conversation.
func (w *scanWatch) acknowledged(r *flow.Record, src, dst address) {
	if r.Source != flow.SourcePacket || r.Rate > 1 {
		return
	}
	if _, c := w.contacts.Find(contactKeyOf(dst, src, r.SrcPort, r.Proto)); c != nil {
		if c.state == stray {
			c.state = succeeded // without credit: who began is not known
		}
		return
	}
	k := contactKeyOf(src, dst, r.DstPort, r.Proto)
	if _, c := w.contacts.Find(k); c == nil && r.TCPFlags == flow.ACK {
		w.strayed(r, k)
	}
}

// strayed notes a segment of a conversation that nobody saw begin.
func (w *scanWatch) strayed(r *flow.Record, k contactKey) {
	src, dst := k.src, k.dst
	if r.Rate > 1 || r.DstPort >= r.SrcPort || r.Proto != flow.ProtoTCP || src == dst || !dst.unicast() || group(r.DstMAC) {
		return
	}
	if _, c := w.contacts.Find(contactKeyOf(dst, src, r.SrcPort, r.Proto)); c != nil {
		return
	}
	if i, h := w.e.source(r, src); h != nil {
		w.begin(i, h, k, stray)
	}
}

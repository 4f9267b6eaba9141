package oftest

import (
	"errors"
	"slices"
)

func (s *Switch) portNumbers() []uint32 {
	out := make([]uint32, 0, len(s.ports))
	for p := range s.ports {
		out = append(out, p)
	}
	slices.Sort(out)
	return out
}

// Process sends a packet through the switch: flows and meters count it, and
// the connection tracker learns from it. Its connection tracking fields must
// be zero, as they are when a packet comes in.
func (s *Switch) Process(p Packet) Result {
	s.expire()
	r := run{s: s}
	r.start(p)
	return r.result
}

// Trace says what would happen to a packet, as ovs-appctl ofproto/trace does:
// nothing counts it and nothing learns from it, meters let it pass. Where a
// ct action asks the connection tracker, the answers are those of next, in
// the order in which passes begin, and then CTTracked and CTNew, as with
// --ct-next. The passes are traced one after the other.
func (s *Switch) Trace(p Packet, next ...CTState) Result {
	s.expire()
	r := run{s: s, traced: true}
	r.start(p)
	for len(r.waiting) > 0 && r.passes < maxTraced {
		from := r.waiting[0]
		r.waiting = r.waiting[1:]
		from.p.CT.State = CTTracked | CTNew
		if len(next) > 0 {
			from.p.CT.State, next = next[0], next[1:]
		}
		r.pass(from.p, from, 0)
	}
	return r.result
}

// maxTraced bounds the passes of a trace.
const maxTraced = 256

// errRecirculation is why the userspace datapath drops a packet that ct
// actions send in circles.
var errRecirculation = errors.New("recirculations nest too deep")

// noFlow is why a packet is dropped that nothing became of.
const noFlow = "no flow forwards it"

// start begins the packet's first pass.
func (r *run) start(p Packet) {
	r.pass(p, recirculation{}, 0)
	if len(r.result.Effects) == 0 {
		r.drop(noFlow)
	}
}

// giveUp says why a pass ends early; that there was too much work, once for
// all of them.
func (r *run) giveUp(why error) {
	if errors.Is(why, errTooMuchWork) {
		if r.exhausted {
			return
		}
		r.exhausted = true
	}
	r.drop(why.Error())
}

func (r *run) drop(why string) { r.result.Effects = append(r.result.Effects, Dropped{Why: why}) }

// pass translates the flows that the packet meets from a table on, the action
// set last, and performs what came of it.
func (r *run) pass(p Packet, from recirculation, nested int) {
	w := walk{run: r, pass: r.passes, p: p, reason: reasonAction, conntrack: p.CT.State&CTTracked != 0}
	r.passes++
	first := w.first(from.table)
	if w.err == nil {
		list := ordered(w.set)
		w.set = nil
		w.reason, w.rule = reasonActionSet, first
		w.actions(list)
	}
	for _, met := range w.taught {
		met()
	}
	if first != nil && !r.decided {
		r.result.By = r.lastRule()
	}
	r.result.Finals = append(r.result.Finals, w.p)
	if w.err != nil {
		r.giveUp(w.err)
		return
	}
	r.perform(w.ops, p.CT, nested)
}

// first visits the table that a pass begins with; its flow counts neither as
// a resubmit nor as depth.
func (w *walk) first(id uint8) *Rule {
	w.resubmits, w.depth = -1, -1
	w.table = id
	n := len(w.run.result.Steps)
	w.visit(id, w.p.InPort)
	w.depth = 0
	if len(w.run.result.Steps) > n {
		return w.run.result.Steps[n].Rule
	}
	return nil
}

func (r *run) lastRule() *Rule {
	for _, s := range slices.Backward(r.result.Steps) {
		if s.Rule != nil {
			return s.Rule
		}
	}
	return nil
}

// perform carries out a pass's operations. What the tracker said of the packet,
// in the pass before or in this one, is known to the next question.
func (r *run) perform(ops []op, ct Conntrack, nested int) {
	for i := range ops {
		o := &ops[i]
		if r.work++; r.work > maxWork {
			r.giveUp(errTooMuchWork)
			return
		}
		switch {
		case o.meter != 0 && o.effect != nil: // of a copy, which alone is dropped
			if m := r.s.meters[o.meter]; m == nil || r.traced || m.pass(r.s.cfg.Now(), o.p.Length) {
				r.record(o)
			}
		case o.meter != 0:
			if !r.metered(o) {
				return
			}
		case o.ct != nil:
			ct = r.tracked(o, ct)
		case o.clear:
			ct = Conntrack{}
		case o.recirc != nil:
			r.recirculate(o, ct, nested)
		default:
			r.record(o)
		}
	}
}

func (r *run) record(o *op) {
	r.result.Effects = append(r.result.Effects, o.effect)
	switch o.effect.(type) {
	case Output, ToNormal:
		if !r.decided {
			r.decided, r.result.By = true, o.by
		}
	}
}

func (r *run) metered(o *op) bool {
	m := r.s.meters[o.meter]
	if m == nil {
		return true
	}
	passed := r.traced || m.pass(r.s.cfg.Now(), o.p.Length)
	r.result.Effects = append(r.result.Effects, Metered{ID: o.meter, Passed: passed})
	if !passed && !r.decided {
		r.decided, r.result.By = true, o.by
	}
	return passed
}

// recirculate begins the pass of a copy of the packet that knows what the
// tracker said.
func (r *run) recirculate(o *op, ct Conntrack, nested int) {
	next := *o.recirc
	next.p = o.p
	next.p.CT = ct
	switch {
	case r.traced:
		r.waiting = append(r.waiting, next)
	case nested >= maxRecirculations:
		r.giveUp(errRecirculation)
	default:
		r.pass(next.p, next, nested+1)
	}
}

// tracked asks the tracker. A trace knows what the flows write, and hears the
// rest later.
func (r *run) tracked(o *op, known Conntrack) Conntrack {
	if r.traced {
		ct := o.p.CT
		ct.Zone = o.zone
		r.result.Effects = append(r.result.Effects, Tracked{Zone: o.zone, Mark: ct.Mark, Committed: o.ct.Commit})
		return ct
	}
	ct, e := r.s.tracker.track(r.s.cfg.Now(), &o.p, known, o.ct, o.zone)
	r.result.Effects = append(r.result.Effects, e)
	return ct
}

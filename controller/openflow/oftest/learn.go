package oftest

import (
	"slices"

	of "github.com/platelet-sdn/platelet/controller/openflow"
)

// learn adds the flow that the packet teaches, at once, whatever becomes of the
// packet; in the same pass it still meets the tables as they were. A trace
// learns nothing, and says nothing of the result.
func (w *walk) learn(a of.Learn) {
	if w.run.traced {
		return
	}
	f := a.Learned(func(src of.Subfield) [16]byte {
		return w.p.seen(src.Field).shr(src.Offset).and(ones(src.Bits)).bytes()
	})
	there := w.run.s.learn(&f, a.Limit, &w.taught)
	if a.Result == nil {
		return
	}
	var v uint64
	if there {
		v = 1
	}
	w.write(*a.Result, number(v))
}

// learn reports whether the table has the flow now, to be met when what is
// taught is called. Only what is new counts against the limit.
func (s *Switch) learn(f *of.Flow, limit uint32, taught *[]func()) bool {
	t := &s.tables[f.Table]
	r := s.newRule(f)
	i := slices.IndexFunc(t.rules, func(o *Rule) bool { return o.key == r.key && !o.outdated })
	if i >= 0 && sameLesson(t.rules[i], f) {
		t.rules[i].Modified = s.cfg.Now()
		return true
	}
	held := uint32(0)
	for _, o := range t.rules {
		if o.Cookie == f.Cookie && !o.outdated {
			held++
		}
	}
	if limit > 0 && held >= limit {
		return false
	}
	r.unmet = true
	if i < 0 {
		*taught = append(*taught, func() { r.unmet = false })
	} else { // a modification, which keeps everything but cookie and actions
		old := t.rules[i]
		old.outdated = true
		r.IdleTimeout, r.HardTimeout, r.Flags, r.Created, r.Used = old.IdleTimeout, old.HardTimeout, old.Flags, old.Created, old.Used
		*taught = append(*taught, func() {
			r.unmet, r.Packets, r.Bytes = false, old.Packets, old.Bytes
			t.remove(old)
		})
	}
	t.insert(r)
	return true
}

func sameLesson(r *Rule, f *of.Flow) bool {
	return r.Cookie == f.Cookie && r.Flags == f.Flags && r.IdleTimeout == f.IdleTimeout &&
		r.HardTimeout == f.HardTimeout && r.Instructions.Key() == f.Instructions.Key()
}

// lesson is where flows are learned that go with the last one that learns
// them.
type lesson struct {
	table  uint8
	cookie uint64
}

func lessons(list []of.Action) (out []lesson) {
	for _, a := range list {
		if l, ok := a.(of.Learn); ok && l.DeleteLearned {
			out = append(out, lesson{l.Table, l.Cookie})
		}
	}
	return out
}

// forget deletes what actions learned that a flow no longer has, unless
// another flow learns the same.
func (s *Switch) forget(actions []of.Action) {
	for _, gone := range lessons(actions) {
		taught := slices.ContainsFunc(s.tables[:], func(t table) bool {
			return slices.ContainsFunc(t.rules, func(r *Rule) bool { return slices.Contains(lessons(r.Actions), gone) })
		})
		if taught {
			continue
		}
		for _, r := range slices.Clone(s.tables[gone.table].rules) {
			if r.Cookie == gone.cookie {
				s.remove(r, of.RemovedDelete)
			}
		}
	}
}

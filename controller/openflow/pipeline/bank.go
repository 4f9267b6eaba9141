package pipeline

import (
	"math/bits"
	"time"

	"github.com/platelet-sdn/platelet/controller/openflow"
)

// The flows of policies stand in one of two banks: each matches on the bit of
// the mark register that says which, and the hook writes it. No packet meets
// the flows of the bank that the hook does not lead to, so a program of many
// flows is put there bit by bit, read back, and then comes into force with the
// one flow of the hook, whole and from one packet to the next. Between the bits
// there is time for containment.
//
// A packet that is with conntrack at that moment carries its bank with it, and
// so is judged to the end by the program that it met first; what is out of force
// stays until no such packet can be left.

// bank is 0 or 1.
type bank uint8

func (k bank) other() bank { return 1 - k }

// match is what the flows of a bank have in common.
func (k bank) match() openflow.OXM { return openflow.Reg(markReg, uint32(k)<<bankBit, bankMask) }

// put has the flows of a program stand in a bank.
func (k bank) put(flows []openflow.Flow) []openflow.Flow {
	for i := range flows {
		flows[i].Match = k.narrow(flows[i].Match)
	}
	return flows
}

// narrow adds the bank to a match, which may look at other marks already.
func (k bank) narrow(m openflow.Match) openflow.Match {
	out, value, mask := make(openflow.Match, 0, len(m)+1), uint32(k)<<bankBit, bankMask
	for _, o := range m {
		if v, bits, ok := marks(o); ok {
			value, mask = value|v, mask|bits
			continue
		}
		out = append(out, o)
	}
	return append(out, openflow.Reg(markReg, value, mask)).Canonical()
}

// marks returns what a field of a match demands of the mark register.
func marks(o openflow.OXM) (value, mask uint32, ok bool) {
	if o.Field() != openflow.FieldReg0+markReg {
		return 0, 0, false
	}
	v, m := o.Bytes()
	for i := range v {
		value, mask = value<<8|uint32(v[i]), mask<<8|uint32(m[i])
	}
	return value, mask, true
}

// bankOf returns the bank that a flow stands in; ok is false where it stands in
// none.
func bankOf(f *openflow.Flow) (k bank, ok bool) {
	for _, o := range f.Match {
		if value, mask, is := marks(o); is && mask&bankMask != 0 {
			return bank(value >> bankBit & 1), true
		}
	}
	return 0, false
}

// hook is our hook when it leads to a bank: to the first one by what it does
// anyway.
func (b *Bridge) hook(k bank) openflow.Flow {
	f := b.cfg.Layout.hook()
	f.Cookie = cookie(CategoryHook, b.cfg.Instance.object())
	if len(b.sources.ports) > 0 {
		f.Actions = []openflow.Action{openflow.Resubmit{Table: b.cfg.Layout.table(tableStation)}}
	}
	if k != 0 {
		f.Actions = append([]openflow.Action{mark(bankBit, 1, uint64(k))}, f.Actions...)
	}
	return f
}

// bankOfHook is the bank that a hook leads to.
func bankOfHook(f *openflow.Flow) bank {
	for _, a := range f.Actions {
		if a == mark(bankBit, 1, 1) {
			return 1
		}
	}
	return 0
}

// spare is what is known of the bank that is out of force.
type spare struct {
	dirty  bool      // flows may be there
	flows  int       // that count among ours
	until  time.Time // packets may meet them
	meters []uint32  // that only they name
}

// lingers reports whether packets may still meet the bank out of force.
func (s *spare) lingers(now time.Time) bool { return s.flows > 0 && now.Before(s.until) }

// policyTables are those where flows of programs stand, as offsets.
func policyTables() []uint8 {
	out := []uint8{tableAdmit}
	for t := tableSource; t < tableCommit; t++ {
		out = append(out, t)
	}
	return out
}

// sliceSize is how many flows are asked for, or deleted, at once: about 2 ms of
// a switch's time.
const sliceSize = 768

// divided divides n flows of a table into parts of about sliceSize, by the last
// bits of their cookies, which are those of a hash. It returns a filter of each
// part.
func divided(f openflow.FlowFilter, n int) []openflow.FlowFilter {
	parts := uint64(1)
	if n > sliceSize {
		parts = 1 << bits.Len(uint((n-1)/sliceSize))
	}
	out := make([]openflow.FlowFilter, parts)
	for i := range out {
		out[i] = f
		out[i].Cookie, out[i].CookieMask = f.Cookie|uint64(i), f.CookieMask|(parts-1)
	}
	return out
}

package pipeline

import (
	"context"
	"encoding/binary"
	"fmt"

	"github.com/platelet-sdn/platelet/controller/openflow"
)

// maxSurvey is up to how many flows a bridge's pipeline is looked through
// before we join it.
const maxSurvey = 200_000

// survey looks, before anything of ours is written, for foreign flows that
// would not behave with us as they do without: those that look at the mark or
// write it, and those that lead into our tables. It counts the flows in table 0
// that packets meet before our hook: what they decide passes us by.
func (b *Bridge) survey(ctx context.Context, conn *openflow.Conn) error {
	b.mu.Lock()
	done := b.surveyed
	b.mu.Unlock()
	if done {
		return nil
	}
	sum, err := conn.Aggregate(ctx, openflow.FlowFilter{Table: openflow.TableAll})
	if err != nil {
		return err
	}
	if sum.Flows > maxSurvey {
		b.log.WithField("flows", sum.Flows).Warn("too many flows to look for foreign ones that would not bear us")
		return nil
	}
	flows, err := conn.Flows(ctx, openflow.FlowFilter{Table: openflow.TableAll})
	if err != nil {
		return err
	}
	bypass := 0
	for i := range flows {
		f := &flows[i].Flow
		if isOurs(f.Cookie) {
			continue // here, or where another of us has its tables
		}
		if why := b.cfg.Layout.disturbs(f); why != "" {
			return fmt.Errorf("%w: a flow %s: %s", ErrConflict, why, f.String())
		}
		if f.Table == 0 && f.Priority >= HookPriority {
			bypass++
		}
	}
	if bypass > 0 {
		b.log.WithField("flows", bypass).Warnf("foreign flows of table 0 at priority %d or above come before our hook: packets that they match pass containment by", HookPriority)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.surveyed, b.status.Bypass = true, bypass
	return nil
}

// disturbs says in what way a foreign flow would not bear us, "" if it does.
// Actions that we cannot read are taken to be harmless.
func (l Layout) disturbs(f *openflow.Flow) string {
	for _, m := range f.Match {
		if matchesMark(m) {
			return "looks at the bit of register 15 that marks packets"
		}
	}
	if f.HasGoto && l.owns(f.Goto) {
		return "leads into our tables"
	}
	if why := l.actionsDisturb(f.Actions); why != "" {
		return why
	}
	return l.actionsDisturb(f.Write)
}

func (l Layout) actionsDisturb(actions []openflow.Action) string {
	const writes, reads, leads = "writes the bit of register 15 that marks packets", "reads the bit of register 15 that marks packets", "leads into our tables"
	for _, a := range actions {
		switch a := a.(type) {
		case openflow.Load:
			if holdsMark(a.Dst) {
				return writes
			}
		case openflow.SetField:
			if matchesMark(a.Field) {
				return writes
			}
		case openflow.Move:
			if holdsMark(a.Dst) {
				return writes
			}
			if holdsMark(a.Src) {
				return reads
			}
		case openflow.OutputReg:
			if holdsMark(a.Src) {
				return reads
			}
		case openflow.Resubmit:
			if l.owns(a.Table) {
				return leads
			}
		case openflow.Learn:
			if l.owns(a.Table) {
				return "learns flows in our tables"
			}
		case openflow.Conntrack:
			if a.Recirc && l.owns(a.Table) {
				return leads
			}
		}
	}
	return ""
}

// markAt is the mark's place in a field that contains it: register 15 is the
// lower half of the 64-bit register 7 and the lowest quarter of the 128-bit
// register 3.
func markAt(f openflow.Field) (bit int, ok bool) {
	switch f {
	case openflow.FieldReg0 + markReg, openflow.FieldXReg0 + markReg/2, openflow.FieldXXReg0 + markReg/4:
		return markBit, true
	}
	return 0, false
}

func holdsMark(s openflow.Subfield) bool {
	bit, ok := markAt(s.Field)
	return ok && s.Offset <= bit && bit < s.Offset+s.Bits
}

// matchesMark reports whether a field, in a match or to be set, covers the mark.
func matchesMark(m openflow.OXM) bool {
	bit, ok := markAt(m.Field())
	_, mask := m.Bytes()
	return ok && len(mask) >= 4 && binary.BigEndian.Uint32(mask[len(mask)-4:])>>bit&1 == 1
}

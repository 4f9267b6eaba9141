package openflow

import (
	"errors"
	"fmt"
)

// situation is what is known of the packets that come to an action. Open
// vSwitch holds actions against the flow's match: it refuses to write an IP
// address where the match lets other packets pass.
type situation struct {
	match Match // nil where there is none: in a group, in a packet-out
	tags  int   // VLAN tags that the packets are known to have
	exec  bool  // inside ct(exec())
	set   bool  // in an action set, where the order is not that of the list
}

// maxTags is how many VLAN tags Open vSwitch tells apart.
const maxTags = 2

func newSituation(m Match) *situation {
	if m == nil {
		m = Match{}
	}
	s := &situation{match: m}
	if m.tagged() {
		s.tags = 1
	}
	return s
}

// need reports a prerequisite that the packets may not have. In an action set
// Open vSwitch asks for few; it passes over an action that does not fit.
func (s *situation) need(what string, p prerequisite) error {
	if s.set {
		return nil
	}
	return s.needAlways(what, p)
}

func (s *situation) needAlways(what string, p prerequisite) error {
	if s.match == nil {
		return nil
	}
	if missing := s.match.missing(p); missing != "" {
		return fmt.Errorf("%s needs a match on %s", what, missing)
	}
	return nil
}

// checkRead reports why a subfield cannot be read.
func (s *situation) checkRead(f Subfield) error {
	if err := f.check(); err != nil {
		return err
	}
	return s.needField(f.Field)
}

// checkWrite reports why a subfield cannot be written.
func (s *situation) checkWrite(f Subfield) error {
	if err := f.check(); err != nil {
		return err
	}
	if fields[f.Field].access&writable == 0 {
		return fmt.Errorf("%s cannot be written", f.Field)
	}
	if inCT := f.Field == FieldCTMark || f.Field == FieldCTLabel; inCT != s.exec {
		return errors.New("ct(commit,exec(...)) writes a connection's mark and label; nothing else does, and it nothing else")
	}
	return s.needField(f.Field)
}

// checkSet is checkWrite for a constant, which a VLAN ID takes only where
// there is a tag.
func (s *situation) checkSet(f Subfield) error {
	if f.Field == FieldVLAN && s.match != nil && s.tags == 0 {
		return &PrereqError{Field: f.Field, Needs: "a VLAN tag to write into"}
	}
	return s.checkWrite(f)
}

func (s *situation) needField(f Field) error {
	needs := fields[f].needs
	switch needs {
	case prereqCTIPv4, prereqCTIPv6, prereqCTPorts:
		needs = prereqCT // what it has no address of reads as zero
	}
	if s.match == nil || needs == prereqVLAN && s.tags > 0 {
		return nil
	}
	if needs == prereqVLAN {
		return &PrereqError{Field: f, Needs: "a VLAN tag"}
	}
	if missing := s.match.missing(needs); missing != "" {
		return &PrereqError{Field: f, Needs: missing}
	}
	return nil
}

// written notes a tag that a write of the whole tag adds or removes.
func (s *situation) written(f Subfield, value uint64) {
	if f != Whole(FieldVLANTCI) {
		return
	}
	if value&vlanPresent != 0 {
		s.tags = max(s.tags, 1)
	} else {
		s.tags = 0
	}
}

// maxActions is how many bytes of actions fit a message beside the rest.
const maxActions = 1<<16 - 1024

// checkActions reports the first action that the switch would reject.
func (s *situation) checkActions(actions []Action) error {
	size := 0
	var encoded []byte
	for i, a := range actions {
		if a == nil {
			return fmt.Errorf("action %d is missing", i)
		}
		if err := a.check(s); err != nil {
			return fmt.Errorf("action %d (%s): %w", i, a, err)
		}
		encoded = a.append(encoded[:0])
		if size += len(encoded); size > maxActions {
			return fmt.Errorf("%d actions do not fit a message", len(actions))
		}
	}
	return nil
}

// checkSet reports the first action that cannot stand in an action set.
func checkSet(actions []Action) error {
	for i, a := range actions {
		switch a.(type) {
		case Output, Resubmit, ToGroup, SetQueue, SetField, Load, Move, PushVLAN, PopVLAN, DecTTL, Conntrack, CTClear, UnknownAction:
		default:
			return fmt.Errorf("write_actions takes no %s (action %d)", a, i)
		}
	}
	return nil
}

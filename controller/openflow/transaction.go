package openflow

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// ErrUncertain says that a transaction's outcome is unknown: the commit was
// sent and the answer did not come. Read the switch to find out.
var ErrUncertain = errors.New("outcome of the transaction is unknown")

// Reasons for which a transaction is refused before the switch is asked.
var (
	// ErrInUse says that a meter or group stays because flows that the
	// transaction does not take away name it: Open vSwitch would delete
	// them with it, whoever they belong to.
	ErrInUse = errors.New("still in use")
	// ErrNoMeter says that a meter to be modified is not on the switch.
	ErrNoMeter = errors.New("no such meter on the switch")
)

// undoTimeout bounds the cleaning up after a transaction whose own context
// may have ended, and the wait for the answer to a commit that is under way.
const undoTimeout = 2 * time.Second

// maxMembers bounds how many refused members an error describes.
const maxMembers = 1000

// Tx is a change of a switch that takes effect wholly or not at all. Its
// parts are carried out in the order of the fields.
type Tx struct {
	// AddMeters are added first: bundles take no meters, flows need them.
	AddMeters []Meter
	// ModifyMeters are changed in place; a change is taken back when
	// anything behind it is refused. The old meter must have one band.
	ModifyMeters []Meter
	// Groups (added and changed), Flows and DeleteGroups are one atomic,
	// ordered bundle.
	Groups []GroupMod
	Flows  []FlowMod
	// DeleteGroups must be named by no other flow than those that Flows
	// takes away, and by no other group; a group that is gone already is no
	// error.
	DeleteGroups []uint32
	// DeleteMeters go last, when no flow names them any more; a meter that
	// is gone already is no error.
	DeleteMeters []uint32
}

// MemberError says which member of a transaction was refused, and why.
type MemberError struct {
	// Member is "meter", "group" or "flow". Index is the place of a flow in
	// Tx.Flows, that of a group in Tx.Groups followed by Tx.DeleteGroups, and
	// that of a meter in Tx.AddMeters followed by Tx.ModifyMeters followed by
	// Tx.DeleteMeters.
	Member string
	Index  int
	// Text is the member in ovs-ofctl's syntax.
	Text string
	Err  error
}

func (e *MemberError) Error() string {
	return fmt.Sprintf("%s %d (%s): %v", e.Member, e.Index, e.Text, e.Err)
}

func (e *MemberError) Unwrap() error { return e.Err }

// TxError says why a transaction was not carried out. Nothing of it is left
// on the switch, unless Committed is set: then only old meters were not
// deleted.
type TxError struct {
	Members   []*MemberError
	More      int   // refused members beyond those that Members lists
	Cause     error // of the bundle itself; may be nil when Members say it
	Committed bool
}

// shownMembers is how many refused members an error's text names.
const shownMembers = 3

func (e *TxError) Error() string {
	var parts []string
	for i, m := range e.Members {
		if i == shownMembers {
			break
		}
		parts = append(parts, m.Error())
	}
	if more := e.More + len(e.Members) - shownMembers; more > 0 {
		parts = append(parts, fmt.Sprintf("and %d more", more))
	}
	if e.Cause != nil {
		parts = append(parts, e.Cause.Error())
	}
	if e.Committed {
		return "transaction committed, but: " + strings.Join(parts, "; ")
	}
	return "transaction refused: " + strings.Join(parts, "; ")
}

// Unwrap lets errors.Is and errors.As see the members and the cause.
func (e *TxError) Unwrap() []error {
	out := make([]error, 0, len(e.Members)+1)
	for _, m := range e.Members {
		out = append(out, m)
	}
	if e.Cause != nil {
		out = append(out, e.Cause)
	}
	return out
}

// Validate checks every member locally, before anything is sent. Its error is
// a *TxError.
func (t *Tx) Validate() error {
	for i := range t.members() {
		if err := t.check(i); err != nil {
			return &TxError{Members: []*MemberError{t.member(i, err)}}
		}
	}
	return nil
}

// meters is the number of meters to be added or changed, which are sent
// before the bundle.
func (t *Tx) meters() int { return len(t.AddMeters) + len(t.ModifyMeters) }

// members is the number of messages that the switch may refuse one by one.
func (t *Tx) members() int { return t.meters() + len(t.Groups) + len(t.Flows) + len(t.DeleteGroups) }

// meter returns the i-th of the meters to be added or changed.
func (t *Tx) meter(i int) *Meter {
	if i < len(t.AddMeters) {
		return &t.AddMeters[i]
	}
	return &t.ModifyMeters[i-len(t.AddMeters)]
}

// place returns where the i-th member stands, counted in the order in which
// they are sent: what it is, and its index as MemberError gives it.
func (t *Tx) place(i int) (kind string, index int) {
	if i < t.meters() {
		return "meter", i
	}
	if i -= t.meters(); i < len(t.Groups) {
		return "group", i
	}
	if i -= len(t.Groups); i < len(t.Flows) {
		return "flow", i
	}
	return "group", len(t.Groups) + i - len(t.Flows)
}

// group returns a group-mod by its index.
func (t *Tx) group(i int) *GroupMod {
	if i < len(t.Groups) {
		return &t.Groups[i]
	}
	return &GroupMod{Command: GroupDelete, Group: Group{ID: t.DeleteGroups[i-len(t.Groups)]}}
}

// check validates the i-th member.
func (t *Tx) check(i int) error {
	switch kind, index := t.place(i); {
	case kind == "meter":
		return t.meter(index).Validate()
	case kind == "flow":
		return t.checkFlow(index)
	case index < len(t.Groups) && t.Groups[index].Command == GroupDelete:
		return errors.New("groups to be deleted belong into DeleteGroups")
	default:
		return t.group(index).Validate()
	}
}

// checkFlow validates a flow-mod. One that names a group of DeleteGroups would
// go with it.
func (t *Tx) checkFlow(i int) error {
	f := &t.Flows[i]
	if err := f.Validate(); err != nil || f.Command >= Delete {
		return err
	}
	for _, id := range t.DeleteGroups {
		if namesGroup(f.Actions, id) || namesGroup(f.Write, id) {
			return fmt.Errorf("names group %d, which is to be deleted", id)
		}
	}
	return nil
}

func namesGroup(actions []Action, id uint32) bool {
	return slices.ContainsFunc(actions, func(a Action) bool { g, ok := a.(ToGroup); return ok && g.ID == id })
}

// member describes the i-th member.
func (t *Tx) member(i int, err error) *MemberError {
	m := &MemberError{Err: err}
	m.Member, m.Index = t.place(i)
	switch m.Member {
	case "meter":
		m.Text = t.meter(m.Index).String()
	case "group":
		m.Text = fmt.Sprintf("group_id=%d", t.group(m.Index).ID)
		if m.Index < len(t.Groups) {
			m.Text = t.Groups[m.Index].String()
		}
	default:
		m.Text = t.Flows[m.Index].String()
	}
	return m
}

package openflow

import (
	"errors"
	"fmt"
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
	// Flows are one atomic, ordered bundle.
	Flows []FlowMod
	// DeleteMeters go last, when no flow names them any more; a meter that
	// is gone already is no error.
	DeleteMeters []uint32
}

// MemberError says which member of a transaction was refused, and why.
type MemberError struct {
	// Member is "meter" or "flow". Index is the place of a flow in
	// Tx.Flows, and that of a meter in Tx.AddMeters followed by
	// Tx.ModifyMeters followed by Tx.DeleteMeters.
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
	refused := func(i int, err error) error { return &TxError{Members: []*MemberError{t.member(i, err)}} }
	for i := range t.meters() {
		if err := t.meter(i).Validate(); err != nil {
			return refused(i, err)
		}
	}
	for i := range t.Flows {
		if err := t.Flows[i].Validate(); err != nil {
			return refused(t.meters()+i, err)
		}
	}
	return nil
}

// meters is the number of meters to be added or changed, which are sent
// before the bundle.
func (t *Tx) meters() int { return len(t.AddMeters) + len(t.ModifyMeters) }

// members is the number of messages that the switch may refuse one by one.
func (t *Tx) members() int { return t.meters() + len(t.Flows) }

// meter returns the i-th of the meters to be added or changed.
func (t *Tx) meter(i int) *Meter {
	if i < len(t.AddMeters) {
		return &t.AddMeters[i]
	}
	return &t.ModifyMeters[i-len(t.AddMeters)]
}

// member describes the i-th member, counted in the order in which they are
// sent.
func (t *Tx) member(i int, err error) *MemberError {
	if i < t.meters() {
		return &MemberError{Member: "meter", Index: i, Text: t.meter(i).String(), Err: err}
	}
	i -= t.meters()
	return &MemberError{Member: "flow", Index: i, Text: t.Flows[i].String(), Err: err}
}

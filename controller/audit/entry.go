package audit

import (
	"errors"
	"math"
	"net/netip"
	"time"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/platelet-sdn/platelet/controller/response"
	"github.com/platelet-sdn/platelet/detector"
	"github.com/platelet-sdn/platelet/flowcollector/flow"
)

// What happened, as the field event says it. The log's own entries are these;
// those of decisions are named by DecisionPrefix and the state that was
// reached, the others where they are made.
const (
	// EventBegun is the first line of each file; Before is what the entry
	// before it says.
	EventBegun = "log.begun"
	// EventLost says how many events did not fit into the queue.
	EventLost = "log.lost"
	// EventCut says that half a line, left by a crash, was put aside.
	EventCut = "log.cut"
	// EventDamaged says that the log was found to be changed.
	EventDamaged = "log.damaged"
	// EventKey says that another key signs from here on.
	EventKey = "log.key"
	// EventStarted, EventStopped and EventCrashed are about the controller; the
	// log itself finds that a run did not end in order.
	EventStarted = "controller.started"
	EventStopped = "controller.stopped"
	EventCrashed = "controller.crashed"

	logPrefix      = "log."
	DecisionPrefix = "decision."
	FindingPrefix  = "finding."
	OperatorPrefix = "operator."
)

// Event is one thing that happened. Zero fields say nothing.
type Event struct {
	What string `json:"event"`
	// Who did it: an operator's name, "playbook", "platelet", "switch".
	Who string `json:"who"`
	Why string `json:"why,omitempty"`
	// The IDs that join it with others.
	Decision string `json:"decision,omitempty"`
	Finding  string `json:"finding,omitempty"`
	Playbook string `json:"playbook,omitempty"`
	// Before and After are states of the decision or of the finding.
	Before string `json:"before,omitempty"`
	After  string `json:"after,omitempty"`
	// Action is the rung of the ladder, At what it hits and where.
	Action response.Action  `json:"action,omitempty"`
	At     *response.Target `json:"at,omitempty"`
	// About is what the finding says, Evidence what it stands on.
	About    *About              `json:"about,omitempty"`
	Evidence []detector.Evidence `json:"evidence,omitempty"`
	Guards   []response.Verdict  `json:"guards,omitempty"`
	Rules    []Rule              `json:"rules,omitempty"`
	Proof    *response.Proof     `json:"proof,omitempty"`
	Detail   map[string]string   `json:"detail,omitempty"`
	Edge     *Edge               `json:"edge,omitempty"` // of EventBegun
}

// About is what a finding says.
type About struct {
	Kind       detector.Kind     `json:"kind"`
	Severity   detector.Severity `json:"severity,omitempty"`
	Technique  string            `json:"technique,omitempty"` // ATT&CK Enterprise
	ICS        string            `json:"ics,omitempty"`       // ATT&CK for ICS
	Host       netip.Addr        `json:"host,omitzero"`
	MAC        flow.MAC          `json:"mac,omitzero"`
	Spoofed    bool              `json:"spoofed,omitempty"`
	Victims    []netip.Addr      `json:"victims,omitempty"`
	Proto      uint8             `json:"proto,omitempty"`
	Port       uint16            `json:"port,omitempty"`
	Score      float64           `json:"score,omitempty"`
	Confidence float64           `json:"confidence,omitempty"`
	Records    int64             `json:"records,omitempty"`
	FirstSeen  time.Time         `json:"first_seen,omitzero"`
	Detected   time.Time         `json:"detected,omitzero"`
}

// Rule is a rule of a decision: the intent that was compiled, or what stands
// on the switch for it.
type Rule struct {
	Intent string `json:"intent"`
	Switch string `json:"switch,omitempty"`
	Action string `json:"action,omitempty"`
	Match  string `json:"match,omitempty"`
	Limit  uint32 `json:"limit_pktps,omitempty"`
	TTL    int64  `json:"ttl_s,omitempty"`
	Cookie string `json:"cookie,omitempty"` // hexadecimal, as ovs-ofctl prints it
}

// Entry is a line of the log.
type Entry struct {
	// Seq counts from 0 and decides about the order; Time is what the wall
	// clock said, which may jump.
	Seq  int64     `json:"seq"`
	Time time.Time `json:"time"`
	// Run is the controller's run, and Uptime how long it had lasted, in
	// microseconds of the monotonic clock.
	Run    string `json:"run"`
	Uptime int64  `json:"uptime_us"`
	// Prev is the hash of the line before; zero in the first.
	Prev tlog.Hash `json:"prev"`
	Event
}

// bounds of what one entry holds.
const (
	maxText  = 4 << 10 // bytes of a text
	maxList  = 256     // elements of a list
	maxEntry = 256 << 10
)

// errTooLong says that an entry is longer than maxEntry.
var errTooLong = errors.New("entry is too long")

// bounded is the event within its bounds: what an attacker can make long is
// cut, and what JSON cannot say is left out.
func (e Event) bounded() Event {
	e.Why = cut(e.Why)
	e.Evidence = first(e.Evidence)
	for i, x := range e.Evidence {
		e.Evidence[i].Value, e.Evidence[i].Baseline, e.Evidence[i].Contribution = finite(x.Value), finite(x.Baseline), finite(x.Contribution)
	}
	e.Guards = first(e.Guards)
	for i := range e.Guards {
		e.Guards[i].Why = cut(e.Guards[i].Why)
	}
	e.Rules = first(e.Rules)
	if len(e.Detail) > 0 {
		detail := make(map[string]string, len(e.Detail))
		for k, v := range e.Detail {
			detail[k] = cut(v)
		}
		e.Detail = detail
	}
	if e.Proof != nil {
		p := *e.Proof
		p.Why = cut(p.Why)
		e.Proof = &p
	}
	if e.About != nil {
		a := *e.About
		a.Score, a.Confidence = finite(a.Score), finite(a.Confidence)
		a.Victims = first(a.Victims)
		e.About = &a
	}
	return e
}

// line is the entry's text, with its newline.
func (e *Entry) line() ([]byte, error) {
	raw, err := canonical(e)
	if err != nil {
		return nil, err
	}
	if len(raw) > maxEntry {
		return nil, errTooLong
	}
	return append(raw, '\n'), nil
}

// first is a copy of a list's beginning: what the caller goes on to change is
// not what is written.
func first[T any](list []T) []T {
	return append([]T(nil), list[:min(len(list), maxList)]...)
}

func cut(s string) string {
	if len(s) <= maxText {
		return s
	}
	return s[:maxText] + " ..."
}

// finite is the number nearest to x that JSON can say; of none it is 0.
func finite(x float64) float64 {
	if math.IsNaN(x) {
		return 0
	}
	return max(-math.MaxFloat64, min(math.MaxFloat64, x))
}

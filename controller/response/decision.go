// Package response decides what is done about findings, proves that it
// worked, and undoes it. Its guards stand outside every detector and in front
// of every enforcer.
package response

import (
	"encoding/json"
	"net/netip"
	"time"

	"github.com/platelet-sdn/platelet/detector"
	"github.com/platelet-sdn/platelet/flowcollector/flow"
	"github.com/platelet-sdn/platelet/segmentation"
)

// Action is a rung of the response ladder, from the mildest to the hardest.
type Action string

// The rungs that there are, the mildest first.
const (
	ActionObserve Action = "observe"
	ActionAlert   Action = "alert"
	// ActionMirror copies what the host sends to where somebody looks at it,
	// and holds nothing up.
	ActionMirror    Action = "mirror"
	ActionRateLimit Action = "rate-limit"
	// ActionScrub hands what is sent to the victim to a scrubber, which drops
	// the attack and sends the rest on.
	ActionScrub Action = "scrub"
	// ActionSegment keeps the host from the service or the peer that the
	// finding is about, and from nothing else.
	ActionSegment Action = "segment"
	// ActionReroute hands all that the host sends to a honeypot, which
	// answers in the place of whom it was meant for.
	ActionReroute    Action = "reroute"
	ActionQuarantine Action = "quarantine"
)

// Ladder lists the rungs, the mildest first.
func Ladder() []Action {
	return []Action{ActionObserve, ActionAlert, ActionMirror, ActionRateLimit, ActionScrub, ActionSegment, ActionReroute, ActionQuarantine}
}

// Acts reports whether the action changes anything on a switch.
func (a Action) Acts() bool { return a == ActionMirror || a.Contains() }

// Contains reports whether the action holds traffic up.
func (a Action) Contains() bool {
	return a == ActionRateLimit || a == ActionScrub || a == ActionSegment || a.Isolates()
}

// Isolates reports whether the action takes a host off the network as a whole.
func (a Action) Isolates() bool { return a == ActionReroute || a == ActionQuarantine }

// Mode says how much is done without a person.
type Mode string

const (
	// ModeObserve writes down what would be done and does nothing.
	ModeObserve Mode = "observe"
	// ModeAdvise asks for approval of everything; no answer is no action.
	ModeAdvise Mode = "advise"
	// ModeAutonomous acts within the guards.
	ModeAutonomous Mode = "autonomous"
)

// State is where a decision is in its life.
type State string

// The states of a decision. The last four are final.
const (
	StateProposed         State = "proposed"
	StateAwaitingApproval State = "awaiting-approval"
	StateApplied          State = "applied"
	StateVerified         State = "verified"
	// StateProbation: the attack is over, and the way back is gone step by
	// step; see Stage.
	StateProbation  State = "probation"
	StateRolledBack State = "rolled-back"
	StateReleased   State = "released"
	StateExpired    State = "expired"
	StateRefused    State = "refused"
)

// Holds reports whether rules of a decision in this state are meant to be on
// the switch.
func (s State) Holds() bool {
	return s == StateApplied || s == StateVerified || s == StateProbation
}

// Stage is where a decision is on its way back.
type Stage string

// The stages of probation.
const (
	// StageLimited: the host may do everything, slowly.
	StageLimited Stage = "limited"
	// StageWatched: the host is free, and a relapse is one.
	StageWatched Stage = "watched"
)

// Target is what an action hits, and where.
type Target struct {
	Host   netip.Addr `json:"host,omitzero"`
	MAC    flow.MAC   `json:"mac,omitzero"`
	Switch string     `json:"switch,omitempty"`
	Port   string     `json:"port,omitempty"`
	// Victim and Proto narrow a rate limit and a scrub; Host is then the only
	// sender that is meant, or invalid where sources are forged. A mirror has
	// either a Host or a Victim.
	Victim netip.Addr `json:"victim,omitzero"`
	Proto  uint8      `json:"proto,omitempty"`
	// Peer and Service (with Proto) are what a segmented host is kept from;
	// an invalid Peer is everybody's, a zero Service and Proto everything of
	// the peer's.
	Peer    netip.Addr `json:"peer,omitzero"`
	Service uint16     `json:"service,omitempty"`
	// Reflector is the port of the service that is made to answer the
	// victim; Asking is set where it is asked in the victim's name.
	Reflector uint16 `json:"reflector,omitempty"`
	Asking    bool   `json:"asking,omitempty"`
	// Lock is set where stations are invented: everything that comes by the
	// port is dropped but what stations send that are known there.
	Lock bool `json:"lock,omitempty"`
	// Forged is set where the station with that MAC sends in the names of
	// others: it is cut off, whatever name it takes.
	Forged bool `json:"forged,omitempty"`
}

// segments reports whether the target is a host's way to somebody or something.
func (t *Target) segments() bool { return t.Peer.IsValid() || t.Service != 0 }

// concerns reports whether a record from the host is of what the target is about.
func (t *Target) concerns(r *flow.Record) bool {
	return (!t.Peer.IsValid() || t.Peer == r.Dst) && (t.Service == 0 || t.Service == r.DstPort && t.Proto == r.Proto)
}

// String names the target for people: the host, else what is protected.
func (t Target) String() string {
	switch {
	case t.Host.IsValid():
		return t.Host.String()
	case t.Forged:
		return "forged addresses of " + t.MAC.String()
	case t.Lock:
		return "invented stations at " + t.Port
	case t.Asking && t.Port != "":
		return "questions in the name of " + t.Victim.String() + " at " + t.Port
	case t.Victim.IsValid() && t.Port != "":
		return "forged sources at " + t.Port + " towards " + t.Victim.String()
	case t.Victim.IsValid(): // in replay nobody knows the port
		return "forged sources towards " + t.Victim.String()
	default:
		return t.MAC.String()
	}
}

// Verdict is one guard's answer.
type Verdict struct {
	Guard string `json:"guard"`
	Pass  bool   `json:"pass"`
	Why   string `json:"why"`
}

// Proof is what was seen after an action.
type Proof struct {
	// Installed: the rules were read back from the switch.
	Installed bool `json:"installed"`
	// Effective: the attack is dropped, and none of it passes any more.
	Effective bool `json:"effective"`
	// Harmless: known-good conversations of others go on.
	Harmless bool `json:"harmless"`
	// Dropped and Passed are attack packets since the rules stand.
	Dropped uint64 `json:"dropped"`
	Passed  uint64 `json:"passed"`
	// Handed is how many packets a mirror copied or a scrubber was given, and
	// Returned how many of them it sent on to the victim.
	Handed   uint64 `json:"handed,omitempty"`
	Returned uint64 `json:"returned,omitempty"`
	Why      string `json:"why,omitempty"`
}

// Decision is what is done about a finding, by whom and why.
type Decision struct {
	ID      string
	Finding string        // finding ID; empty for an operator's own
	Kind    detector.Kind // of the finding
	Action  Action
	Target  Target
	State   State
	Why     string
	Who     string // "playbook", or an operator's name
	// Playbook is the name of the one that chose the action; empty where none
	// did.
	Playbook string
	// Version is that of the playbooks in force when it was made.
	Version string
	// Mode is what holds for this decision: the configuration's, or the
	// playbook's where that is more careful.
	Mode Mode
	// People is how many have to approve; Approvals are the names of those
	// who have.
	People    int
	Approvals []string
	// Of the finding when it was decided about.
	Severity          detector.Severity
	Technique         string
	Score, Confidence float64
	Guards            []Verdict
	Proof             Proof
	TTL               time.Duration
	// Hold is the least time of containment; it doubles with each relapse.
	Hold time.Duration
	// Until ends an operator's containment; zero means when it has healed.
	Until time.Time
	// Stage is set in probation.
	Stage  Stage
	Canary bool     // see Plan
	Probes []string // see Plan
	// Attacked is the service that the finding is about; none where that is
	// many, or not known.
	Attacked Service `json:",omitzero"`
	// Narrow is what the target would be one rung down, nil where that is
	// not known.
	Narrow *Target
	// Joined are findings of other kinds about the target, since it stands.
	Joined []Join
	// Station is where diverted traffic goes; nil where none is.
	Station *Station
	// Impact is what a quarantine cuts off besides the attack.
	Impact *Impact
	// TrafficShare is the part of its host, from 0 to 1, in the traffic of the
	// network before the attack; 0 where that is not known.
	TrafficShare float64
	// WhatIf is what the rules would have hit in the hour before they were
	// proposed or, where they stand, installed; nil where a guard refused them.
	WhatIf *WhatIf
	// When each step was reached; zero when it was not. Lowered is the begin
	// of the present stage of probation, Over when the last sign of the attack
	// was seen, Restored when the last of its rules was taken off after that.
	FirstSeen, Detected, Created, Applied, Verified, Over, Lowered, Restored, Ended time.Time
	// Renewed is when the switch last took the TTL.
	Renewed time.Time
	Relapse int
	// Choice says how the rung was chosen, nil where there was no chooser.
	Choice *Choice
	// Cost is what the rules cut off of honest traffic, nil before they are
	// made.
	Cost *Cost
	// Overruled is who rejected it, or let go while the attack went on.
	Overruled string
	// Successor is the decision that was needed after this one, Relieves that
	// which was not enough before it.
	Successor, Relieves string
	// Committed is set before the switch is touched and cleared when the
	// decision has ended: its rules may stand.
	Committed bool
	Intents   []segmentation.Intent
}

// stored is a decision in the store: every field, unlike the printed line.
type stored Decision

func encode(d *Decision) ([]byte, error) { return json.Marshal((*stored)(d)) }

func decode(raw []byte) (*Decision, error) {
	var s stored
	if err := json.Unmarshal(raw, &s); err != nil {
		return nil, err
	}
	return (*Decision)(&s), nil
}

type decisionJSON struct {
	Type      string        `json:"type"`
	ID        string        `json:"id"`
	Time      time.Time     `json:"time"`
	Finding   string        `json:"finding,omitempty"`
	Kind      detector.Kind `json:"kind,omitempty"`
	Action    Action        `json:"action"`
	Target    string        `json:"target"`
	At        Target        `json:"at"`
	TTL       int64         `json:"ttl_s"`
	Why       string        `json:"why"`
	State     State         `json:"state"`
	Who       string        `json:"who"`
	Playbook  string        `json:"playbook,omitempty"`
	People    int           `json:"people,omitempty"`
	Approvals []string      `json:"approvals,omitempty"`
	Guards    []Verdict     `json:"guards,omitempty"`
	Proof     *Proof        `json:"proof,omitempty"`
	FirstSeen time.Time     `json:"first_seen,omitzero"`
	Detected  time.Time     `json:"detected,omitzero"`
	Applied   time.Time     `json:"applied,omitzero"`
	Verified  time.Time     `json:"verified,omitzero"`
	Stage     Stage         `json:"stage,omitempty"`
	Over      time.Time     `json:"over,omitzero"`
	Restored  time.Time     `json:"restored,omitzero"`
	// Contained is how long rules stood, Recovery how long after the attack
	// the target had everything back, in seconds.
	Contained float64   `json:"contained_s,omitempty"`
	Recovery  float64   `json:"recovery_s,omitempty"`
	Ended     time.Time `json:"ended,omitzero"`
	Until     time.Time `json:"until,omitzero"`
	Relapse   int       `json:"relapse,omitempty"`
	Limit     uint32    `json:"limit_pktps,omitempty"`
	Rules     []string  `json:"rules,omitempty"`
	Impact    *Impact   `json:"impact,omitempty"`
	Choice    *Choice   `json:"choice,omitempty"`
	Cost      *Cost     `json:"cost,omitempty"`
	Overruled string    `json:"overruled,omitempty"`
	Successor string    `json:"successor,omitempty"`
	Relieves  string    `json:"relieves,omitempty"`
	Station   *Station  `json:"station,omitempty"`
	Joined    []Join    `json:"joined,omitempty"`
	Share     float64   `json:"traffic_share,omitempty"`
	WhatIf    *WhatIf   `json:"what_if,omitempty"`
}

// Time is when the decision reached its present state.
func (d *Decision) Time() time.Time {
	switch {
	case !d.Ended.IsZero():
		return d.Ended
	case d.State == StateProbation:
		return d.Lowered
	case d.State == StateVerified:
		return d.Verified
	case d.State == StateApplied:
		return d.Applied
	default:
		return d.Created
	}
}

// MarshalJSON writes the line that replay, watch and the API print.
func (d Decision) MarshalJSON() ([]byte, error) {
	out := decisionJSON{
		Type: "decision", ID: d.ID, Time: d.Time().UTC(), Finding: d.Finding, Kind: d.Kind, Action: d.Action,
		Target: d.Target.String(), At: d.Target, TTL: int64(d.TTL / time.Second), Why: d.Why, State: d.State, Who: d.Who,
		Playbook: d.Playbook, People: d.People, Approvals: d.Approvals,
		Guards: d.Guards, FirstSeen: utc(d.FirstSeen), Detected: utc(d.Detected), Applied: utc(d.Applied),
		Verified: utc(d.Verified), Stage: d.Stage, Over: utc(d.Over), Restored: utc(d.Restored), Ended: utc(d.Ended), Until: utc(d.Until), Relapse: d.Relapse,
	}
	out.Impact, out.Cost, out.Overruled, out.Successor, out.Relieves = d.Impact, d.Cost, d.Overruled, d.Successor, d.Relieves
	if d.Choice != nil && d.Choice.Mode != LearningOff {
		out.Choice = d.Choice
	}
	out.Station, out.Joined, out.WhatIf, out.Share = d.Station, d.Joined, d.WhatIf, d.TrafficShare
	if !d.Restored.IsZero() {
		out.Contained, out.Recovery = d.Restored.Sub(d.Applied).Seconds(), d.Restored.Sub(d.Over).Seconds()
	}
	if !d.Applied.IsZero() {
		out.Proof = &d.Proof
	}
	for _, in := range d.Intents {
		out.Rules = append(out.Rules, in.ID)
		if in.Action == segmentation.ActionRateLimit || in.Action == segmentation.ActionMirror {
			out.Limit = in.Limit.PacketsPerSecond
		}
	}
	return json.Marshal(out)
}

func utc(t time.Time) time.Time {
	if t.IsZero() {
		return t
	}
	return t.UTC()
}

package measure

import (
	"context"
	"time"
)

// Event is a step of the controller: a finding or a decision that reached a
// state.
type Event struct {
	Time time.Time
	// Began is when what a finding is about began; zero when not known.
	Began time.Time
	Type  EventType
	// ID is the finding's or the decision's.
	ID string
	// Finding is the finding that a decision answers.
	Finding string
	// Kind is the kind of finding, on decisions as well.
	Kind string
	// State is as the controller names it, in lower case: pending, firing,
	// resolved; proposed, applied, verified, released, …
	State string
	// Host is the attacker's address; empty when its sources are forged.
	Host string
	// Port is the switch port that a decision acts at; empty when it acts
	// on an address wherever it is.
	Port string
	// Action is what a decision does.
	Action string
	// Limit is the packet rate that a limiting decision lets pass; 0 blocks.
	Limit float64
	// Target is what a decision is about, in words.
	Target string
	// MAC is the hardware address that an event is about; may be empty.
	MAC string
	// Victims are who a finding says is attacked; may be empty.
	Victims []string
}

// EventType is what an event is about.
type EventType string

// The types of events.
const (
	Finding  EventType = "finding"
	Decision EventType = "decision"
)

// States that measurements wait for.
const (
	StateFiring   = "firing"
	StateApplied  = "applied"
	StateVerified = "verified"
	StateReleased = "released"
	// StateExpired is when the switch dropped a containment by itself, and
	// StateRolledBack when the controller took it back because it hurt.
	StateExpired    = "expired"
	StateRolledBack = "rolled-back"
)

// Controller is the controller under measurement.
type Controller interface {
	// Events delivers what happens from now on, until the context ends; the
	// channel is then closed. It is subscribed when Events returns.
	Events(ctx context.Context) (<-chan Event, error)
	// Reset lifts every containment and forgets the evidence behind it, so
	// that the next attack is a first one. It returns when the switch
	// enforces none.
	Reset(ctx context.Context) error
	// Alive is nil while the controller works, and says how it ended when it
	// ended by itself.
	Alive() error
	// Close ends the controller.
	Close() error
}

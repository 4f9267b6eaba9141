package pipeline

import (
	"errors"
	"time"

	"github.com/platelet-sdn/platelet/controller/openflow"
	"github.com/platelet-sdn/platelet/controller/openflow/datapath"
)

// State says how we stand with a switch.
type State string

// States of a bridge.
const (
	StateConnecting State = "connecting"
	StateConnected  State = "connected"
	// StateRefused means that others use our tables or our hook's place, or
	// that another Platelet holds the bridge; nothing is written there until
	// they leave.
	StateRefused State = "refused"
	StateStopped State = "stopped"
)

// Status is a bridge's state for people.
type Status struct {
	Name       string    `json:"name"`
	Target     string    `json:"target"`
	State      State     `json:"state"`
	Since      time.Time `json:"since"`
	LastError  string    `json:"last_error,omitempty"`
	DatapathID uint64    `json:"datapath_id,omitempty"`
	// Instance is our own ID; while the bridge is ours, Claim is the number
	// of the claim by which it is, else 0.
	Instance string `json:"instance,omitempty"`
	Claim    uint32 `json:"claim,omitempty"`
	// HeldBy says which other Platelet holds the bridge.
	HeldBy string `json:"held_by,omitempty"`
	// Inherited counts rules of another instance from which the bridge was
	// taken: they stay until their TTL ends.
	Inherited int `json:"inherited,omitempty"`
	// Connects counts connections; all but the first are reconnections.
	Connects uint64 `json:"connects"`
	// Owners and Rules count what is wanted, Waiting the rules whose port is
	// not on the switch.
	Owners  int `json:"owners"`
	Rules   int `json:"rules"`
	Waiting int `json:"waiting"`
	// Healed counts flows and meters that were brought in order outside of
	// an operation: after drift, port changes and expiry.
	Healed   uint64    `json:"healed"`
	LastHeal time.Time `json:"last_heal,omitzero"`
	// Bypass counts foreign flows of table 0 that stood before our hook when we
	// came: packets that they match pass containment by.
	Bypass int `json:"bypass,omitempty"`
	// Disturbed counts changes of others in our places, Compared how often
	// the whole switch was compared with what is wanted.
	Disturbed uint64 `json:"disturbed"`
	Compared  uint64 `json:"compared"`
	// AsyncDropped counts messages from the switch that came too fast, on
	// the present connection.
	AsyncDropped uint64 `json:"async_dropped"`
	// Copied counts the packets of which the switch sent a copy.
	Copied uint64 `json:"copied"`
	// PolicyRules counts the rules of policies that are wanted, Refused the
	// packets that were answered because one of them rejects.
	PolicyRules int    `json:"policy_rules,omitempty"`
	Refused     uint64 `json:"refused,omitempty"`
	// Datapath is what the datapath carries; only of a local switch.
	Datapath *datapath.Usage `json:"datapath,omitempty"`
}

// Status returns the bridge's state.
func (b *Bridge) Status() Status {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.statusLocked()
}

func (b *Bridge) statusLocked() Status {
	s := b.status
	s.Owners, s.Rules, s.Waiting = len(b.rules.owners), len(b.rules.intents), len(b.waiting)
	s.PolicyRules = len(b.policy.rules)
	return s
}

// Connected reports whether the switch is connected and held what we want
// when it was.
func (b *Bridge) Connected() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.conn != nil
}

// connected publishes a connection that has been healed, with what it had to
// do without.
func (b *Bridge) connected(conn *openflow.Conn, shed error) {
	b.mu.Lock()
	b.conn = conn
	b.status.State, b.status.Since, b.status.LastError, b.status.HeldBy = StateConnected, b.now(), "", ""
	if shed != nil {
		b.status.LastError = shed.Error()
	}
	b.status.DatapathID = conn.Features().DatapathID
	b.status.Connects++
	s := b.statusLocked()
	b.mu.Unlock()
	b.log.WithField("rules", s.Rules).WithField("connects", s.Connects).Info("switch connected")
	if b.cfg.Changed != nil {
		b.cfg.Changed(s)
	}
}

// setState records any other state; Since moves only when the state does.
func (b *Bridge) setState(state State, err error) {
	b.mu.Lock()
	changed := b.status.State != state
	if changed {
		b.status.State, b.status.Since = state, b.now()
	}
	if err != nil {
		b.status.LastError = err.Error()
	}
	if errors.Is(err, ErrHeld) {
		b.status.HeldBy = err.Error()
	}
	s := b.statusLocked()
	b.mu.Unlock()
	if changed && b.cfg.Changed != nil {
		b.cfg.Changed(s)
	}
}

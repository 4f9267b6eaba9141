package measure

import "time"

// Outcome is what one attack came to: raw samples, from which everything else
// is computed.
type Outcome struct {
	// Seed is what the attack's agents chose their random numbers from.
	Seed uint64 `json:"seed"`
	// First is when the first attack packet left an attacker, by the capture
	// on its interface. All spans but Release count from here.
	First time.Time `json:"first"`
	// TTD is the time to detect: until a finding about the attack fired,
	// whatever its kind, by the controller's clock, which is this machine's.
	// Null although there are Kinds where it fired before any packet that the
	// captures know had left, see Note.
	TTD Span `json:"ttd_ms"`
	// Named is the time until a finding of the right kind fired.
	Named Span `json:"named_ms"`
	// Kinds are the kinds of the findings about the attack, in the order in
	// which they fired.
	Kinds []string `json:"kinds"`
	// Right is true when one of them is the right one.
	Right bool `json:"right,omitempty"`
	// Actions are what was done about the attack, in order.
	Actions []string `json:"actions"`
	// TTC is the time to contain: until the last attack packet arrived, by
	// the captures on the victims' interfaces, or where the action limits,
	// until delivery stays within the limit. It is there only when the
	// attackers went on in vain.
	TTC Span `json:"ttc_ms"`
	// Verified is the time until the controller had its own proof.
	Verified Span `json:"verified_ms"`
	// Ended is when the attack was stopped.
	Ended Span `json:"ended_ms"`
	// Release is the time from the attack's end until the controller had
	// released everything that it did in this run, by itself. It is waited
	// for where Awaited says for how long.
	Release Span `json:"release_ms"`
	Awaited Span `json:"awaited_ms"`
	// Limit is the packet rate that containment let pass; 0 blocked.
	Limit float64 `json:"limit_pktps,omitempty"`
	// Sent and Delivered count attack packets; Missed is how many packets
	// the captures missed, by the kernel's count.
	Sent      uint64 `json:"sent"`
	Delivered int    `json:"delivered"`
	Missed    int    `json:"missed"`
	// Attackers are the nodes that attacked, by the ground truth.
	Attackers []string `json:"attackers"`
	// False are containments of what did not attack, Strange the findings
	// about it that fired.
	False   []string `json:"false_containments"`
	Strange []string `json:"false_findings"`
	// Benign is how honest traffic fared.
	Benign Benign `json:"benign"`
	// Note says what else went wrong, such as a controller that died.
	Note string `json:"note,omitempty"`
	// Steps is what the controller did, Zoom and Whole what passed: the
	// beginning in fine steps, and the whole attack.
	Steps []Step   `json:"steps,omitempty"`
	Zoom  *Packets `json:"zoom,omitempty"`
	Whole *Packets `json:"whole,omitempty"`
}

// Benign is how honest traffic fared before, during and after an attack:
// during ends when the attack ended, after when it was released, or a second
// later.
type Benign struct {
	Before Harm `json:"before"`
	During Harm `json:"during"`
	After  Harm `json:"after"`
	// Attackers is how the honest flows of hosts that attacked fared, such as
	// those that a worm took: they are not among the others.
	Attackers Harm `json:"of_attackers"`
}

// Harm counts honest flows: requests, transfers, polls, seconds of a stream.
type Harm struct {
	Seconds float64 `json:"s"`
	Flows   int     `json:"flows"`
	Harmed  int     `json:"harmed"`
	// Lost is how many packets of them were lost, at least.
	Lost int `json:"packets_lost"`
	// By are the harmed ones by behaviour and client.
	By map[string]int `json:"by,omitempty"`
}

// Step is something that the controller did.
type Step struct {
	// At is in milliseconds after the first attack packet.
	At    float64   `json:"at_ms"`
	Type  EventType `json:"type"`
	State string    `json:"state"`
	Kind  string    `json:"kind,omitempty"`
	What  string    `json:"what,omitempty"` // the action
	Who   string    `json:"who,omitempty"`
	// Ours is true when it is about the attack.
	Ours bool `json:"about_attack"`
}

// Packets counts attack packets in steps of equal length from the first one
// on.
type Packets struct {
	Step      float64 `json:"step_ms"`
	Sent      []int   `json:"sent"`
	Delivered []int   `json:"delivered"`
}

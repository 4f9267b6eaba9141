package detector

// Stats counts what the engine did with what it was given. Counters grow,
// except those whose comment says "now".
type Stats struct {
	Records  uint64 `json:"records"`
	Attempts uint64 `json:"attempts"`
	Contacts uint64 `json:"contacts"` // first contacts opened

	Successes   uint64 `json:"successes"`
	Refused     uint64 `json:"refused"`     // failures by TCP reset
	Unreachable uint64 `json:"unreachable"` // failures by ICMP
	Silent      uint64 `json:"silent"`      // failures by silence
	Late        uint64 `json:"late"`        // silences taken back by a late answer
	Odd         uint64 `json:"odd"`         // failures by sending what no honest stack sends

	// Abstained counts attempts that could not be judged because sampling
	// or the exporter hides their answers; Gated those of unheard-of
	// sources towards a victim under flood.
	Abstained uint64 `json:"abstained"`
	Gated     uint64 `json:"gated"`
	// Shed counts what found no room: contacts and hosts not tracked.
	Shed    uint64 `json:"shed"`
	Evicted uint64 `json:"evicted"`
	// Ignored counts how often Config.Ignore kept a finding back, Crowded
	// how often the limit of findings at once did.
	Ignored uint64 `json:"ignored"`
	Crowded uint64 `json:"crowded"`
	// ClockSteps counts how often the clock was set back and followed.
	ClockSteps uint64 `json:"clock_steps"`
	Findings   uint64 `json:"findings"` // findings that fired

	HostsTracked    int `json:"hosts_tracked"`    // now
	ContactsTracked int `json:"contacts_tracked"` // now
	ContactsPending int `json:"contacts_pending"` // now
	Suspects        int `json:"suspects"`         // now
	Stations        int `json:"stations"`         // now
	Cells           int `json:"cells"`            // now
	Edges           int `json:"edges"`            // now
	Windows         int `json:"windows"`          // now
	Circles         int `json:"circles"`          // now
	Active          int `json:"active"`           // now: findings not resolved
}

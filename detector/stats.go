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
	// Thinned counts samples of established traffic that were not looked at one
	// by one because there were too many.
	Thinned uint64 `json:"thinned"`
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

	// Judged counts windows of hosts that the unsupervised models were asked
	// about, Unlearned those that nothing was learned from because the host
	// was suspicious, Relearned the baselines that were given up, Drifts how
	// often hosts as a whole moved away from theirs.
	Judged    uint64 `json:"judged"`
	Unlearned uint64 `json:"unlearned"`
	Relearned uint64 `json:"relearned"`
	Drifts    uint64 `json:"drifts"`

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
	Baselines       int `json:"baselines"`        // now: hosts with one
	// CalibratedHours is how many host-hours the unsupervised models are
	// calibrated with, NeededHours how many it takes until they judge.
	CalibratedHours int `json:"calibrated_hours"` // now
	NeededHours     int `json:"needed_hours"`
}

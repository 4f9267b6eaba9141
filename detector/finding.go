package detector

import (
	"net/netip"

	"github.com/platelet-sdn/platelet/flowcollector/flow"
)

// State is where a finding is in its life.
type State string

// The states of a finding.
const (
	StatePending  State = "pending"  // evidence grows, not yet enough
	StateFiring   State = "firing"   // enough evidence to act on
	StateResolved State = "resolved" // quiet for the keep-firing duration
)

// Severity orders findings for people.
type Severity string

// The severities, the lowest first.
const (
	SeverityLow      Severity = "low"
	SeverityMedium   Severity = "medium"
	SeverityHigh     Severity = "high"
	SeverityCritical Severity = "critical"
)

// Evidence is one feature's part in a score.
type Evidence struct {
	Feature      string  `json:"feature"`
	Value        float64 `json:"value"`
	Baseline     float64 `json:"baseline"`
	Contribution float64 `json:"contribution"` // share of the score, in [0,1]
}

// Limit is the value of a feature up to which, all else equal, a finding would
// not have fired.
type Limit struct {
	Feature string  `json:"feature"`
	Value   float64 `json:"value"`
}

// Finding is what a detector says of a host or a service.
type Finding struct {
	ID    string
	Kind  Kind
	State State
	// Time is when the state was reached, FirstSeen when the first record
	// of the evidence was observed; Unix nanoseconds, record time.
	Time, FirstSeen int64
	// Host is the attacker; invalid when the sources are spoofed, in which
	// case InPort and Victims say where to act.
	Host    netip.Addr
	HostMAC flow.MAC
	// Origin is the host from which the attack came to this one, for chains
	// of hosts; invalid where there is none or it is not known.
	Origin netip.Addr
	// Spoofed is true when the source addresses are not believed.
	Spoofed bool
	// Exporter and InPort (kernel interface index) are where the attack
	// enters; InPort is 0 when unknown.
	Exporter flow.Exporter
	InPort   uint32
	Victims  []netip.Addr // at most 16, most recent evidence
	Proto    uint8
	// DstPort is the port attacked, 0 when many; of an amplification that of
	// the service that is made to answer.
	DstPort    uint16
	Score      float64
	Confidence float64
	Severity   Severity
	Technique  string // MITRE ATT&CK technique ID, Enterprise matrix
	ICS        string // the same in the ICS matrix
	Family     Family
	Evidence   []Evidence
	Limits     []Limit // what would have kept it from firing
	// Usual is what was normal for the host, or for the victim where the
	// attacker is not known, when the finding was made; nil when it is about
	// neither. It is shared by all copies of the finding: do not change it.
	Usual   *Profile
	Records int64 // records behind the evidence
	// Rate is the attack's estimated packets per second, for floods.
	Rate float64
	// Baseline is the normal rate of the same key in packets per second.
	Baseline float64
	// Sequential is true when a sequential test decided, which alone may
	// contain; everything else needs a second, agreeing detector.
	Sequential bool
	// Agrees lists the findings of other families about the same host that
	// corroborate this one; see MayContain.
	Agrees []Vote
	// Rates tells how the records behind it were sampled: the smallest and
	// the largest number of packets that one stood for.
	SampledFrom, SampledTo float64
	// Excerpt holds some of the records behind the finding, the latest of
	// them, oldest first.
	Excerpt []flow.Record
}

// Vote is a finding that corroborates another.
type Vote struct {
	ID     string  `json:"id"`
	Kind   Kind    `json:"kind"`
	Family Family  `json:"family"`
	Score  float64 `json:"score"`
}

// MayContain reports whether the finding is enough for an action without a
// person: a sequential test decided, or findings of two families agree. One
// vote alone only alerts.
func (f *Finding) MayContain() bool { return f.Sequential || len(f.Agrees) > 0 }

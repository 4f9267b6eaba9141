package config

import (
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/platelet-sdn/platelet/controller/response"
	"github.com/platelet-sdn/platelet/detector"
	"github.com/platelet-sdn/platelet/segmentation"
)

// Response bounds what is done.
type Response struct {
	// action by kind of finding: observe, alert, rate-limit, segment (from the service or the peer alone) or quarantine; a kind left out keeps its default
	Actions map[detector.Kind]response.Action `yaml:"actions"`
	// how long the switch keeps an emergency rule that is not renewed
	TTL time.Duration `yaml:"ttl"`
	// least time of containment; doubles with each relapse
	MinHold time.Duration `yaml:"min_hold"`
	// most that it can grow to
	MaxHold time.Duration `yaml:"max_hold"`
	// how long a released target counts as relapsing
	RelapseWindow time.Duration `yaml:"relapse_window"`
	// how long an attack must be over before release
	QuietFor time.Duration `yaml:"quiet_for"`
	// deadline of the proof after an action
	VerifyWithin time.Duration `yaml:"verify_within"`
	// how long a proposal waits for approval in mode advise
	ApprovalWithin time.Duration `yaml:"approval_within"`
	// share of dropped packets that is still reported, 0 to 1
	Sample     float64    `yaml:"sample"`
	Quarantine Quarantine `yaml:"quarantine"`
	Probation  Probation  `yaml:"probation"`
	RateLimit  RateLimit  `yaml:"rate_limit"`
}

// Quarantine bounds quarantines.
type Quarantine struct {
	// hosts in quarantine at once
	Max int `yaml:"max"`
	// containments of any kind begun within a minute
	MaxPerMinute int `yaml:"max_per_minute"`
	// hosts that stay reachable from quarantine
	Remediation []netip.Addr `yaml:"remediation"`
}

// Probation is the way back from quarantine when the attack is over.
type Probation struct {
	// how long the host may then do everything, slowly; 0 leaves this out
	Limited time.Duration `yaml:"limited"`
	// how long it is then free, while a relapse is still one of the same containment; 0 leaves this out
	Watched time.Duration `yaml:"watched"`
	// packets per second while limited
	PktPS uint32 `yaml:"pktps"`
	// packets
	Burst uint32 `yaml:"burst"`
}

// RateLimit is what a flood is limited to at its ingress port.
type RateLimit struct {
	// packets per second
	PktPS uint32 `yaml:"pktps"`
	// packets
	Burst uint32 `yaml:"burst"`
	// times the learned baseline, where that is more
	Margin float64 `yaml:"margin"`
}

// check calls bad for each value that cannot work, with its path.
func (r *Response) check(want func(ok bool, path, format string, args ...any)) {
	want(r.Sample >= 0 && r.Sample <= 1, "response.sample", "%v is outside 0 to 1", r.Sample)
	want(r.RateLimit.Margin >= 0, "response.rate_limit.margin", "%v is negative", r.RateLimit.Margin)
	for k, a := range r.Actions {
		_, known := Default().Response.Actions[k]
		want(known, "response.actions."+string(k), "there is no finding of this kind")
		want(slices.Contains(response.Ladder(), a), "response.actions."+string(k), "%q is not one of %v", a, response.Ladder())
	}
	for i, a := range r.Quarantine.Remediation {
		want(a.IsValid(), fmt.Sprintf("response.quarantine.remediation[%d]", i), "is not an address")
	}
}

// ResponseConfig is the part that the response needs.
func (f *File) ResponseConfig() response.Config {
	r := &f.Response
	return response.Config{
		Mode: f.Mode, Actions: r.Actions, Protected: segmentation.NewProtected(prefixes(f.Protected)),
		Remediation: r.Quarantine.Remediation, MaxQuarantines: r.Quarantine.Max, MaxActions: r.Quarantine.MaxPerMinute,
		TTL: r.TTL, MinHold: r.MinHold, MaxHold: r.MaxHold, RelapseWindow: r.RelapseWindow, QuietFor: r.QuietFor,
		Probation: response.Probation{Limited: r.Probation.Limited, Watched: r.Probation.Watched,
			Limit: segmentation.Limit{PacketsPerSecond: r.Probation.PktPS, Burst: r.Probation.Burst}},
		VerifyWithin: r.VerifyWithin, ApprovalWithin: r.ApprovalWithin,
		Limit:  segmentation.Limit{PacketsPerSecond: r.RateLimit.PktPS, Burst: r.RateLimit.Burst},
		Margin: r.RateLimit.Margin, Sample: probability(r.Sample),
	}
}

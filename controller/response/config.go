package response

import (
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/platelet-sdn/platelet/controller/response/exposure"
	"github.com/platelet-sdn/platelet/detector"
	"github.com/platelet-sdn/platelet/segmentation"
)

// Config is what the operator allows.
type Config struct {
	Mode Mode
	// Playbooks choose the action; without them it is that of the kind.
	Playbooks Planner
	// Actions by kind of finding; a kind that is not listed raises an alert.
	Actions map[detector.Kind]Action
	// Chooser chooses among the rungs that playbooks and guards leave open; nil
	// where the playbook's always holds.
	Chooser Chooser
	// Health is asked about the probes of playbooks; nil where there are none.
	Health Health
	// Protected addresses are never contained.
	Protected segmentation.Protected
	// Exempt are left alone by everything but an operator's own order.
	Exempt []Exemption
	// Shared addresses stand for many hosts, as those of address translation
	// and of terminal servers do: they are never cut off as a whole.
	Shared []netip.Prefix
	// Groups bound how many of their hosts are in quarantine at once.
	Groups []Group
	// AskAbove is the share of all ports with clients above which a host on
	// whom they depend is only cut off with approval; zero never asks.
	AskAbove float64
	// MaxTraffic is the share of the network's traffic, in the TrafficWindow
	// before the first evidence, that hosts in quarantine may have had together;
	// above it somebody has to approve. Zero never asks. The window is in whole
	// minutes, at most 60.
	MaxTraffic    float64
	TrafficWindow time.Duration
	// Honeypot takes what is rerouted. It has to live on the switch of the
	// rerouted host and to answer for any address.
	Honeypot netip.Addr
	// Scrubbers take what is sent to a victim and send the clean rest on: the
	// one that lives on the switch where a flood enters.
	Scrubbers []netip.Addr
	Mirror    Mirror
	// Remediation hosts stay reachable from quarantine.
	Remediation []netip.Addr
	// MaxQuarantines is the cap on hosts in quarantine at once.
	MaxQuarantines int
	// MaxActions is the cap on containments begun within a minute.
	MaxActions int
	// TTL is how long the switch keeps a rule that is not renewed: what a
	// dead controller leaves behind is gone by then.
	TTL time.Duration
	// MinHold is the least time of containment, doubled with each relapse
	// within RelapseWindow, up to MaxHold.
	MinHold, MaxHold, RelapseWindow time.Duration
	// QuietFor is how long an attack must have been over before release.
	QuietFor time.Duration
	// Probation is the way back from a quarantine.
	Probation Probation
	// VerifyWithin is the deadline of the proof.
	VerifyWithin time.Duration
	// ApprovalWithin is how long a proposal waits for a person.
	ApprovalWithin time.Duration
	// Limit of a flood; Margin times the learned baseline where that is more.
	Limit  segmentation.Limit
	Margin float64
	// Sample is the thin sample in drop rules, of 65535.
	Sample uint16
}

// Group is a set of hosts that must not all be gone at once.
type Group struct {
	Name      string
	Addresses []netip.Prefix
	Max       int
}

// Mirror says where copies of suspicious traffic go.
type Mirror struct {
	// Ports are the interfaces by which copies leave, by bridge.
	Ports map[string]string
	// Limit is that of the copies that one decision makes.
	Limit segmentation.Limit
	// Max is the cap on mirrors at once. They are not within the budgets of
	// containment: whoever only looks suspicious must not use those up.
	Max int
}

// Probation is the way back from containment that a host goes when its attack is
// over: limited, then watched, then free. A relapse on the way contains again,
// for longer.
type Probation struct {
	// Limited is how long a host that was in quarantine may do everything at
	// no more than Limit; zero leaves the stage out.
	Limited time.Duration
	Limit   segmentation.Limit
	// Watched is how long it is then free while the decision stays open;
	// zero leaves the stage out.
	Watched time.Duration
}

// DefaultConfig observes, and is ready to be told more.
func DefaultConfig() Config {
	return Config{
		Mode: ModeObserve,
		Actions: map[detector.Kind]Action{
			detector.KindPortScan:        ActionQuarantine,
			detector.KindHostSweep:       ActionQuarantine,
			detector.KindARPSweep:        ActionQuarantine,
			detector.KindWorm:            ActionQuarantine,
			detector.KindSYNFlood:        ActionRateLimit,
			detector.KindUDPFlood:        ActionRateLimit,
			detector.KindICMPFlood:       ActionRateLimit,
			detector.KindACKFlood:        ActionRateLimit,
			detector.KindAmplification:   ActionRateLimit,
			detector.KindBruteForce:      ActionSegment,
			detector.KindLateralMovement: ActionQuarantine,
			detector.KindBeacon:          ActionSegment,
			detector.KindExfiltration:    ActionSegment,
			detector.KindDNSTunnel:       ActionSegment,
			detector.KindARPSpoof:        ActionQuarantine,
			detector.KindIPSpoof:         ActionAlert,
			detector.KindMACFlood:        ActionQuarantine,
			detector.KindRogueDHCP:       ActionQuarantine,
			detector.KindPolicyViolation: ActionAlert,
			detector.KindDeviceSilent:    ActionAlert,
			detector.KindRhythmBreak:     ActionAlert,
			detector.KindLinkFlap:        ActionAlert,
			detector.KindAsymmetricLoss:  ActionAlert,
			detector.KindAnomaly:         ActionAlert,
			detector.KindLearnedThreat:   ActionAlert,
		},
		AskAbove:       0.5,
		MaxTraffic:     0.5,
		TrafficWindow:  30 * time.Minute,
		Mirror:         Mirror{Limit: segmentation.Limit{PacketsPerSecond: 1000, Burst: 100}, Max: 4},
		MaxQuarantines: 8,
		MaxActions:     30,
		TTL:            60 * time.Second,
		MinHold:        30 * time.Second,
		MaxHold:        time.Hour,
		RelapseWindow:  10 * time.Minute,
		QuietFor:       15 * time.Second,
		Probation:      Probation{Limited: 10 * time.Second, Limit: segmentation.Limit{PacketsPerSecond: 100, Burst: 50}, Watched: 20 * time.Second},
		VerifyWithin:   3 * time.Second,
		ApprovalWithin: 10 * time.Minute,
		Limit:          segmentation.Limit{PacketsPerSecond: 200, Burst: 20},
		Margin:         2,
		Sample:         655, // 1 %
	}
}

// Validate reports the first setting that cannot work.
func (c Config) Validate() error {
	switch c.Mode {
	case ModeObserve, ModeAdvise, ModeAutonomous:
	default:
		return fmt.Errorf("mode %q: want observe, advise or autonomous", c.Mode)
	}
	for k, a := range c.Actions {
		if !slices.Contains(Ladder(), a) {
			return fmt.Errorf("action %q for %s: want one of %v", a, k, Ladder())
		}
	}
	for _, d := range []struct {
		name string
		v    time.Duration
	}{{"ttl", c.TTL}, {"min_hold", c.MinHold}, {"quiet_for", c.QuietFor}, {"verify_within", c.VerifyWithin}, {"approval_within", c.ApprovalWithin}} {
		if d.v <= 0 {
			return fmt.Errorf("%s %s: must be positive", d.name, d.v)
		}
	}
	switch {
	case c.Probation.Limited < 0 || c.Probation.Watched < 0:
		return fmt.Errorf("probation.limited %s and probation.watched %s must not be negative", c.Probation.Limited, c.Probation.Watched)
	case c.Probation.Limited > 0 && c.Probation.Limit.PacketsPerSecond == 0:
		return fmt.Errorf("a probation limit of 0 packets/s would be a drop")
	case c.TTL < 2*time.Second || c.TTL > 18*time.Hour:
		return fmt.Errorf("ttl %s: want 2s to 18h (the switch keeps it as a hard timeout)", c.TTL)
	case c.MaxTraffic < 0 || c.MaxTraffic > 1:
		return fmt.Errorf("max_traffic %v is outside 0 to 1", c.MaxTraffic)
	case c.MaxTraffic > 0 && (c.TrafficWindow < leastMinutes*time.Minute || c.TrafficWindow > exposure.Minutes*time.Minute):
		return fmt.Errorf("traffic_window %s: want %dm to %dm", c.TrafficWindow, leastMinutes, exposure.Minutes)
	case c.MaxHold < c.MinHold:
		return fmt.Errorf("max_hold %s is less than min_hold %s", c.MaxHold, c.MinHold)
	case c.MaxQuarantines < 0 || c.MaxActions < 0:
		return fmt.Errorf("max_quarantines and max_actions must not be negative")
	case c.Limit.PacketsPerSecond == 0:
		return fmt.Errorf("rate_limit of 0 packets/s would be a drop")
	case c.Mirror.Max < 0:
		return fmt.Errorf("mirror.max must not be negative")
	case len(c.Mirror.Ports) > 0 && c.Mirror.Limit.PacketsPerSecond == 0:
		return fmt.Errorf("a mirror limit of 0 packets/s copies nothing")
	}
	return nil
}

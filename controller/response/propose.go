package response

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/platelet-sdn/platelet/detector"
	"github.com/platelet-sdn/platelet/flowcollector/flow"
	"github.com/platelet-sdn/platelet/segmentation"
)

// Propose says what the ladder asks for on a finding, before any guard and
// wherever the target attaches; ok is false where the answer is to do
// nothing but tell: by its playbook, or because one vote alone is not enough.
// It is a pure function, so that replay proposes what a live controller would.
func Propose(cfg Config, f detector.Finding, at Circumstances) (d Decision, ok bool) {
	return propose(cfg, f, cfg.plan(f, at))
}

func propose(cfg Config, f detector.Finding, plan Plan) (d Decision, ok bool) {
	action := plan.Action
	if !action.Acts() || action.Contains() && !f.MayContain() { // to look closer, one vote is enough
		return Decision{}, false
	}
	if f.Spoofed && action != ActionScrub && action != ActionMirror {
		action = ActionRateLimit // never ban an address that did not send
	}
	asking := f.Kind == detector.KindAmplification && !f.HostMAC.IsZero()
	if action == ActionScrub && asking {
		action = ActionRateLimit // nothing of what is asked in the victim's name is clean
	}
	d = Decision{
		Finding: f.ID, Kind: f.Kind, Action: action, State: StateProposed, Who: "playbook", Why: Why(f),
		TTL: cfg.TTL, Hold: cfg.MinHold, Playbook: plan.Playbook, Version: plan.Version, Mode: Stricter(cfg.Mode, plan.Mode), People: plan.People, Canary: plan.Canary, Probes: plan.Probes,
		Severity: f.Severity, Technique: f.Technique, Score: f.Score, Confidence: f.Confidence,
		FirstSeen: time.Unix(0, f.FirstSeen), Detected: time.Unix(0, f.Time), Created: time.Unix(0, f.Time),
	}
	if f.DstPort != 0 {
		d.Attacked = Service{f.Proto, f.DstPort}
	}
	switch {
	case f.Kind == detector.KindMACFlood: // who lives there may be another victim
		d.Target.Lock = action == ActionQuarantine
	case !f.Spoofed:
		d.Target.Host, d.Target.MAC = f.Host, f.HostMAC
	}
	if action == ActionSegment && !d.Target.narrow(f) {
		return Decision{}, false
	}
	if action == ActionRateLimit || action == ActionScrub || action == ActionMirror && !d.Target.Host.IsValid() {
		if len(f.Victims) == 0 {
			return Decision{}, false
		}
		d.Target.Victim, d.Target.Proto = f.Victims[0], f.Proto
		if f.Kind == detector.KindAmplification && action != ActionMirror {
			d.Target.Reflector, d.Target.Asking = f.DstPort, asking
		}
	}
	if narrow := d.Target; d.Action.Isolates() && narrow.narrow(f) {
		narrow.MAC = flow.MAC{}
		d.Narrow = &narrow
	}
	if d.Mode == ModeAdvise {
		d.People = max(d.People, 1)
	}
	d.ID = decisionID(f.ID, string(action))
	return d, true
}

// narrow fills in what a host is to be kept from: the other end where that is what
// the finding is about, else the service, whomever it is asked of.
func (t *Target) narrow(f detector.Finding) bool {
	peer, service := false, f.DstPort != 0
	switch f.Kind {
	case detector.KindBeacon, detector.KindExfiltration: // it may turn to another port
		peer, service = true, false
	case detector.KindDNSTunnel: // other resolvers may be asked
		peer = true
	}
	if peer || !service {
		if len(f.Victims) == 0 {
			return false
		}
		t.Peer = f.Victims[0]
	}
	if service {
		t.Proto, t.Service = f.Proto, f.DstPort
	}
	return t.Host.IsValid()
}

// decisionID is derived, so that the same finding replayed gives the same ID.
func decisionID(parts ...string) string {
	sum := sha256.Sum256([]byte(strings.Join(parts, "|")))
	return "d-" + hex.EncodeToString(sum[:6])
}

// Why says in one sentence what carried the finding.
func Why(f detector.Finding) string {
	who := "forged sources"
	switch {
	case f.Host.IsValid():
		who = f.Host.String()
	case !f.Spoofed && !f.HostMAC.IsZero():
		who = f.HostMAC.String()
	case !f.Spoofed:
		who = "somebody behind one port"
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%s by %s", f.Kind, who)
	if len(f.Victims) > 0 {
		fmt.Fprintf(&b, " against %s", f.Victims[0])
		if n := len(f.Victims) - 1; n > 0 {
			fmt.Fprintf(&b, " and %d more", n)
		}
	}
	top := slices.DeleteFunc(slices.Clone(f.Evidence), func(e detector.Evidence) bool { return e.Contribution <= 0 })
	slices.SortStableFunc(top, func(a, b detector.Evidence) int {
		switch {
		case a.Contribution > b.Contribution:
			return -1
		case a.Contribution < b.Contribution:
			return 1
		}
		return 0
	})
	sep := ": "
	for _, e := range top[:min(2, len(top))] {
		fmt.Fprintf(&b, "%s%s %.4g against a normal %.3g", sep, e.Feature, e.Value, e.Baseline)
		sep = ", "
	}
	sep = "; agrees with "
	for _, v := range f.Agrees[:min(2, len(f.Agrees))] {
		fmt.Fprintf(&b, "%s%s (%s, %.2f)", sep, v.Kind, v.ID, v.Score)
		sep = " and "
	}
	return b.String()
}

// limit is the configured limit, or the margin over what is normal here.
func limit(cfg Config, baseline float64) segmentation.Limit {
	l := cfg.Limit
	if normal := baseline * cfg.Margin; normal > float64(l.PacketsPerSecond) && normal < 1<<30 {
		l.Burst = uint32(float64(l.Burst) * normal / float64(l.PacketsPerSecond))
		l.PacketsPerSecond = uint32(normal)
	}
	return l
}

package controller

import (
	"maps"
	"net/netip"
	"testing"

	"github.com/platelet-sdn/platelet/detector"
	"github.com/platelet-sdn/platelet/segmentation/policy"
)

// The worst of what fires is a host's risk; what was forged, what is over, and what a
// policy denied are none.
func TestRisks(t *testing.T) {
	a, b := netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("10.0.0.2")
	r := risks{firing: map[string]risk{}}
	step := func(f detector.Finding, changes bool, want map[netip.Addr]policy.Risk) {
		t.Helper()
		_, before := r.worst()
		if changed := r.finding(&f); changed != changes {
			t.Errorf("%+v: changed %v", f, changed)
		}
		if worst, version := r.worst(); !maps.Equal(worst, want) || (version != before) != changes {
			t.Errorf("%+v: %v, version %d after %d", f, worst, version, before)
		}
	}
	scan := detector.Finding{ID: "f-1", Kind: detector.KindPortScan, State: detector.StateFiring, Host: a, Severity: detector.SeverityHigh}
	step(scan, true, map[netip.Addr]policy.Risk{a: policy.RiskHigh})
	step(scan, false, map[netip.Addr]policy.Risk{a: policy.RiskHigh})
	step(detector.Finding{ID: "f-2", Kind: detector.KindBeacon, State: detector.StateFiring, Host: a, Severity: detector.SeverityLow}, true, map[netip.Addr]policy.Risk{a: policy.RiskHigh})
	step(detector.Finding{ID: "f-3", Kind: detector.KindPolicyViolation, State: detector.StateFiring, Host: b, Severity: detector.SeverityMedium}, false, map[netip.Addr]policy.Risk{a: policy.RiskHigh})
	step(detector.Finding{ID: "f-4", Kind: detector.KindPortScan, State: detector.StateFiring, Host: b, Severity: detector.SeverityHigh, Spoofed: true}, false, map[netip.Addr]policy.Risk{a: policy.RiskHigh})
	scan.State = detector.StateResolved
	step(scan, true, map[netip.Addr]policy.Risk{a: policy.RiskLow})
}

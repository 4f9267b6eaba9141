package response_test

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/platelet-sdn/platelet/controller/response"
	"github.com/platelet-sdn/platelet/detector"
)

// One vote alone only alerts, whatever the configured action.
func TestOneVoteOnlyAlerts(t *testing.T) {
	f := detector.Finding{ID: "f-1", Kind: detector.KindBeacon, Family: detector.FamilyPeriodicity, State: detector.StateFiring,
		Host: netip.MustParseAddr("10.0.0.3"), Victims: []netip.Addr{netip.MustParseAddr("198.51.100.7")}, Proto: 6, DstPort: 443, Score: 0.99}
	if d, ok := response.Propose(response.DefaultConfig(), f, response.Circumstances{}); ok {
		t.Errorf("a lone finding proposes %+v", d)
	}
	f.Agrees = []detector.Vote{{ID: "f-2", Kind: detector.KindExfiltration, Family: detector.FamilyVolume, Score: 0.97}}
	d, ok := response.Propose(response.DefaultConfig(), f, response.Circumstances{})
	if !ok || d.Action != response.ActionSegment || d.Target.Peer != f.Victims[0] || d.Target.Service != 0 || !strings.Contains(d.Why, "agrees with exfiltration (f-2, 0.97)") {
		t.Errorf("two families propose %+v, %v", d, ok)
	}
	f.Agrees, f.Sequential = nil, true
	if _, ok := response.Propose(response.DefaultConfig(), f, response.Circumstances{}); !ok {
		t.Error("a sequential test proposes nothing")
	}
}

func TestEveryKindHasAnAction(t *testing.T) {
	actions := response.DefaultConfig().Actions
	for _, k := range detector.Kinds() {
		if actions[k.Kind] == "" {
			t.Errorf("%s has no default action", k.Kind)
		}
	}
	if len(actions) != len(detector.Kinds()) {
		t.Errorf("%d actions for %d kinds", len(actions), len(detector.Kinds()))
	}
}

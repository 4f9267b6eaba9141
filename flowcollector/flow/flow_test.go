package flow_test

import (
	"encoding/json"
	"testing"

	"github.com/platelet-sdn/platelet/flowcollector/flow"
)

func TestTapPointRoundTrip(t *testing.T) {
	for s := flow.SignalAttempt; s <= flow.SignalProbe; s++ {
		for _, p := range []uint16{1, 655, flow.FullProbability} {
			got, rate, ok := flow.ParseTapPoint(flow.TapPoint(s, p))
			if want := 65535 / float64(p); !ok || got != s || rate != want {
				t.Errorf("signal %d at %d: got %d, rate %v, %v", s, p, got, rate, ok)
			}
		}
	}
	// What others put there is not mistaken for a tap's.
	for _, point := range []uint32{0, 1, 456, flow.TapPoint(flow.SignalAttempt, 0), 16<<16 | 1, 0xffffffff} {
		if s, _, ok := flow.ParseTapPoint(point); ok {
			t.Errorf("observation point %#x is taken for signal %d", point, s)
		}
	}
	if !flow.IsTapDomain(flow.TapDomain(7)) || flow.IsTapDomain(7) {
		t.Error("tap domains are not told from others")
	}
}

func TestRulePointRoundTrip(t *testing.T) {
	for _, rule := range []uint32{1, 77, flow.MaxRule} {
		for r, want := range map[flow.RuleReport]flow.Signal{flow.RuleDenied: flow.SignalDropped, flow.RuleDeniedOpening: flow.SignalDropped, flow.RuleLogged: flow.SignalLogged, flow.RuleForged: flow.SignalForged} {
			s, got, rate, ok := flow.ParseRulePoint(flow.RulePoint(r, rule))
			if !ok || s != want || got != rule || (rate > 1) != (r == flow.RuleDenied || r == flow.RuleForged) {
				t.Errorf("report %d of rule %d: signal %s of rule %d, rate %v, %v", r, rule, s, got, rate, ok)
			}
			if _, _, ok := flow.ParseTapPoint(flow.RulePoint(r, rule)); ok {
				t.Errorf("report %d of rule %d is taken for a tap's", r, rule)
			}
		}
	}
	for _, point := range []uint32{0, 77, flow.TapPoint(flow.SignalDropped, 65), 1 << 31, 7 << 29} {
		if s, rule, _, ok := flow.ParseRulePoint(point); ok {
			t.Errorf("observation point %#x is taken for signal %d of rule %d", point, s, rule)
		}
	}
}

func TestMACText(t *testing.T) {
	type holder struct{ A, B flow.MAC }
	in := holder{A: flow.MAC{2, 0, 0, 0, 0, 9}}
	raw, err := json.Marshal(in)
	if err != nil || string(raw) != `{"A":"02:00:00:00:00:09","B":""}` {
		t.Fatalf("%s, %v", raw, err)
	}
	var out holder
	if err := json.Unmarshal(raw, &out); err != nil || out != in {
		t.Errorf("%+v, %v", out, err)
	}
	for _, bad := range []string{`{"A":"02:00"}`, `{"A":"00:00:5e:00:53:01:00:00"}`, `{"A":"x"}`} {
		if json.Unmarshal([]byte(bad), &out) == nil {
			t.Errorf("read %s", bad)
		}
	}
}

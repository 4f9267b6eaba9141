package audit

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"net/netip"
	"testing"
	"time"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/platelet-sdn/platelet/controller/response"
	"github.com/platelet-sdn/platelet/detector"
	"github.com/platelet-sdn/platelet/flowcollector/flow"
)

// exported is an event as it is read by others, held against its class.
type exported struct {
	Class    int `json:"class_uid"`
	Category int `json:"category_uid"`
	Activity int `json:"activity_id"`
	Type     int `json:"type_uid"`
	Status   int `json:"status_id"`
	Counter  []struct {
		Tactic struct{ Name string } `json:"d3f_tactic"`
	} `json:"countermeasures"`
}

type classes map[int]*jsonschema.Schema

// of returns the event of an entry; ok is false for one that has no class.
func (c classes) of(t *testing.T, e Event) (x exported, ok bool) {
	t.Helper()
	event, ok := OCSF(&Entry{Seq: 7, Run: "r", Time: time.Unix(1, 0), Event: e.bounded()})
	if !ok {
		return x, false
	}
	raw, err := json.Marshal(event)
	if err != nil {
		t.Fatalf("%s: %v", e.What, err)
	}
	v, err := jsonschema.UnmarshalJSON(bytes.NewReader(raw))
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(raw, &x); err != nil {
		t.Fatal(err)
	}
	if err := c[x.Class].Validate(v); err != nil {
		t.Errorf("%s: %v\n%s", e.What, err, raw)
	}
	if x.Type != 100*x.Class+x.Activity || x.Category != x.Class/1000 {
		t.Errorf("%s: %s", e.What, raw)
	}
	return x, true
}

// Whatever is known of a finding, or is not, its events are of their class.
func TestEveryFindingIsOCSF(t *testing.T) {
	c := classes{2004: compile(t, "ocsf-2004.schema.json")}
	n := 0
	for _, kind := range detector.Kinds() {
		for _, state := range []detector.State{detector.StateFiring, detector.StateResolved} {
			for _, host := range []string{"", "10.0.0.1", "2001:db8::1", "fe80::1%eth0"} {
				f := detector.Finding{ID: "f-1", Kind: kind.Kind, State: state, Severity: detector.SeverityCritical, Confidence: 0.29, Technique: "T1557.002", Time: 1}
				if host != "" {
					f.Host, f.HostMAC, f.Proto, f.DstPort = netip.MustParseAddr(host), flow.MAC{2}, flow.ProtoTCP, 65535
					f.Victims = []netip.Addr{f.Host}
					f.Evidence = []detector.Evidence{{Feature: "x", Value: math.NaN(), Baseline: math.Inf(1)}}
				}
				if x, ok := c.of(t, OfFinding(&f)); !ok || x.Activity == 1 != (state == detector.StateFiring) {
					t.Errorf("%s %s: %+v", kind.Kind, state, x)
				}
				n++
			}
		}
	}
	for _, verdict := range []string{"true", "false"} {
		if _, ok := c.of(t, Event{What: OperatorPrefix + "feedback", Who: "root", Finding: "f-1", After: verdict, Why: "x"}); !ok {
			t.Errorf("a verdict %s has no class", verdict)
		}
	}
	if n < 100 {
		t.Errorf("%d findings were looked at", n)
	}
}

// Whatever is done, or not done, is told by the activity that it was: what was never
// done is not undone, what only looks isolates nobody, and what does nothing is no
// remediation.
func TestEveryDecisionIsOCSF(t *testing.T) {
	c := classes{7004: compile(t, "ocsf-7004.schema.json")}
	for _, action := range response.Ladder() {
		did, tactic := 1, "Isolate"
		if action == response.ActionMirror {
			did, tactic = 5, "Detect"
		}
		for _, state := range []response.State{response.StateProposed, response.StateAwaitingApproval, response.StateApplied, response.StateVerified, response.StateProbation,
			response.StateRolledBack, response.StateReleased, response.StateExpired, response.StateRefused} {
			for _, applied := range []bool{false, true} {
				for _, host := range []netip.Addr{{}, netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("2001:db8::1")} {
					d := response.Decision{ID: "d-1", Kind: detector.KindWorm, Action: action, State: state, Target: response.Target{Host: host, Switch: "br0", Port: "p1", Proto: flow.ProtoUDP}}
					if applied {
						d.Applied = time.Unix(1, 0)
					}
					if state == response.StateProbation {
						d.Stage = response.StageLimited
					}
					x, ok := c.of(t, OfDecision(&d, ""))
					want, wantTactic := [2]int{}, tactic
					switch {
					case !action.Acts() || state == response.StateProposed || state == response.StateAwaitingApproval:
					case state == response.StateApplied || state == response.StateVerified:
						want = [2]int{did, 1}
					case state == response.StateRefused || !applied:
						want = [2]int{did, 2}
					case state == response.StateProbation:
						want, wantTactic = [2]int{3, 4}, "Restore"
					default:
						want, wantTactic = [2]int{3, 1}, "Restore"
					}
					name := fmt.Sprintf("%s %s, applied %t, of %s", action, state, applied, host)
					if want == [2]int{} {
						if ok {
							t.Errorf("%s: is an event: %+v", name, x)
						}
						continue
					}
					if !ok || [2]int{x.Activity, x.Status} != want || len(x.Counter) != 1 || x.Counter[0].Tactic.Name != wantTactic {
						t.Errorf("%s: %+v, want %v", name, x, want)
					}
				}
			}
		}
	}
}

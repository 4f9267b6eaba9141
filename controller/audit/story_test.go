package audit

import (
	"bytes"
	"encoding/json"
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/platelet-sdn/platelet/controller/response"
	"github.com/platelet-sdn/platelet/detector"
	"github.com/platelet-sdn/platelet/flowcollector/flow"
	"github.com/platelet-sdn/platelet/segmentation"
)

// told is what the controller tells of a scan that is contained and of another
// host's, which a guard refuses.
func told() []Event {
	at := time.Date(2026, 3, 4, 5, 6, 7, 0, time.UTC)
	host, victim := netip.MustParseAddr("10.77.0.15"), netip.MustParseAddr("10.77.0.11")
	f := detector.Finding{
		ID: "f-0123456789abcdef", Kind: detector.KindPortScan, State: detector.StateFiring, Time: at.UnixNano(), FirstSeen: at.Add(-3 * time.Millisecond).UnixNano(),
		Host: host, HostMAC: flow.MAC{2, 0, 0, 0, 0, 15}, Victims: []netip.Addr{victim}, Proto: flow.ProtoTCP, Score: 0.999, Confidence: 1, Severity: detector.SeverityHigh,
		Technique: "T1046", Evidence: []detector.Evidence{{Feature: "failed_first_contacts", Value: 4, Baseline: 0.2, Contribution: 1}}, Records: 5, Sequential: true,
	}
	d := response.Decision{
		ID: "d-0123456789ab", Finding: f.ID, Kind: f.Kind, Action: response.ActionQuarantine, State: response.StateProposed, Committed: true, Who: "playbook", Playbook: "default",
		Why: "port-scan by 10.77.0.15", Target: response.Target{Host: host, MAC: f.HostMAC, Switch: "br0", Port: "p5"}, TTL: time.Minute, Severity: f.Severity,
		Guards: []response.Verdict{{Guard: "place", Pass: true, Why: "p5 on br0 is an edge port"}, {Guard: "budget", Pass: true, Why: "0 containments"}},
		Intents: []segmentation.Intent{{ID: "d-0123456789ab/0", Owner: "d-0123456789ab", Switch: "br0", Action: segmentation.ActionDeny, TTL: time.Minute,
			Match: segmentation.Match{InPort: "p5", EtherType: 0x800, Src: netip.PrefixFrom(host, 32), Proto: flow.ProtoTCP, DstPort: 80}}},
		FirstSeen: at, Detected: at, Created: at,
	}
	with := func(s response.State, change func(*response.Decision)) *response.Decision {
		x := d
		x.State = s
		change(&x)
		return &x
	}
	first := OfDecision(&d, "")
	seen := OfFinding(&f)
	first.About, first.Evidence = seen.About, seen.Evidence
	resolved := f
	resolved.State = detector.StateResolved
	other := with(response.StateRefused, func(x *response.Decision) {
		x.ID, x.Finding, x.Target.Host = "d-ffffffffffff", "f-ffffffffffffffff", netip.MustParseAddr("10.77.0.1")
		x.Guards = []response.Verdict{{Guard: "compile", Why: "10.77.0.1 is protected"}}
	})
	return []Event{
		{What: EventStarted, Who: "platelet", Detail: map[string]string{"mode": "autonomous"}}, seen, first,
		{What: "rules.installed", Who: "platelet", Decision: d.ID, Rules: []Rule{{Intent: "d-0123456789ab/0", Switch: "br0", Cookie: "0x504c000300000001"}}, Detail: map[string]string{"switch": "br0"}},
		OfDecision(with(response.StateApplied, func(x *response.Decision) { x.Applied, x.Proof.Installed = at, true }), response.StateProposed),
		OfDecision(other, ""),
		OfDecision(with(response.StateVerified, func(x *response.Decision) {
			x.Applied, x.Proof = at, response.Proof{Installed: true, Effective: true, Harmless: true, Dropped: 41}
		}), response.StateApplied),
		{What: OperatorPrefix + "feedback", Who: "root", Finding: f.ID, After: "false", Why: "our own scanner"},
		OfFinding(&resolved),
		{What: OperatorPrefix + "release", Who: "root", Decision: d.ID},
		{What: "rules.removed", Who: "platelet", Decision: d.ID, Detail: map[string]string{"switch": "br0"}},
		OfDecision(with(response.StateReleased, func(x *response.Decision) { x.Applied, x.Who, x.Why = at, "root", "released by root" }), response.StateVerified),
		{What: EventStopped, Who: "platelet"},
	}
}

func toldLog(t testing.TB) string {
	t.Helper()
	cfg := configIn(t.TempDir())
	l, stop := running(t, cfg)
	for _, e := range told() {
		l.Record(e)
	}
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	return cfg.Dir
}

const toldStory = `finding f-0123456789abcdef firing: port-scan by 10.77.0.15 against 10.77.0.11, severity high, score 0.999, 5 records; failed_first_contacts 4 against a normal 0.2
d-0123456789ab proposed, quarantine of 10.77.0.15 at p5 by playbook: port-scan by 10.77.0.15; guards: place, budget; 1 rule (playbook default)
rules.installed for d-0123456789ab: 1 rule, cookies 0x504c000300000001 (switch br0)
d-0123456789ab applied by playbook: 0 packets of the attack dropped, 0 passed, rules read back (playbook default)
d-0123456789ab verified by playbook: 41 packets of the attack dropped, 0 passed, rules read back, effective, harmless (playbook default)
root says that f-0123456789abcdef is false: our own scanner
finding f-0123456789abcdef resolved: port-scan by 10.77.0.15 against 10.77.0.11, severity high, score 0.999, 5 records; failed_first_contacts 4 against a normal 0.2
root asks to release d-0123456789ab
rules.removed for d-0123456789ab (switch br0)
d-0123456789ab released by root: released by root (playbook default)
`

// The story of a decision is that of its finding, whichever is asked for.
func TestStory(t *testing.T) {
	dir := toldLog(t)
	stamp := regexp.MustCompile(`(?m)^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3} +(\+[\d.]+ m?s)?  `)
	for _, id := range []string{"d-0123456789ab", "f-0123456789abcdef"} {
		entries, err := Story(dir, id)
		if err != nil {
			t.Fatal(err)
		}
		var b strings.Builder
		if err := WriteStory(&b, entries); err != nil {
			t.Fatal(err)
		}
		if got := stamp.ReplaceAllString(b.String(), ""); got != toldStory {
			t.Errorf("story of %s:\n%s", id, b.String())
		}
	}
	refused, err := Story(dir, "d-ffffffffffff")
	if err != nil || len(refused) != 1 || !strings.Contains(refused[0].Sentence(), "compile says no (10.77.0.1 is protected)") {
		t.Errorf("%v %v", refused, err)
	}
	if _, err := Story(dir, "d-000000000000"); !errors.Is(err, ErrNoEntry) {
		t.Errorf("a story of nothing: %v", err)
	}
	if _, err := Story(t.TempDir(), "d-0"); err == nil {
		t.Error("a story without a log")
	}
}

// The first entry of a decision holds what it stands on, its guards and its
// rules; what came of it holds the proof.
func TestEntriesHoldWhatMatters(t *testing.T) {
	entries, err := Story(toldLog(t), "d-0123456789ab")
	if err != nil {
		t.Fatal(err)
	}
	at := func(what string) Entry {
		i := slices.IndexFunc(entries, func(e Entry) bool { return e.What == what })
		if i < 0 {
			t.Fatalf("no %s", what)
		}
		return entries[i]
	}
	p := at("decision.proposed")
	if len(p.Evidence) != 1 || len(p.Guards) != 2 || len(p.Rules) != 1 || p.About.Technique != "T1046" || p.Playbook != "default" || p.At.Port != "p5" {
		t.Errorf("%+v", p)
	}
	want := Rule{Intent: "d-0123456789ab/0", Switch: "br0", Action: "deny", Match: "in_port=p5,eth_type=0x0800,src=10.77.0.15/32,proto=tcp,dst_port=80", TTL: 60}
	if p.Rules[0] != want {
		t.Errorf("rule %+v", p.Rules[0])
	}
	if v := at("decision.verified"); v.Proof == nil || v.Proof.Dropped != 41 || v.Before != "applied" || v.After != "verified" {
		t.Errorf("%+v", v)
	}
}

func compile(t *testing.T, name string) *jsonschema.Schema {
	t.Helper()
	s, err := jsonschema.NewCompiler().Compile(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// What is exported as OCSF has what its classes require, and nothing that they
// do not know.
func TestOCSF(t *testing.T) {
	schemas := map[float64]*jsonschema.Schema{2004: compile(t, "ocsf-2004.schema.json"), 7004: compile(t, "ocsf-7004.schema.json")}
	var got []string
	err := Read(toldLog(t), nil, func(e Entry) error {
		event, ok := OCSF(&e)
		if !ok {
			return nil
		}
		raw, err := json.Marshal(event)
		if err != nil {
			return err
		}
		v, err := jsonschema.UnmarshalJSON(bytes.NewReader(raw))
		if err != nil {
			return err
		}
		var head struct {
			Class    float64 `json:"class_uid"`
			Type     int     `json:"type_uid"`
			Status   int     `json:"status_id"`
			Severity int     `json:"severity_id"`
		}
		if err := json.Unmarshal(raw, &head); err != nil {
			return err
		}
		if err := schemas[head.Class].Validate(v); err != nil {
			t.Errorf("%s: %v\n%s", e.What, err, raw)
		}
		line, err := json.Marshal([]any{e.What, head.Type, head.Status, head.Severity})
		got = append(got, string(line))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	want := []string{
		`["finding.firing",200401,1,4]`, `["decision.applied",700401,1,4]`, `["decision.refused",700401,2,4]`, `["decision.verified",700401,1,4]`,
		`["operator.feedback",200402,3,1]`, `["finding.resolved",200403,4,4]`, `["decision.released",700403,1,4]`,
	}
	if !slices.Equal(got, want) {
		t.Errorf("got  %v\nwant %v", got, want)
	}
}

// A log that was written by an earlier version is read by every later one. It is
// written anew, once and for a reason, by
//
//	UPDATE=1 go test ./controller/audit -run TestOldLog
func TestOldLog(t *testing.T) {
	const dir = "testdata/log"
	if os.Getenv("UPDATE") != "" {
		if err := os.CopyFS(dir, os.DirFS(toldLog(t))); err != nil {
			t.Fatal(err)
		}
	}
	r := verify(t, dir, Options{})
	if !r.OK() || r.Entries != 14 || r.Proven != 14 {
		t.Errorf("%+v", r)
	}
	entries, err := Story(dir, "f-0123456789abcdef")
	if err != nil || len(entries) != 10 {
		t.Errorf("%d entries: %v", len(entries), err)
	}
}

// Every change of a decision has a name of its own.
func TestNamesOfSteps(t *testing.T) {
	for _, c := range []struct {
		before, state response.State
		approvals     []string
		want          string
	}{
		{"", response.StateProposed, nil, "decision.proposed"},
		{"", response.StateAwaitingApproval, nil, "decision.awaiting-approval"},
		{response.StateAwaitingApproval, response.StateAwaitingApproval, []string{"ann"}, "decision.approved"}, // one of two
		{response.StateAwaitingApproval, response.StateProposed, []string{"ann", "bob"}, "decision.approved"},
		{response.StateProposed, response.StateApplied, nil, "decision.applied"},
		{response.StateApplied, response.StateApplied, nil, "decision.retried"},
		{response.StateApplied, response.StateVerified, nil, "decision.verified"},
		{response.StateApplied, response.StateRolledBack, nil, "decision.rolled-back"},
		{response.StateVerified, response.StateProbation, nil, "decision.probation"},
		{response.StateProbation, response.StateReleased, nil, "decision.released"},
		{response.StateAwaitingApproval, response.StateExpired, nil, "decision.expired"},
		{"", response.StateRefused, nil, "decision.refused"},
	} {
		d := response.Decision{ID: "d-1", State: c.state, Approvals: c.approvals, Who: "x"}
		e := OfDecision(&d, c.before)
		if e.What != c.want || e.Before != string(c.before) || e.After != string(c.state) || e.Detail["approvals"] != strings.Join(c.approvals, ", ") {
			t.Errorf("%s to %s: %s %v, want %s", c.before, c.state, e.What, e.Detail, c.want)
		}
		if (&Entry{Event: e}).Sentence() == "" {
			t.Errorf("%s has no words", c.want)
		}
	}
}

package playbook

import (
	"errors"
	"fmt"
	"net/netip"
	"reflect"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/platelet-sdn/platelet/controller/response"
	"github.com/platelet-sdn/platelet/detector"
	"github.com/platelet-sdn/platelet/segmentation/strictyaml"
)

// full is the example of the reference.
const full = `apiVersion: playbook/v1
playbooks:
- name: scan-in-production
  about: Two people decide about hosts in production; the desk hears of it at once
  trigger:
    kinds: [port-scan, host-sweep]
    severity: medium
    score: 0.9
    confidence: 0.5
    tags: {env: prod}
    within: [10.0.0.0/8, "fd00::/8"]
    outside: [10.0.9.0/24]
    times:
    - {days: [mon, tue, wed, thu, fri], from: "08:00", to: "18:00", zone: Europe/Berlin}
  mode: autonomous
  people: 2
  canary: true
  steps:
  - {name: contain, action: quarantine}
  - name: ticket
    action: webhook
    with:
      url: https://desk.example/hooks/{{urlquery .Finding.Kind}}?v=1
      body: '{"text": {{json .Finding.Why}}, "host": {{json .Host.Address}}, "env": {{json .Host.Tags.env}}}'
      headers: {X-Team: network}
      secret_headers: {Authorization: /etc/platelet/desk.token}
      secret: /etc/platelet/desk.key
    retries: {count: 3, backoff: 2s}
    timeout: 5s
    on_failure: continue
    rollback:
      action: webhook
      with: {url: "https://desk.example/hooks/close"}
  - name: everywhere
    if: {severity: high, kinds: [port-scan]}
    parallel:
    - name: revoke
      action: exec
      with: {command: revoke, args: ["--host", "{{.Host.Address}}"]}
      on_failure: rollback
    - name: siem
      action: notify
      with: {syslog: {to: "udp:10.0.0.5:514"}}
      on_failure: continue
    - name: feed
      action: intel
      with: {dir: /var/lib/platelet/stix, valid: 12h, tlp: green}
  - name: mail
    unless: {steps: {ticket: done}}
    action: notify
    with:
      email:
        server: mail.example:587
        from: platelet@example.org
        to: [desk@example.org]
        subject: "{{.Finding.Kind}} by {{.Host.Address}}"
        body: "{{.Finding.Why}}"
  - name: quiet
    action: wait
    with: {clean: 1m}
    timeout: 30m
  - name: sure
    action: ask
    with:
      title: Set {{.Host.Address}} up anew? ({{.Finding.Kind}}, run {{.Run}})
      groups: [netops]
      people: 2
      expires: 4h
      on_timeout: stop
  - name: redeploy
    action: docker
    with: {label: "platelet.host={{.Host.Address}}", do: recreate}
`

func scan() detector.Finding {
	return detector.Finding{
		ID: "f-1", Kind: detector.KindPortScan, State: detector.StateFiring, Severity: detector.SeverityHigh, Score: 0.99, Confidence: 0.9,
		Host: netip.MustParseAddr("10.0.0.7"), Victims: []netip.Addr{netip.MustParseAddr("10.0.0.9")}, Proto: 6, Sequential: true, Technique: "T1046",
		Time: time.Date(2026, 11, 23, 9, 0, 0, 0, time.UTC).UnixNano(), FirstSeen: time.Date(2026, 11, 23, 8, 59, 59, 0, time.UTC).UnixNano(),
		Evidence: []detector.Evidence{{Feature: "failed_first_contacts", Value: 12, Baseline: 0.2, Contribution: 0.7}},
	}
}

func inProd() response.Circumstances {
	return response.Circumstances{Now: time.Date(2026, 11, 23, 9, 0, 0, 0, time.UTC), Tags: map[string]string{"env": "prod"}}
}

func mustParse(t testing.TB, text string) []Playbook {
	t.Helper()
	books, err := Parse("p.yaml", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return books
}

func mustDefault(t testing.TB) []Playbook {
	t.Helper()
	books, err := Default()
	if err != nil {
		t.Fatal(err)
	}
	return books
}

// What the program brings along does what it did before there were playbooks.
func TestDefaultIsTheActionsByKind(t *testing.T) {
	actions := response.DefaultConfig().Actions
	set := NewSet(mustDefault(t))
	for _, k := range detector.Kinds() {
		want, ok := actions[k.Kind]
		if !ok {
			t.Errorf("%s has no action by default", k.Kind)
		}
		for _, severity := range severities() {
			got := set.Plan(detector.Finding{Kind: k.Kind, Severity: severity}, response.Circumstances{})
			if got.Action != want || got.Mode != "" || got.People != 0 {
				t.Errorf("%s, %s: %+v, want %s", k.Kind, severity, got, want)
			}
		}
	}
	if err := Check(mustDefault(t), nil); err != nil {
		t.Error(err)
	}
}

func TestActionsOfTheConfigurationGoFirst(t *testing.T) {
	set := NewSet(OfActions(map[detector.Kind]response.Action{detector.KindPortScan: response.ActionAlert, detector.KindBeacon: response.ActionRateLimit}), mustDefault(t))
	for kind, want := range map[detector.Kind]response.Action{
		detector.KindPortScan: response.ActionAlert, detector.KindBeacon: response.ActionRateLimit, detector.KindHostSweep: response.ActionQuarantine,
	} {
		if got := set.Plan(detector.Finding{Kind: kind}, response.Circumstances{}); got.Action != want {
			t.Errorf("%s: %+v, want %s", kind, got, want)
		}
	}
}

func TestTriggers(t *testing.T) {
	p := mustParse(t, full)[0]
	f, at := scan(), inProd()
	if c := p.Trigger.mismatch(&f, at); c != "" {
		t.Fatalf("does not match: %s", p.Trigger.why(c, &f, at))
	}
	for want, change := range map[clause]func(f *detector.Finding, at *response.Circumstances){
		"kinds":      func(f *detector.Finding, _ *response.Circumstances) { f.Kind = detector.KindBeacon },
		"severity":   func(f *detector.Finding, _ *response.Circumstances) { f.Severity = detector.SeverityLow },
		"score":      func(f *detector.Finding, _ *response.Circumstances) { f.Score = 0.89 },
		"confidence": func(f *detector.Finding, _ *response.Circumstances) { f.Confidence = 0.4 },
		"tags":       func(_ *detector.Finding, at *response.Circumstances) { at.Tags = map[string]string{"env": "lab"} },
		"within":     func(f *detector.Finding, _ *response.Circumstances) { f.Host = netip.MustParseAddr("192.0.2.1") },
		"outside":    func(f *detector.Finding, _ *response.Circumstances) { f.Host = netip.MustParseAddr("10.0.9.1") },
		"times":      func(_ *detector.Finding, at *response.Circumstances) { at.Now = at.Now.Add(12 * time.Hour) },
	} {
		f, at := scan(), inProd()
		change(&f, &at)
		if got := p.Trigger.mismatch(&f, at); got != want || p.Trigger.why(got, &f, at) == "" {
			t.Errorf("got %q, want a mismatch of %s", got, want)
		}
	}
	// With forged sources the victim is what prefixes are about.
	f.Spoofed, f.Host = true, netip.MustParseAddr("192.0.2.1")
	if c := p.Trigger.mismatch(&f, at); c != "" {
		t.Errorf("a forged source decided: %s", c)
	}
}

func TestPeriods(t *testing.T) {
	berlin, err := time.LoadLocation("Europe/Berlin")
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		period string
		at     time.Time
		want   bool
	}{
		{`{from: "08:00", to: "18:00", zone: UTC}`, time.Date(2026, 11, 22, 8, 0, 0, 0, time.UTC), true},
		{`{from: "08:00", to: "18:00", zone: UTC}`, time.Date(2026, 11, 22, 18, 0, 0, 0, time.UTC), false},
		{`{from: "08:00", to: "24:00", zone: UTC}`, time.Date(2026, 11, 22, 23, 59, 59, 0, time.UTC), true},
		{`{from: "08:00", to: "18:00", zone: Europe/Berlin}`, time.Date(2026, 11, 22, 7, 30, 0, 0, time.UTC), true},
		{`{from: "08:00", to: "18:00", zone: Europe/Berlin}`, time.Date(2026, 7, 22, 6, 30, 0, 0, time.UTC), true}, // summer time
		{`{days: [mon], from: "08:00", to: "18:00", zone: UTC}`, time.Date(2026, 11, 22, 9, 0, 0, 0, time.UTC), false},
		// Past midnight it is still the night of the day before.
		{`{days: [fri], from: "22:00", to: "06:00", zone: UTC}`, time.Date(2026, 11, 21, 5, 59, 0, 0, time.UTC), true},
		{`{days: [fri], from: "22:00", to: "06:00", zone: UTC}`, time.Date(2026, 11, 20, 5, 59, 0, 0, time.UTC), false},
		{`{days: [fri], from: "22:00", to: "06:00", zone: UTC}`, time.Date(2026, 11, 20, 22, 0, 0, 0, time.UTC), true},
		// The clock is put back at 03:00: both 02:30 are night.
		{`{from: "02:00", to: "03:00", zone: Europe/Berlin}`, time.Date(2026, 10, 25, 0, 30, 0, 0, time.UTC).In(berlin), true},
		{`{from: "02:00", to: "03:00", zone: Europe/Berlin}`, time.Date(2026, 10, 25, 1, 30, 0, 0, time.UTC).In(berlin), true},
	} {
		p := mustParse(t, "apiVersion: playbook/v1\nplaybooks: [{name: p, trigger: {times: ["+c.period+"]}, steps: [{name: a, action: alert}]}]\n")
		if got := p[0].Trigger.Times[0].holds(c.at); got != c.want {
			t.Errorf("%s at %s: %v", c.period, c.at, got)
		}
	}
}

func TestFaultsHaveAPlace(t *testing.T) {
	book := func(s string) string { return "apiVersion: playbook/v1\nplaybooks:\n- name: p\n" + s }
	step := func(s string) string { return book("  steps:\n  - " + s + "\n") }
	for _, c := range []struct{ in, want string }{
		{"apiVersion: playbook/v2\n", `1:13: apiVersion: "playbook/v2" is not`},
		{book("  step: []\n"), `4:3: unknown key "step"`},
		{book("  steps: []\n"), "4:10: playbooks[0].steps: there are none"},
		{book("  people: 3\n  steps: [{name: a, action: alert}]\n"), "4:11: playbooks[0].people"},
		{book("  probes: [\"udp://10.0.0.2:53\"]\n  steps: [{name: a, action: alert}]\n"), "4:12: playbooks[0].probes[0]"},
		{book("  mode: bold\n  steps: [{name: a, action: alert}]\n"), "4:9: playbooks[0].mode"},
		{book("  trigger: {kinds: [port-scam]}\n  steps: [{name: a, action: alert}]\n"), `4:21: playbooks[0].trigger.kinds[0]: there is no finding of kind "port-scam" (did you mean "port-scan"?)`},
		{book("  trigger: {within: [10.0.0.1]}\n  steps: [{name: a, action: alert}]\n"), "4:22: playbooks[0].trigger.within[0]"},
		{book("  trigger: {times: [{from: \"8:00\", to: \"18:00\", zone: UTC}]}\n  steps: [{name: a, action: alert}]\n"), "4:28: "},
		{book("  trigger: {times: [{from: \"08:00\", to: \"18:00\", zone: Europe/Bonn}]}\n  steps: [{name: a, action: alert}]\n"), "4:56: "},
		{step("{name: a, action: webhok}"), `5:23: playbooks[0].steps[0].action: there is no action "webhok" (did you mean "webhook"?)`},
		{step("{name: A, action: alert}"), "5:12: playbooks[0].steps[0].name"},
		{step("{name: a, action: quarantine, with: {x: 1}}"), "5:41: playbooks[0].steps[0].with: action quarantine takes no arguments"},
		{step("{name: a, action: quarantine, timeout: 5s}"), "5:23: "},
		{step("{name: a, action: webhook, with: {uri: \"http://x/\"}}"), `5:39: unknown key "uri"`},
		{step("{name: a, action: webhook, with: {url: \"ftp://x/\"}}"), "5:44: playbooks[0].steps[0].with.url"},
		{step("{name: a, action: webhook, with: {url: \"http://x{{.Run}}/\"}}"), "5:44: playbooks[0].steps[0].with.url: templates may stand only"},
		{step("{name: a, action: webhook, with: {url: \"http://x/\", body: \"{{.Finding.Hots}}\"}}"), "5:63: playbooks[0].steps[0].with.body: there is no field .Finding.Hots"},
		{step("{name: a, action: webhook, with: {url: \"http://x/\", headers: {Host: a}}}"), "5:73: "},
		{step("{name: a, action: webhook, with: {url: \"http://x/\"}, rollback: {action: quarantine}}"), "5:77: "},
		{step("{name: a, action: wait}"), "5:5: playbooks[0].steps[0].with: needs either"},
		{step("{name: a, action: wait, with: {for: 1s, clean: 1s}}"), "5:35: "},
		{step("{name: a, action: notify, with: {syslog: {to: \"udp:x\"}}}"), "5:51: "},
		{step("{name: a, action: notify, with: {email: {server: \"m:25\", tls: none, user: u, password: /p, from: a@b, to: [c@d]}}}"), "5:67: "},
		{step("{name: a, action: intel, with: {dir: rel}}"), "5:42: "},
		{step("{name: a, action: docker, with: {label: x, do: restart}}"), "5:45: "},
		{step("{name: a, action: exec, with: {command: \"\"}}"), "5:45: "},
		{step("{name: a, action: alert}\n  - {name: b, action: quarantine}"), "6:23: playbooks[0].steps[1].action: quarantine must be the first"},
		{step("{name: a, action: alert}\n  - {name: a, action: wait, with: {for: 1s}}"), "6:12: playbooks[0].steps[1].name: there is another"},
		{step("{name: a, if: {steps: {b: done}}, action: wait, with: {for: 1s}}"), "5:31: "},
		{step("{name: a, parallel: [{name: b, action: wait, with: {for: 1s}}, {name: c, if: {steps: {b: done}}, action: wait, with: {for: 1s}}]}"), "5:94: "},
		{step("{name: a, retries: {count: 11}, action: wait, with: {for: 1s}}"), "5:32: "},
		{step("{name: a, on_failure: retry, action: wait, with: {for: 1s}}"), "5:27: "},
	} {
		_, err := Parse("p.yaml", []byte(c.in))
		var faults strictyaml.Errors
		if !errors.As(err, &faults) || !strings.HasPrefix(err.Error(), "p.yaml:"+c.want) {
			t.Errorf("%s\ngot %v\nwant a fault at %s", c.in, err, c.want)
		}
	}
}

func TestFilesAreHeldAgainstEachOther(t *testing.T) {
	books := mustParse(t, `apiVersion: playbook/v1
playbooks:
- name: scans
  trigger: {kinds: [port-scan], severity: low}
  steps: [{name: a, action: alert}]
- name: sweeps
  trigger: {kinds: [host-sweep]}
  steps: [{name: a, action: alert}, {name: b, action: exec, with: {command: revok}}]
- name: both
  trigger: {kinds: [port-scan, host-sweep], severity: medium}
  steps: [{name: a, action: alert}]
- name: scans
  trigger: {kinds: [port-scan]}
  steps: [{name: a, action: alert}]
`)
	err := Check(books, []string{"revoke"})
	want := `p.yaml:6:3: playbook sweeps: command "revok" is not in playbook_exec of the configuration (did you mean "revoke"?)
p.yaml:9:3: playbook both can never be reached: scans, sweeps before it match everything that it is for
p.yaml:12:3: playbook scans: the name is taken by p.yaml:3:3`
	if err == nil || err.Error() != want {
		t.Errorf("got\n%v\nwant\n%s", err, want)
	}
}

// Whatever is called unreachable is never chosen.
func TestUnreachableIsNeverChosen(t *testing.T) {
	prefixes := []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("10.1.0.0/16"), netip.MustParsePrefix("10.1.2.0/24")}
	kinds := []detector.Kind{detector.KindPortScan, detector.KindBeacon}
	some := func(t *rapid.T, name string) []netip.Prefix {
		return rapid.SliceOfN(rapid.SampledFrom(prefixes), 0, 2).Draw(t, name)
	}
	hiddenOnes := 0
	rapid.Check(t, func(t *rapid.T) {
		var books []Playbook
		for i := range rapid.IntRange(1, 4).Draw(t, "n") {
			p := Playbook{Name: fmt.Sprint(i), Trigger: Trigger{
				Kinds: rapid.SliceOfN(rapid.SampledFrom(kinds), 0, 2).Draw(t, "kinds"), Severity: rapid.SampledFrom(append(severities(), "")).Draw(t, "severity"),
				Within: some(t, "within"), Outside: some(t, "outside"), Score: rapid.SampledFrom([]float64{0, 0.5}).Draw(t, "score"),
			}}
			if rapid.Bool().Draw(t, "tagged") {
				p.Trigger.Tags = map[string]string{"env": rapid.SampledFrom([]string{"a", "b"}).Draw(t, "tag")}
			}
			books = append(books, p)
		}
		last := &books[len(books)-1]
		if hidden(books[:len(books)-1], last) == nil {
			return
		}
		hiddenOnes++
		set := NewSet(books)
		for range 20 {
			f := detector.Finding{Kind: rapid.SampledFrom(append(kinds, detector.KindWorm)).Draw(t, "kind"), Severity: rapid.SampledFrom(severities()).Draw(t, "s"),
				Score: rapid.SampledFrom([]float64{0, 0.5, 1}).Draw(t, "sc"), Host: rapid.SampledFrom([]netip.Addr{netip.MustParseAddr("10.1.2.3"), netip.MustParseAddr("10.1.0.1"), netip.MustParseAddr("10.9.9.9"), netip.MustParseAddr("192.0.2.1")}).Draw(t, "host")}
			at := response.Circumstances{Tags: map[string]string{"env": rapid.SampledFrom([]string{"a", "b", "c"}).Draw(t, "env")}}
			if set.Choose(f, at) == last {
				t.Fatalf("chosen for %+v at %+v", f, at)
			}
		}
	})
	if hiddenOnes == 0 {
		t.Error("nothing was hidden: the test shows nothing")
	}
}

func TestPlaybookSurvivesWriting(t *testing.T) {
	p := mustParse(t, full)[0]
	raw, err := p.YAML()
	if err != nil {
		t.Fatal(err)
	}
	again := mustParse(t, string(raw))[0]
	p.origin, again.origin = strictyaml.Position{}, strictyaml.Position{}
	if !reflect.DeepEqual(p, again) {
		t.Errorf("got %+v\nwant %+v\nfrom %s", again, p, raw)
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(full))
	f.Add(defaults)
	f.Add([]byte("apiVersion: playbook/v1\nplaybooks: [{name: a, steps: [{name: b, parallel: [{name: c, parallel: []}]}]}]\n"))
	f.Add([]byte("playbooks: &a [*a]\n"))
	f.Add([]byte("apiVersion: playbook/v1\nplaybooks: [{name: a, steps: [{name: b, action: webhook, with: {url: 'http://x/', body: '{{if .Run}}{{.Step}}{{else}}{{json .}}{{end}}'}}]}]\n"))
	f.Fuzz(func(t *testing.T, raw []byte) {
		books, err := Parse("fuzz", raw)
		if err != nil {
			return
		}
		_ = Check(books, nil)
		NewSet(books).Try(response.DefaultConfig(), scan(), inProd())
		for _, p := range books {
			text, err := p.YAML()
			if err != nil {
				t.Fatal(err)
			}
			again, err := Parse("again", text)
			if err != nil {
				t.Fatalf("accepted, but not as it is written: %v\n%s", err, text)
			}
			p.origin, again[0].origin = strictyaml.Position{}, strictyaml.Position{}
			if len(again) != 1 || again[0].Name != p.Name || len(again[0].Steps) != len(p.Steps) {
				t.Fatalf("%+v became %+v", p, again)
			}
		}
	})
}

func BenchmarkPlan(b *testing.B) {
	set := NewSet(mustParse(b, full), mustDefault(b))
	f, at := scan(), inProd()
	f.Kind = detector.KindSYNFlood
	b.ReportAllocs()
	for b.Loop() {
		set.Plan(f, at)
	}
}

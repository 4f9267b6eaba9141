package lint

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/platelet-sdn/platelet/segmentation/policy"
	"github.com/platelet-sdn/platelet/segmentation/policy/policytest"
)

const head = `apiVersion: segmentation/v1
groups:
  web: {selector: {app: web}}
  notweb: {selector: {app: "!web"}}
  db: {selector: {app: db}}
  corp: {cidrs: [10.20.0.0/16]}
  lab: {cidrs: [10.20.9.0/24]}
  six: {cidrs: ["fd00::/8"]}
  void: {cidrs: [10.1.0.0/16], except: [10.0.0.0/8]}
  ill: {risk: high}
  night: {cidrs: [10.20.0.0/16], during: {from: "22:00", to: "06:00"}}
services:
  http: [{proto: tcp, ports: [80]}]
  web: [{proto: tcp, ports: [1-1000]}]
  dns: [{proto: udp, ports: [53]}, {proto: tcp, ports: [53]}]
  nd: [{proto: icmp6, type: 135}]
`

func policies(text string) string { return head + "policies:\n" + text }

// workloads are those of the examples that have an inventory.
func workloads() *policy.Inventory {
	at := netip.MustParseAddr
	return &policy.Inventory{Workloads: []policy.Workload{
		{Name: "w1", Addrs: []netip.Addr{at("10.0.0.1")}, Labels: map[string]string{"app": "web"}},
		{Name: "w2", Addrs: []netip.Addr{at("10.0.0.2"), at("fd00::2")}, Labels: map[string]string{"app": "web"}},
		{Name: "resolver", Addrs: []netip.Addr{at("10.0.0.53")}, Labels: map[string]string{"app": "dns"}},
	}, Assets: map[string][]netip.Prefix{"dns": {netip.MustParsePrefix("10.0.0.53/32")}, "management": {netip.MustParsePrefix("10.9.0.0/24")}}}
}

func TestFindings(t *testing.T) {
	const p = "- {name: p, tier: application, priority: 1, mode: enforce, appliesTo: [web], "
	const q = "- {name: q, tier: application, priority: 2, mode: enforce, appliesTo: [web], "
	for _, c := range []struct {
		name, text string
		inventory  *policy.Inventory
		want       string // "line: severity kind: part of the message", but notes on what is unused
	}{
		{"nothing", policies(p + "ingress: [{name: a, action: allow, from: [corp], services: [http]}, {name: b, action: deny, from: [any]}]}\n"), nil, ""},
		{"shadowed by one", policies(p + "ingress: [{name: a, action: deny, from: [corp], services: [web]}, {name: b, action: allow, from: [lab], services: [http]}]}\n"), nil,
			"18: warning shadowed: p/ingress/a decide all of it before"},
		{"shadowed by two together", policies(p + "ingress: [{name: a, action: deny, from: [10.0.0.0/9]}, {name: c, action: reject, from: [10.128.0.0/9]}, {name: b, action: allow, from: [10.0.0.0/8]}]}\n"), nil,
			"18: warning shadowed: never decides: p/ingress/a, p/ingress/c decide all of it before"},
		{"shadowed by an earlier policy", policies(p + "ingress: [{name: a, action: deny, from: [any]}]}\n" + q + "ingress: [{name: b, action: allow, from: [corp]}]}\n"), nil,
			"19: warning shadowed: p/ingress/a decide all of it before"},
		{"not by one of another direction", policies(p + "egress: [{name: a, action: deny, to: [corp]}]}\n" + q + "ingress: [{name: b, action: deny, from: [corp]}]}\n"), nil, ""},
		{"not by a staged one", policies(strings.Replace(p, "enforce", "staged", 1) + "ingress: [{name: a, action: deny, from: [any]}]}\n" + q + "ingress: [{name: b, action: deny, from: [corp]}]}\n"), nil, ""},
		{"not by one that ends earlier", policies(strings.Replace(p, "mode", "expiresAt: 2026-12-24T00:00:00Z, mode", 1) + "ingress: [{name: a, action: deny, from: [any]}]}\n" + q + "ingress: [{name: b, action: reject, from: [corp]}]}\n"), nil, ""},
		{"not by one that is out of its schedule at times", policies(strings.Replace(p, "mode", "schedule: {days: [sun]}, mode", 1) + "ingress: [{name: a, action: deny, from: [any]}]}\n" + q + "ingress: [{name: b, action: reject, from: [corp]}]}\n"), nil, ""},
		{"passed on", policies(p + "ingress: [{name: a, action: pass, from: [any]}]}\n" + q + "ingress: [{name: b, action: deny, from: [corp]}]}\n"), nil,
			"19: warning unreachable: p/ingress/a leave all of it to a later tier"},
		{"what is behind the end of a range is left", policies(p + "ingress: [{name: a, action: reject, from: [any], services: [{proto: tcp, ports: [53-443]}]}, {name: b, action: deny, from: [any], services: [{proto: tcp, ports: [80-1023]}]}]}\n"), nil, ""},
		{"what is behind the end of a prefix is left", policies(p + "ingress: [{name: a, action: reject, from: [10.0.0.0/25]}, {name: b, action: deny, from: [10.0.0.0/24]}]}\n"), nil, ""},
		{"nothing is left of both halves", policies(p + "ingress: [{name: a, action: reject, from: [10.0.0.0/25], log: true}, {name: c, action: reject, from: [10.0.0.128/25]}, {name: b, action: deny, from: [10.0.0.0/24]}]}\n"), nil,
			"18: warning shadowed: p/ingress/a, p/ingress/c"},
		{"redundant, as it is allowed anyway", policies(p + "ingress: [{name: a, action: allow, from: [corp]}]}\n"), nil, "18: warning redundant: changes nothing"},
		{"redundant, as the next denies it", policies(p + "ingress: [{name: a, action: deny, from: [lab]}, {name: b, action: deny, from: [corp]}]}\n"), nil, "18: warning redundant: changes nothing"},
		{"not redundant, as it logs", policies(p + "ingress: [{name: a, action: deny, from: [lab], log: true}, {name: b, action: deny, from: [corp]}]}\n"), nil, ""},
		{"families that never meet", policies("- {name: p, tier: admin, mode: enforce, appliesTo: [corp], ingress: [{name: a, action: deny, from: [six]}]}\n"), nil, "18: warning unreachable: matches no connection"},
		{"always allowed", policies(p + "ingress: [{name: a, action: deny, from: [any], services: [nd]}]}\n"), nil, "18: warning unreachable: matches no connection"},
		{"never in force", policies(strings.Replace(p, "mode", "expiresAt: 2026-11-24T00:00:00Z, schedule: {days: [sat]}, mode", 1) + "ingress: [{name: a, action: deny, from: [corp]}]}\n"), nil, "18: warning unreachable: is never in force"},
		{"expired", policies(strings.Replace(p, "mode", "expiresAt: 2026-01-01T00:00:00Z, mode", 1) + "ingress: [{name: a, action: deny, from: [corp]}]}\n"), nil, "18: warning expired: is past its end"},
		{"group of nobody by its own words", policies(p + "ingress: [{name: a, action: deny, from: [void]}]}\n"), nil, ""},
		{"group of nobody there is", policies(p + "ingress: [{name: a, action: deny, from: [db]}]}\n"), workloads(), "5: warning empty-group: no workload belongs to the group db"},
		{"nobody is ill now", policies(p + "ingress: [{name: a, action: deny, from: [ill]}]}\n"), workloads(), ""},
		{"it is day now", policies(p + "ingress: [{name: a, action: deny, from: [night]}]}\n"), workloads(), ""},
		{"contradiction", policies(p + "ingress: [{name: a, action: allow, from: [corp], services: [web]}]}\n" + q + "ingress: [{name: b, action: deny, from: [10.20.9.0/24, 10.30.0.0/16]}]}\n"), nil,
			"19: note overlap: is contradicted by p/ingress/a about some connections, which priority 1 decides before 2"},
		{"protected by the file", head + "protected: [10.20.9.9]\npolicies:\n" + strings.Replace(p, "web", "corp", 1) + "ingress: [{name: a, action: rate-limit, from: [any], rate: {pktps: 1}}]}\n", nil,
			"19: error protected: would rate-limit connections of 10.20.9.9, which is protected"},
		{"protected by the controller", policies(strings.Replace(p, "[web]", "[notweb]", 1) + "ingress: [{name: a, action: deny, from: [corp]}]}\n"), workloads(), "18: error protected: would deny connections of dns"},
		{"allowed before", policies("- {name: o, tier: admin, mode: enforce, appliesTo: [10.0.0.53], ingress: [{name: all, action: allow, from: [any]}]}\n" +
			strings.Replace(p, "[web]", "[notweb]", 1) + "ingress: [{name: a, action: deny, from: [corp]}]}\n"), workloads(), "19: warning shadowed: o/ingress/all"},
		{"protected by a group, of which nothing is known", head + "protected: [db]\npolicies:\n" + p + "ingress: [{name: a, action: deny, from: [corp]}]}\n", nil, ""},
		{"protected by a group that is the one", head + "protected: [web]\npolicies:\n" + p + "ingress: [{name: a, action: deny, from: [corp]}]}\n", nil, "19: error protected: would deny connections of web\n19: warning unreachable"},
		{"names are cut off", policies(p + "egress: [{name: a, action: allow, to: [corp]}, {name: b, action: deny, to: [any]}]}\n"), workloads(),
			"18: warning cut-off: leaves workloads no way to resolve names\n18: warning cut-off: leaves workloads no way to management"},
		{"names are not cut off", policies(p + "egress: [{name: a, action: allow, to: [any], services: [dns]}, {name: c, action: allow, to: [10.9.0.0/24]}, {name: b, action: deny, to: [any]}]}\n"), workloads(), ""},
		{"management is cut off", policies(p + "ingress: [{name: b, action: deny, from: [any]}]}\n"), workloads(), "18: warning cut-off: leaves management, which is protected, no way to workloads"},
		{"names are cut off wherever they are", head + "protected: [dns]\npolicies:\n" + p + "egress: [{name: b, action: deny, to: [any]}]}\n", nil, "19: warning cut-off: leaves workloads no way to resolve names"},
		{"a quarantine is meant to cut off", head + "protected: [dns]\npolicies:\n" + strings.NewReplacer("application", "emergency", "mode", "expiresAt: 2026-12-01T00:00:00Z, mode").Replace(p) + "egress: [{name: b, action: deny, to: [any]}]}\n", nil, ""},
	} {
		set, err := policy.Read(policy.Source{Name: "p.yaml", Data: []byte(c.text)})
		if err != nil {
			t.Fatalf("%s: %v", c.name, err)
		}
		var got []string
		for _, f := range Check(set, Options{Now: policytest.Now(), Inventory: c.inventory}) {
			if f.Kind != KindUnused && (f.Kind != KindEmptyGroup || f.Group != "void" && (f.Group != "db" || strings.Contains(c.text, "from: [db]"))) {
				got = append(got, fmt.Sprintf("%d: %s %s: %s", f.Line, f.Severity, f.Kind, f.Message))
			}
		}
		want := strings.Split(c.want, "\n")
		if c.want == "" {
			want = nil
		}
		ok := len(got) == len(want)
		for i := range min(len(got), len(want)) {
			where, what, _ := strings.Cut(want[i], ": ")
			kind, message, _ := strings.Cut(what, ": ")
			ok = ok && strings.HasPrefix(got[i], where+": "+kind) && strings.Contains(got[i], message)
		}
		if !ok {
			t.Errorf("%s: got\n%s\nwant\n%s", c.name, strings.Join(got, "\n"), c.want)
		}
	}
}

func TestUnused(t *testing.T) {
	set, err := policy.Read(policy.Source{Name: "p.yaml", Data: []byte(policies("- {name: p, tier: admin, mode: enforce, appliesTo: [web], ingress: [{name: a, action: deny, from: [corp], services: [http]}]}\n"))})
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, f := range Check(set, Options{Now: policytest.Now()}) {
		got = append(got, f.Message)
	}
	want := "no policy speaks of the group notweb|no policy speaks of the group db|no policy speaks of the group lab|no policy speaks of the group six|" +
		"nobody belongs to the group void, and nobody can|no policy speaks of the group void|no policy speaks of the group ill|no policy speaks of the group night|" +
		"no policy speaks of the service web|no policy speaks of the service dns|no policy speaks of the service nd"
	if strings.Join(got, "|") != want {
		t.Errorf("got %s", strings.Join(got, "|"))
	}
}

// However many schedules there are, a policy that is in force for a minute a
// week is judged at that minute.
func TestManySchedules(t *testing.T) {
	text := ""
	for i := range 100 {
		text += fmt.Sprintf("- {name: p%d, tier: application, priority: %d, mode: enforce, appliesTo: [10.0.0.%d], schedule: {from: %q, to: %q}, ingress: [{name: a, action: deny, from: [corp]}]}\n",
			i, i, i, policy.Clock(780+5*i%600), policy.Clock(790+5*i%600))
	}
	text += "- {name: last, tier: application, priority: 200, mode: enforce, appliesTo: [10.0.1.0], schedule: {days: [mon], from: \"11:58\", to: \"11:59\"}, ingress: [{name: a, action: deny, from: [corp]}]}\n"
	set, err := policy.Read(policy.Source{Name: "p.yaml", Data: []byte(policies(text))})
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range Check(set, Options{Now: policytest.Now()}) {
		if f.Policy != "" || f.Kind == KindUnchecked {
			t.Errorf("%s: %s [%s]", f.Policy, f.Message, f.Kind)
		}
	}
}

// A thousand rules about ten thousand workloads are judged in seconds, and
// held against what is protected, whoever the workloads are.
func BenchmarkCheck(b *testing.B) {
	set, inv := policytest.Large(10_000, 1_000)
	b.Run("inventory", func(b *testing.B) {
		for b.Loop() {
			Check(set, Options{Now: time.Unix(0, 0), Inventory: &inv})
		}
	})
	b.Run("open", func(b *testing.B) {
		for b.Loop() {
			Check(set, Options{Now: time.Unix(0, 0)})
		}
	})
	b.Run("refused", func(b *testing.B) {
		for b.Loop() {
			if err := Refused(set, []netip.Prefix{netip.MustParsePrefix("172.16.0.1/32")}, time.Unix(0, 0)); err != nil {
				b.Fatal(err)
			}
		}
	})
}

// Where some sources are guarded, egress rules for others are told of, and no
// group that only a guard speaks of is unused.
func TestUnguarded(t *testing.T) {
	const file = `apiVersion: segmentation/v1
groups: {web: {selector: {app: web}}, db: {selector: {app: db}}, both: {groups: [web, db]}}
sourceGuards: [{name: own, mode: MODE, appliesTo: [both]}]
policies:
- {name: out, tier: application, mode: enforce, appliesTo: [web, 10.0.0.1], egress: [{name: r, action: deny, to: [192.0.2.0/24]}]}
`
	for mode, want := range map[string]int{"enforce": 1, "staged": 2} {
		set, err := policy.Read(policy.Source{Name: "f.yaml", Data: []byte(strings.Replace(file, "MODE", mode, 1))})
		if err != nil {
			t.Fatal(err)
		}
		n := 0
		for _, f := range Check(set, Options{Now: time.Now()}) {
			if f.Kind == KindUnguarded {
				n++
			}
			if f.Kind == KindUnused {
				t.Errorf("%+v", f)
			}
		}
		if n != want {
			t.Errorf("%s: told of %d, want %d", mode, n, want)
		}
	}
}

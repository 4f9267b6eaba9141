package oracle_test

import (
	"encoding/json"
	"net/netip"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/platelet-sdn/platelet/segmentation/oracle"
	"github.com/platelet-sdn/platelet/segmentation/policy"
	"github.com/platelet-sdn/platelet/segmentation/policy/policytest"
)

func prefix(s string) policy.Prefix { return policy.Prefix{Prefix: netip.MustParsePrefix(s)} }

func group(name string) []policy.Peer { return []policy.Peer{{Group: name}} }

func services(names ...string) []policy.ServiceRef {
	var out []policy.ServiceRef
	for _, n := range names {
		out = append(out, policy.ServiceRef{Name: n})
	}
	return out
}

// example is the one of the language's design: a three-tier application with
// a default deny, and a quarantine written by the healer.
func example() (*policy.Set, policy.Inventory) {
	echo, echo6, none, end := uint8(8), uint8(128), uint8(0), policytest.Now().Add(time.Hour)
	quarantined := []policy.Peer{{Prefix: netip.MustParsePrefix("10.20.3.7/32")}}
	set := &policy.Set{
		Groups: map[string]policy.Group{
			"web":   {Selector: map[string]string{"app": "web", "env": "prod"}},
			"db":    {Selector: map[string]string{"app": "db", "env": "prod"}},
			"corp":  {CIDRs: []policy.Prefix{prefix("10.20.0.0/16")}, Except: []policy.Prefix{prefix("10.20.9.0/24")}},
			"night": {CIDRs: []policy.Prefix{prefix("10.20.0.0/16")}, During: &policy.Schedule{From: 22 * 60, To: 6 * 60}},
			"bad":   {Risk: policy.RiskHigh},
			"feed":  {Intel: "feodo"},
			"both":  {Groups: []string{"web", "corp"}, Except: []policy.Prefix{prefix("10.20.1.0/24")}},
			"low":   {Selector: map[string]string{"app": "web"}, CIDRs: []policy.Prefix{prefix("10.0.0.0/31")}},
			"me":    {Groups: []string{"me"}},
		},
		Services: map[string][]policy.Service{
			"pg":   {{Proto: 6, Ports: []policy.PortRange{{First: 5432, Last: 5432}}}},
			"ping": {{Proto: 1, Type: &echo, Code: &none}, {Proto: 58, Type: &echo6}},
		},
		Policies: []policy.Policy{
			{Name: "q-10.20.3.7", Tier: policy.TierEmergency, Mode: policy.ModeEnforce, AppliesTo: quarantined, ExpiresAt: &end,
				Ingress: []policy.Rule{{Name: "q-in", Action: policy.ActionDeny, From: group("any")}},
				Egress:  []policy.Rule{{Name: "q-out", Action: policy.ActionDeny, To: group("any")}}},
			{Name: "hand-over", Tier: policy.TierAdmin, Priority: 7, Mode: policy.ModeEnforce, AppliesTo: group("db"),
				Ingress: []policy.Rule{{Name: "to-owners", Action: policy.ActionPass, From: group("web")}, {Name: "no-dev", Action: policy.ActionReject, From: group("low")}}},
			{Name: "db-ingress", Tier: policy.TierApplication, Priority: 100, Mode: policy.ModeEnforce, AppliesTo: group("db"),
				Ingress: []policy.Rule{
					{Name: "web-pg", Action: policy.ActionAllow, From: group("web"), Services: services("pg")},
					{Name: "corp-ping", Action: policy.ActionRateLimit, From: group("corp"), Services: services("ping"), Rate: &policy.Rate{PacketsPerSecond: 100}},
				}},
			{Name: "no-web", Tier: policy.TierApplication, Priority: 200, Mode: policy.ModeStaged, AppliesTo: group("web"),
				Ingress: []policy.Rule{{Name: "shut", Action: policy.ActionDeny, From: group("any")}}},
			{Name: "default-deny", Tier: policy.TierBaseline, Mode: policy.ModeEnforce, AppliesTo: []policy.Peer{{Group: "db"}, {Group: "web"}},
				Ingress: []policy.Rule{{Name: "deny-in", Action: policy.ActionDeny, From: group("any")}}},
		},
	}
	inv := policy.Inventory{
		Workloads: []policy.Workload{
			{Name: "web1", Addrs: []netip.Addr{netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("fd00::1")}, Labels: map[string]string{"app": "web", "env": "prod"}},
			{Name: "web2", Addrs: []netip.Addr{netip.MustParseAddr("10.0.0.3")}, Labels: map[string]string{"app": "web", "env": "dev"}, Risk: policy.RiskCritical},
			{Name: "db1", Addrs: []netip.Addr{netip.MustParseAddr("10.0.0.2"), netip.MustParseAddr("fd00::2")}, Labels: map[string]string{"app": "db", "env": "prod"}, Risk: policy.RiskLow},
		},
		Feeds: map[string][]netip.Prefix{"feodo": {netip.MustParsePrefix("203.0.113.0/24")}},
	}
	return set, inv
}

func connection(src, dst string, proto policy.Proto, port uint16) oracle.Connection {
	c := oracle.Connection{Src: netip.MustParseAddr(src), Dst: netip.MustParseAddr(dst), Proto: proto, SrcPort: 40000, DstPort: port}
	if proto.IsICMP() {
		c.SrcPort, c.DstPort, c.Type = 0, 0, uint8(port)
	}
	return c
}

func TestVerdicts(t *testing.T) {
	set, inv := example()
	o := oracle.New(set, inv, policytest.Now())
	for _, c := range []struct {
		name, src, dst        string
		proto                 policy.Proto
		port                  uint16
		want, egress, ingress string // "policy/direction/rule"
		staged                string
	}{
		{"allowed by name", "10.0.0.1", "10.0.0.2", 6, 5432, "allow", "", "db-ingress/ingress/web-pg", ""},
		{"the other family", "fd00::1", "fd00::2", 6, 5432, "allow", "", "db-ingress/ingress/web-pg", ""},
		{"IPv4 written as IPv6", "::ffff:10.0.0.1", "10.0.0.2", 6, 5432, "allow", "", "db-ingress/ingress/web-pg", ""},
		{"another port", "10.0.0.1", "10.0.0.2", 6, 5433, "deny", "", "default-deny/ingress/deny-in", ""},
		{"another protocol", "10.0.0.1", "10.0.0.2", 17, 5432, "deny", "", "default-deny/ingress/deny-in", ""},
		{"not prod", "10.0.0.3", "10.0.0.2", 6, 5432, "deny", "", "default-deny/ingress/deny-in", ""},
		{"rate-limited", "10.20.0.1", "10.0.0.2", 1, 8, "rate-limit", "", "db-ingress/ingress/corp-ping", ""},
		{"excepted", "10.20.9.1", "10.0.0.2", 1, 8, "deny", "", "default-deny/ingress/deny-in", ""},
		{"another type", "10.20.0.1", "10.0.0.2", 1, 13, "deny", "", "default-deny/ingress/deny-in", ""},
		{"both sides refuse, egress first", "10.20.3.7", "10.0.0.2", 6, 22, "deny", "q-10.20.3.7/egress/q-out", "default-deny/ingress/deny-in", ""},
		{"to the quarantined", "10.20.0.1", "10.20.3.7", 6, 22, "deny", "", "q-10.20.3.7/ingress/q-in", ""},
		{"nobody's rule", "192.0.2.1", "192.0.2.2", 6, 22, "allow", "", "", ""},
		{"from the protected side out", "10.0.0.2", "192.0.2.2", 6, 22, "allow", "", "", ""},
		{"staged decides nothing", "10.0.0.2", "10.0.0.1", 6, 80, "deny", "", "default-deny/ingress/deny-in", "no-web/ingress/shut"},
		{"neighbour discovery", "fd00::9", "fd00::2", 58, 135, "allow", "", "", ""},
		{"echo is no neighbour discovery", "fd00::9", "fd00::2", 58, 128, "deny", "", "default-deny/ingress/deny-in", ""},
	} {
		v := o.Verdict(connection(c.src, c.dst, c.proto, c.port))
		text := func(s oracle.Side) string {
			if s.ID == (policy.RuleID{}) {
				return ""
			}
			return s.ID.String()
		}
		staged := ""
		if v.Staged != nil {
			staged = text(v.Staged.Ingress)
		}
		if v.Action.String() != c.want || text(v.Egress) != c.egress || text(v.Ingress) != c.ingress || staged != c.staged {
			t.Errorf("%s: %s, egress %q, ingress %q, staged %q: %s", c.name, v.Action, text(v.Egress), text(v.Ingress), staged, v.Why)
		}
	}
	set.Protected = []policy.Peer{{Group: "db"}, {Group: "dns"}}
	inv.Assets = map[string][]netip.Prefix{"dns": {netip.MustParsePrefix("10.20.3.7/32")}}
	if v := oracle.New(set, inv, policytest.Now()).Verdict(connection("10.20.3.7", "10.0.0.2", 6, 22)); !v.Allowed() ||
		v.Why != "egress: protected (dns), no policy applies; ingress: protected (db), no policy applies" {
		t.Errorf("policies apply to what is protected: %s", v.Why)
	}
	set.Protected = nil
	if v := o.Verdict(connection("10.0.0.1", "10.0.0.2", 6, 5432)); !strings.Contains(v.Why, "after to-owners of hand-over: pass") {
		t.Errorf("what passed is not told: %s", v.Why)
	}
}

func TestDHCPIsToldByBothPorts(t *testing.T) {
	set, inv := example()
	o := oracle.New(set, inv, policytest.Now())
	c := connection("10.20.3.7", "10.0.0.2", 17, 67)
	if o.Verdict(c).Allowed() {
		t.Error("what goes to port 67 from anywhere is allowed")
	}
	if c.SrcPort = 68; !o.Verdict(c).Allowed() {
		t.Error("DHCP is not allowed")
	}
}

func TestGroupsHold(t *testing.T) {
	set, inv := example()
	at := policytest.Now()
	for _, c := range []struct {
		group string
		now   time.Time
		in    string
		out   string
	}{
		{"night", at, "", "10.20.0.1"},
		{"night", at.Add(12 * time.Hour), "10.20.0.1", "10.21.0.1"},
		{"bad", at, "10.0.0.3", "10.0.0.1 10.0.0.2 192.0.2.1"},
		{"feed", at, "203.0.113.9", "203.0.114.1"},
		{"both", at, "10.0.0.1 fd00::1 10.20.2.1", "10.20.1.1 10.20.9.1 10.0.0.2"},
		{"low", at, "10.0.0.1", "10.0.0.0 10.0.0.3 fd00::1"},
		{"me", at, "", "10.0.0.1"},
		{"nobody", at, "", "10.0.0.1"},
		{"any", at, "10.0.0.1 ::", ""},
	} {
		o := oracle.New(set, inv, c.now)
		for _, a := range strings.Fields(c.in) {
			if !o.Holds(policy.Peer{Group: c.group}, netip.MustParseAddr(a)) {
				t.Errorf("%s is not in %s at %s", a, c.group, c.now)
			}
		}
		for _, a := range strings.Fields(c.out) {
			if o.Holds(policy.Peer{Group: c.group}, netip.MustParseAddr(a)) {
				t.Errorf("%s is in %s at %s", a, c.group, c.now)
			}
		}
	}
}

func TestWrittenAsDesigned(t *testing.T) {
	set, inv := example()
	o := oracle.New(set, inv, policytest.Now())
	raw, err := json.Marshal(o.Verdict(connection("10.0.0.2", "10.0.0.1", 6, 80)))
	if err != nil {
		t.Fatal(err)
	}
	want := `{"verdict":"deny","egress":{"policy":"","rule":""},"ingress":{"policy":"default-deny","rule":"deny-in"},` +
		`"why":"egress: no rule matches; ingress: rule deny-in of policy default-deny (baseline): deny",` +
		`"staged":{"verdict":"deny","egress":{"policy":"","rule":""},"ingress":{"policy":"no-web","rule":"shut"},` +
		`"why":"egress: no rule matches; ingress: rule shut of policy no-web (application): deny"}}`
	if string(raw) != want {
		t.Errorf("got  %s\nwant %s", raw, want)
	}
}

// What must hold of the semantics however rules are written.
func TestLaws(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := policytest.Worlds().Draw(t, "world")
		c := policytest.Connections(w).Draw(t, "connection")
		before := oracle.New(w.Set, w.Inventory, policytest.Now()).Verdict(c)
		spared := before.Egress.Protected != ""
		with := func(p policy.Policy) oracle.Verdict {
			set := *w.Set
			set.Policies = append(set.Policies[:len(set.Policies):len(set.Policies)], p)
			return oracle.New(&set, w.Inventory, policytest.Now()).Verdict(c)
		}
		everything := func(tier policy.Tier, priority int, a policy.Action) policy.Policy {
			return policy.Policy{Name: "x", Tier: tier, Priority: priority, Mode: policy.ModeEnforce, AppliesTo: group(policy.Any),
				Ingress: []policy.Rule{{Name: "in", Action: a, From: group(policy.Any)}}, Egress: []policy.Rule{{Name: "out", Action: a, To: group(policy.Any)}}}
		}
		if v := with(everything(policy.TierEmergency, -1, policy.ActionDeny)); (v.Action != policy.ActionDeny || v.Egress.ID.Policy != "x") && !spared {
			t.Fatalf("what denies everything first denies not: %s", v.Why)
		}
		if v := with(everything(policy.TierBaseline, 1000, policy.ActionAllow)); v.Action != before.Action {
			t.Fatalf("what allows everything last changes %s to %s", before.Why, v.Why)
		}
		open := func(s oracle.Side) bool { // baseline may pass to nobody
			return s.ID == policy.RuleID{} && len(s.Passed) == 0 && s.Protected == ""
		}
		if v := with(everything(policy.TierBaseline, 1000, policy.ActionDeny)); v.Allowed() && (open(v.Egress) || open(v.Ingress)) {
			t.Fatalf("what denies everything last leaves %s", v.Why)
		}
		staged := everything(policy.TierEmergency, -1, policy.ActionDeny)
		staged.Mode = policy.ModeStaged
		if v := with(staged); v.Action != before.Action || v.Why != before.Why || !spared && (v.Staged == nil || v.Staged.Egress.ID.Policy != "x") {
			t.Fatalf("a staged policy decides, or is not told: %s, %+v", v.Why, v.Staged)
		}
		past := policytest.Now()
		over := everything(policy.TierEmergency, -1, policy.ActionDeny)
		over.ExpiresAt = &past
		if v := with(over); v.Why != before.Why {
			t.Fatalf("a policy decides after its end: %s", v.Why)
		}
	})
}

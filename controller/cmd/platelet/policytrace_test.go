package main

import (
	"encoding/json"
	"strings"
	"testing"
)

const (
	designPolicies = "../../../segmentation/policy/testdata/examples/design.yaml"
	designTime     = "2026-11-23T00:00:00Z" // the quarantine in it stands
)

func TestPolicyTrace(t *testing.T) {
	inventory := write(t, "inv.yaml", `
- {name: web1, addrs: [10.0.0.1, "fd00::1"], labels: {app: web, env: prod}}
- {name: db1, addrs: ["fd00::2", 10.0.0.2], labels: {app: db, env: prod}}
- {name: bare}
`)
	for _, c := range []struct {
		args string
		code int
		want []string // one per line
	}{
		{"--from 10.20.3.7 --to 192.0.2.1 --proto tcp --port 80", 0, []string{`{"verdict":"deny","egress":{"policy":"q-10.20.3.7","rule":"q-out"},"ingress":{"policy":"","rule":""},`}},
		{"--from 10.20.3.7 --to 192.0.2.1 --proto tcp --port 80 --exit-code", 1, []string{`{"verdict":"deny",`}},
		{"--from 10.20.3.8 --to 192.0.2.1 --proto tcp --port 80 --exit-code", 0, []string{`{"verdict":"allow",`}},
		{"--from 10.20.3.7 --to 192.0.2.1 --proto udp --port 67 --source-port 68", 0, []string{`"why":"DHCP is always allowed"`}},
		{"--from web1 --to db1 --port 5432", 0, []string{`"from":"10.0.0.1","to":"10.0.0.2","proto":"tcp","port":5432}`, `"from":"fd00::1","to":"fd00::2","proto":"tcp","port":5432}`}},
		{"--from web1 --to 2001:db8::1 --proto icmp", 0, []string{`"proto":"icmp6","type":128,"code":0}`}},
		{"--from web1 --to 192.0.2.1 --proto icmp --type 13", 0, []string{`"proto":"icmp","type":13,"code":0}`}},
		{"--from 10.20.0.5 --to 10.0.0.2 --proto icmp", 0, []string{`"staged":{"verdict":"rate-limit","egress":{"policy":"","rule":""},"ingress":{"policy":"db-ingress","rule":"corp-ping"}`}},
		{"--from 10.20.0.5 --to 10.0.0.2 --proto icmp --staged", 0, []string{`{"verdict":"rate-limit",`}},
		{"--from web1 --to db1", 2, nil},
		{"--from web1 --to nobody --port 80", 2, nil},
		{"--from web1 --to bare --port 80", 2, nil},
		{"--from 10.0.0.1 --to fd00::1 --port 80", 2, nil},
		{"--from web1 --to db1 --proto gre", 2, nil},
		{"--from web1 --to db1 --proto icmp --port 7", 2, nil},
		{"--from web1 --to db1 --port 80 --type 8", 2, nil},
		{"--from 10.0.0.1 --to 10.0.0.2 --proto icmp6", 2, nil},
		{"--from 10.0.0.1 --to 10.0.0.2 --port 80 --at yesterday", 2, nil},
	} {
		args := append([]string{"policy", "trace", designPolicies, "--at", designTime, "--inventory", inventory, "-o", "json"}, strings.Fields(c.args)...)
		out, code, err := call(t, args...)
		lines := strings.Split(strings.TrimSuffix(out, "\n"), "\n")
		if code != c.code || c.want != nil && len(lines) != len(c.want) {
			t.Errorf("%s: exit %d, %v:\n%s", c.args, code, err, out)
			continue
		}
		for i, want := range c.want {
			if !strings.Contains(lines[i], want) || !json.Valid([]byte(lines[i])) {
				t.Errorf("%s: %s lacks %s", c.args, lines[i], want)
			}
		}
	}
}

func TestPolicyTraceInWords(t *testing.T) {
	out, _, err := call(t, "policy", "trace", designPolicies, "--at", designTime, "--from", "10.20.3.7", "--to", "10.0.0.1", "--port", "22")
	if want := "deny: 10.20.3.7 to 10.0.0.1, tcp 22\n  egress: rule q-out of policy q-10.20.3.7 (emergency): deny\n"; err != nil || out != want {
		t.Errorf("got  %q, %v\nwant %q", out, err, want)
	}
}

// The nodes of a topology are workloads, with what containerlab gives them.
func TestPolicyTraceInLab(t *testing.T) {
	rules := write(t, "p.yaml", `apiVersion: segmentation/v1
groups:
  web: {selector: {app: web}}
  desk: {selector: {app: desktop}}
  attacker: {ports: [pl-first/first-h5]}
policies:
- {name: p, tier: application, mode: enforce, appliesTo: [web], ingress: [{name: no-attacker, action: reject, from: [attacker]}, {name: desks, action: allow, from: [desk]}, {name: rest, action: deny, from: [any]}]}
`)
	for from, want := range map[string]string{"h5": "no-attacker", "h6": "desks", "gw": "rest"} {
		out, _, err := call(t, "policy", "trace", rules, "--inventory", "../../../lab/first.clab.yml", "--from", from, "--to", "h1", "--port", "80", "-o", "json")
		if err != nil || strings.Count(out, `"rule":"`+want+`"`) != 2 { // of IPv4 and of IPv6
			t.Errorf("from %s: %v\n%s", from, err, out)
		}
	}
}

// A forged source is dropped at a guarded port, before any policy is asked, or
// would be where the guard is staged; the port's own address is not.
func TestPolicyTraceAsksTheSourceGuard(t *testing.T) {
	file := write(t, "g.yaml", `apiVersion: segmentation/v1
groups: {web: {selector: {app: web}}, db: {selector: {app: db}}}
sourceGuards: [{name: own, mode: enforce, appliesTo: [web]}, {name: seen, mode: staged, appliesTo: [db]}]
`)
	inventory := write(t, "inv.yaml", `
- {name: web1, addrs: [10.0.0.1], switch: br0, port: p1, labels: {app: web}}
- {name: db1, addrs: [10.0.0.2], switch: br0, port: p2, labels: {app: db}}
`)
	const drops = "dropped by source guard own at port br0/p1: 10.0.0.2 is no address of web1"
	for _, c := range []struct {
		from, enters, begins, has string
		code                      int
	}{
		{"10.0.0.2", "br0/p1", "deny", drops, 1},
		{"10.0.0.2", "p1", "deny", drops, 1},
		{"10.0.0.1", "br0/p1", "allow", "", 0},
		{"10.0.0.1", "br0/p2", "allow", "with staged policies enforced: deny\n    dropped by source guard seen at port br0/p2", 0},
		{"10.0.0.2", "br0/p9", "allow", "", 0},
	} {
		out, code, _ := call(t, "policy", "trace", file, "--inventory", inventory, "--from", c.from, "--to", "10.0.0.3", "--port", "80", "--enters", c.enters, "--exit-code")
		if code != c.code || !strings.HasPrefix(out, c.begins+":") || !strings.Contains(out, c.has) {
			t.Errorf("%s by %s: exit %d\n%s", c.from, c.enters, code, out)
		}
	}
}

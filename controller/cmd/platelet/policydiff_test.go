package main

import (
	"encoding/json"
	"strings"
	"testing"
)

func TestPolicyDiff(t *testing.T) {
	old := write(t, "old.yaml", plant)
	next := write(t, "new.yaml", strings.Replace(plant, "services: [modbus]", "services: [modbus, {proto: icmp}]", 1))
	inventory := write(t, "inv.yaml", plcs+"- {name: hmi, addrs: [10.20.0.9]}\n")
	out, code, err := call(t, "policy", "diff", old, next, "--inventory", inventory)
	want := "deny -> allow: corp -> plc, icmp (IPv4, 1 pairs)\n  before: plc/ingress/rest\n  after:  plc/ingress/corp-modbus\n1 regions, 1 pairs of known addresses\n"
	if code != 0 || out != want {
		t.Errorf("exit %d, %v:\n%s", code, err, out)
	}
	out, code, err = call(t, "policy", "diff", old, next, "--inventory", inventory, "-o", "json", "--exit-code")
	var answer struct {
		Regions, Pairs int
		Changes        []struct {
			From, To, Services, Families []string
			Before, After                struct {
				Verdict string
				Rules   []string
			}
		}
	}
	if json.Unmarshal([]byte(out), &answer) != nil || code != 1 || answer.Regions != 1 || answer.Pairs != 1 || answer.Changes[0].From[0] != "corp" ||
		answer.Changes[0].Before.Verdict != "deny" || answer.Changes[0].After.Rules[0] != "plc/ingress/corp-modbus" {
		t.Errorf("exit %d, %v:\n%s", code, err, out)
	}
	moved := write(t, "moved.yaml", strings.Replace(plant, "tier: application", "tier: baseline\n  priority: 7", 1))
	if out, code, err = call(t, "policy", "diff", old, moved, "--inventory", inventory, "--exit-code"); code != 0 || out != "" {
		t.Errorf("what is the same differs: exit %d, %v:\n%s", code, err, out)
	}
	staged := write(t, "staged.yaml", strings.Replace(plant, "mode: enforce", "mode: staged", 1))
	if out, code, err = call(t, "policy", "diff", staged, staged, "--inventory", inventory, "--staged"); code != 0 || !strings.Contains(out, "allow -> deny: any -> plc, any but modbus (IPv4, 1 pairs)\n") {
		t.Errorf("exit %d, %v:\n%s", code, err, out)
	}
}

// What comes with verdicts is told as well, apart from them.
func TestPolicyDiffEffects(t *testing.T) {
	old := write(t, "old.yaml", plant)
	inventory := write(t, "inv.yaml", plcs+"- {name: hmi, addrs: [10.20.0.9]}\n")
	for _, c := range []struct{ old, new, want string }{
		{"services: [modbus]", "services: [modbus], log: true", "log: not logged -> logged: corp -> plc, modbus (IPv4, 1 pairs)\n  before: no rule says so\n  after:  plc/ingress/corp-modbus\n" +
			"verdicts: 0 regions, 0 pairs of known addresses; effects: 1 regions\n"},
		{"action: deny", "action: deny, mirror: br0/span", "mirror: not mirrored -> to br0/span: any -> plc, any but modbus (IPv4, 1 pairs)\n"},
		{"mode: enforce", "mode: enforce\n  established: keep", "established: as new ones -> go on: any -> plc, any but modbus (IPv4, 1 pairs)\n  before: plc/ingress/rest\n  after:  plc/ingress/rest\n"},
		{"mode: enforce", "mode: staged", "deny -> allow: any -> plc, any but modbus (IPv4, 1 pairs)\n  before: plc/ingress/rest\n  after:  no rule matches\n"},
		{"mode: enforce", "mode: staged", "staged: no change -> deny: any -> plc, any but modbus (IPv4, 1 pairs)\n  before: no rule says so\n  after:  plc/ingress/rest\n"},
	} {
		next := write(t, "new.yaml", strings.Replace(plant, c.old, c.new, 1))
		if out, code, err := call(t, "policy", "diff", old, next, "--inventory", inventory, "--exit-code"); code != 1 || !strings.Contains(out, c.want) {
			t.Errorf("%s: exit %d, %v:\n%swant\n%s", c.new, code, err, out, c.want)
		}
	}
	next := write(t, "new.yaml", strings.Replace(plant, "services: [modbus]", "services: [modbus], log: true", 1))
	out, _, _ := call(t, "policy", "diff", old, next, "--inventory", inventory, "-o", "json")
	var answer struct {
		Regions int
		Effects []struct {
			Kind          string
			From          []string
			Before, After struct {
				Effect string
				Rules  []string
			}
		}
	}
	if err := json.Unmarshal([]byte(out), &answer); err != nil || answer.Regions != 0 || len(answer.Effects) != 1 || answer.Effects[0].Kind != "log" ||
		answer.Effects[0].Before.Effect != "not logged" || answer.Effects[0].After.Rules[0] != "plc/ingress/corp-modbus" {
		t.Errorf("%v:\n%s", err, out)
	}
}

// What differs at another time is told with that time: a schedule, an end.
func TestPolicyDiffOverTime(t *testing.T) {
	old := write(t, "old.yaml", plant)
	inventory := write(t, "inv.yaml", plcs+"- {name: hmi, addrs: [10.20.0.9]}\n")
	const region = "deny -> allow: any -> plc, any but modbus (IPv4, 1 pairs)\n"
	for _, c := range []struct{ add, want string }{
		{"schedule: {days: [mon], from: \"08:00\", to: \"18:00\"}", "from 2026-11-23T18:00:00Z: " + region},
		{"schedule: {days: [tue]}", region},
		{"expiresAt: 2027-03-01T00:00:00Z", "from 2027-03-01T00:00:00Z: " + region},
	} {
		next := write(t, "new.yaml", strings.Replace(plant, "mode: enforce", "mode: enforce\n  "+c.add, 1))
		if out, code, err := call(t, "policy", "diff", old, next, "--inventory", inventory, "--at", "2026-11-23T12:00:00Z", "--exit-code"); code != 1 || !strings.HasPrefix(out, c.want) || strings.Count(out, region) != 1 {
			t.Errorf("%s: exit %d, %v:\n%s", c.add, code, err, out)
		}
	}
}

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

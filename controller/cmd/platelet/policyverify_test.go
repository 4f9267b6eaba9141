package main

import (
	"strings"
	"testing"
)

const plant = `apiVersion: segmentation/v1
groups:
  corp: {cidrs: [10.20.0.0/16]}
  plc: {selector: {app: plc}}
services:
  modbus: [{proto: tcp, ports: [502]}]
policies:
- name: plc
  tier: application
  mode: enforce
  appliesTo: [plc]
  ingress:
  - {name: corp-modbus, action: allow, from: [corp], services: [modbus]}
  - {name: rest, action: deny, from: [any]}
`

const plcs = "- {name: plc1, addrs: [10.50.0.1], labels: {app: plc}}\n"

func TestPolicyVerify(t *testing.T) {
	files := []string{"policy", "verify", write(t, "p.yaml", plant), "--inventory", write(t, "inv.yaml", plcs)}
	good := write(t, "good.yaml", "apiVersion: segmentation/v1\ninvariants:\n- {name: plc-isolated, deny: {from: [not corp], to: [plc]}}\n")
	bad := write(t, "bad.yaml", "apiVersion: segmentation/v1\ninvariants:\n- {name: plc-silent, deny: {from: [plc]}}\n")
	out, code, err := call(t, append(files, "--invariants", good)...)
	if code != 0 || out != "true   plc-isolated\n" {
		t.Errorf("exit %d, %v:\n%s", code, err, out)
	}
	out, code, err = call(t, append(files, "--invariants", good, "--invariants", bad)...)
	want := "true   plc-isolated\nfalse  plc-silent: plc1 (10.50.0.1) to 198.51.100.7, tcp 443: allow\n       egress: no rule matches; ingress: no rule matches\n"
	if code != 1 || out != want || err == nil || err.Error() != "1 of 2 invariants are false" {
		t.Errorf("exit %d, %v:\n%s", code, err, out)
	}
	out, code, err = call(t, append(files, bad, "-o", "json")...)
	for _, want := range []string{`"name": "plc-silent"`, `"holds": false`, `"from": "10.50.0.1"`, `"port": 443`, `"from_workload": "plc1"`, `"verdict": "allow"`} {
		if code != 1 || !strings.Contains(out, want) {
			t.Errorf("exit %d, %v, without %s:\n%s", code, err, want, out)
		}
	}
	if out, _, err = call(t, files[0], files[1], files[2], good); err != nil || !strings.HasPrefix(out, "true   plc-isolated (says nothing") {
		t.Errorf("%v, about nobody: %s", err, out)
	}
	if out, code, err = call(t, files...); code != 2 {
		t.Errorf("exit %d, %v, without invariants: %s", code, err, out)
	}
	if out, code, err = call(t, append(files, "--invariants", write(t, "typo.yaml", "apiVersion: segmentation/v1\ninvariants:\n- {name: x, deny: {to: [plk]}}\n"))...); code != 2 ||
		!strings.Contains(err.Error(), `typo.yaml:3:25: invariants[0].deny.to[0]: there is no group "plk" (did you mean "plc"?)`) {
		t.Errorf("exit %d, %v: %s", code, err, out)
	}
}

package policy_test

import (
	"fmt"
	"reflect"
	"strings"
	"testing"

	"github.com/platelet-sdn/platelet/segmentation/policy"
)

const invariants = `apiVersion: segmentation/v1
invariants:
- name: plc-isolated
  description: nothing outside corp reaches plc
  deny: {from: [not corp, "not 10.9.0.0/16"], to: [plc, fd00::1]}
- {name: dns, allow: {from: [plc], to: [corp], services: [{proto: udp, ports: [53]}]}}
`

func TestInvariantsAreRead(t *testing.T) {
	groups := policy.Source{Name: "groups.yaml", Data: []byte("apiVersion: segmentation/v1\ngroups: {corp: {cidrs: [10.0.0.0/8]}, plc: {selector: {app: plc}}}\n")}
	set, err := policy.Read(groups, policy.Source{Name: "inv.yaml", Data: []byte(invariants)})
	if err != nil {
		t.Fatal(err)
	}
	x := set.Invariants[0].Deny
	if got := fmt.Sprint(x.From, x.To); got != "[not corp not 10.9.0.0/16] [plc fd00::1]" {
		t.Errorf("read as %s", got)
	}
	if at := set.InvariantAt("dns"); at.String() != "inv.yaml:6:3" {
		t.Errorf("dns stands at %s", at)
	}
	raw, err := set.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	back, err := policy.Read(policy.Source{Name: "back", Data: raw})
	if err != nil || !reflect.DeepEqual(back.Invariants, set.Invariants) {
		t.Errorf("%v in\n%s", err, raw)
	}
}

func TestInvariantFaults(t *testing.T) {
	for text, want := range map[string]string{
		"- {name: a}":                                        "inv.yaml:4:3: invariants[0]: needs one of deny and allow",
		"- {name: a, deny: {}, allow: {}}":                   "invariants[0]: needs one of deny and allow",
		"- {name: a, deny: {}}\n- {name: a, deny: {}}":       "inv.yaml:5:10: invariants[1].name: the name a is taken in inv.yaml:4:3",
		"- {deny: {}}":                                       `invariants[0].name: "" is not a name`,
		"- {name: a, deny: {from: [not crop]}}":              `inv.yaml:4:27: invariants[0].deny.from[0]: there is no group "crop" (did you mean "corp"?)`,
		"- {name: a, deny: {to: [not any]}}":                 "invariants[0].deny.to[0]: nobody is left",
		"- {name: a, deny: {to: ['not ']}}":                  "invariants[0].deny.to[0]: names nobody",
		"- {name: a, deny: {to: []}}":                        "invariants[0].deny.to: an empty list; leave it out",
		"- {name: a, allow: {services: [http]}}":             `invariants[0].allow.services[0]: there is no service "http"`,
		"- {name: a, deny: {from: [not 10.0.0.1/8]}}":        "has bits outside its mask",
		"- {name: a, allow: {services: [{proto: 47}], x: 1}": "",
	} {
		_, err := policy.Read(policy.Source{Name: "inv.yaml", Data: []byte("apiVersion: segmentation/v1\ngroups: {corp: {cidrs: [10.0.0.0/8]}}\ninvariants:\n" + text)})
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s\ngot  %v\nwant %s", text, err, want)
		}
	}
}

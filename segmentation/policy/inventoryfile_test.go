package policy_test

import (
	"bytes"
	"net/netip"
	"reflect"
	"strings"
	"testing"

	"gopkg.in/yaml.v3"

	"github.com/platelet-sdn/platelet/flowcollector/flow"
	"github.com/platelet-sdn/platelet/segmentation/policy"
)

const inventory = `workloads:
- {name: web1, addrs: [10.0.0.1, "fd00::1"], mac: 02:00:00:00:00:01, switch: s1, port: p1, labels: {app: web}, risk: high}
- {name: printer}
feeds: {feodo: [203.0.113.0/24, 198.51.100.7]}
assets: {dns: [10.0.0.53]}
`

func TestReadInventory(t *testing.T) {
	inv, err := policy.ReadInventory(policy.Source{Name: "inv.yaml", Data: []byte(inventory)})
	if err != nil {
		t.Fatal(err)
	}
	want := policy.Inventory{
		Workloads: []policy.Workload{{Name: "web1", Addrs: []netip.Addr{netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("fd00::1")}, MAC: flow.MAC{2, 0, 0, 0, 0, 1},
			Switch: "s1", Port: "p1", Labels: map[string]string{"app": "web"}, Risk: policy.RiskHigh}, {Name: "printer"}},
		Feeds:  map[string][]netip.Prefix{"feodo": {netip.MustParsePrefix("203.0.113.0/24"), netip.MustParsePrefix("198.51.100.7/32")}},
		Assets: map[string][]netip.Prefix{"dns": {netip.MustParsePrefix("10.0.0.53/32")}},
	}
	if !reflect.DeepEqual(inv, want) {
		t.Errorf("got  %+v\nwant %+v", inv, want)
	}
	list, err := yaml.Marshal(want.Workloads)
	if err != nil {
		t.Fatal(err)
	}
	if inv, err = policy.ReadInventory(policy.Source{Name: "list.yaml", Data: list}); err != nil || !reflect.DeepEqual(inv.Workloads[0], want.Workloads[0]) || len(inv.Workloads) != 2 {
		t.Errorf("a list that was written is read as %+v: %v\n%s", inv.Workloads, err, list)
	}
}

func TestInventoryFaults(t *testing.T) {
	for text, want := range map[string]string{
		"- {name: a}\n- {name: a}":                        "inv.yaml:2:10: [1].name: the name a is taken by entry 1",
		"workloads:\n- {name: a, addrs: [10.0.0.1/24]}":   "inv.yaml:2:21: workloads[0].addrs[0]: ",
		"- {name: a, addrs: ['::ffff:10.0.0.1']}":         "inv.yaml:1:21: [0].addrs[0]: ",
		"- {addrs: [10.0.0.1]}":                           `inv.yaml:1:3: [0].name: "" is no name`,
		"- {name: a, adrs: [10.0.0.1]}":                   `did you mean "addrs"?`,
		"- {name: a, risk: hihg}":                         `unknown risk "hihg" (did you mean "high"?)`,
		"workloads: []\nfeeds: {feodo: [203.0.113.1/24]}": "has bits outside its mask",
	} {
		_, err := policy.ReadInventory(policy.Source{Name: "inv.yaml", Data: []byte(text)})
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s\ngot  %v\nwant %s", text, err, want)
		}
	}
}

// Whatever is read, what is accepted is written and read again as the same.
func FuzzReadInventory(f *testing.F) {
	f.Add([]byte(inventory))
	f.Add([]byte("- {name: a, addrs: ['::ffff:10.0.0.1']}"))
	f.Add([]byte("[]"))
	f.Fuzz(func(t *testing.T, data []byte) {
		inv, err := policy.ReadInventory(policy.Source{Name: "f", Data: data})
		if err != nil {
			return
		}
		raw, err := yaml.Marshal(inv.Workloads)
		if err != nil {
			t.Fatal(err)
		}
		again, err := policy.ReadInventory(policy.Source{Name: "f", Data: raw})
		if err != nil {
			t.Fatalf("%v\n%s", err, raw)
		}
		twice, err := yaml.Marshal(again.Workloads)
		if err != nil || !bytes.Equal(raw, twice) {
			t.Fatalf("%v\n%s\n%s", err, raw, twice)
		}
	})
}

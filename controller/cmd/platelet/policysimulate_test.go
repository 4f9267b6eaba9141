package main

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/platelet-sdn/platelet/segmentation/staged"
)

// Every kind of recording is read, and judged by a policy that denies all
// of it when it is enforced.
func TestPolicySimulate(t *testing.T) {
	file := write(t, "p.yaml", `
apiVersion: segmentation/v1
policies:
- name: all
  tier: baseline
  mode: staged
  appliesTo: [any]
  ingress: [{name: nobody, action: deny, from: [any], services: [{proto: 253}]}, {name: all, action: deny, from: [any]}]
`)
	const recordings = "../../../flowcollector/replay/testdata/"
	for _, input := range []string{recordings + "zeek.log", recordings + "zeek.json", recordings + "argus.binetflow", recordings + "goflow.json",
		recordings + "traffic.pcapng", recordings + "flows.csv", "../../../flowcollector/testdata/ovs-sflow-s1-p5.pcap", "../../../detector/testdata/benign-day.csv.gz"} {
		out, code, err := call(t, "policy", "simulate", file, "--records", input, "-o", "json")
		if code != 0 {
			t.Fatalf("%s: exit %d, %v", input, code, err)
		}
		var r staged.Report
		if err := json.Unmarshal([]byte(out), &r); err != nil {
			t.Fatalf("%s: %v", input, err)
		}
		if r.Coverage.Records == 0 || r.Denied.Connections != 0 || r.WouldDeny.Connections == 0 || r.WouldDeny.Openers == 0 {
			t.Errorf("%s: %+v", input, r.Coverage)
		}
		if len(r.Rules) != 2 || !r.Rules[1].Hit || r.Rules[1].WouldDeny.Connections != r.WouldDeny.Connections || r.Rules[1].Hits == 0 || r.Rules[0].Hit {
			t.Errorf("%s: %+v", input, r.Rules)
		}
	}
	out, code, err := call(t, "policy", "simulate", file, "--records", recordings+"zeek.log")
	if code != 0 || !strings.Contains(out, "would be denied by what is staged") || !strings.Contains(out, "Never hit:\n  all/ingress/nobody at ") {
		t.Errorf("exit %d, %v:\n%s", code, err, out)
	}
	for _, args := range [][]string{{file}, {file, "--records", recordings + "zeek.log", "-o", "yaml"}, {file, "--records", file}, {"nowhere.yaml", "--records", recordings + "zeek.log"}} {
		if out, code, err := call(t, append([]string{"policy", "simulate"}, args...)...); code == 0 || err == nil {
			t.Errorf("%v: exit %d, %s", args, code, out)
		}
	}
}

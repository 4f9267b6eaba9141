package pipeline_test

import (
	"cmp"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/platelet-sdn/platelet/controller/openflow/pipeline"
	"github.com/platelet-sdn/platelet/flowcollector/flow"
	"github.com/platelet-sdn/platelet/segmentation/policy"
)

// The flows of policies, of each kind that there is, as they stand on a switch.
func TestPolicyFlowsGolden(t *testing.T) {
	web, db, net6 := netip.MustParsePrefix("10.0.0.1/32"), netip.MustParsePrefix("10.0.0.2/32"), netip.MustParsePrefix("2001:db8::/64")
	all := netip.MustParsePrefix("10.0.0.0/8")
	keep := want{name: "keep", tier: policy.TierEmergency, rank: 7, action: policy.ActionDeny, own: web, established: policy.EstablishedKeep}
	limit := want{name: "limit", tier: policy.TierAdmin, rank: 1, action: policy.ActionRateLimit, own: db, proto: flow.ProtoICMP, rate: policy.Rate{KilobitsPerSecond: 100, Burst: 20}}
	many := want{name: "many", tier: policy.TierApplication, rank: 49999, action: policy.ActionAllow, own: all, peer: all, proto: flow.ProtoTCP, log: true}
	mirror := want{name: "mirror", tier: policy.TierApplication, direction: policy.Egress, rank: 3, action: policy.ActionPass, own: web, peer: net6, mirror: "br/vm3"}
	port := func(p uint16) want {
		return want{name: "port " + string(rune('a'+p-80)), tier: policy.TierApplication, rank: p, action: policy.ActionReject, own: db, proto: flow.ProtoTCP, port: p}
	}
	program := programOf(keep, limit, many, mirror, port(80), port(81), want{name: "rest", tier: policy.TierBaseline, action: policy.ActionDeny, log: true})
	tx, sources, err := pipeline.FlowsFor(nil, program, pipeline.TapConfig{CollectorSet: 7, Domain: flow.TapDomain(3)}, ports())
	if err != nil {
		t.Fatal(err)
	}
	var lines []string
	for i := range tx.Flows {
		f := &tx.Flows[i].Flow
		if name := sources[f.Cookie]; name != "" || strings.Contains(f.String(), "conjunction") || f.Table >= 206 && f.Table <= 208 || f.Table == 203 {
			lines = append(lines, f.String())
		}
	}
	slices.SortFunc(lines, func(a, b string) int {
		_, a, _ = strings.Cut(a, ",")
		_, b, _ = strings.Cut(b, ",")
		return cmp.Compare(a, b)
	})
	got, path := strings.Join(lines, "\n")+"\n", filepath.Join("testdata", "policy.golden")
	if os.Getenv("UPDATE_GOLDEN") != "" {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	wanted, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(wanted) {
		t.Errorf("got\n%s\nwant\n%s\n(UPDATE_GOLDEN=1 rewrites it)", got, wanted)
	}
}

package pipeline_test

import (
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/platelet-sdn/platelet/segmentation"
	"github.com/platelet-sdn/platelet/segmentation/policy"
)

// What is shown of a bridge, given to ovs-ofctl line by line, is that bridge
// again: meters first, then flows of every kind that Platelet makes.
func TestInstalledBringsEverythingBack(t *testing.T) {
	l := newLab(t, "in", 3)
	b := l.start()
	if err := b.SetTap(l.ctx, tap()); err != nil {
		t.Fatal(err)
	}
	limit := l.deny("d-1/1", 1)
	limit.Action, limit.Sample, limit.Limit = segmentation.ActionRateLimit, 0, segmentation.Limit{PacketsPerSecond: 50, Burst: 5}
	guard := l.deny("g/0", 2)
	guard.Tier, guard.Action, guard.TTL, guard.Sample = segmentation.TierGuard, segmentation.ActionAllow, 0, 0
	l.apply(b, "d-1", l.deny("d-1/0", 0), limit)
	l.apply(b, "guard", guard)
	wide := want{name: "wide", tier: policy.TierBaseline, rank: 30, action: policy.ActionDeny, own: netip.MustParsePrefix("10.77.0.0/24"), peer: netip.MustParsePrefix("10.77.0.0/24"), proto: 6}
	l.enforce(b,
		l.rule("a", policy.TierApplication, 10, policy.ActionAllow, 1, 6, 80),
		l.rule("b", policy.TierApplication, 11, policy.ActionAllow, 2, 6, 81),
		l.rule("c", policy.TierBaseline, 20, policy.ActionDeny, 1, 0, 0), wide)
	installed, err := b.Installed(l.ctx)
	if err != nil {
		t.Fatal(err)
	}
	b.stop()
	dump := func() string {
		lines := strings.Split(l.ofctl("dump-flows", "--no-stats", "cookie=0x504c000000000000/0xffff000000000000"), "\n")
		slices.Sort(lines)
		return strings.Join(lines, "\n")
	}
	before := dump()
	flows := strings.Count(before, "cookie=") - strings.Count(before, ",cookie=") // of what is learned
	if len(installed.Rules) != flows || len(installed.Meters) != 1 || installed.Meters[0].Intent != "d-1/1" || !strings.Contains(before, "ct(") || !strings.Contains(before, "conj_id") {
		t.Fatalf("%d listed, and %v, of\n%s", len(installed.Rules), installed.Meters, before)
	}
	l.ofctl("del-flows", "cookie=0x504c000000000000/0xffff000000000000")
	l.ofctl("del-meters")
	for _, m := range installed.Meters {
		l.ofctl("add-meter", m.Text)
	}
	var text strings.Builder
	for _, r := range installed.Rules {
		text.WriteString(r.Flow + "\n")
	}
	file := filepath.Join(l.sw.Dir, "flows")
	if err := os.WriteFile(file, []byte(text.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	l.ofctl("add-flows", file)
	if after := dump(); after != before {
		t.Errorf("before\n%s\nafter\n%s\nfrom\n%s", before, after, text.String())
	}
}

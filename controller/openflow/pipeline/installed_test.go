package pipeline_test

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/platelet-sdn/platelet/segmentation"
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
	l.apply(b, "policy",
		l.rule("p/0", segmentation.TierApplication, 10, segmentation.ActionAllow, 1, 6, 80),
		l.rule("p/1", segmentation.TierBaseline, 20, segmentation.ActionDeny, 1, 0, 0))
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
	if len(installed.Rules) != strings.Count(before, "cookie=") || len(installed.Meters) != 1 || installed.Meters[0].Intent != "d-1/1" || !strings.Contains(before, "ct(") {
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

package pipeline_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/platelet-sdn/platelet/controller/openflow/pipeline"
	"github.com/platelet-sdn/platelet/segmentation"
)

// A bridge that does not run heals nothing, and so can be asked at leisure.
func TestDriftSaysWhatDiffers(t *testing.T) {
	l := newLab(t, "dr", 3)
	first := l.start()
	limit := l.deny("d-1/1", 1)
	limit.Action, limit.Sample, limit.Limit = segmentation.ActionRateLimit, 0, segmentation.Limit{PacketsPerSecond: 50, Burst: 5}
	if _, err := first.Apply(l.ctx, "d-1", []segmentation.Intent{l.deny("d-1/0", 0), limit}); err != nil {
		t.Fatal(err)
	}
	if drift, err := first.Drift(l.ctx); err != nil || len(drift) > 0 {
		t.Fatalf("right after Apply: %+v, %v", drift, err)
	}
	first.stop()
	b := l.newBridge()
	changed, missing := l.deny("d-1/0", 0), l.deny("d-2/0", 2)
	changed.TTL, missing.Why = 0, "a scan"
	changed.Tier = segmentation.TierGuard
	for owner, in := range map[string]segmentation.Intent{"d-1": changed, "d-2": missing} {
		if err := b.Adopt(owner, []segmentation.Intent{in}); err != nil {
			t.Fatal(err)
		}
	}
	l.ofctl("add-flow", "table=202,priority=7,cookie=0xf,udp,actions=drop")
	l.ofctl("mod-flows", "table=200,priority=0,cookie=0x504c000000000000/0xffff000000000000,actions=NORMAL")
	before := l.ofctl("dump-flows", "--no-stats")
	drift, err := b.Drift(l.ctx)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, d := range drift {
		got = append(got, fmt.Sprintf("%s %s %s %s %s", d.Kind, d.What, d.Table, d.Owner, d.Why))
	}
	slices.Sort(got)
	want := []string{
		"different flow guard  ", // the miss
		"foreign flow tap  ",
		"missing flow emergency d-2 a scan",
		"missing flow guard d-1 ",
		"unexpected flow emergency  ",    // the limit
		"unexpected flow emergency d-1 ", // the object of the rule that moved
		"unexpected meter   ",
	}
	if !slices.Equal(got, want) {
		t.Errorf("got\n%s\nof %+v", strings.Join(got, "\n"), drift)
	}
	if after := l.ofctl("dump-flows", "--no-stats"); after != before {
		t.Errorf("before\n%s\nafter\n%s", before, after)
	}
}

// What another Platelet holds is not ours to judge.
func TestDriftOfAHeldBridge(t *testing.T) {
	l := newLab(t, "ds", 0)
	l.start(func(c *pipeline.Config) { c.Instance.ID, c.Instance.Who = "one", "host one" })
	b := l.newBridge(func(c *pipeline.Config) { c.Instance.ID, c.Check = "two", time.Hour })
	if drift, err := b.Drift(l.ctx); !errors.Is(err, pipeline.ErrHeld) || !strings.Contains(err.Error(), "host one") {
		t.Errorf("%+v, %v", drift, err)
	}
}

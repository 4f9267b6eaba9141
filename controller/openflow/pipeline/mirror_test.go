package pipeline_test

import (
	"math"
	"strings"
	"testing"
	"time"

	"github.com/platelet-sdn/platelet/segmentation"
)

// Copies come at their limit, beside a way that loses nothing by it; the meter
// goes with the mirror, and a mirror waits for a port that is not there.
func TestMirrorCopiesBesideTheWay(t *testing.T) {
	l := newLab(t, "mi", 3)
	s := l.stream(0, 1, 9000, 500*time.Microsecond)
	s.flows(l)
	b := l.start()
	in := l.deny("d-1/0", 0)
	in.Action, in.ToPort, in.Limit, in.Sample = segmentation.ActionMirror, "nowhere", segmentation.Limit{PacketsPerSecond: 100, Burst: 10}, 0
	r, err := b.Apply(l.ctx, "d-1", []segmentation.Intent{in})
	if err != nil || r.Installed != 0 || len(r.Waiting) == 0 {
		t.Fatalf("a port that is not there: %+v, %v", r, err)
	}
	in.ToPort = l.hosts[2]
	if r, err = b.Apply(l.ctx, "d-1", []segmentation.Intent{in}); err != nil || r.Installed != 1 || !r.ReadBack {
		t.Fatalf("%+v, %v", r, err)
	}
	l.eventually("copies", func() bool { return l.received(2) > 30 })
	l.steady("copies/s of a limit of 100, without loss beside them", 60, 125, func() float64 {
		copied, sent, received, start := l.received(2), s.sent.Load(), s.received.Load(), time.Now()
		l.eventually("2,000 more datagrams", func() bool { return s.sent.Load() >= sent+2000 })
		rate := float64(l.received(2)-copied) / time.Since(start).Seconds()
		sent = s.sent.Load() - sent
		lost := int64(sent) - int64(s.received.Load()-received)
		t.Logf("%d datagrams were sent, %d of them lost", sent, lost)
		if lost > 100 { // on their way, on a busy machine
			return math.Inf(1)
		}
		return rate
	})
	c, err := b.Counters(l.ctx, "d-1")
	if err != nil || len(c) != 1 || c[0].Copied == 0 || c[0].Copied >= c[0].Packets || c[0].Dropped != 0 {
		t.Fatalf("%+v, %v", c, err)
	}
	if _, err := b.Renew(l.ctx, "d-1", 30*time.Second); err != nil {
		t.Fatal(err)
	}
	if again, err := b.Counters(l.ctx, "d-1"); err != nil || again[0].Copied < c[0].Copied {
		t.Errorf("renewed, it counts %+v after %+v, %v", again, c, err)
	}
	drift, err := b.Drift(l.ctx)
	if err != nil || len(drift) > 0 {
		t.Errorf("%+v, %v", drift, err)
	}

	// What is denied is not copied.
	deny := l.deny("d-2/0", 0)
	if _, err := b.Apply(l.ctx, "d-2", []segmentation.Intent{deny}); err != nil {
		t.Fatal(err)
	}
	s.quiet(l, 50)
	copied, sent := l.received(2), s.sent.Load()
	l.eventually("500 more datagrams", func() bool { return s.sent.Load() >= sent+500 })
	if n := l.received(2) - copied; n > 5 { // neighbour discovery
		t.Errorf("%d copies of what is denied", n)
	}
	for _, owner := range []string{"d-2", "d-1"} {
		if _, err := b.Remove(l.ctx, owner); err != nil {
			t.Fatal(err)
		}
	}
	s.flows(l)
	if m := l.ofctl("dump-meters"); strings.Contains(m, "meter=") {
		t.Errorf("meters: %s", m)
	}
}

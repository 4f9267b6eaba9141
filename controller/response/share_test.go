package response

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/platelet-sdn/platelet/flowcollector/flow"
)

// Hosts of much of the traffic are cut off with approval only, counted together;
// what an attacker sends, or gets no answer to, does not make it such a host.
func TestTrafficShareAsks(t *testing.T) {
	cfg := testConfig()
	cfg.MaxTraffic, cfg.MaxQuarantines = 0.5, 10
	r, ctx, now := newRig(t, cfg), t.Context(), time.Now()
	r.baseline(now, []int{3: 1, 4: 25, 5: 4, 6: 30, 7: 60, 8: 0})
	blast := flow.Record{Source: flow.SourceSFlow, Proto: flow.ProtoUDP, Src: host(3), Dst: host(199), SrcPort: 50000, DstPort: 9, InPort: 3, Rate: 1000, Packets: 1, Bytes: 1500}
	for m := range int64(12) { // before the evidence, and answered by nobody
		blast.Time = now.Add(time.Duration(m-14) * time.Minute).UnixNano()
		r.watch.Observe([]flow.Record{blast, blast, blast})
	}
	r.talk(now, 3, 198, flow.ProtoTCP, 80, 100_000) // after it
	for _, c := range []struct {
		host byte
		want State
		says string
	}{
		{3, StateApplied, "it had 1 %"},
		{7, StateAwaitingApproval, "it had 50 %"},
		{6, StateApplied, "with those in quarantine 26 %"},
		{4, StateApplied, "with those in quarantine 47 %"},
		{5, StateAwaitingApproval, "with those in quarantine 50 %"},
		{9, StateApplied, "it had 0 %"},
	} {
		f := scanBy(c.host, uint32(c.host), 1)
		f.FirstSeen = now.UnixNano()
		r.consider(ctx, f)
		d := r.all[r.id(t, c.host)]
		if d.State != c.want || !strings.Contains(d.lastVerdict(), c.says) {
			t.Errorf("%s: %s: %s", host(c.host), d.State, d.lastVerdict())
		}
	}
	again := newRig(t, cfg)
	again.store.m = r.store.m
	if err := again.Load(ctx, now); err != nil || again.all[r.id(t, 6)].TrafficShare < 0.2 {
		t.Errorf("shares are not kept over a restart: %v", err)
	}
}

// Where nothing is known from before the attack, or nobody wants to be asked,
// containment goes on.
func TestTrafficShareThatIsNotKnown(t *testing.T) {
	cfg := testConfig()
	for _, budget := range []float64{0, 0.01} {
		cfg.MaxTraffic = budget
		r, now := newRig(t, cfg), time.Now()
		at := now
		if budget > 0 { // the attack is as old as what is known
			at = now.Add(-14 * time.Minute)
		}
		r.baseline(now, []int{9: 10})
		f := scanBy(9, 9, 1)
		f.FirstSeen = at.UnixNano()
		r.consider(context.Background(), f)
		if d := r.only(t); d.State != StateApplied {
			t.Errorf("at most %v: %s: %s", budget, d.State, d.lastVerdict())
		}
	}
}

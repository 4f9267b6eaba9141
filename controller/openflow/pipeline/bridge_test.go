package pipeline_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/platelet-sdn/platelet/controller/openflow"
	"github.com/platelet-sdn/platelet/controller/openflow/pipeline"
	"github.com/platelet-sdn/platelet/flowcollector/flow"
	"github.com/platelet-sdn/platelet/segmentation"
)

// deny is an emergency rule against a source address.
func (l *lab) deny(id string, host int) segmentation.Intent {
	return segmentation.Intent{
		ID: id, Owner: "d", Switch: l.bridge, Tier: segmentation.TierEmergency, Rank: 100,
		Match:  segmentation.Match{EtherType: flow.EtherIPv4, Src: l.prefix(host), InPort: l.hosts[host]},
		Action: segmentation.ActionDeny, TTL: time.Minute, Sample: 65,
	}
}

// tap samples everything a tap can.
func tap() pipeline.TapConfig {
	t := pipeline.TapConfig{CollectorSet: 7, Domain: flow.TapDomain(3), Probability: map[flow.Signal]uint16{}}
	for _, s := range []flow.Signal{flow.SignalAttempt, flow.SignalAccept, flow.SignalRefuse, flow.SignalUnreachable,
		flow.SignalUDP, flow.SignalARPRequest, flow.SignalARPReply, flow.SignalFinish, flow.SignalICMP, flow.SignalProbe} {
		t.Probability[s] = flow.FullProbability
	}
	return t
}

func TestDenyDropsCountsAndGoes(t *testing.T) {
	l := newLab(t, "a", 2)
	before := l.foreign()
	b := l.start()
	if err := b.SetTap(l.ctx, tap()); err != nil {
		t.Fatal(err)
	}
	s := l.stream(0, 1, 9000, time.Millisecond)
	s.flows(l)

	r, err := b.Apply(l.ctx, "d-1", []segmentation.Intent{l.deny("d-1/0", 0)})
	if err != nil {
		t.Fatal(err)
	}
	if r.Installed != 1 || !r.ReadBack || r.Pending || len(r.Waiting) != 0 {
		t.Fatalf("receipt %+v", r)
	}
	t.Logf("barrier after %v", r.Barrier)
	s.quiet(l, 50)
	l.eventually("the deny rule to count", func() bool {
		c, err := b.Counters(l.ctx, "d-1")
		if err != nil {
			t.Fatal(err)
		}
		return len(c) == 1 && c[0].Dropped >= 50 && c[0].Packets == c[0].Dropped && c[0].Intent == "d-1/0" && c[0].Installed
	})
	if r, err = b.Remove(l.ctx, "d-1"); err != nil || !r.ReadBack {
		t.Fatalf("%+v, %v", r, err)
	}
	s.flows(l)
	if _, err := b.Counters(l.ctx, "d-1"); !errors.Is(err, pipeline.ErrUnknownOwner) {
		t.Fatalf("counters of a removed owner: %v", err)
	}
	l.eventually("packets to be counted as passed", func() bool {
		n, _, err := b.PassCounters(l.ctx)
		if err != nil {
			t.Fatal(err)
		}
		return n > 10
	})
	if err := b.RemoveAll(l.ctx); err != nil {
		t.Fatal(err)
	}
	if n := l.ours(); n != 0 {
		t.Fatalf("%d flows of ours left", n)
	}
	if after := l.foreign(); after != before {
		t.Fatalf("foreign flows changed:\n%s\nto\n%s", before, after)
	}
	s.flows(l)
}

func TestMemberErrorLeavesNothing(t *testing.T) {
	l := newLab(t, "b", 0)
	conn, err := openflow.Dial(l.ctx, "unix:"+l.mgmt())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	good := openflow.FlowMod{Flow: openflow.Flow{Table: 9, Priority: 5, Match: openflow.Match{openflow.InPort(1)},
		Instructions: openflow.Instructions{Meter: 200000}}}
	bad := good
	bad.Priority, bad.Meter = 6, 222222 // there is no such meter
	meter := openflow.Meter{ID: 200000, Flags: openflow.MeterPktps | openflow.MeterBurst, Rate: 5, Burst: 5}
	err = conn.Commit(l.ctx, openflow.Tx{AddMeters: []openflow.Meter{meter}, Flows: []openflow.FlowMod{good, bad}})
	var refused *openflow.TxError
	if !errors.As(err, &refused) || len(refused.Members) != 1 || refused.Members[0].Index != 1 || refused.Members[0].Member != "flow" {
		t.Fatalf("got %v", err)
	}
	t.Log(err)
	if out := l.ofctl("dump-flows", "table=9"); strings.Contains(out, "table=9") {
		t.Fatalf("half applied: %s", out)
	}
	if out := l.ofctl("dump-meters"); strings.Contains(out, "200000") {
		t.Fatalf("meter left behind: %s", out)
	}
	if err := conn.Commit(l.ctx, openflow.Tx{AddMeters: []openflow.Meter{meter}, Flows: []openflow.FlowMod{good}}); err != nil {
		t.Fatal(err)
	}
	if err := conn.Commit(l.ctx, openflow.Tx{Flows: []openflow.FlowMod{{Command: openflow.Delete, Flow: openflow.Flow{Table: 9}}}, DeleteMeters: []uint32{200000, 199999}}); err != nil {
		t.Fatal(err)
	}
	if out := l.ofctl("dump-meters"); strings.Contains(out, "200000") {
		t.Fatalf("meter not deleted: %s", out)
	}
}

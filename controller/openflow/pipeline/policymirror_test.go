package pipeline_test

import (
	"slices"
	"testing"
	"time"

	"github.com/platelet-sdn/platelet/flowcollector/flow"
	"github.com/platelet-sdn/platelet/segmentation/policy"
)

// A rule that mirrors decides while its port is missing, copies both directions
// as soon as it is there, and copies what it denies.
func TestPolicyMirrors(t *testing.T) {
	l := newLab(t, "pm", 3)
	l.echo(1, 9000)
	l.ctl("del-port", l.hosts[2])
	b := l.start()
	allow := l.rule("allow", policy.TierApplication, 1, policy.ActionAllow, 1, flow.ProtoTCP, 9000)
	elsewhere := l.rule("elsewhere", policy.TierApplication, 2, policy.ActionAllow, 1, flow.ProtoTCP, 9001)
	deny := l.rule("deny", policy.TierBaseline, 1, policy.ActionDeny, 1, 0, 0)
	allow.mirror, elsewhere.mirror = l.bridge+"/"+l.hosts[2], "other/"+l.hosts[2]
	program := programOf(allow, elsewhere, deny)
	r, err := b.SetPolicy(l.ctx, program)
	if err != nil || !r.ReadBack || !slices.Equal(r.Waiting, []string{"p/ingress/allow"}) {
		t.Fatal(r, err)
	}
	s := l.session(0, 1, 9000)
	s.flows(l)
	l.ctl("add-port", l.bridge, l.hosts[2])
	before := l.received(2)
	l.eventually("copies", func() bool { return l.received(2) > before+100 })
	n, asked := l.received(2), s.asked.Load()
	l.eventually("a hundred questions", func() bool { return s.asked.Load() > asked+100 })
	if copied := l.received(2) - n; copied < 150 {
		t.Errorf("%d packets of a hundred questions, answers and acknowledgements were copied", copied)
	}
	s.stop()

	deny.mirror = l.hosts[2]
	l.enforce(b, allow, elsewhere, deny)
	up := l.stream(0, 1, 9003, time.Millisecond)
	n = l.received(2)
	l.eventually("copies of what is denied", func() bool { return l.received(2) > n+100 })
	if up.received.Load() > 0 {
		t.Error("what is denied arrived")
	}
}

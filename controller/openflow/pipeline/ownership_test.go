package pipeline_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/platelet-sdn/platelet/controller/openflow/pipeline"
	"github.com/platelet-sdn/platelet/flowcollector/flow"
	"github.com/platelet-sdn/platelet/segmentation"
)

// foreignPorts is how many ports the foreign pipelines forward between.
const foreignPorts = 4

// foreignLab is a bridge with ports that lead nowhere: what is done with
// packets is asked of ofproto/trace.
func foreignLab(t testing.TB, tag string) *lab {
	l := newLab(t, tag, 0)
	for i := 1; i <= foreignPorts; i++ {
		name := fmt.Sprintf("%sp%d", l.bridge, i)
		l.ctl("add-port", l.bridge, name, "--", "set", "Interface", name, "type=internal", fmt.Sprintf("ofport_request=%d", i))
	}
	return l
}

// Whatever we do, in whatever order, everybody else's flows, groups and meters
// stay bit by bit, and packets of which we have no opinion meet the decision
// that they met without us.
func TestForeignPipelineIsUntouched(t *testing.T) {
	l := foreignLab(t, "w")
	rounds, steps := 6, 14
	if testing.Short() {
		rounds = 2
	}
	for seed := range uint64(rounds) {
		r := rand.New(rand.NewPCG(seed, 0x504c))
		f := randomForeign(r, foreignPorts)
		f.install(l)
		before, packets := l.remains(f), f.packets(r, 30)
		flows := strings.Count(l.ofctl("dump-flows"), "actions=")
		decided := l.decides(packets)
		same := func(after string) {
			t.Helper()
			if now := l.remains(f); now != before {
				t.Fatalf("seed %d: %s changed the foreign part:\n%s", seed, after, difference(before, now))
			}
			for i, now := range l.decides(packets) {
				if now != decided[i] {
					t.Fatalf("seed %d: after %s packet %s meets\n%s\nbefore\n%s", seed, after, packets[i], now, decided[i])
				}
			}
		}
		a := &actor{l: l, r: r, b: l.start()}
		same("connecting")
		for range steps {
			what := a.act()
			if now := l.remains(f); now != before {
				t.Fatalf("seed %d: %s changed the foreign part:\n%s", seed, what, difference(before, now))
			}
		}
		if err := a.b.SetTap(l.ctx, pipeline.TapConfig{}); err != nil { // samples are actions too
			t.Fatal(err)
		}
		same(strings.Join(a.done, ", "))
		if r.IntN(2) == 0 {
			if err := a.b.Leave(l.ctx, false); err != nil {
				t.Fatal(err)
			}
			a.b.stop()
			same("leaving")
			continue
		}
		if err := a.b.RemoveAll(l.ctx); err != nil {
			t.Fatal(err)
		}
		a.b.stop()
		same("removing everything")
		if n := strings.Count(l.ofctl("dump-flows"), "actions="); n != flows {
			t.Fatalf("seed %d: %d flows after everything was removed, %d before it came", seed, n, flows)
		}
		if n := strings.Count(l.ofctl("dump-groups"), "group_id="); n != len(f.groups) {
			t.Fatalf("seed %d: %d groups after everything was removed, %d before it came", seed, n, len(f.groups))
		}
	}
}

// actor makes random changes of our own.
type actor struct {
	l      *lab
	r      *rand.Rand
	b      *running
	owners []string
	done   []string
	serial int
}

// intents are rules about addresses that none of the packets have.
func (a *actor) intents(owner string, ttl time.Duration) []segmentation.Intent {
	var out []segmentation.Intent
	for i := range 1 + a.r.IntN(6) {
		in := segmentation.Intent{
			ID: fmt.Sprintf("%s/%d", owner, i), Owner: owner, Switch: a.l.bridge, Tier: segmentation.TierEmergency, Rank: uint16(a.r.IntN(1000)),
			Match:  segmentation.Match{EtherType: flow.EtherIPv4, Src: netip.PrefixFrom(netip.AddrFrom4([4]byte{203, 0, 113, byte(a.r.IntN(256))}), 32)},
			Action: segmentation.ActionDeny, TTL: ttl, Sample: uint16(a.r.IntN(100)),
		}
		switch a.r.IntN(4) {
		case 0:
			in.Action, in.Limit = segmentation.ActionRateLimit, segmentation.Limit{PacketsPerSecond: 1 + a.r.Uint32N(1000), Burst: a.r.Uint32N(50)}
		case 1:
			in.Tier, in.Action, in.TTL = segmentation.TierGuard, segmentation.ActionAllow, 0
		case 2:
			in.Match.InPort = fmt.Sprintf("%sp%d", a.l.bridge, 1+a.r.IntN(foreignPorts+1)) // one is not there
		}
		out = append(out, in)
	}
	return out
}

// act does one thing and returns what.
func (a *actor) act() string {
	a.l.t.Helper()
	var what string
	var err error
	switch n := a.r.IntN(12); {
	case n < 4:
		a.serial++
		owner := fmt.Sprintf("d-%d", a.serial)
		a.owners = append(a.owners, owner)
		what = "applying " + owner
		_, err = a.b.Apply(a.l.ctx, owner, a.intents(owner, time.Minute))
	case n == 4:
		what = "applying what expires"
		if _, err = a.b.Apply(a.l.ctx, "d-short", a.intents("d-short", time.Second)); err == nil {
			a.l.eventually("the short rules to end", func() bool { return !strings.Contains(a.l.ofctl("dump-flows", "table=201"), "hard_timeout=1,") })
		}
	case n == 5 && len(a.owners) > 0:
		owner := a.owners[a.r.IntN(len(a.owners))]
		what = "renewing " + owner
		_, err = a.b.Renew(a.l.ctx, owner, 0)
	case n == 6 && len(a.owners) > 0:
		i := a.r.IntN(len(a.owners))
		what = "removing " + a.owners[i]
		_, err = a.b.Remove(a.l.ctx, a.owners[i])
		a.owners = append(a.owners[:i], a.owners[i+1:]...)
	case n == 7:
		what, err = "setting the tap", a.b.SetTap(a.l.ctx, tap())
	case n == 8:
		what = "lowering the tap"
		err = a.b.LowerTap(a.l.ctx, pipeline.TapOverride{Signal: flow.SignalUDP, Dst: netip.MustParsePrefix("10.0.0.9/32"), Probability: 5})
	case n == 9:
		what, err = "removing everything", a.b.RemoveAll(a.l.ctx)
		a.owners = nil
	case n == 10:
		what = "restarting without rules"
		a.b.stop()
		a.b, a.owners = a.l.start(), nil
	default:
		what = "waiting for a check"
		_, err = a.b.Rules(a.l.ctx)
	}
	a.done = append(a.done, what)
	if err != nil && !errors.Is(err, pipeline.ErrUnknownOwner) {
		a.l.t.Fatalf("%s: %v", what, err)
	}
	return what
}

// A foreign pipeline that uses the mark, or leads into our tables, would not
// behave with us as it does without: nothing is written there.
func TestForeignUseOfTheMarkIsRefused(t *testing.T) {
	l := foreignLab(t, "y")
	for _, flow := range []string{
		"table=5,reg15=0,actions=drop",
		"table=5,reg15=0x80000000/0x80000000,actions=drop",
		"table=5,xreg7=7,actions=drop",
		"table=5,xxreg3=0/0xf0000000,actions=drop",
		"table=0,priority=5,actions=load:7->NXM_NX_REG15[],resubmit(,5)",
		"table=0,priority=5,actions=set_field:7->xreg7,resubmit(,5)",
		"table=0,priority=5,actions=move:NXM_NX_REG1[]->NXM_NX_REG15[]",
		"table=0,priority=5,actions=move:NXM_NX_REG15[]->NXM_NX_REG1[]",
		"table=0,priority=5,actions=output:NXM_NX_REG15[]",
		"table=0,priority=5,actions=resubmit(,213)",
		"table=0,priority=5,actions=goto_table:200",
		"table=0,priority=5,ip,actions=ct(table=205)",
		"table=5,priority=5,actions=learn(table=220,NXM_OF_ETH_SRC[])",
	} {
		l.ofctl("add-flow", flow)
		before := l.ofctl("dump-flows", "--no-stats")
		b := l.run(l.newBridge())
		l.eventually("the refusal of "+flow, func() bool { return b.Status().State == pipeline.StateRefused })
		if st := b.Status(); !strings.Contains(st.LastError, "register 15") && !strings.Contains(st.LastError, "our tables") {
			t.Fatalf("%s: %s", flow, st.LastError)
		}
		if after := l.ofctl("dump-flows", "--no-stats"); after != before {
			t.Fatalf("%s: the switch was written to:\n%s", flow, after)
		}
		b.stop()
		l.ofctl("del-flows", "table=5")
		l.ofctl("del-flows", "--strict", "table=0,priority=5")
		l.ofctl("del-flows", "--strict", "table=0,priority=5,ip")
	}
	for _, flow := range []string{
		"table=5,reg15=0/0xff,actions=drop",
		"table=5,actions=load:7->NXM_NX_REG15[0..15]",
		"table=0,priority=60001,arp,actions=NORMAL",
	} {
		l.ofctl("add-flow", flow)
	}
	b := l.start()
	if st := b.Status(); st.Bypass != 1 {
		t.Fatalf("%d foreign flows pass us by", st.Bypass)
	}
}

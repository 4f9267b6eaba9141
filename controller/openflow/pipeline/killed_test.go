package pipeline_test

import (
	"context"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/platelet-sdn/platelet/controller/openflow/internal/cut"
	"github.com/platelet-sdn/platelet/controller/openflow/pipeline"
	"github.com/platelet-sdn/platelet/segmentation"
)

// A controller that is killed at whatever message of its work leaves rules
// that were all there before or are all there after, and the next controller
// brings about exactly what it adopts.

// killing is a lab whose bridge is reached through a proxy.
type killing struct {
	*lab
	proxy    *cut.Proxy
	old, new []segmentation.Intent
	before   faultPicture // with the old rules in force
	after    faultPicture // with the new ones
}

// faultPicture is what the switch holds, as far as it does not differ from run to
// run: without the claim, the time that is left and the numbers of meters.
type faultPicture struct{ rules, meters, foreign string }

func newKilling(t *testing.T, tag string) *killing {
	l := newLab(t, tag, 3)
	p, err := cut.Listen(filepath.Join(l.sw.Dir, "cut"), l.mgmt())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Close() })
	k := &killing{lab: l, proxy: p}
	l.ofctl("add-meter", "meter=5,pktps,burst,stats,bands=type=drop,rate=77,burst_size=7")
	l.ofctl("add-group", "group_id=5,type=indirect,bucket=actions=NORMAL")
	l.ofctl("add-flow", "cookie=0xf,table=3,ip,actions=meter:5,group:5")
	limit := func(id string, host int, rate uint32) segmentation.Intent {
		in := l.deny(id, host)
		in.Action, in.Sample, in.Limit = segmentation.ActionRateLimit, 0, segmentation.Limit{PacketsPerSecond: rate, Burst: 5}
		return in
	}
	k.old = []segmentation.Intent{l.deny("d-1/0", 0), limit("d-1/1", 1, 50), limit("d-1/3", 2, 60)}
	k.new = []segmentation.Intent{l.deny("d-1/2", 2), limit("d-1/1", 1, 90), limit("d-1/3", 2, 60)}
	k.after = k.come(k.new)
	k.before = k.come(k.old)
	if k.before.rules == k.after.rules || k.before.foreign != k.after.foreign {
		t.Fatalf("the rules make no difference:\n%+v", k.after)
	}
	return k
}

// come brings rules about by a controller that is not disturbed and adopts
// them, and returns what the switch holds then.
func (k *killing) come(intents []segmentation.Intent) faultPicture {
	k.t.Helper()
	b := k.newBridge()
	if err := b.Adopt("d-1", intents); err != nil {
		k.t.Fatal(err)
	}
	r := k.run(b)
	k.eventually("the bridge to connect", r.Connected)
	if drift, err := r.Drift(k.ctx); err != nil || len(drift) > 0 {
		k.t.Errorf("healed, and yet: %+v, %v", drift, err)
	}
	r.stop()
	return k.picture()
}

func (k *killing) picture() faultPicture {
	k.t.Helper()
	varies := regexp.MustCompile(`hard_timeout=\d+|meter[:=]\d+`)
	var out [3][]string
	for _, dump := range [][]string{{"dump-flows", "--no-stats"}, {"dump-groups"}, {"dump-meters"}} {
		text := strings.ReplaceAll(k.ofctl(dump[0], dump[1:]...), "bands=\n", "bands=")
		for line := range strings.Lines(text) {
			part := 2
			switch {
			case strings.Contains(line, "reply (OF") || strings.TrimSpace(line) == "" || strings.Contains(line, claimCookie):
				continue // a claim's number changes with each
			case strings.Contains(line, "cookie=0x504c"):
				part = 0
			case dump[0] == "dump-meters" && !strings.Contains(line, "meter=5 "):
				part = 1
			}
			out[part] = append(out[part], varies.ReplaceAllString(strings.TrimSpace(line), "…"))
		}
	}
	for i := range out {
		slices.Sort(out[i])
	}
	return faultPicture{strings.Join(out[0], "\n"), strings.Join(out[1], "\n"), strings.Join(out[2], "\n")}
}

// through starts a controller on the other side of the proxy, with the old
// rules or the new ones.
func (k *killing) through(intents []segmentation.Intent, kind cut.Kind) *running {
	k.t.Helper()
	b := k.newBridge(func(c *pipeline.Config) {
		c.Target, c.Check = k.proxy.Target(), time.Hour
		if kind == cut.Stall {
			c.Dialer.Timeout = 300 * time.Millisecond // of the undoing, which waits for it
		}
	})
	if err := b.Adopt("d-1", intents); err != nil {
		k.t.Fatal(err)
	}
	return k.run(b)
}

// everyPoint lets a controller meet the fault at every message. work does
// what is to be disturbed, and reports whether it was done.
func (k *killing) everyPoint(kind cut.Kind, work func(cut.Fault) (*running, bool)) {
	k.t.Helper()
	for _, d := range []cut.Direction{cut.ToSwitch, cut.ToController} {
		n := 1
		for ; ; n++ {
			fault := cut.Fault{Direction: d, Message: n, Kind: kind}
			b, done := work(fault)
			b.stop() // killed: it cannot repair anything
			if err := k.proxy.Settled(k.ctx); err != nil {
				k.t.Fatal(err)
			}
			k.judge(fault)
			if done {
				break
			}
		}
		if k.t.Logf("%v: %d points %v", kind, n-1, d); n < 10 {
			k.t.Errorf("only %d points %v", n-1, d)
		}
	}
}

func (k *killing) judge(fault cut.Fault) {
	k.t.Helper()
	got := k.picture()
	if got.foreign != k.before.foreign {
		k.t.Errorf("%v: foreign part is\n%s\nand was\n%s", fault, got.foreign, k.before.foreign)
	}
	if got.rules != k.before.rules && got.rules != k.after.rules {
		k.t.Errorf("%v: half of it is in force:\n%s", fault, got.rules)
	}
	if got := k.come(k.new); got != k.after {
		k.t.Errorf("%v: healed to\n%+v\nwant\n%+v", fault, got, k.after)
	}
	if got := k.come(k.old); got != k.before {
		k.t.Errorf("%v: healed back to\n%+v\nwant\n%+v", fault, got, k.before)
	}
}

func (k *killing) hit() bool {
	select {
	case <-k.proxy.Hit():
		return true
	default:
		return false
	}
}

func TestKilledWhileHealing(t *testing.T) {
	k := newKilling(t, "ka")
	k.everyPoint(cut.Before, func(fault cut.Fault) (*running, bool) {
		k.proxy.Arm(fault)
		b := k.through(k.new, fault.Kind)
		k.eventually("the fault, or the end of the work", func() bool { return k.hit() || b.Connected() })
		return b, k.proxy.Disarm()
	})
}

func TestKilledWhileApplying(t *testing.T) {
	k := newKilling(t, "kb")
	for _, kind := range []cut.Kind{cut.Before, cut.Inside, cut.Stall} {
		k.everyPoint(kind, k.apply)
	}
}

// apply changes the rules under a fault.
func (k *killing) apply(fault cut.Fault) (b *running, done bool) {
	k.t.Helper()
	k.proxy.Arm(cut.Fault{Kind: cut.Pass})
	b = k.through(k.old, fault.Kind)
	k.eventually("the bridge to connect", b.Connected)
	ctx, end := context.WithCancel(k.ctx)
	defer end()
	if fault.Kind == cut.Stall {
		fault.Do = end
	}
	k.proxy.Arm(fault)
	_, err := b.Apply(ctx, "d-1", k.new)
	// What comes later, an echo say, is no message of this work.
	if done = k.proxy.Disarm(); done && err != nil {
		k.t.Fatalf("untouched by %v: %v", fault, err)
	}
	return b, done
}

// When it is the switch that is killed, the controller that was at work brings
// about what it was asked for as soon as the switch is back.
func TestSwitchKilledWhileApplying(t *testing.T) {
	k := newKilling(t, "kc")
	for _, d := range []cut.Direction{cut.ToSwitch, cut.ToController} {
		for n, done := 1, false; !done; n++ {
			fault := cut.Fault{Direction: d, Message: n, Do: func() { _ = k.sw.KillSwitch() }}
			var b *running
			if b, done = k.apply(fault); !done {
				if err := k.proxy.Settled(k.ctx); err != nil { // until it is dead
					t.Fatal(err)
				}
				if err := k.sw.StartSwitch(k.ctx); err != nil {
					t.Fatal(err)
				}
				k.proxy.Arm(cut.Fault{Kind: cut.Pass}) // let the controller in again
			}
			k.eventually("the new rules", func() bool {
				got := k.picture()
				return got.rules == k.after.rules && got.meters == k.after.meters
			})
			b.stop()
			k.come(k.old)
		}
	}
}

package oftest

import (
	"flag"
	"fmt"
	"strings"
	"testing"

	of "github.com/platelet-sdn/platelet/controller/openflow"
	"pgregory.net/rapid"
)

// Each check traces packetsPerSet packets through one rule set on both
// switches. -rapid.seed repeats a run.
var ruleSets = flag.Int("rulesets", 300, "rule sets that are traced on the real and on the virtual switch")

const packetsPerSet = 20

// furnish makes the groups and meters that generated flows name, on both
// switches.
func (r *rig) furnish(v *Switch) {
	r.t.Helper()
	var tx of.Tx
	for id := range uint32(meterCount) {
		tx.AddMeters = append(tx.AddMeters, of.Meter{ID: id + 1, Flags: of.MeterPktps | of.MeterBurst, Rate: 1000, Burst: 1000})
	}
	for id := range uint32(groupCount) {
		tx.Groups = append(tx.Groups, of.GroupMod{Group: of.Group{ID: id + 1, Type: of.GroupAll}})
	}
	if refused, err := r.commit(v, tx); err != nil || refused != nil {
		r.t.Fatal(refused, err)
	}
}

// Random rule sets and packets: the same flows are visited in the same order,
// the packet ends up the same, and the same leaves the switch.
func TestRandomRulesAsOpenVSwitchTracesThem(t *testing.T) {
	r := newRig(t)
	v := New(Config{Ports: ports})
	r.furnish(v)
	if err := flag.Set("rapid.checks", fmt.Sprint(*ruleSets)); err != nil {
		t.Fatal(err)
	}
	states := []CTState{CTTracked | CTNew, CTTracked | CTEstablished, CTTracked | CTEstablished | CTReply, CTTracked | CTInvalid, CTTracked | CTRelated}
	traced, refused, outputs, passes, failed, ambiguous := 0, 0, 0, 0, 0, 0
	rapid.Check(t, func(rt *rapid.T) {
		g := gen{t: rt}
		if g.stateful = g.chance("stateful", 2); !g.stateful {
			g.loops = g.chance("loops", 10)
		}
		packets := make([]Packet, packetsPerSet)
		for i := range packets {
			packets[i] = g.packet()
		}
		flows, groups := g.flows(packets), g.groups()
		text := rulesText(flows, groups)
		rejected, err := r.program(v, flows, groups...)
		if err != nil {
			rt.Fatalf("%v\n%s", err, text)
		}
		if rejected != nil {
			refused++
			return
		}
		for _, p := range packets {
			var next []CTState
			for range g.n("ct-next", 2) {
				next = append(next, pick(g, "state", states...))
			}
			res := v.Trace(p, next...)
			if len(res.Ambiguous()) > 0 {
				ambiguous++ // two conjunctions of one priority
				continue
			}
			if err := r.compare(v, p, next...); err != nil {
				rt.Fatalf("%v\n%s", err, text)
			}
			traced++
			outputs += len(res.Outputs())
			passes += len(res.Finals)
			for _, e := range res.Effects {
				if d, ok := e.(Dropped); ok && d.Why != noFlow {
					failed++
				}
			}
		}
	})
	t.Logf("%d packets traced, %d passes, %d outputs, %d translations given up; %d rule sets refused by both, %d packets ambiguous",
		traced, passes, outputs, failed, refused, ambiguous)
}

func rulesText(flows []of.Flow, groups []of.GroupMod) string {
	var b strings.Builder
	for i := range flows {
		fmt.Fprintln(&b, flows[i].String())
	}
	for i := range groups {
		fmt.Fprintln(&b, groups[i].Group.String())
	}
	return b.String()
}

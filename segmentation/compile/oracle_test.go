package compile_test

import (
	"testing"

	"pgregory.net/rapid"

	"github.com/platelet-sdn/platelet/segmentation/compile"
	"github.com/platelet-sdn/platelet/segmentation/oracle"
	"github.com/platelet-sdn/platelet/segmentation/policy"
	"github.com/platelet-sdn/platelet/segmentation/policy/policytest"
)

// What is compiled means what the policies mean: the same rule decides on each
// side. Who has a rule on his side is tracked.
func TestProgramsAgreeWithTheOracle(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c := compile.New()
		w := policytest.Worlds().Draw(t, "world")
		hold(t, c, w)
		for range rapid.IntRange(0, 2).Draw(t, "changes") {
			if rapid.Bool().Draw(t, "of policies") {
				w.Set = policytest.Sets().Draw(t, "next set")
			} else {
				w.Inventory = policytest.Inventories().Draw(t, "next inventory")
			}
			hold(t, c, w)
		}
	})
}

func hold(t *rapid.T, c *compile.Compiler, w policytest.World) {
	program, err := c.Compile(w.Set, w.Inventory, policytest.Now())
	if err != nil {
		t.Fatal(err)
	}
	compiled, says := compile.NewEvaluator(program), oracle.New(w.Set, w.Inventory, policytest.Now())
	for _, x := range rapid.SliceOfN(policytest.Connections(w), 20, 40).Draw(t, "connections") {
		want := says.Verdict(x)
		egress, ingress := compiled.Verdict(compile.Connection{Src: x.Src, Dst: x.Dst, Proto: x.Proto, DstPort: x.DstPort, Type: x.Type, Code: x.Code})
		for _, side := range []struct {
			got  compile.Side
			want oracle.Side
		}{{egress, want.Egress}, {ingress, want.Ingress}} {
			if side.got.Rule != side.want.ID || side.got.Decided() && side.got.Action != side.want.Action {
				raw, _ := w.Set.Marshal()
				t.Fatalf("%+v: compiled %s says %s, the oracle says %s\n%s\n%+v", x, side.got.Rule, side.got.Action, side.want, raw, w.Inventory.Workloads)
			}
		}
		for _, end := range []struct {
			side oracle.Side
			of   bool
		}{{want.Egress, tracked(program, x.Src)}, {want.Ingress, tracked(program, x.Dst)}} {
			if (end.side.ID != policy.RuleID{}) && !end.of {
				t.Fatalf("%+v: rule %s decides, and the packets are not tracked", x, end.side.ID)
			}
		}
	}
}

package compile_test

import (
	"fmt"
	"maps"
	"slices"
	"testing"

	"github.com/platelet-sdn/platelet/segmentation/compile"
	"github.com/platelet-sdn/platelet/segmentation/policy"
	"github.com/platelet-sdn/platelet/segmentation/policy/policytest"
)

// BenchmarkCompile compiles 10,000 workloads and 1,000 rules from nothing, and
// what one label changes.
func BenchmarkCompile(b *testing.B) {
	for _, size := range [][2]int{{100, 10}, {1000, 100}, {10000, 1000}, {100000, 10000}} {
		pol, inv := policytest.Large(size[0], size[1])
		b.Run(fmt.Sprintf("all/%dx%d", size[0], size[1]), func(b *testing.B) {
			for b.Loop() {
				p, err := compile.New().Compile(pol, inv, noon)
				if err != nil {
					b.Fatal(err)
				}
				b.ReportMetric(float64(len(p.Endpoints)), "endpoints")
				b.ReportMetric(float64(len(p.Rules)), "rules")
			}
		})
		b.Run(fmt.Sprintf("label/%dx%d", size[0], size[1]), func(b *testing.B) {
			c := compile.New()
			if _, err := c.Compile(pol, inv, noon); err != nil {
				b.Fatal(err)
			}
			i := 0
			for b.Loop() {
				i++
				next := policy.Inventory{Workloads: slices.Clone(inv.Workloads)}
				w := &next.Workloads[i%len(next.Workloads)]
				w.Labels = maps.Clone(w.Labels)
				w.Labels["role"] = []string{"web", "app", "db"}[(i/len(next.Workloads)+i+1)%3]
				if _, err := c.Compile(pol, next, noon); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

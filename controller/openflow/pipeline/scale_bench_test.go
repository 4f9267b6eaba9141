package pipeline_test

import (
	"fmt"
	"maps"
	"math"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/platelet-sdn/platelet/controller/openflow/pipeline"
	"github.com/platelet-sdn/platelet/segmentation/compile"
	"github.com/platelet-sdn/platelet/segmentation/policy/policytest"
)

// scalePoint is one size of policies, and what they cost.
type scalePoint struct {
	workloads, rules int
	all, label       time.Duration // compile and plan, from nothing and after a change of one label
	flows            int
	pairs            int // flows that a rule for each pair of addresses would need
}

// BenchmarkPolicyScale compiles policies of growing size down to the flows of a
// bridge: from nothing, and again after one workload's label changed. It counts
// the flows, and those that rules for pairs of addresses would be. With PLOT=FILE
// it draws the figures; scale.svg beside this file was drawn so:
//
//	PLOT=scale.svg go test ./controller/openflow/pipeline -run - -bench PolicyScale -benchtime 1x
//
// Two busy cores: 10,000 workloads under 1,000 rules take 198 ms from nothing
// (budget one second), 35,428 flows, where pairs of addresses would be 814,378;
// a label 4.4 ms, to which the switch adds what BenchmarkSetPolicy measures.
func BenchmarkPolicyScale(b *testing.B) {
	var points []scalePoint
	for _, n := range []int{100, 300, 1000, 3000, 10000, 30000} {
		b.Run(fmt.Sprintf("%dx%d", n, n/10), func(b *testing.B) {
			var p scalePoint
			for b.Loop() {
				p = scale(b, n, n/10)
			}
			b.ReportMetric(float64(p.all.Microseconds())/1000, "all-ms")
			b.ReportMetric(float64(p.label.Microseconds())/1000, "label-ms")
			b.ReportMetric(float64(p.flows), "flows")
			b.ReportMetric(float64(p.pairs), "flows-of-pairs")
			b.ReportMetric(0, "ns/op")
			points = append(points, p)
		})
	}
	if name := os.Getenv("PLOT"); name != "" {
		if err := os.WriteFile(name, []byte(plotScale(points)), 0o644); err != nil {
			b.Fatal(err)
		}
	}
}

// scale takes the median of some rounds: one of 100 workloads is too short.
func scale(b *testing.B, workloads, rules int) scalePoint {
	p := scalePoint{workloads: workloads, rules: rules}
	var all, label []time.Duration
	for range 5 {
		pol, inv := policytest.Large(workloads, rules)
		planner, err := pipeline.NewPlanner(pipeline.TapConfig{})
		if err != nil {
			b.Fatal(err)
		}
		compiler := compile.New()
		step := func() (*compile.Program, int) {
			program, err := compiler.Compile(pol, inv, time.Unix(0, 0))
			if err != nil {
				b.Fatal(err)
			}
			tx, _, err := planner.Step(program)
			if err != nil {
				b.Fatal(err)
			}
			return program, len(tx.Flows)
		}
		start := time.Now()
		program, flows := step()
		all, p.flows, p.pairs = append(all, time.Since(start)), flows, pairs(program)
		inv.Workloads = slices.Clone(inv.Workloads)
		w := &inv.Workloads[len(inv.Workloads)/2]
		w.Labels = maps.Clone(w.Labels)
		w.Labels["role"] = map[string]string{"web": "app", "app": "db", "db": "web"}[w.Labels["role"]]
		start = time.Now()
		if _, changed := step(); changed == 0 || changed > 16 {
			b.Fatalf("a label changes %d flows", changed)
		}
		label = append(label, time.Since(start))
	}
	slices.Sort(all)
	slices.Sort(label)
	p.all, p.label = all[len(all)/2], label[len(label)/2]
	return p
}

// pairs counts the flows of rules that name both addresses.
func pairs(p *compile.Program) (n int) {
	size, services := map[compile.Class]int{}, map[compile.Class]int{}
	for _, c := range p.Endpoints {
		size[c]++
	}
	for _, c := range p.Services {
		services[c]++
	}
	count := func(list []compile.Class, of map[compile.Class]int) (n int) {
		if list == nil {
			return 1
		}
		for _, c := range list {
			n += of[c]
		}
		return n
	}
	for _, r := range p.Rules {
		n += 2 * count(r.Opener, size) * count(r.Responder, size) * count(r.Service, services) // answers as well
	}
	return n
}

// series is a line of the plot.
type series struct {
	name, colour string
	of           func(scalePoint) float64
}

// plotScale draws time and flows against size, on logarithmic axes.
func plotScale(points []scalePoint) string {
	ms := func(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
	var b strings.Builder
	b.WriteString(`<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 760 340" width="760" height="340" role="img" font-family="Inter,'Segoe UI',Arial,sans-serif" font-size="12">` +
		"\n<title>Policies: time and flows against size</title>\n<rect width=\"760\" height=\"340\" fill=\"#fff\"/>\n")
	drawScale(&b, 60, "milliseconds", points, []series{
		{"all, from nothing", "#2563eb", func(p scalePoint) float64 { return ms(p.all) }},
		{"one label changed", "#059669", func(p scalePoint) float64 { return ms(p.label) }},
	})
	drawScale(&b, 440, "flows", points, []series{
		{"by classes", "#2563eb", func(p scalePoint) float64 { return float64(p.flows) }},
		{"by pairs of addresses", "#94a3b8", func(p scalePoint) float64 { return float64(p.pairs) }},
	})
	b.WriteString("</svg>\n")
	return b.String()
}

func drawScale(b *strings.Builder, x0 float64, title string, points []scalePoint, list []series) {
	const width, height, y0 = 290.0, 220.0, 50.0
	low, high := math.Inf(1), math.Inf(-1)
	for _, p := range points {
		for _, s := range list {
			low, high = min(low, s.of(p)), max(high, s.of(p))
		}
	}
	low, high = math.Floor(math.Log10(low)), math.Ceil(math.Log10(high))
	first, last := math.Log10(float64(points[0].workloads)), math.Log10(float64(points[len(points)-1].workloads))
	x := func(n int) float64 { return x0 + width*(math.Log10(float64(n))-first)/(last-first) }
	y := func(v float64) float64 { return y0 + height*(1-(math.Log10(v)-low)/(high-low)) }
	fmt.Fprintf(b, "<text x=\"%.0f\" y=\"24\" font-size=\"14\" fill=\"#0f172a\">%s</text>\n", x0, title)
	for e := low; e <= high; e++ {
		at := y(math.Pow(10, e))
		fmt.Fprintf(b, "<line x1=\"%.0f\" y1=\"%.1f\" x2=\"%.0f\" y2=\"%.1f\" stroke=\"#e2e8f0\"/><text x=\"%.0f\" y=\"%.1f\" text-anchor=\"end\" fill=\"#64748b\">%g</text>\n",
			x0, at, x0+width, at, x0-6, at+4, math.Pow(10, e))
	}
	for _, p := range points {
		fmt.Fprintf(b, "<text x=\"%.1f\" y=\"%.0f\" text-anchor=\"middle\" fill=\"#64748b\">%d</text>\n", x(p.workloads), y0+height+18, p.workloads)
	}
	fmt.Fprintf(b, "<text x=\"%.1f\" y=\"%.0f\" text-anchor=\"middle\" fill=\"#64748b\">workloads, under a tenth as many rules</text>\n", x0+width/2, y0+height+36)
	for i, s := range list {
		var line []string
		for _, p := range points {
			line = append(line, fmt.Sprintf("%.1f,%.1f", x(p.workloads), y(s.of(p))))
		}
		fmt.Fprintf(b, "<polyline fill=\"none\" stroke=\"%s\" stroke-width=\"2.5\" points=\"%s\"/>\n", s.colour, strings.Join(line, " "))
		fmt.Fprintf(b, "<text x=\"%.0f\" y=\"%.0f\" fill=\"%s\">%s</text>\n", x0+float64(i)*150, y0+height+60, s.colour, s.name)
	}
}

package report

import (
	"fmt"
	"html/template"
	"math"

	"github.com/platelet-sdn/platelet/lab/measure"
)

const (
	width  = 960.0
	rowGap = 34.0
)

// strips shows every run of every contained or detected attack on one scale
// of time: a hollow dot when it was detected, a full one when it was
// contained; medians, their confidence intervals, and the budget.
func strips(attacks []measure.Attack) template.HTML {
	var rows []measure.Attack
	low, high := math.Inf(1), 0.0
	for _, a := range attacks {
		s := a.Summary
		if s.TTD.N == 0 && s.TTC.N == 0 {
			continue
		}
		rows = append(rows, a)
		for _, d := range []measure.Distribution{s.TTD, s.TTC} {
			if d.N > 0 {
				low, high = min(low, d.Min), max(high, d.Max)
			}
		}
		if b, ok := budgetOf(a.Name); ok {
			high = max(high, b.p99)
		}
	}
	if len(rows) == 0 {
		return ""
	}
	const top, left, right = 14.0, 172.0, 20.0
	height := top + rowGap*float64(len(rows)) + 40
	c := newCanvas(width, height, "Time to detect and time to contain of every run, by attack, in milliseconds on a logarithmic scale")
	x := axis{from: decade(max(0.1, low), math.Floor), to: decade(max(high, 1), math.Ceil), at: left, end: width - right, log: true}
	bottom := top + rowGap*float64(len(rows))
	for _, v := range x.ticks(0) {
		c.line("grid", x.pos(v), top, x.pos(v), bottom)
		c.text("tick", "middle", x.pos(v), bottom+18, span(v))
	}
	c.text("tick", "end", width-right, bottom+34, "after the first attack packet, logarithmic")
	for i, a := range rows {
		strip(c, x, top+rowGap*(float64(i)+0.5), a)
	}
	return c.end()
}

// strip is one attack's row: detection above the middle, containment below.
func strip(c *canvas, x axis, y float64, a measure.Attack) {
	c.text("row", "end", x.at-12, y+4, a.Name)
	c.line("base", x.at, y+rowGap/2, x.end, y+rowGap/2)
	if b, ok := budgetOf(a.Name); ok {
		c.rect("budget", x.pos(b.p50)-1, y-rowGap/2+3, 2, rowGap-6, fmt.Sprintf("budget: median at most %s", span(b.p50)))
		c.rect("budget thin", x.pos(b.p99)-0.5, y-rowGap/2+3, 1, rowGap-6, fmt.Sprintf("budget: 99th percentile at most %s", span(b.p99)))
	}
	const off = 6.5
	mark := func(class string, y float64, d measure.Distribution, what string) {
		if d.N == 0 {
			return
		}
		if d.P50CI != nil {
			c.rect(class+" ci", x.pos(d.P50CI.Low), y-3.5, x.pos(d.P50CI.High)-x.pos(d.P50CI.Low), 7,
				fmt.Sprintf("%s: median %s, %.1f %% confidence %s to %s", what, span(d.P50), d.P50CI.Level*100, span(d.P50CI.Low), span(d.P50CI.High)))
		}
		c.rect(class+" median", x.pos(d.P50)-1, y-6, 2, 12, fmt.Sprintf("%s: median of %d runs %s", what, d.N, span(d.P50)))
	}
	mark("ttd", y-off, a.Summary.TTD, "detected")
	mark("ttc", y+off, a.Summary.TTC, "contained")
	for i, o := range a.Runs {
		if o.TTD.OK {
			c.dot("ttd dot", x.pos(o.TTD.Millis()), y-off, 3.2, fmt.Sprintf("run %d: detected after %s", i+1, span(o.TTD.Millis())))
		}
		if o.TTC.OK {
			c.dot("ttc dot", x.pos(o.TTC.Millis()), y+off, 3.2, fmt.Sprintf("run %d: contained after %s", i+1, span(o.TTC.Millis())))
		}
	}
}

func decade(v float64, to func(float64) float64) float64 { return math.Pow(10, to(math.Log10(v)+1e-9)) }

// ecdf shows the share of runs that had been detected, and contained, by a
// time.
func ecdf(a measure.Attack) template.HTML {
	var d, t []float64
	for _, o := range a.Runs {
		if o.TTD.OK {
			d = append(d, o.TTD.Millis())
		}
		if o.TTC.OK {
			t = append(t, o.TTC.Millis())
		}
	}
	if len(d)+len(t) == 0 {
		return ""
	}
	const w, h, left, top, bottom, right = 320.0, 212.0, 40.0, 12.0, 34.0, 12.0
	high := a.Summary.TTD.Max
	high = max(high, a.Summary.TTC.Max)
	b, budgeted := budgetOf(a.Name)
	if budgeted && b.p99 < 4*high {
		high = max(high, b.p99)
	}
	c := newCanvas(w, h, "Share of runs of "+a.Name+" detected and contained by a time")
	x := axis{to: max(0.1, high*1.06), at: left, end: w - right}
	y := axis{to: 1, at: h - bottom, end: top}
	for _, v := range []float64{0, 0.25, 0.5, 0.75, 1} {
		c.line("grid", x.at, y.pos(v), x.end, y.pos(v))
		c.text("tick", "end", x.at-6, y.pos(v)+3.5, number(v*100)+" %")
	}
	for _, v := range x.ticks(4) {
		c.text("tick", "middle", x.pos(v), h-bottom+16, span(v))
	}
	if budgeted && b.p99 <= x.to {
		c.rect("budget", x.pos(b.p50)-1, top, 2, h-top-bottom, "budget of the median")
		c.rect("budget thin", x.pos(b.p99)-0.5, top, 1, h-top-bottom, "budget of the 99th percentile")
	}
	steps(c, "curve ttd", x, y, d, len(a.Runs))
	steps(c, "curve ttc", x, y, t, len(a.Runs))
	c.text("tick", "end", x.end, h-3, "after the first attack packet")
	return c.end()
}

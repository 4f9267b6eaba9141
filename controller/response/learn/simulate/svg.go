package simulate

import (
	"fmt"
	"html"
	"io"
	"math"
	"strconv"
	"strings"
)

// The measures of a picture: a panel for each world.
const (
	panelWidth, panelHeight        = 300.0, 220.0
	left, top, between, underneath = 52.0, 58.0, 62.0, 84.0
)

// curve is one line of a panel, with the band that its runs fill.
type curve struct {
	name, colour string
	dash         string // of the line; two may lie on each other
	of           func(*Run) []Point
}

func curves() []curve {
	return []curve{
		{"learned policy", "#0f766e", "none", func(r *Run) []Point { return r.Learner }},
		{"rule", "#b45309", "none", func(r *Run) []Point { return r.Rule }},
		{"best fixed rung", "#64748b", "3 6", func(r *Run) []Point { return r.Fixed }},
	}
}

// WriteSVG draws the regret of each way to choose against rounds, a panel for each
// world: the mean of all runs, in the band from the least to the most.
func WriteSVG(out io.Writer, results []*Result) error {
	width := left + float64(len(results))*(panelWidth+between)
	height := top + panelHeight + underneath
	var b strings.Builder
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %s %s" width="%s" height="%s" role="img" font-family="Inter,'Segoe UI','Helvetica Neue',Arial,sans-serif">`+"\n",
		num(width), num(height), num(width), num(height))
	b.WriteString("<title>Cumulative regret of the learned policy, the rule and the best fixed rung</title>\n")
	fmt.Fprintf(&b, `<rect width="%s" height="%s" fill="#ffffff"/>`+"\n", num(width), num(height))
	for i, r := range results {
		panel(&b, r, left+float64(i)*(panelWidth+between), top)
	}
	x := left
	for _, c := range curves() {
		fmt.Fprintf(&b, `<line x1="%s" y1="%s" x2="%s" y2="%s" stroke="%s" stroke-width="3" stroke-dasharray="%s"/>`, num(x), num(height-18), num(x+20), num(height-18), c.colour, c.dash)
		text(&b, x+26, height-14, "start", 12, "#334155", c.name)
		x += 150
	}
	b.WriteString("</svg>\n")
	_, err := io.WriteString(out, b.String())
	return err
}

func panel(b *strings.Builder, r *Result, x0, y0 float64) {
	most := 1.0
	for i := range r.Runs {
		for _, c := range curves() {
			for _, p := range c.of(&r.Runs[i]) {
				most = max(most, p.Regret)
			}
		}
	}
	step := round(most / 4)
	most = math.Ceil(most/step) * step
	x := func(round int) float64 { return x0 + panelWidth*float64(round)/float64(r.Rounds) }
	y := func(v float64) float64 { return y0 + panelHeight*(1-max(0, v)/most) }
	text(b, x0, y0-34, "start", 14, "#0f172a", r.World)
	text(b, x0, y0-16, "start", 11, "#64748b", fmt.Sprintf("least share of the rule's reward %.3f, allowed %.2f", r.Least(), 1-r.Alpha))
	for v := 0.0; v <= most*1.001; v += step {
		fmt.Fprintf(b, `<line x1="%s" y1="%s" x2="%s" y2="%s" stroke="#e2e8f0"/>`+"\n", num(x0), num(y(v)), num(x0+panelWidth), num(y(v)))
		text(b, x0-6, y(v)+4, "end", 11, "#64748b", num(v))
	}
	for i := range 5 {
		at := r.Rounds * i / 4
		text(b, x(at), y0+panelHeight+16, "middle", 11, "#64748b", strconv.Itoa(at))
	}
	text(b, x0+panelWidth/2, y0+panelHeight+34, "middle", 11, "#64748b", "incidents")
	if len(r.Runs) == 0 {
		return
	}
	for _, c := range curves() {
		c.draw(b, r, x, y)
	}
}

// draw draws the band and the mean.
func (c *curve) draw(b *strings.Builder, r *Result, x func(int) float64, y func(float64) float64) {
	var upper, lower, mean []string
	for i, at := range r.Runs[0].At {
		low, high, sum := math.Inf(1), math.Inf(-1), 0.0
		for j := range r.Runs {
			v := c.of(&r.Runs[j])[i].Regret
			low, high, sum = min(low, v), max(high, v), sum+v
		}
		upper = append(upper, num(x(at))+","+num(y(high)))
		lower = append([]string{num(x(at)) + "," + num(y(low))}, lower...)
		mean = append(mean, num(x(at))+","+num(y(sum/float64(len(r.Runs)))))
	}
	fmt.Fprintf(b, `<polygon points="%s %s" fill="%s" fill-opacity="0.15"/>`+"\n", strings.Join(upper, " "), strings.Join(lower, " "), c.colour)
	fmt.Fprintf(b, `<polyline points="%s" fill="none" stroke="%s" stroke-width="1.8" stroke-dasharray="%s"/>`+"\n", strings.Join(mean, " "), c.colour, c.dash)
}

func text(b *strings.Builder, x, y float64, anchor string, size float64, colour, s string) {
	fmt.Fprintf(b, `<text x="%s" y="%s" text-anchor="%s" font-size="%s" fill="%s">%s</text>`+"\n", num(x), num(y), anchor, num(size), colour, html.EscapeString(s))
}

// num writes a length without needless digits.
func num(v float64) string { return strconv.FormatFloat(math.Round(v*10)/10, 'f', -1, 64) }

// round is the next 1, 2 or 5 times a power of ten.
func round(v float64) float64 {
	unit := math.Pow(10, math.Floor(math.Log10(v)))
	for _, f := range []float64{1, 2, 5} {
		if f*unit >= v*0.999 {
			return f * unit
		}
	}
	return 10 * unit
}

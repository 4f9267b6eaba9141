package report

import (
	"fmt"
	"html/template"
	"slices"
	"strings"

	"github.com/platelet-sdn/platelet/lab/measure"
)

// steps draws an empirical distribution function of samples out of n runs.
func steps(c *canvas, class string, x, y axis, samples []float64, n int) {
	if len(samples) == 0 {
		return
	}
	samples = slices.Sorted(slices.Values(samples))
	var d strings.Builder
	fmt.Fprintf(&d, "M%s %s", number(x.pos(0)), number(y.pos(0)))
	for i, v := range samples {
		fmt.Fprintf(&d, "H%sV%s", number(x.pos(v)), number(y.pos(float64(i+1)/float64(n))))
	}
	fmt.Fprintf(&d, "H%s", number(x.end))
	c.path(class, d.String())
}

// lanes are what the controller did, from top to bottom.
func lanes() []struct{ name, state string } {
	return []struct{ name, state string }{
		{"detected", measure.StateFiring}, {"applied", measure.StateApplied}, {"verified", measure.StateVerified}, {"released", measure.StateReleased},
	}
}

const (
	laneTop, laneGap = 22.0, 17.0
	gutter           = 78.0
	plotHeight       = 104.0
)

// timeline shows one run: on the left its beginning, on the right all of it,
// until the controller let go.
func timeline(o measure.Outcome) template.HTML {
	if o.Zoom == nil || o.Whole == nil {
		return ""
	}
	plotTop := laneTop + laneGap*float64(len(lanes())) + 10
	height := plotTop + plotHeight + 58
	c := newCanvas(width, height, "Timeline of one run: attack packets sent and delivered, what the controller did, and how honest traffic fared")
	for i, l := range lanes() {
		c.text("row", "end", gutter-10, laneTop+laneGap*float64(i)+4, l.name)
	}
	c.text("row", "end", gutter+458, height-16, "honest flows harmed")
	end := o.Ended.Millis()
	if o.Release.OK {
		end += o.Release.Millis()
	}
	lead := o.Benign.Before.Seconds * 1e3
	end *= 1.03
	zoomed := max(0.1, float64(len(o.Zoom.Sent))*o.Zoom.Step)
	left := panel{c, axis{to: zoomed, at: gutter, end: gutter + 420}, plotTop, o, o.Zoom}
	right := panel{c, axis{from: -lead, to: max(end, 1), at: gutter + 470, end: width - 14}, plotTop, o, o.Whole}
	left.draw("the first "+span(zoomed), true)
	right.draw("the whole run", false)
	right.honest(height - 22)
	return c.end()
}

// panel is one part of a timeline with a scale of its own.
type panel struct {
	*canvas
	x    axis
	top  float64
	o    measure.Outcome
	data *measure.Packets
}

func (p panel) draw(title string, zoom bool) {
	base := p.top + plotHeight
	p.text("title", "start", p.x.at, 10, title)
	highest := 1
	for _, n := range slices.Concat(p.data.Sent, p.data.Delivered) {
		highest = max(highest, n)
	}
	y := axis{to: float64(highest), at: base, end: p.top}
	for _, v := range y.ticks(3) {
		p.line("grid", p.x.at, y.pos(v), p.x.end, y.pos(v))
		if v > 0 {
			p.text("tick", "end", p.x.at-5, y.pos(v)+3.5, number(v))
		}
	}
	p.bars("sent", y, p.data.Sent, "sent")
	p.bars("delivered", y, p.data.Delivered, "delivered")
	for _, v := range p.x.ticks(5) {
		p.line("grid", p.x.pos(v), base, p.x.pos(v), base+4)
		p.text("tick", "middle", p.x.pos(v), base+16, span(v))
	}
	p.line("base", p.x.at, base, p.x.end, base)
	p.text("tick", "end", p.x.end, 10, "packets in "+span(p.data.Step))
	for i, l := range lanes() {
		y := laneTop + laneGap*float64(i)
		p.line("grid", p.x.at, y, p.x.end, y)
		p.lane(y, l.state, zoom)
	}
	if !zoom {
		from, to := p.x.pos(p.o.Ended.Millis()), p.x.end
		p.rect("over", from, p.top, to-from, plotHeight, "the attack is over")
	}
}

// bars draws counts per step from the base line up.
func (p panel) bars(class string, y axis, counts []int, what string) {
	for i, n := range counts {
		if n == 0 {
			continue
		}
		from, to := p.x.pos(float64(i)*p.data.Step), p.x.pos(float64(i+1)*p.data.Step)
		p.rect(class, from, y.pos(float64(n)), max(0.8, to-from-0.4), y.at-y.pos(float64(n)),
			fmt.Sprintf("%s to %s: %d %s", span(float64(i)*p.data.Step), span(float64(i+1)*p.data.Step), n, what))
	}
}

// lane marks when the controller reached a state: about the attack with a
// full dot and the first time in words, about others hollow.
func (p panel) lane(y float64, state string, zoom bool) {
	said, beside := "", 0.0
	for _, s := range p.o.Steps {
		if s.State != state || s.At > p.x.to || s.At < p.x.from {
			continue
		}
		title := strings.TrimSpace(fmt.Sprintf("%s: %s %s %s of %s", span(s.At), s.State, s.Kind, s.What, s.Who))
		class, x := "step", p.x.pos(s.At)
		if !s.Ours {
			class, title = "step wrong", "WITHOUT CAUSE "+title
		}
		p.dot(class, x, y, 4, title)
		if said == "" && s.Ours {
			said, beside = p.say(s, zoom), x
		} else if x-beside < 90 {
			beside = max(beside, x) // the words stand behind the last of a bunch
		}
	}
	switch {
	case said == "":
	case beside > p.x.end-110:
		p.text("label", "end", beside-8, y+4, said)
	default:
		p.text("label", "start", beside+8, y+4, said)
	}
}

// say tells when a step was reached. What happened at the beginning, the
// other panel tells.
func (p panel) say(s measure.Step, zoom bool) string {
	switch {
	case zoom:
		return strings.TrimSpace(span(s.At) + " " + first(s.What, s.Kind))
	case p.x.pos(s.At)-p.x.pos(0) < 8:
		return ""
	case s.State == measure.StateReleased && s.At > p.o.Ended.Millis():
		return fmt.Sprintf("%s, %s after the end", span(s.At), span(s.At-p.o.Ended.Millis()))
	}
	return span(s.At)
}

func first(words ...string) string {
	for _, w := range words {
		if w != "" {
			return w
		}
	}
	return ""
}

// honest shows how honest flows fared before, during and after.
func (p panel) honest(y float64) {
	b := p.o.Benign
	ended := p.o.Ended.Millis()
	for _, part := range []struct {
		name     string
		from, to float64
		harm     measure.Harm
	}{{"before", p.x.from, 0, b.Before}, {"during", 0, ended, b.During}, {"after", ended, p.x.to, b.After}} {
		if part.harm.Flows == 0 {
			continue
		}
		class := "fine"
		if part.harm.Harmed > 0 {
			class = "harmed"
		}
		from, to := p.x.pos(part.from), p.x.pos(part.to)
		p.rect(class, from+0.5, y, to-from-1, 6, fmt.Sprintf("%s: %d of %d honest flows harmed", part.name, part.harm.Harmed, part.harm.Flows))
		p.text("tick", "middle", (from+to)/2, y+17, fmt.Sprintf("%d of %s", part.harm.Harmed, count(part.harm.Flows)))
	}
}

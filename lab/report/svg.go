package report

import (
	"fmt"
	"html"
	"html/template"
	"math"
	"strconv"
	"strings"
)

// canvas collects an SVG picture. Colours come from the page's style sheet by
// class, so that one picture does for light, dark and paper.
type canvas struct {
	b      strings.Builder
	height float64
}

// newCanvas makes a picture of the page's full width; label says to those who
// cannot see it what it shows.
func newCanvas(width, height float64, label string) *canvas {
	c := &canvas{height: height}
	c.add(`<svg viewBox="0 0 %s %s" role="img" aria-label="%s" xmlns="http://www.w3.org/2000/svg">`, number(width), number(height), html.EscapeString(label))
	return c
}

func (c *canvas) add(format string, args ...any) { fmt.Fprintf(&c.b, format, args...) }

// end closes the picture.
func (c *canvas) end() template.HTML {
	c.b.WriteString("</svg>")
	return template.HTML(c.b.String()) //nolint:gosec // made here, texts escaped
}

func (c *canvas) line(class string, x1, y1, x2, y2 float64) {
	c.add(`<line class="%s" x1="%s" y1="%s" x2="%s" y2="%s"/>`, class, number(x1), number(y1), number(x2), number(y2))
}

func (c *canvas) rect(class string, x, y, w, h float64, title string) {
	c.add(`<rect class="%s" x="%s" y="%s" width="%s" height="%s">%s</rect>`, class, number(x), number(y), number(max(0, w)), number(max(0, h)), tip(title))
}

func (c *canvas) dot(class string, x, y, r float64, title string) {
	c.add(`<circle class="%s" cx="%s" cy="%s" r="%s">%s</circle>`, class, number(x), number(y), number(r), tip(title))
}

// text writes at x, y; anchor is start, middle or end.
func (c *canvas) text(class, anchor string, x, y float64, s string) {
	c.add(`<text class="%s" text-anchor="%s" x="%s" y="%s">%s</text>`, class, anchor, number(x), number(y), html.EscapeString(s))
}

func (c *canvas) path(class, d string) { c.add(`<path class="%s" d="%s"/>`, class, d) }

// tip is what a browser shows over a mark.
func tip(s string) string {
	if s == "" {
		return ""
	}
	return "<title>" + html.EscapeString(s) + "</title>"
}

// number writes a coordinate or a figure without needless digits.
func number(v float64) string {
	return strconv.FormatFloat(math.Round(v*100)/100, 'f', -1, 64)
}

// axis maps values to positions.
type axis struct {
	from, to float64 // values
	at, end  float64 // positions
	log      bool
}

func (a axis) pos(v float64) float64 {
	f, t := a.from, a.to
	if a.log {
		v, f, t = math.Log10(max(v, a.from)), math.Log10(a.from), math.Log10(a.to)
	}
	return a.at + (a.end-a.at)*max(0, min(1, (v-f)/(t-f)))
}

// ticks are the values to label: decades, or about so many round numbers.
func (a axis) ticks(about int) []float64 {
	const most = 20 // whatever the figures
	var out []float64
	if a.log {
		for v := a.from; v <= a.to*1.001 && len(out) < most; v *= 10 {
			out = append(out, v)
		}
		return out
	}
	step := round(a.to / float64(about))
	for v := 0.0; v <= a.to+step/1e6 && len(out) < most; v += step {
		out = append(out, v)
	}
	return out
}

// round is the next 1, 2 or 5 times a power of ten.
func round(v float64) float64 {
	if v <= 0 {
		return 1
	}
	unit := math.Pow(10, math.Floor(math.Log10(v)))
	for _, f := range []float64{1, 2, 5} {
		if f*unit >= v*0.999 {
			return f * unit
		}
	}
	return 10 * unit
}

// span writes a duration in milliseconds in the unit that fits.
func span(ms float64) string {
	if math.Abs(ms) >= 1000 {
		return number(ms/1e3) + " s"
	}
	return number(ms) + " ms"
}

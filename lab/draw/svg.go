package draw

import (
	"bytes"
	"fmt"
	"html"
	"strings"
	"unicode"
)

const (
	sans = `font-family="Inter,'Segoe UI','Helvetica Neue',Arial,sans-serif"`
	mono = `font-family="ui-monospace,'SF Mono',Menlo,Consolas,'DejaVu Sans Mono',monospace"`
)

// canvas collects the elements of a picture.
type canvas struct{ bytes.Buffer }

func (c *canvas) put(format string, args ...any) {
	fmt.Fprintf(c, format+"\n", args...)
}

// escape makes text safe in XML, which has no way to write control
// characters.
func escape(s string) string {
	return html.EscapeString(strings.Map(func(r rune) rune {
		if r == unicode.ReplacementChar || unicode.IsControl(r) || r >= 0xfffe && r <= 0xffff {
			return '?'
		}
		return r
	}, s))
}

// num writes a length without needless digits.
func num(v float64) string {
	s := strings.TrimRight(fmt.Sprintf("%.1f", v), "0")
	return strings.TrimSuffix(s, ".")
}

// clip shortens text to a width.
func clip(s string, size, width float64) string {
	r := []rune(s)
	for n := len(r); n > 0; n-- {
		text := string(r[:n])
		if n < len(r) {
			text += "…"
		}
		if textW(text, size) <= width {
			return text
		}
	}
	return ""
}

func render(f *figure) []byte {
	c := &canvas{}
	c.put(`<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %s %s" width="%s" height="%s" role="img" %s>`, num(f.w), num(f.h), num(f.w), num(f.h), sans)
	c.put(`<title>%s</title>`, escape("Topology of the lab "+f.g.name))
	c.put(`<rect x="0.5" y="0.5" width="%s" height="%s" rx="14" fill="#ffffff" stroke="#e2e8f0"/>`, num(f.w-1), num(f.h-1))
	c.put(`<text x="%s" y="42" font-size="24" font-weight="700" fill="#0f172a">%s</text>`, num(margin), escape(f.g.name))
	c.put(`<text x="%s" y="62" font-size="12.5" fill="#64748b">%s</text>`, num(margin), escape(f.g.summary()))
	for _, w := range f.wires {
		c.wire(w)
	}
	for _, p := range f.panels {
		if p.title != "" {
			c.panel(p)
		}
	}
	for _, r := range f.rails {
		c.rail(r)
	}
	for _, b := range f.bars {
		c.bar(b, f.subnetsOf(b.v))
	}
	for _, card := range f.cards {
		c.card(card)
	}
	c.legend(f)
	c.put(`</svg>`)
	return c.Bytes()
}

// subnetsOf are those of a switch's hosts, where they do not stand in the
// title already.
func (f *figure) subnetsOf(sw *vertex) []string {
	if strings.Contains(f.g.summary(), "/") {
		return nil
	}
	return subnets(sw.hosts)
}

func (c *canvas) wire(w wire) {
	path := fmt.Sprintf("M%s %s", num(w.x1), num(w.y1))
	switch {
	case w.bow != 0:
		path += fmt.Sprintf(" C%s %s %s %s %s %s", num(w.x1), num(w.y1-w.bow), num(w.x2), num(w.y2-w.bow), num(w.x2), num(w.y2))
	case w.y1 != w.y2:
		mid := (w.y1 + w.y2) / 2
		path += fmt.Sprintf(" C%s %s %s %s %s %s", num(w.x1), num(mid), num(w.x2), num(mid), num(w.x2), num(w.y2))
	default:
		path += fmt.Sprintf(" L%s %s", num(w.x2), num(w.y2))
	}
	c.put(`<path d="%s" fill="none" stroke="#64748b" stroke-width="2.2"><title>%s</title></path>`, path, escape(w.title))
	for _, p := range [][2]float64{{w.x1, w.y1}, {w.x2, w.y2}} {
		c.put(`<circle cx="%s" cy="%s" r="3.6" fill="#64748b"/>`, num(p[0]), num(p[1]))
	}
}

func (c *canvas) panel(p panel) {
	fill, stroke, ink := "#f8fafc", "#e2e8f0", "#64748b"
	if p.title == "attackers" {
		fill, stroke, ink = "#fef2f2", "#fecaca", "#b91c1c"
	}
	c.put(`<rect x="%s" y="%s" width="%s" height="%s" rx="9" fill="%s" stroke="%s"/>`, num(p.x), num(p.y), num(p.w), num(p.h), fill, stroke)
	title := p.title
	if len(p.hosts) > crowd {
		title = fmt.Sprintf("%s × %d", title, len(p.hosts))
	}
	c.put(`<text x="%s" y="%s" font-size="11" font-weight="600" fill="%s" letter-spacing="0.3">%s</text>`,
		num(p.x+railW), num(p.y+15), ink, escape(clip(title, 11, p.w-railW)))
}

func (c *canvas) rail(r rail) {
	last := r.cards[len(r.cards)-1]
	c.put(`<path d="M%s %s V%s" fill="none" stroke="#94a3b8" stroke-width="1.6"/>`, num(r.x), num(r.top), num(last.y+last.h/2))
	for _, k := range r.cards {
		c.put(`<path d="M%s %s H%s" stroke="#94a3b8" stroke-width="1.6"><title>%s</title></path>`, num(r.x), num(k.y+k.h/2), num(k.x), escape(k.v.edges[0].title))
	}
	c.put(`<circle cx="%s" cy="%s" r="3" fill="#94a3b8"/>`, num(r.x), num(r.top))
}

// bar draws a switch, with the arrows that stand for one.
func (c *canvas) bar(b bar, nets []string) {
	c.put(`<rect x="%s" y="%s" width="%s" height="%s" rx="9" fill="#1e293b"/>`, num(b.x), num(b.y), num(b.w), num(b.h))
	c.put(`<g transform="translate(%s %s)" fill="none" stroke="#7dd3fc" stroke-width="1.7" stroke-linecap="round" stroke-linejoin="round">`+
		`<path d="M0 5H15M11.5 1.5L15 5L11.5 8.5M19 13H4M7.5 9.5L4 13L7.5 16.5"/></g>`, num(b.x+14), num(b.y+barH/2-9))
	c.put(`<text x="%s" y="%s" font-size="14" font-weight="650" fill="#f8fafc">%s</text>`, num(b.x+44), num(b.y+18), escape(clip(b.v.name, 14, b.w-54)))
	c.put(`<text x="%s" y="%s" font-size="10.5" fill="#94a3b8">%s</text>`, num(b.x+44), num(b.y+32.5), escape(clip(kindName(b.v.kind), 10.5, b.w-54)))
	if text := strings.Join(nets, "  "); text != "" && textW(text, 10.5) < b.w-80-boldW(b.v.name, 14) {
		c.put(`<text x="%s" y="%s" font-size="10.5" fill="#cbd5e1" text-anchor="end" %s>%s</text>`, num(b.x+b.w-14), num(b.y+25), mono, escape(text))
	}
}

func (c *canvas) card(k card) {
	fill, stroke := "#ffffff", "#cbd5e1"
	if k.v.attacker {
		fill, stroke = "#fff5f5", "#f87171"
	}
	dash := ""
	if k.v.kind == "outside" {
		dash = ` stroke-dasharray="5 4"`
	}
	c.put(`<rect x="%s" y="%s" width="%s" height="%s" rx="7" fill="%s" stroke="%s" stroke-width="1.2"%s/>`, num(k.x), num(k.y), num(k.w), num(k.h), fill, stroke, dash)
	c.put(`<path d="M%s %sv%sa7 7 0 0 1 -5.5 -6.8v%sa7 7 0 0 1 5.5 -6.8z" fill="%s"/>`, num(k.x+5.5), num(k.y), num(k.h), num(-(k.h - 13.6)), k.v.colour)
	says := clip(k.v.says, 10, k.w-24-boldW(k.v.name, 13))
	if strings.TrimRight(k.v.name, "0123456789") == k.v.says {
		says = "" // the name says it
	}
	c.put(`<text x="%s" y="%s" font-size="13" font-weight="650" fill="#0f172a">%s</text>`, num(k.x+13), num(k.y+18), escape(clip(k.v.name, 13, k.w-20)))
	if len([]rune(says)) > 1 {
		c.put(`<text x="%s" y="%s" font-size="10" font-weight="600" fill="%s" text-anchor="end">%s</text>`, num(k.x+k.w-8), num(k.y+17.5), k.v.colour, escape(says))
	}
	y := k.y + 33
	for _, line := range lines(k.v) {
		c.put(`<text x="%s" y="%s" font-size="10.5" fill="#475569" %s>%s</text>`, num(k.x+13), num(y), mono, escape(line))
		y += lineH
		if y > k.y+k.h {
			break
		}
	}
}

func (c *canvas) legend(f *figure) {
	x, y := margin, f.legendY
	c.put(`<path d="M%s %sH%s" stroke="#e2e8f0"/>`, num(margin), num(y-10), num(f.w-margin))
	for _, k := range f.legend {
		if x+legendW(k) > f.w-margin && x > margin {
			x, y = margin, y+legendH
		}
		c.put(`<rect x="%s" y="%s" width="13" height="13" rx="3.5" fill="%s"/>`, num(x), num(y+4), k.colour)
		c.put(`<text x="%s" y="%s" font-size="12" fill="#334155">%s</text>`, num(x+19), num(y+14.5), escape(k.name))
		x += legendW(k)
	}
}

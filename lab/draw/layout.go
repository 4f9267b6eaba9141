package draw

import (
	"cmp"
	"math"
	"slices"
)

// Lengths in pixels.
const (
	margin    = 32.0
	headerH   = 62.0
	cardH     = 54.0
	cardGap   = 8.0
	railW     = 18.0 // from the rail of a column to its cards
	columnGap = 14.0
	panelHead = 22.0
	panelPad  = 8.0
	barH      = 42.0
	blockGap  = 56.0
	rowGap    = 64.0
	dropH     = 30.0 // from a switch to its hosts
	lineH     = 13.0
	legendH   = 26.0
)

// box is a rectangle by its upper left corner.
type box struct{ x, y, w, h float64 }

func (b box) middle() float64 { return b.x + b.w/2 }

// card is a host or router in its place.
type card struct {
	box
	v *vertex
}

// bar is a switch in its place.
type bar struct {
	box
	v *vertex
}

// panel is a group of hosts. Without a title it has no frame.
type panel struct {
	box
	title string
	hosts []*vertex
}

// rail carries the links of one column of hosts.
type rail struct {
	x, top float64
	cards  []card
}

// wire is a line between two points.
type wire struct {
	x1, y1, x2, y2 float64
	title          string
	// bow is how far a wire bends upwards (or downwards, below 0), to pass
	// what lies between.
	bow float64
}

// figure is a picture laid out.
type figure struct {
	g       *graph
	w, h    float64
	cards   []card
	bars    []bar
	panels  []panel
	rails   []rail
	wires   []wire
	legend  []category
	legendY float64
	cardW   float64
}

// block is the hosts of one switch, laid out from (0,0).
type block struct {
	sw     *vertex
	w, h   float64
	panels []panel
	rails  []rail
}

// layOut lays a graph out with so many hosts in a column.
func layOut(g *graph, rows int) *figure {
	f := &figure{g: g}
	f.cardW = f.widest()
	framed := false // small groups need no frames
	for _, v := range g.vertices {
		framed = framed || len(v.hosts) > 6
	}
	var blocks []*block
	total := 0.0
	for _, v := range g.vertices {
		if v.place == switching && v.level == 0 {
			b := f.block(v, rows, framed)
			blocks = append(blocks, b)
			total += b.w + blockGap
		}
	}
	f.w = max(total-blockGap, 560)
	f.w = max(f.w, f.widestRow()) + 2*margin
	y := f.placeAbove(headerH + margin/2)
	y = f.placeSpines(y)
	f.placeBlocks(blocks, y, total-blockGap)
	f.settle()
	f.connect()
	f.finish()
	return f
}

// widest finds how wide a card must be for what is written in it.
func (f *figure) widest() float64 {
	w := 118.0
	for _, v := range f.g.vertices {
		if v.place == below {
			w = max(w, needs(v))
		}
	}
	return min(w, 190)
}

// needs is the width that a vertex' card needs.
func needs(v *vertex) float64 {
	w := boldW(v.name, 13) + boldW(v.says, 10) + 30
	for _, line := range lines(v) {
		w = max(w, textW(line, 10.5)*1.02+22)
	}
	return w
}

// textW estimates the width of text in pixels.
func textW(s string, size float64) float64 { return float64(len([]rune(s))) * size * 0.6 }

// boldW is that of bold text.
func boldW(s string, size float64) float64 { return textW(s, size) * 1.1 }

// lines are the addresses on a card: those of a host bare, those of a router
// with their interface and prefix length.
func lines(v *vertex) []string {
	var out []string
	for _, i := range v.interfaces {
		for n, a := range i.addresses {
			switch {
			case len(v.interfaces) == 1:
				out = append(out, a.Addr().String())
			case n == 0:
				out = append(out, i.name+" "+a.String())
			default:
				out = append(out, spaces(len([]rune(i.name))+1)+a.String())
			}
		}
	}
	return out
}

func spaces(n int) string {
	b := make([]rune, n)
	for i := range b {
		b[i] = '\u00a0'
	}
	return string(b)
}

// block lays the hosts of a switch out in columns of at most rows cards.
func (f *figure) block(sw *vertex, rows int, framed bool) *block {
	groups := []panel{{hosts: sw.hosts}}
	if framed {
		groups = panels(sw)
	}
	head, pad := 0.0, 0.0
	if framed {
		head, pad = panelHead, panelPad
	}
	b := &block{sw: sw}
	step := cardH + cardGap
	tall := float64(rows)*step + head + pad
	columnW := railW + f.cardW + pad
	x, y := 0.0, 0.0
	var column *rail
	for _, p := range groups {
		columns := (len(p.hosts) + rows - 1) / rows
		if columns == 0 {
			continue
		}
		deep := (len(p.hosts) + columns - 1) / columns
		height := head + float64(deep)*step - cardGap + pad
		if column == nil || columns > 1 || y+height > tall+1 {
			if column != nil {
				x += columnW + columnGap
			}
			y, column = 0, nil
		}
		p.box = box{x, y, float64(columns)*(columnW+columnGap) - columnGap, height}
		for i, h := range p.hosts {
			if column == nil || i > 0 && i%deep == 0 {
				b.rails = append(b.rails, rail{x: x + float64(i/deep)*(columnW+columnGap) + railW/2})
				column = &b.rails[len(b.rails)-1]
			}
			column.cards = append(column.cards, card{box{column.x + railW/2, y + head + float64(i%deep)*step, f.cardW, cardH}, h})
		}
		b.panels = append(b.panels, p)
		b.w, b.h = max(b.w, p.x+p.w), max(b.h, y+height)
		y += height + cardGap
		if columns > 1 { // nothing goes below a grid
			x, y = p.x+p.w-columnW, tall+1
		}
	}
	b.w = max(b.w, 210, boldW(sw.name, 14)+60)
	return b
}

// rowsAbove lists the nodes above the switches, the highest row first.
func (f *figure) rowsAbove() [][]*vertex {
	var out [][]*vertex
	for _, v := range f.g.vertices {
		if v.place == above {
			for len(out) <= v.level {
				out = append(out, nil)
			}
			out[v.level] = append(out[v.level], v)
		}
	}
	slices.Reverse(out)
	return out
}

// spineRows lists the switches above those with hosts, the highest first.
func (f *figure) spineRows() [][]*vertex {
	var out [][]*vertex
	for _, v := range f.g.vertices {
		if v.place == switching && v.level > 0 {
			for len(out) < v.level {
				out = append(out, nil)
			}
			out[v.level-1] = append(out[v.level-1], v)
		}
	}
	slices.Reverse(out)
	return out
}

func cardSize(v *vertex) (w, h float64) {
	return max(needs(v), 118), max(cardH, 30+float64(len(lines(v)))*lineH)
}

// widestRow is the width of the widest row above the hosts.
func (f *figure) widestRow() float64 {
	widest := 0.0
	for _, row := range f.rowsAbove() {
		w := 0.0
		for _, v := range row {
			cw, _ := cardSize(v)
			w += cw + blockGap
		}
		widest = max(widest, w-blockGap)
	}
	for _, row := range f.spineRows() {
		widest = max(widest, float64(len(row))*(spineW+blockGap)-blockGap)
	}
	return widest
}

// spineW is the width of a switch without hosts.
const spineW = 230

// placeAbove gives the rows above their heights, and returns where the
// switches begin.
func (f *figure) placeAbove(y float64) float64 {
	for _, row := range f.rowsAbove() {
		tall := 0.0
		for _, v := range row {
			w, h := cardSize(v)
			f.cards = append(f.cards, card{box{0, y, w, h}, v})
			tall = max(tall, h)
		}
		for i := range f.cards[len(f.cards)-len(row):] { // on a common floor
			c := &f.cards[len(f.cards)-len(row)+i]
			c.y += tall - c.h
		}
		y += tall + rowGap
	}
	return y
}

func (f *figure) placeSpines(y float64) float64 {
	for _, row := range f.spineRows() {
		gap := (f.w - 2*margin) / float64(len(row))
		for i, v := range row {
			f.bars = append(f.bars, bar{box{margin + gap*(float64(i)+0.5) - spineW/2, y, spineW, barH}, v})
		}
		y += barH + rowGap*1.5
	}
	return y
}

func (f *figure) placeBlocks(blocks []*block, y, total float64) {
	x := (f.w - total) / 2
	f.h = y
	for _, b := range blocks {
		f.bars = append(f.bars, bar{box{x, y, b.w, barH}, b.sw})
		content := 0.0
		for _, p := range b.panels {
			content = max(content, p.x+p.w)
		}
		dx, dy := x+(b.w-content)/2, y+barH+dropH
		for _, p := range b.panels {
			p.x, p.y = p.x+dx, p.y+dy
			f.panels = append(f.panels, p)
		}
		for _, r := range b.rails {
			r.x, r.top = r.x+dx, y+barH
			for i := range r.cards {
				r.cards[i].x, r.cards[i].y = r.cards[i].x+dx, r.cards[i].y+dy
			}
			f.cards = append(f.cards, r.cards...)
			f.rails = append(f.rails, r)
		}
		bottom := y + barH
		if len(b.rails) > 0 {
			bottom += dropH + b.h
		}
		f.h = max(f.h, bottom)
		x += b.w + blockGap
	}
}

// settle moves the nodes above over what they are linked to, row by row from
// the lowest, without letting them overlap.
func (f *figure) settle() {
	rows := f.rowsAbove()
	slices.Reverse(rows)
	for _, row := range rows {
		cards := make([]*card, 0, len(row))
		want := map[*vertex]float64{}
		for _, v := range row {
			c := f.card(v)
			want[v] = f.pull(v)
			cards = append(cards, c)
		}
		slices.SortStableFunc(cards, func(a, b *card) int { return cmp.Compare(want[a.v], want[b.v]) })
		shift, right := 0.0, math.Inf(-1)
		for _, c := range cards {
			c.x = max(want[c.v]-c.w/2, right+blockGap/2)
			right = c.x + c.w
			shift += want[c.v] - c.middle()
		}
		shift /= float64(max(len(cards), 1))
		if len(cards) > 0 {
			shift = max(shift, margin-cards[0].x)
			shift = min(shift, f.w-margin-right)
		}
		for _, c := range cards {
			c.x += shift
		}
	}
}

// pull is where a node's links would have it: the mean of its neighbours
// below, or else of those beside it, or else the middle.
func (f *figure) pull(v *vertex) float64 {
	sum, n := 0.0, 0
	for _, e := range v.edges {
		o := e.other(v)
		if b, ok := f.boxOf(o); ok && (o.place != above || o.level < v.level) {
			sum += b.middle()
			n++
		}
	}
	if n == 0 {
		return f.w / 2
	}
	return sum / float64(n)
}

func (f *figure) card(v *vertex) *card {
	for i := range f.cards {
		if f.cards[i].v == v {
			return &f.cards[i]
		}
	}
	return nil
}

// boxOf finds where a vertex is.
func (f *figure) boxOf(v *vertex) (box, bool) {
	if c := f.card(v); c != nil {
		return c.box, true
	}
	for _, b := range f.bars {
		if b.v == v {
			return b.box, true
		}
	}
	return box{}, false
}

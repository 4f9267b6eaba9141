package draw

import (
	"cmp"
	"math"
	"slices"
)

// connect draws the links that no rail carries. Where several meet at one
// side of a node they are spread over it, in the order of where they lead.
func (f *figure) connect() {
	type end struct {
		v    *vertex
		side int // -1 above, 1 below, of the node
	}
	ends := map[end][]*edge{}
	var order []end
	meet := func(v *vertex, side int, e *edge) {
		k := end{v, side}
		if ends[k] == nil {
			order = append(order, k)
		}
		ends[k] = append(ends[k], e)
	}
	var level []*edge
	for _, e := range f.g.edges {
		if e.a.place == below || e.b.place == below || e.a == e.b {
			continue
		}
		a, _ := f.boxOf(e.a)
		b, _ := f.boxOf(e.b)
		switch {
		case a.y+a.h <= b.y:
			meet(e.a, 1, e)
			meet(e.b, -1, e)
		case b.y+b.h <= a.y:
			meet(e.b, 1, e)
			meet(e.a, -1, e)
		default:
			level = append(level, e)
		}
	}
	at := map[*edge]map[*vertex]float64{}
	for _, k := range order {
		on, _ := f.boxOf(k.v)
		slices.SortStableFunc(ends[k], func(p, q *edge) int {
			a, _ := f.boxOf(p.other(k.v))
			b, _ := f.boxOf(q.other(k.v))
			return cmp.Compare(a.middle(), b.middle())
		})
		for i, e := range ends[k] {
			if at[e] == nil {
				at[e] = map[*vertex]float64{}
			}
			at[e][k.v] = f.contact(on, e.other(k.v), i, len(ends[k]))
		}
	}
	for _, e := range f.g.edges {
		if at[e] == nil {
			continue
		}
		a, _ := f.boxOf(e.a)
		b, _ := f.boxOf(e.b)
		w := wire{x1: at[e][e.a], y1: a.y + a.h, x2: at[e][e.b], y2: b.y, title: e.title}
		if a.y > b.y {
			w.y1, w.y2 = a.y, b.y+b.h
		}
		f.wires = append(f.wires, w)
	}
	f.connectLevel(level)
}

// contact is where the i-th of n links leaves a side: straight towards a
// single neighbour where that is possible, else evenly spread.
func (f *figure) contact(on box, to *vertex, i, n int) float64 {
	if n == 1 {
		if other, ok := f.boxOf(to); ok {
			return min(max(other.middle(), on.x+16), on.x+on.w-16)
		}
	}
	room := min(on.w-40, float64(n-1)*60)
	return on.middle() - room/2 + room*float64(i)/float64(max(n-1, 1))
}

// connectLevel draws links between nodes of one row: side by side a straight
// line, else a bow round what is between.
func (f *figure) connectLevel(edges []*edge) {
	parallel := map[[2]*vertex]int{}
	for _, e := range edges {
		left, right := e.a, e.b
		a, _ := f.boxOf(left)
		b, _ := f.boxOf(right)
		if a.x > b.x {
			left, right, a, b = right, left, b, a
		}
		between := false
		for _, o := range f.bars {
			between = between || o.x > a.x && o.x < b.x && o.y < a.y+a.h && o.y+o.h > a.y
		}
		for _, o := range f.cards {
			between = between || o.x > a.x && o.x < b.x && o.y < a.y+a.h && o.y+o.h > a.y
		}
		key := [2]*vertex{left, right}
		n := parallel[key]
		parallel[key]++
		y := max(a.y, b.y) + min(a.h, b.h)/2 + float64(n)*8*math.Pow(-1, float64(n))
		w := wire{x1: a.x + a.w, y1: y, x2: b.x, y2: y, title: e.title}
		switch {
		case between && left.place == above: // the title is over it
			w = wire{x1: a.middle(), y1: a.y + a.h, x2: b.middle(), y2: b.y + b.h, title: e.title, bow: -rowGap * 0.7}
		case between:
			w = wire{x1: a.middle(), y1: a.y, x2: b.middle(), y2: b.y, title: e.title, bow: rowGap * 0.7}
		}
		f.wires = append(f.wires, w)
	}
}

// finish lays the legend out and fixes the height.
func (f *figure) finish() {
	for _, v := range f.g.vertices {
		if v.place != switching && v.kind != "outside" && !slices.Contains(f.legend, v.category) {
			f.legend = append(f.legend, v.category)
		}
	}
	f.legendY = f.h + margin
	rows, x := 1.0, margin
	for _, c := range f.legend {
		if w := legendW(c); x+w > f.w-margin && x > margin {
			rows, x = rows+1, margin+w
		} else {
			x += w
		}
	}
	f.h = f.legendY + rows*legendH + margin/2
}

func legendW(c category) float64 { return textW(c.name, 12) + 38 }

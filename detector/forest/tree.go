package forest

import "math/rand/v2"

// none marks an absent node. Nodes below the number of samples are leaves, the
// others are cuts.
const none = int32(-1)

// tree is a binary tree of cuts over a bounded set of points, in arrays that
// are never grown.
type tree struct {
	dims   int
	root   int32
	nodes  []node
	lo, hi []float32 // bounding boxes, dims values per node
	free   []int32   // unused leaves
	spare  []int32   // unused cuts
	held   []int32   // the leaf of every point, in any order; copies share one
	leaves int       // most there can be
}

type node struct {
	parent, left, right int32
	mass                int32
	dim                 int32
	cut                 float32 // left is at or below
}

func newTree(samples, dims int) tree {
	t := tree{dims: dims, root: none}
	t.nodes = make([]node, 2*samples-1)
	t.lo, t.hi = make([]float32, len(t.nodes)*dims), make([]float32, len(t.nodes)*dims)
	t.leaves = samples
	for i := samples - 1; i >= 0; i-- {
		t.free = append(t.free, int32(i))
	}
	for i := len(t.nodes) - 1; i >= samples; i-- {
		t.spare = append(t.spare, int32(i))
	}
	t.held = make([]int32, 0, samples)
	return t
}

func (t *tree) leaf(n int32) bool { return int(n) < t.leaves }

// box returns the bounding box of a node.
func (t *tree) box(n int32) (lo, hi []float32) {
	i := int(n) * t.dims
	return t.lo[i : i+t.dims], t.hi[i : i+t.dims]
}

// outside is how far the box of a node must grow for a point, and the sum of
// its sides then.
func (t *tree) outside(n int32, x []float32) (grow, span float32) {
	lo, hi := t.box(n)
	for j, v := range x {
		l, h := lo[j], hi[j]
		switch {
		case v < l:
			grow += l - v
		case v > h:
			grow += v - h
		}
		span += h - l
	}
	return grow, span + grow
}

// insert adds a point (algorithm 2 of the paper): at every node, a cut of the
// box that includes the point is drawn; one that separates the point from the
// box becomes its parent, any other is not made.
func (t *tree) insert(x []float32, r *rand.Rand) {
	if t.root == none {
		t.root = t.take(x)
		return
	}
	at := t.root
	for {
		grow, span := t.outside(at, x)
		switch {
		case t.leaf(at) && grow == 0:
			t.nodes[at].mass++
			t.held = append(t.held, at)
			t.update(t.nodes[at].parent)
			return
		case t.leaf(at), grow > 0 && r.Float32()*span < grow:
			t.join(t.take(x), at, x, r.Float32()*grow)
			return
		}
		c := &t.nodes[at]
		if x[c.dim] <= c.cut {
			at = c.left
		} else {
			at = c.right
		}
	}
}

// take puts a point into an unused leaf.
func (t *tree) take(x []float32) int32 {
	n := t.free[len(t.free)-1]
	t.free = t.free[:len(t.free)-1]
	t.nodes[n] = node{parent: none, left: none, right: none, mass: 1}
	lo, hi := t.box(n)
	copy(lo, x)
	copy(hi, x)
	t.held = append(t.held, n)
	return n
}

// join makes a leaf the sibling of a node. Where lies in [0,grow) and says
// which coordinate is cut, and at what value, within the gap between the point
// and the box.
func (t *tree) join(n, at int32, x []float32, where float32) {
	dim, cut, below := t.separate(at, x, where)
	c := t.spare[len(t.spare)-1]
	t.spare = t.spare[:len(t.spare)-1]
	parent := t.nodes[at].parent
	t.nodes[c] = node{parent: parent, left: at, right: n, dim: int32(dim), cut: cut}
	if below {
		t.nodes[c].left, t.nodes[c].right = n, at
	}
	t.nodes[at].parent, t.nodes[n].parent = c, c
	t.replace(parent, at, c)
	t.update(c)
}

// separate finds the cut at a place among the gaps between a point and a box,
// laid end to end; below says that the point is on the low side of it.
func (t *tree) separate(at int32, x []float32, where float32) (dim int, cut float32, below bool) {
	lo, hi := t.box(at)
	for j, v := range x {
		gap := max(lo[j]-v, v-hi[j])
		if gap <= 0 {
			continue
		}
		// Rounding must not move the cut out of the gap.
		dim, below = j, v < lo[j]
		if below {
			if cut = v + min(where, gap); cut >= lo[j] {
				cut = v
			}
		} else {
			if cut = hi[j] + min(where, gap); cut >= v {
				cut = hi[j]
			}
		}
		if where < gap {
			break
		}
		where -= gap
	}
	return dim, cut, below
}

// replace puts a node in the place of another below a parent.
func (t *tree) replace(parent, old, by int32) {
	switch {
	case parent == none:
		t.root = by
	case t.nodes[parent].left == old:
		t.nodes[parent].left = by
	default:
		t.nodes[parent].right = by
	}
}

// update recomputes masses and boxes from a cut up to the root.
func (t *tree) update(n int32) {
	for ; n != none; n = t.nodes[n].parent {
		c := &t.nodes[n]
		c.mass = t.nodes[c.left].mass + t.nodes[c.right].mass
		lo, hi := t.box(n)
		llo, lhi := t.box(c.left)
		rlo, rhi := t.box(c.right)
		for j := range lo {
			lo[j], hi[j] = min(llo[j], rlo[j]), max(lhi[j], rhi[j])
		}
	}
}

// remove forgets a point by its place among those held (algorithm 1): the
// sibling of its leaf takes the parent's place, unless a copy remains.
func (t *tree) remove(i int) {
	n := t.held[i]
	last := len(t.held) - 1
	t.held[i] = t.held[last]
	t.held = t.held[:last]
	if t.nodes[n].mass > 1 {
		t.nodes[n].mass--
		t.update(t.nodes[n].parent)
		return
	}
	t.free = append(t.free, n)
	c := t.nodes[n].parent
	if c == none {
		t.root = none
		return
	}
	t.spare = append(t.spare, c)
	sibling := t.nodes[c].left
	if sibling == n {
		sibling = t.nodes[c].right
	}
	parent := t.nodes[c].parent
	t.nodes[sibling].parent = parent
	t.replace(parent, c, sibling)
	t.update(parent)
}

// displacement is the expectation, over the cuts that insertion would draw, of
// the point's collusive displacement: the most that any group around it, up to
// a subtree that it is in, displaces per member. share accumulates it by the
// coordinate of the cut that separates the point.
func (t *tree) displacement(x []float32, share []float64) float64 {
	if t.root == none {
		return 0
	}
	var sum, above float64 // the most displaced by groups higher up
	reach := 1.0           // probability to get to this node
	for at := t.root; ; {
		c := &t.nodes[at]
		grow, span := t.outside(at, x)
		d := max(above, float64(c.mass))
		if t.leaf(at) {
			if grow == 0 { // a copy: they are displaced together
				return sum + reach*above
			}
			t.credit(at, x, grow, reach*d, share)
			return sum + reach*d
		}
		if grow > 0 {
			p := reach * float64(grow/span)
			sum += p * d
			t.credit(at, x, grow, p*d, share)
			reach -= p
		}
		next, sibling := c.left, c.right
		if x[c.dim] > c.cut {
			next, sibling = c.right, c.left
		}
		above = max(above, float64(t.nodes[sibling].mass)/float64(t.nodes[next].mass+1))
		at = next
	}
}

// credit shares a displacement out among the coordinates that exceed a box.
func (t *tree) credit(n int32, x []float32, grow float32, d float64, share []float64) {
	if share == nil {
		return
	}
	lo, hi := t.box(n)
	for j, v := range x {
		if gap := max(lo[j]-v, v-hi[j]); gap > 0 {
			share[j] += d * float64(gap/grow)
		}
	}
}

package model

import "math"

// Boosting, for a few thousand windows: shallow trees, small steps, leaves that
// need several labels behind them.
const (
	maxTrees     = 128 // of a model
	newTrees     = 64  // of a training from nothing
	moreTrees    = 16  // that a training on a site adds
	shrinkage    = 0.15
	leafLambda   = 4  // L2 of Newton's step
	leafWeight   = 2  // least sum of (bounds of) second derivatives of a leaf
	minGain      = 1  // least gain of a split
	treeNodes    = 7  // a complete tree of depth two
	treeSplits   = 3  // of which may split
	noSplit      = -1 // a split that is a leaf
	maxNodeValue = 2  // no node moves the log odds by more
)

// tree is a complete binary tree of depth two, as a heap: the children of node i
// are 2i+1 and 2i+2.
type tree struct {
	// Feature and Bin are the splits: at and above the bin it goes right.
	Feature [treeSplits]int16 `json:"feature"`
	Bin     [treeSplits]int8  `json:"bin"`
	// Value is what each node would say were it a leaf.
	Value [treeNodes]float64 `json:"value"`
}

// walk calls step for every split on a vector's way with the change of value, and
// returns the value it ends at. A feature that is not known ends the way.
func (t *tree) walk(bins []int8, step func(feature int, change float64)) float64 {
	n := 0
	for n < treeSplits && t.Feature[n] != noSplit {
		f := int(t.Feature[n])
		if bins[f] == unknown {
			break
		}
		next := 2*n + 1
		if bins[f] >= t.Bin[n] {
			next++
		}
		if step != nil {
			step(f, t.Value[next]-t.Value[n])
		}
		n = next
	}
	return t.Value[n]
}

// booster trains trees on rows whose bins are laid out flat.
type booster struct {
	rows   []row
	bins   []int8 // len(rows) times width
	width  int
	score  []float64 // log odds so far
	g, h   []float64 // first and second derivatives of the loss
	node   []int8    // where each row is in the tree under construction
	hist   [][maxBins + 1][2]float64
	rising []bool             // features whose splits must not lower the value to the right
	low    [treeNodes]float64 // bounds of the nodes' values, from rising splits above
	high   [treeNodes]float64
}

// boost adds trees to a model, as many as rounds allow, until rows are fitted.
func (m *Model) boost(rows []row, bins []int8, rounds int) {
	width := len(m.Bins)
	b := &booster{rows: rows, bins: bins, width: width, score: make([]float64, len(rows)),
		g: make([]float64, len(rows)), h: make([]float64, len(rows)), node: make([]int8, len(rows)),
		hist: make([][maxBins + 1][2]float64, width), rising: make([]bool, width)}
	for _, f := range m.Rising {
		b.rising[f] = true
	}
	for i := range rows {
		b.score[i] = m.TreeBias
		for k := range m.Trees {
			b.score[i] += m.Trees[k].walk(bins[i*width:(i+1)*width], nil)
		}
	}
	for range min(rounds, maxTrees-len(m.Trees)) {
		t, ok := b.grow()
		if !ok {
			return
		}
		m.Trees = append(m.Trees, t)
	}
}

// priorOdds is the log odds of the malicious weight in rows.
func priorOdds(rows []row) float64 {
	var sum [2]float64
	for i := range rows {
		sum[rows[i].label] += rows[i].weight
	}
	if sum[0] == 0 || sum[1] == 0 {
		return 0
	}
	return math.Log(sum[1] / sum[0])
}

// grow fits one tree to what the earlier ones left, and adds it to the scores.
// It reports false when no split is worth it.
func (b *booster) grow() (tree, bool) {
	var g, h float64
	for i := range b.rows {
		p := sigmoid(b.score[i])
		y := float64(b.rows[i].class())
		b.g[i] = b.rows[i].weight * (p - y)
		// The bound of the second derivative instead of itself (Böhning and
		// Lindsay, 1988): what a model is sure of, and wrong about, can be
		// unlearned.
		b.h[i] = b.rows[i].weight / 4
		b.node[i] = 0
		g, h = g+b.g[i], h+b.h[i]
	}
	var t tree
	b.low[0], b.high[0] = -maxNodeValue, maxNodeValue
	t.Value[0] = b.value(0, g, h)
	for n := range treeSplits {
		t.Feature[n] = noSplit
		if n > 0 && t.Feature[0] == noSplit {
			continue
		}
		b.split(&t, n)
	}
	if t.Feature[0] == noSplit {
		return t, false
	}
	for i := range b.score {
		b.score[i] += t.Value[b.node[i]]
	}
	return t, true
}

// value is that of a node as a leaf: Newton's step, within the node's bounds.
func (b *booster) value(n int, g, h float64) float64 {
	return min(max(-shrinkage*g/(h+leafLambda), b.low[n]), b.high[n])
}

// bound gives the children of node n their bounds. A split on a rising feature
// parts them in the middle, so that nothing below it crosses over (as XGBoost's
// monotone constraints do).
func (b *booster) bound(n, feature int, left, right [2]float64) {
	l, r := 2*n+1, 2*n+2
	b.low[l], b.high[l], b.low[r], b.high[r] = b.low[n], b.high[n], b.low[n], b.high[n]
	if b.rising[feature] {
		middle := (b.value(n, left[0], left[1]) + b.value(n, right[0], right[1])) / 2
		b.high[l], b.low[r] = middle, middle
	}
}

// split finds the best split of node n and sends the node's rows down.
func (b *booster) split(t *tree, n int) {
	b.histogram(n)
	best, feature, bin := float64(minGain), noSplit, 0
	var left, right [2]float64
	for f := range b.width {
		var total, low [2]float64
		for _, x := range b.hist[f] {
			total[0], total[1] = total[0]+x[0], total[1]+x[1]
		}
		for k := 1; k <= maxBins; k++ {
			low[0], low[1] = low[0]+b.hist[f][k-1][0], low[1]+b.hist[f][k-1][1]
			high := [2]float64{total[0] - low[0], total[1] - low[1]}
			if low[1] < leafWeight || high[1] < leafWeight {
				continue
			}
			if b.rising[f] && b.value(n, low[0], low[1]) > b.value(n, high[0], high[1]) {
				continue
			}
			if gain := quality(low) + quality(high) - quality(total); gain > best {
				best, feature, bin, left, right = gain, f, k, low, high
			}
		}
	}
	if feature == noSplit {
		return
	}
	t.Feature[n], t.Bin[n] = int16(feature), int8(bin)
	b.bound(n, feature, left, right)
	t.Value[2*n+1], t.Value[2*n+2] = b.value(2*n+1, left[0], left[1]), b.value(2*n+2, right[0], right[1])
	for i := range b.rows {
		if int(b.node[i]) != n {
			continue
		}
		switch x := b.bins[i*b.width+feature]; {
		case x == unknown:
		case int(x) >= bin:
			b.node[i] = int8(2*n + 2)
		default:
			b.node[i] = int8(2*n + 1)
		}
	}
}

func quality(s [2]float64) float64 { return s[0] * s[0] / (s[1] + leafLambda) }

// histogram sums the derivatives of node n's rows by feature and bin. Rows that
// do not know a feature take no part in its splits.
func (b *booster) histogram(n int) {
	clear(b.hist)
	for i := range b.rows {
		if int(b.node[i]) != n {
			continue
		}
		g, h := b.g[i], b.h[i]
		for f, x := range b.bins[i*b.width : (i+1)*b.width] {
			if x != unknown {
				b.hist[f][x][0] += g
				b.hist[f][x][1] += h
			}
		}
	}
}

package learn

import "math"

const (
	// ridge is the weight of the prior, which says that rewards are 0.
	ridge = 0.5
	// noise bounds how far a reward is from its mean: those from 0 to 1 are
	// 1/2-sub-Gaussian (Hoeffding's lemma).
	noise = 0.5
	// largest bounds the norm of the true weights.
	largest = 2
)

// linear is a ridge regression of rewards on contexts, kept up to date one by one
// (Sherman-Morrison).
type linear struct {
	inverse [][]float64 // of ridge*I + sum of x x'
	sum     []float64   // of reward * x
	weights []float64   // inverse * sum
	growth  float64     // log of det(ridge*I + sum of x x') / det(ridge*I)
	n       int
}

func newLinear(dims int) *linear {
	l := &linear{inverse: make([][]float64, dims), sum: make([]float64, dims), weights: make([]float64, dims)}
	for i := range l.inverse {
		l.inverse[i] = make([]float64, dims)
		l.inverse[i][i] = 1 / ridge
	}
	return l
}

// times is the inverse times a vector.
func (l *linear) times(x []float64) []float64 {
	out := make([]float64, len(x))
	for i, row := range l.inverse {
		out[i] = dot(row, x)
	}
	return out
}

// learn takes a reward in.
func (l *linear) learn(x []float64, reward float64) {
	v := l.times(x)
	grown := 1 + dot(x, v)
	for i := range l.inverse {
		for j := range l.inverse[i] {
			l.inverse[i][j] -= v[i] * v[j] / grown
		}
	}
	l.growth += math.Log(grown)
	l.n++
	for i, xi := range x {
		l.sum[i] += reward * xi
	}
	l.weights = l.times(l.sum)
}

func (l *linear) mean(x []float64) float64 { return dot(l.weights, x) }

// spread is the norm of x in the inverse: how little is known in its direction.
func (l *linear) spread(x []float64) float64 { return math.Sqrt(max(0, dot(x, l.times(x)))) }

// width is by how many spreads the mean may be off, in any direction and at any
// time, with probability 1-delta (Abbasi-Yadkori et al. 2011, theorem 2).
func (l *linear) width(delta float64) float64 {
	return noise*math.Sqrt(2*math.Log(1/delta)+l.growth) + math.Sqrt(ridge)*largest
}

func dot(a, b []float64) (s float64) {
	for i, v := range a {
		s += v * b[i]
	}
	return s
}

package model

import "math"

// linear is a logistic regression on the thermometer code of bins: step s of
// feature f is 1 for values at or above cut s. The arrays run over the steps of
// all features; first[f] is where those of f begin.
type linear struct {
	// Z and N are the state of FTRL-Proximal per step: the sum of gradients
	// less what the proximal term took, and the sum of their squares. The
	// last one is the intercept.
	Z []float64 `json:"z"`
	N []float64 `json:"n"`

	first []int
	// rising marks the steps that must not lower the log odds.
	rising []bool
	// sums[first[f]+b] is what bin b+1 of feature f adds to the log odds.
	sums []float64
	bias float64
}

// The rates of FTRL-Proximal, named as in the paper. The ones of its authors
// but for lambda1, which is per label instead of per billion clicks.
const (
	ftrlAlpha   = 0.1
	ftrlBeta    = 1
	ftrlLambda1 = 0.5
	ftrlLambda2 = 1
	// maxGradient clips an update: no single window, whatever its weight,
	// teaches more than this.
	maxGradient = 1
)

func newLinear(b binning, rising []int) *linear {
	l := &linear{}
	l.index(b, rising)
	l.Z, l.N = make([]float64, len(l.sums)+1), make([]float64, len(l.sums)+1)
	return l
}

// index lays the steps of b out.
func (l *linear) index(b binning, rising []int) {
	steps := 0
	l.first = make([]int, len(b))
	for f, cuts := range b {
		l.first[f] = steps
		steps += len(cuts)
	}
	l.sums = make([]float64, steps)
	l.rising = make([]bool, steps+1)
	for _, f := range rising {
		for s := range b[f] {
			l.rising[l.first[f]+s] = true
		}
	}
}

// weight is step i's weight, which exists only through z and n.
func (l *linear) weight(i int) float64 {
	z, lambda1 := l.Z[i], float64(ftrlLambda1)
	if i == len(l.sums) { // the intercept is not regularised
		lambda1 = 0
	}
	if math.Abs(z) <= lambda1 || z > 0 && l.rising[i] {
		return 0
	}
	return -(z - math.Copysign(lambda1, z)) / ((ftrlBeta+math.Sqrt(l.N[i]))/ftrlAlpha + ftrlLambda2)
}

// learn makes one step towards the label of a vector.
func (l *linear) learn(bins []int8, malicious bool, weight float64) {
	p := sigmoid(l.slow(bins))
	g := p
	if malicious {
		g = p - 1
	}
	g = min(max(g*weight, -maxGradient), maxGradient)
	for f, b := range bins {
		for s := range int(b) { // none for unknown values
			l.update(l.first[f]+s, g)
		}
	}
	l.update(len(l.sums), g)
}

func (l *linear) update(i int, g float64) {
	sigma := (math.Sqrt(l.N[i]+g*g) - math.Sqrt(l.N[i])) / ftrlAlpha
	l.Z[i] += g - sigma*l.weight(i)
	l.N[i] += g * g
}

// slow is the log odds while learning.
func (l *linear) slow(bins []int8) float64 {
	x := l.weight(len(l.sums))
	for f, b := range bins {
		for s := range int(b) {
			x += l.weight(l.first[f] + s)
		}
	}
	return x
}

// settle computes what scoring needs, once learning is over.
func (l *linear) settle(b binning) {
	for f, cuts := range b {
		x := 0.0
		for s := range cuts {
			x += l.weight(l.first[f] + s)
			l.sums[l.first[f]+s] = x
		}
	}
	l.bias = l.weight(len(l.sums))
}

// part is what a feature in a bin adds to the log odds.
func (l *linear) part(feature int, bin int8) float64 {
	if bin <= 0 {
		return 0
	}
	return l.sums[l.first[feature]+int(bin)-1]
}

// forget lets the past weigh no more than so much gradient per step, so that a
// site's own labels are not drowned by what the model was born with.
func (l *linear) forget(limit float64) {
	for i, n := range l.N {
		if n <= limit {
			continue
		}
		// The weight stays what it is: z follows the denominator.
		w := l.weight(i)
		l.N[i] = limit
		lambda1 := float64(ftrlLambda1)
		if i == len(l.sums) {
			lambda1 = 0
		}
		if w != 0 {
			l.Z[i] = -w*((ftrlBeta+math.Sqrt(limit))/ftrlAlpha+ftrlLambda2) - math.Copysign(lambda1, w)
		}
	}
}

func sigmoid(x float64) float64 { return 1 / (1 + math.Exp(-x)) }

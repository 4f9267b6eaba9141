// Package autoenc is a small denoising autoencoder (Vincent, Larochelle, Bengio
// and Manzagol, "Extracting and composing robust features with denoising
// autoencoders", ICML 2008) that learns from a stream: it is shown a point with
// some coordinates blanked and corrected towards the whole point by one step of
// Adam (Kingma and Ba, ICLR 2015). What it cannot reconstruct is unlike what it
// has seen; Mirsky et al. ("Kitsune", NDSS 2018) do so with network traffic.
//
// Inputs are standardised ones. They are clipped, so that no single point, as
// far out as it may be, moves the weights by more than any other.
package autoenc

import (
	"errors"
	"fmt"
	"math"
	"math/rand/v2"

	"gonum.org/v1/gonum/blas"
	"gonum.org/v1/gonum/blas/blas64"
)

// Config says how to build an Encoder.
type Config struct {
	// Dimensions of a point, and Hidden units, fewer than those.
	Dimensions, Hidden int
	// Blank is the probability with which a coordinate is blanked while
	// learning.
	Blank float64
	// Clip bounds coordinates, in both directions.
	Clip float64
	// Step is Adam's step size.
	Step float64
	// Seed makes weights and blanks reproducible.
	Seed uint64
}

// DefaultConfig compresses to a quarter, blanks a tenth and clips at 8.
func DefaultConfig(dimensions int, seed uint64) Config {
	return Config{Dimensions: dimensions, Hidden: max(1, dimensions/4), Blank: 0.1, Clip: 8, Step: 2e-3, Seed: seed}
}

const maxDimensions = 1024

// Validate reports every setting that cannot work.
func (c *Config) Validate() error {
	var errs []error
	check := func(ok bool, format string, args ...any) {
		if !ok {
			errs = append(errs, fmt.Errorf("autoenc: "+format, args...))
		}
	}
	check(c.Dimensions >= 2 && c.Dimensions <= maxDimensions, "%d dimensions are not in 2 to %d", c.Dimensions, maxDimensions)
	check(c.Hidden >= 1 && c.Hidden < c.Dimensions, "%d hidden units are not in 1 to %d", c.Hidden, c.Dimensions-1)
	check(c.Blank >= 0 && c.Blank < 1, "blanking %v is not in [0,1)", c.Blank)
	check(c.Clip > 0 && c.Clip <= 1e6, "clipping at %v is not in (0,1e6]", c.Clip)
	check(c.Step > 0 && c.Step < 1, "a step of %v is not in (0,1)", c.Step)
	return errors.Join(errs...)
}

// Encoder scores points. It belongs to one goroutine.
type Encoder struct {
	cfg    Config
	source *rand.PCG
	rand   *rand.Rand
	steps  uint64
	encode layer // to the hidden units, through tanh
	decode layer // back, linear

	point, blanked, hidden, out []float64
	outError, hiddenError       []float64
}

// layer is an affine map with the state of Adam for its weights. The biases
// are the last column.
type layer struct {
	rows, cols           int
	weights, mean, power []float64
}

// New returns an encoder that knows nothing, or what is wrong with its
// configuration.
func New(cfg Config) (*Encoder, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	d, h := cfg.Dimensions, cfg.Hidden
	e := &Encoder{cfg: cfg, source: rand.NewPCG(cfg.Seed, uint64(d))}
	e.rand = rand.New(e.source)
	e.encode, e.decode = newLayer(h, d), newLayer(d, h)
	e.encode.start(e.rand)
	e.decode.start(e.rand)
	// Inputs of a layer end with a one for its biases.
	e.point, e.blanked, e.hidden = make([]float64, d), make([]float64, d+1), make([]float64, h+1)
	e.blanked[d], e.hidden[h] = 1, 1
	e.out, e.outError, e.hiddenError = make([]float64, d), make([]float64, d), make([]float64, h+1)
	return e, nil
}

func newLayer(rows, inputs int) layer {
	n := rows * (inputs + 1)
	return layer{rows: rows, cols: inputs + 1,
		weights: make([]float64, n), mean: make([]float64, n), power: make([]float64, n)}
}

// start draws weights as Glorot and Bengio (AISTATS 2010) propose.
func (l *layer) start(r *rand.Rand) {
	reach := math.Sqrt(6 / float64(l.rows+l.cols-1))
	for i := range l.weights {
		if i%l.cols != l.cols-1 {
			l.weights[i] = (2*r.Float64() - 1) * reach
		}
	}
}

func (l *layer) matrix() blas64.General {
	return blas64.General{Rows: l.rows, Cols: l.cols, Stride: l.cols, Data: l.weights}
}

func vector(x []float64) blas64.Vector { return blas64.Vector{N: len(x), Inc: 1, Data: x} }

// Steps is how many points were learned.
func (e *Encoder) Steps() uint64 { return e.steps }

// Learn takes a step towards reconstructing a point. A point with a coordinate
// that is not a number is ignored.
func (e *Encoder) Learn(x []float64) {
	if !e.take(x) {
		return
	}
	for j := range e.point {
		if e.rand.Float64() < e.cfg.Blank {
			e.blanked[j] = 0
		}
	}
	e.forward()
	for j, v := range e.out {
		e.outError[j] = v - e.point[j]
	}
	blas64.Gemv(blas.Trans, 1, e.decode.matrix(), vector(e.outError), 0, vector(e.hiddenError))
	for i, h := range e.hidden[:e.cfg.Hidden] {
		e.hiddenError[i] *= 1 - h*h
	}
	e.steps++
	rate := e.rate()
	e.decode.adam(e.outError, e.hidden, rate)
	e.encode.adam(e.hiddenError[:e.cfg.Hidden], e.blanked, rate)
}

// Adam's constants, as its authors propose them.
const (
	beta1, beta2 = 0.9, 0.999
	epsilon      = 1e-8
)

// rate is the step size with the corrections for the start from zero.
func (e *Encoder) rate() float64 {
	n := float64(e.steps)
	return e.cfg.Step * math.Sqrt(1-math.Pow(beta2, n)) / (1 - math.Pow(beta1, n))
}

// adam corrects weights by the outer product of errors and inputs.
func (l *layer) adam(errs, inputs []float64, rate float64) {
	for i, d := range errs {
		at := i * l.cols
		w, m, p := l.weights[at:at+l.cols], l.mean[at:at+l.cols], l.power[at:at+l.cols]
		for j, x := range inputs {
			g := d * x
			m[j] += (1 - beta1) * (g - m[j])
			p[j] += (1 - beta2) * (g*g - p[j])
			w[j] -= rate * m[j] / (math.Sqrt(p[j]) + epsilon)
		}
	}
}

// Score returns the mean squared error of a point's reconstruction. If share
// is not nil it gets each coordinate's part of the score, adding up to 1. A
// point with a coordinate that is not a number scores 0.
func (e *Encoder) Score(x, share []float64) float64 {
	clear(share)
	if !e.take(x) {
		return 0
	}
	e.forward()
	sum := 0.0
	for j, v := range e.out {
		d := v - e.point[j]
		sum += d * d
		if share != nil {
			share[j] = d * d
		}
	}
	if sum > 0 {
		for j := range share {
			share[j] /= sum
		}
	}
	return sum / float64(len(e.out))
}

// take clips a point into both point and blanked.
func (e *Encoder) take(x []float64) bool {
	if len(x) != len(e.point) {
		return false
	}
	for j, v := range x {
		if math.IsNaN(v) {
			return false
		}
		e.point[j] = min(max(v, -e.cfg.Clip), e.cfg.Clip)
	}
	copy(e.blanked, e.point)
	return true
}

// forward reconstructs blanked into out.
func (e *Encoder) forward() {
	hidden := e.hidden[:e.cfg.Hidden]
	blas64.Gemv(blas.NoTrans, 1, e.encode.matrix(), vector(e.blanked), 0, vector(hidden))
	for i, v := range hidden {
		hidden[i] = math.Tanh(v)
	}
	blas64.Gemv(blas.NoTrans, 1, e.decode.matrix(), vector(e.hidden), 0, vector(e.out))
}

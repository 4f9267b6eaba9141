package model

import (
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"time"
)

// Errors of Train.
var (
	// ErrLabels says that the labels do not suffice to learn from.
	ErrLabels = errors.New("too few labels to learn from")
	// ErrFlips says that a training would turn over what was known.
	ErrFlips = errors.New("the training turns over what was known")
)

// Example is one window with its label.
type Example struct {
	Values    []float64
	Malicious bool
	Host      string
	Set       int   // index into Options.Sets
	Time      int64 // Unix nanoseconds
	// Weight is 1 for a log's ground truth, less for what is believed less;
	// 0 counts as 1.
	Weight float64
	// Verdict is true for an operator's label.
	Verdict bool
}

func (e *Example) class() int {
	if e.Malicious {
		return 1
	}
	return 0
}

// row is an example as the learners see it.
type row struct {
	values  []float64
	label   int
	weight  float64
	example int
}

func (r *row) class() int { return r.label }

// Options say how to train. Name and SHA256 of the sets are the caller's, the
// rest of them is filled in.
type Options struct {
	Schema Schema
	Sets   []Set
	// Base is the model to continue from; nil to start from nothing.
	Base *Model
	Seed uint64
	// Prior is the share of threats among the windows of a network, 0 for
	// DefaultPrior. Budget is how many false windows per host-hour the
	// threshold may let through on data held out, 0 for DefaultBudget.
	Prior, Budget float64
	// Ceiling is the highest probability that the model may claim, 0 for none.
	Ceiling   float64
	Who, Tool string
	Created   time.Time
	// Without names features that must not be learned from, because they
	// tell how the data was made rather than what an attack is.
	Without []string
	// Rising names features of which more is never less suspicious, whatever
	// the data say: else an attacker whom the data show with one target
	// would look benign by taking a second one. A base brings its own.
	Rising []string
	// Force trains even where it turns over what was known.
	Force bool
}

// Defaults of Options.
const (
	DefaultPrior  = 0.01
	DefaultBudget = 0.01
)

const (
	minClass         = 10  // windows of each class to start from nothing
	maxRows          = 1e6 // windows of a training
	setWindows       = 30  // of a set and class that count in the calibration
	hostWindows      = 30  // a host's windows of one class weigh at most as much
	maxWeight        = 4   // of a row after balancing
	passes           = 3
	folds            = 5
	calibrateWindows = 100 // of each class, and of so many hosts, to calibrate anew on a site
	calibrateHosts   = 10
	treeRows         = 100 // windows of each class to grow trees anew on a site
	forgetLimit      = 25
	thresholdOdds    = 10 // the least threshold, in times the odds of the prior
	thresholdStep    = 2  // a training moves the threshold by this factor of its odds at most
)

// Train fits a model to examples. The same examples, options and seed give the
// same model. It returns ErrLabels, ErrFlips or ErrSchema, wrapped with figures.
func Train(examples []Example, o Options) (*Model, error) {
	t := &trainer{o: o, examples: examples}
	if err := t.check(); err != nil {
		return nil, err
	}
	m := t.fit(t.weigh(all(len(examples))))
	m.Schema = o.Schema
	list, kind := t.heldOut()
	m.Calibration = fitCalibration(list, o.prior(), kind)
	m.Calibration.Ceiling = o.Ceiling
	if o.Base != nil && !t.calibrates(list) {
		m.Calibration = o.Base.Calibration
	}
	m.Threshold = t.threshold(list, m.Calibration)
	m.Metrics = t.metrics(list, m)
	m.Provenance = t.provenance()
	m.Anchors = t.anchors(m)
	m.Normal = t.normal()
	if err := t.flips(m); err != nil && !o.Force {
		return nil, err
	}
	if _, err := m.Encode(); err != nil {
		return nil, err
	}
	return m, nil
}

func (o *Options) prior() float64 {
	if o.Prior == 0 {
		return DefaultPrior
	}
	return o.Prior
}

type trainer struct {
	o        Options
	examples []Example
	learned  []bool // features that may be learned from
	rising   []int
	rules    map[int]rule // of each example's fold
}

func (t *trainer) check() error {
	o := &t.o
	if err := o.Schema.valid(); err != nil {
		return fmt.Errorf("train: %w", err)
	}
	if o.Base != nil {
		if err := o.Base.Schema.Fits(o.Schema); err != nil {
			return fmt.Errorf("continue from model %.12s: %w", o.Base.Hash(), err)
		}
	}
	if p := o.prior(); !(p > 0 && p < 1) || o.Budget < 0 || !(o.Ceiling >= 0 && o.Ceiling <= 1) {
		return fmt.Errorf("train: prior %v is not in (0, 1), budget %v is negative, or ceiling %v not in [0, 1]", p, o.Budget, o.Ceiling)
	}
	if len(t.examples) > maxRows {
		return fmt.Errorf("train: %d windows, at most %d", len(t.examples), int(maxRows))
	}
	t.learned = make([]bool, len(o.Schema.Names))
	for i := range t.learned {
		t.learned[i] = true
	}
	for _, name := range o.Without {
		i := slices.Index(o.Schema.Names, name)
		if i < 0 {
			return fmt.Errorf("train: there is no feature %q", name)
		}
		t.learned[i] = false
	}
	for _, name := range o.Rising {
		i := slices.Index(o.Schema.Names, name)
		if i < 0 {
			return fmt.Errorf("train: there is no feature %q", name)
		}
		t.rising = append(t.rising, i)
	}
	if o.Base != nil {
		t.rising = o.Base.Rising
	}
	return t.checkExamples()
}

func (t *trainer) checkExamples() error {
	o := &t.o
	var count [2]int
	for i := range t.examples {
		e := &t.examples[i]
		if len(e.Values) != len(o.Schema.Names) || e.Set < 0 || e.Set >= len(o.Sets) || e.Weight < 0 || !bounded(1e300, e.Weight) {
			return fmt.Errorf("train: window %d has %d values of %d, set %d of %d, weight %v", i, len(e.Values), len(o.Schema.Names), e.Set, len(o.Sets), e.Weight)
		}
		count[e.class()]++
	}
	if o.Base == nil && min(count[0], count[1]) < minClass || count[0]+count[1] == 0 {
		return fmt.Errorf("%w: %d benign and %d malicious windows, want %d of each", ErrLabels, count[0], count[1], minClass)
	}
	return nil
}

func all(n int) []int {
	list := make([]int, n)
	for i := range list {
		list[i] = i
	}
	return list
}

// weigh makes rows of some examples: no host outweighs hostWindows windows, and
// both classes weigh the same. What the base knows is rehearsed beside them.
func (t *trainer) weigh(which []int) []row {
	type owner struct {
		host       string
		set, class int
	}
	weight := func(e *Example) float64 {
		if e.Weight == 0 {
			return 1
		}
		return e.Weight
	}
	sums := map[owner]float64{}
	for _, i := range which {
		e := &t.examples[i]
		sums[owner{e.Host, e.Set, e.class()}] += weight(e)
	}
	rows := make([]row, 0, len(which))
	for _, i := range which {
		e := &t.examples[i]
		w := weight(e) * min(1, hostWindows/sums[owner{e.Host, e.Set, e.class()}])
		rows = append(rows, row{values: e.Values, label: e.class(), weight: w, example: i})
	}
	rows = append(rows, t.rehearse()...)
	t.level(rows)
	balance(rows)
	return rows
}

// level lets a set weigh as the square root of its windows, so that what few
// sets hold many of does not drown what the others tell.
func (t *trainer) level(rows []row) {
	type part struct{ set, class int }
	sums := map[part]float64{}
	for i := range rows {
		if e := rows[i].example; e >= 0 {
			sums[part{t.examples[e].Set, rows[i].label}] += rows[i].weight
		}
	}
	before, after := 0.0, 0.0
	for i := range rows {
		if e := rows[i].example; e >= 0 {
			before += rows[i].weight
			rows[i].weight /= math.Sqrt(max(sums[part{t.examples[e].Set, rows[i].label}], 1))
			after += rows[i].weight
		}
	}
	for i := range rows {
		if rows[i].example >= 0 {
			rows[i].weight *= before / after
		}
	}
}

// balance scales the classes to their geometric mean.
func balance(rows []row) {
	var sum [2]float64
	for i := range rows {
		sum[rows[i].label] += rows[i].weight
	}
	if sum[0] == 0 || sum[1] == 0 {
		return
	}
	target := math.Sqrt(sum[0] * sum[1])
	for i := range rows {
		rows[i].weight = min(rows[i].weight*target/sum[rows[i].label], maxWeight)
	}
}

// fit trains both learners.
func (t *trainer) fit(rows []row) *Model {
	m := &Model{Rising: t.rising}
	if base := t.o.Base; base != nil {
		m.Bins, m.TreeBias, m.Trees = base.Bins, base.TreeBias, slices.Clone(base.Trees)
		m.Linear = &linear{Z: slices.Clone(base.Linear.Z), N: slices.Clone(base.Linear.N)}
		m.Linear.index(m.Bins, m.Rising)
		m.Linear.forget(forgetLimit)
	} else {
		m.Bins = cut(rows, t.learned)
		m.Linear = newLinear(m.Bins, m.Rising)
	}
	bins := flatten(rows, m.Bins)
	width := len(m.Bins)
	order := all(len(rows))
	random := rand.New(rand.NewPCG(t.o.Seed, uint64(len(rows))))
	for range passes {
		random.Shuffle(len(order), func(i, j int) { order[i], order[j] = order[j], order[i] })
		for _, i := range order {
			m.Linear.learn(bins[i*width:(i+1)*width], rows[i].label == 1, rows[i].weight)
		}
	}
	m.Linear.settle(m.Bins)
	if t.o.Base == nil || enough(rows, treeRows) {
		m.TreeBias, m.Trees = priorOdds(rows), nil
		m.boost(rows, bins, newTrees)
	} else {
		m.boost(rows, bins, moreTrees)
	}
	return m
}

func flatten(rows []row, b binning) []int8 {
	bins := make([]int8, len(rows)*len(b))
	for i := range rows {
		b.all(rows[i].values, bins[i*len(b):(i+1)*len(b)])
	}
	return bins
}

// enough reports whether both classes have so many rows.
func enough(rows []row, want int) bool {
	var n [2]int
	for i := range rows {
		n[rows[i].label]++
	}
	return min(n[0], n[1]) >= want
}

// provenance completes the sets.
func (t *trainer) provenance() Provenance {
	o := &t.o
	p := Provenance{Created: o.Created.UTC(), Who: o.Who, Tool: o.Tool, Seed: o.Seed, Sets: slices.Clone(o.Sets)}
	if o.Base != nil {
		p.Base = o.Base.Hash()
	}
	hosts := make([]map[string]bool, len(p.Sets))
	for i := range t.examples {
		e := &t.examples[i]
		s := &p.Sets[e.Set]
		if hosts[e.Set] == nil {
			hosts[e.Set] = map[string]bool{}
		}
		hosts[e.Set][e.Host] = true
		s.Hosts = len(hosts[e.Set])
		s.Windows++
		switch {
		case e.Verdict:
			s.Verdicts++
		case e.Malicious:
			s.Malicious++
		default:
			s.Benign++
		}
		at := time.Unix(0, e.Time).UTC()
		if s.From.IsZero() || at.Before(s.From) {
			s.From = at
		}
		if at.After(s.To) {
			s.To = at
		}
	}
	return p
}

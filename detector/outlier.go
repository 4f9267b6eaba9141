package detector

import (
	"math"
	"time"

	"github.com/platelet-sdn/platelet/detector/autoenc"
	"github.com/platelet-sdn/platelet/detector/conformal"
	"github.com/platelet-sdn/platelet/detector/drift"
	"github.com/platelet-sdn/platelet/detector/forest"
	"github.com/platelet-sdn/platelet/detector/keyed"
	"github.com/platelet-sdn/platelet/detector/midas"
)

// outlier holds the models that all hosts share and their calibration. They see
// standardised windows only, so that one of each serves hosts of every role.
type outlier struct {
	forest  *forest.Forest
	encoder *autoenc.Encoder
	graph   *midas.Detector
	// histories are the highest scores of host-hours, of hosts of a role and,
	// under roleNone, of all.
	histories [hostRoles][numModels]*conformal.History
	drift     *drift.Window
	day       [24]struct { // mean distance by hour
		mean    float64
		windows int
	}
	key     keyed.Key // of the graph's nodes; kept with its counts
	minutes int64     // that the graph had seen before this engine began

	contributors [contributors]uint16 // windows learned, by keyed hash of the group
	contributed  uint32
	// What ranks high is learned sparingly, see remember and judge.
	highWindows, highHours, foundHours ration
	shares                             [2][vectorSize]float64
}

const (
	contributors = 256
	// forestTrees and forestSamples make 640 kB of state.
	forestTrees, forestSamples, forestMemory = 20, 256, 8192
	// matureSteps is how many windows the models learn before their scores
	// are calibrated.
	matureSteps = 1000
	// worthScoring is the deviation, in spreads, from which the forest is
	// asked.
	worthScoring = 2
	// driftDelta is ADWIN's confidence, its authors' choice.
	driftDelta = 0.002
)

// newOutlier builds the models, deterministically from the engine's keys.
func newOutlier(k keys) (o outlier, err error) {
	o.forest, err = forest.New(forest.Config{Trees: forestTrees, Samples: forestSamples,
		Memory: forestMemory, Dimensions: vectorSize, Seed: k.number(1)})
	if err != nil {
		return o, err
	}
	if o.encoder, err = autoenc.New(autoenc.DefaultConfig(vectorSize, k.number(2))); err != nil {
		return o, err
	}
	o.key = keyed.Key{k.number(3), k.number(4)}
	if o.graph, err = midas.New(midas.DefaultConfig(midas.Filtering, o.key)); err != nil {
		return o, err
	}
	for r := range o.histories {
		for m := range o.histories[r] {
			if o.histories[r][m], err = conformal.NewHistory(calibration); err != nil {
				return o, err
			}
		}
	}
	o.drift, err = drift.New(driftDelta)
	return o, err
}

// node numbers a host in the graph.
func (o *outlier) node(a address) uint64 { return o.key.Sum(a.hi, a.lo) }

// mature reports whether the models have seen enough for their scores to mean
// something.
func (o *outlier) mature() bool {
	return o.forest.Len() == forestSamples && o.encoder.Steps() >= matureSteps
}

// hours is how many host-hours scores are calibrated with.
func (o *outlier) hours() int { return o.histories[roleNone][modelForest].Len() }

// peers returns the calibration for a role: that of all hosts until its own is
// long enough.
func (o *outlier) peers(r hostRole, needed int) *[numModels]*conformal.History {
	if h := &o.histories[r]; h[modelForest].Len() >= needed {
		return h
	}
	return &o.histories[roleNone]
}

// score asks all models. The forest, by far the dearest, is only asked about
// what deviates at all; the rest scores 0 there in calibration as well.
func (o *outlier) score(z *vector, surprise, shift float64, scores *[numModels]float64) {
	*scores = [numModels]float64{modelAutoenc: o.encoder.Score(z[:], nil), modelGraph: surprise, modelShift: shift}
	for _, v := range z {
		if v >= worthScoring {
			scores[modelForest] = o.forest.Score(z[:], nil)
			return
		}
	}
}

// explain shares a window's outlyingness out among the features, as the mean of
// what the forest and the autoencoder say.
func (o *outlier) explain(z *vector) (shares vector) {
	o.forest.Score(z[:], o.shares[0][:])
	o.encoder.Score(z[:], o.shares[1][:])
	for i := range shares {
		shares[i] = (o.shares[0][i] + o.shares[1][i]) / 2
	}
	return shares
}

func (o *outlier) learn(z *vector) {
	o.forest.Learn(z[:])
	o.encoder.Learn(z[:])
}

// admit reports whether a group may contribute to what hosts share, and counts
// it: none may have more than a sixteenth of the recent contributions, or twice
// its fair share where there are few.
func (o *outlier) admit(group uint64) bool {
	active := 0
	for _, n := range o.contributors {
		if n > 0 {
			active++
		}
	}
	n := &o.contributors[group%contributors]
	share := max(1.0/16, 2/float64(max(active, 1)))
	if o.contributed >= contributors && float64(*n) >= share*float64(o.contributed) {
		return false
	}
	*n++
	o.contributed++
	if o.contributed >= 8*contributors { // forget half
		o.contributed = 0
		for i := range o.contributors {
			o.contributors[i] /= 2
			o.contributed += uint32(o.contributors[i])
		}
	}
	return true
}

// ration lets every group do something once per period.
type ration struct {
	period int64
	spent  [contributors]bool
}

// take reports whether a group had not done it yet.
func (r *ration) take(group uint64, period int64) bool {
	if period != r.period {
		*r = ration{period: period}
	}
	spent := &r.spent[group%contributors]
	first := !*spent
	*spent = true
	return first
}

// unusual compares the distance of a window with that of the same time of day,
// since days and nights are no drift: 1/2 when they are equal, in [0,1]. Days
// are followed over about a week of a small network.
func (o *outlier) unusual(at int64, distance float64) float64 {
	d := &o.day[at/int64(time.Hour)%24]
	if d.windows == 0 {
		d.mean = distance
	}
	x := (1 + distance - d.mean) / 2
	d.windows++
	d.mean += (distance - d.mean) / float64(min(d.windows, 10_000))
	return x
}

// distance is how far a window is from its host's baseline on average, in
// [0,1].
func distance(z *vector) float64 {
	sum := 0.0
	for _, v := range z {
		sum += math.Abs(v)
	}
	return sum / (vectorSize * clipAbove)
}

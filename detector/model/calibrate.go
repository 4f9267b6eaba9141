package model

import "math"

// Calibration turns the learners' log odds into a probability:
// sigmoid(Slope*x + Offset + Shift), but at most Ceiling.
type Calibration struct {
	Slope  float64 `json:"slope"`
	Offset float64 `json:"offset"`
	// Prior is the share of threats among windows that is assumed in the
	// field, Shift what that adds to the log odds of the held-out data.
	Prior float64 `json:"prior"`
	Shift float64 `json:"shift"`
	// Ceiling is the highest probability that is claimed: a model for
	// networks that nobody has seen must not be sure. 0 is no ceiling.
	Ceiling float64 `json:"ceiling,omitempty"`
	// Held says what the calibration was fitted on: "sets" or "hosts" left
	// out, "none" when there was too little and it claims little.
	Held string `json:"held_out"`
}

func (c Calibration) probability(x float64) float64 {
	p := sigmoid(c.logOdds(x))
	if c.Ceiling > 0 {
		p = min(p, c.Ceiling)
	}
	return p
}

func (c Calibration) logOdds(x float64) float64 { return c.Slope*x + c.Offset + c.Shift }

// held is a prediction for a window that the learners did not see.
type held struct {
	example int
	x       float64 // log odds before calibration
	weight  float64
	class   int
}

// maxSlope keeps a calibration from sharpening much what the learners said: on data
// that separates, Platt's slope would grow without bound.
const maxSlope = 3

// fitCalibration is Platt's fit by Newton's method, with targets that do not
// reach 0 and 1 (Lin, Lin, Weng). The classes weigh the same; prior sets the
// level.
func fitCalibration(list []held, prior float64, kind string) Calibration {
	c := Calibration{Slope: 1, Prior: prior, Shift: math.Log(prior / (1 - prior)), Held: kind}
	var count, weight [2]float64
	for _, h := range list {
		count[h.class]++
		weight[h.class] += h.weight
	}
	if count[0] == 0 || count[1] == 0 || weight[0] == 0 || weight[1] == 0 {
		c.Held = "none"
		c.Slope = 0.5
		return c
	}
	target := [2]float64{1 / (count[0] + 2), (count[1] + 1) / (count[1] + 2)}
	a, b := 1.0, 0.0
	for range 100 {
		// Ridges keep the step finite where a class stands alone.
		ga, gb, haa, hab, hbb := 0.0, 0.0, 1e-6, 0.0, 1e-6
		for _, h := range list {
			w := h.weight / weight[h.class]
			p := sigmoid(a*h.x + b)
			d, q := w*(p-target[h.class]), w*max(p*(1-p), 1e-9)
			ga, gb = ga+d*h.x, gb+d
			haa, hab, hbb = haa+q*h.x*h.x, hab+q*h.x, hbb+q
		}
		det := haa*hbb - hab*hab
		da, db := (hbb*ga-hab*gb)/det, (haa*gb-hab*ga)/det
		scale := min(1, 2/max(math.Abs(da), math.Abs(db), 1e-12))
		a, b = a-scale*da, b-scale*db
		if math.Abs(da)+math.Abs(db) < 1e-9 {
			break
		}
	}
	if a > maxSlope {
		a, b = maxSlope, b*maxSlope/a
	}
	// A negative slope says that the learners are worse than chance on what
	// they did not see: then they say nothing.
	c.Slope, c.Offset = max(a, 0), b
	return c
}

package model

import (
	"cmp"
	"math"
	"slices"
)

// Metric is how well a model, and beside it the best rule of one line, did on
// windows that neither had seen.
type Metric struct {
	Set     string `json:"set"`
	Windows int    `json:"windows"`
	// Malicious and Benign count windows, Hosts and Attackers addresses.
	Malicious int     `json:"malicious"`
	Benign    int     `json:"benign"`
	Attackers int     `json:"attackers"`
	Hosts     int     `json:"benign_hosts"`
	Hours     float64 `json:"benign_host_hours"` // windows of benign hosts, in hours
	// AUC is over windows, 0 where a class is missing; so for the rule.
	AUC   float64 `json:"auc"`
	Brier float64 `json:"brier"` // mean squared error of the probability, before the shift to the prior
	// Found counts attackers with a window above the threshold, False
	// benign windows above it per benign host-hour.
	Found int     `json:"attackers_found"`
	False float64 `json:"false_per_host_hour"`

	Rule RuleMetric `json:"rule"`
}

// RuleMetric is the trivial rule's: one feature above one value, both chosen
// where the learners learned.
type RuleMetric struct {
	Feature string  `json:"feature"`
	Cut     float64 `json:"cut"`
	Below   bool    `json:"below,omitempty"` // the rule is "below the cut"
	AUC     float64 `json:"auc"`
	Found   int     `json:"attackers_found"`
	False   float64 `json:"false_per_host_hour"`
}

// windowHours is what a window counts for in rates per host-hour.
const windowHours = 1.0 / 60

// scored is a score with its class, for ranking.
type scored struct {
	x     float64
	class int
}

// auc is the area under the ROC curve, ties counting half: the statistic of
// Mann and Whitney. It is 0 where a class is missing.
func auc(list []scored) float64 {
	slices.SortFunc(list, func(a, b scored) int { return cmp.Compare(a.x, b.x) })
	var below, pairs, n0, n1 float64
	for i := 0; i < len(list); {
		j, t0, t1 := i, 0.0, 0.0
		for ; j < len(list) && list[j].x == list[i].x; j++ {
			if list[j].class == 1 {
				t1++
			} else {
				t0++
			}
		}
		pairs += t1 * (below + t0/2)
		below, n0, n1 = below+t0, n0+t0, n1+t1
		i = j
	}
	if n0 == 0 || n1 == 0 {
		return 0
	}
	return pairs / (n0 * n1)
}

// rule is one line: a feature above (or below) a value.
type rule struct {
	feature int
	cut     float64
	below   bool
}

func (r rule) value(values []float64) float64 {
	x := values[r.feature]
	if math.IsNaN(x) {
		return math.Inf(-1)
	}
	if r.below {
		return -x
	}
	return x
}

func (r rule) fires(values []float64) bool {
	x := values[r.feature]
	if r.below {
		return x < r.cut
	}
	return x >= r.cut
}

// bestRule finds the feature, the cut and the side with the least balanced error.
func bestRule(rows []row, bins []int8, b binning) rule {
	best, r := 0.0, rule{}
	var total [2]float64
	for i := range rows {
		total[rows[i].class()] += rows[i].weight
	}
	for f, cuts := range b {
		var hist [maxBins + 1][2]float64
		for i := range rows {
			hist[bins[i*len(b)+f]+1][rows[i].class()] += rows[i].weight
		}
		var low [2]float64
		for s, c := range cuts {
			low[0], low[1] = low[0]+hist[s+1][0], low[1]+hist[s+1][1]
			benign, malicious := low[0]/max(total[0], 1e-9), low[1]/max(total[1], 1e-9)
			if gain := benign - malicious; gain > best {
				best, r = gain, rule{feature: f, cut: c}
			} else if -gain > best {
				best, r = -gain, rule{feature: f, cut: c, below: true}
			}
		}
	}
	return r
}

// tally sums up one held-out part.
type tally struct {
	metric        Metric
	model, line   []scored
	attackers     map[string]bool // true once found
	caught        map[string]bool // by the rule
	hosts         map[string]bool
	alarms, false float64
}

func newTally(set string) *tally {
	return &tally{metric: Metric{Set: set}, attackers: map[string]bool{}, caught: map[string]bool{}, hosts: map[string]bool{}}
}

func (t *tally) add(e *Example, odds float64, alarm bool, r rule) {
	t.metric.Windows++
	class, fires := e.class(), r.fires(e.Values)
	t.model = append(t.model, scored{odds, class})
	t.line = append(t.line, scored{r.value(e.Values), class})
	p := sigmoid(odds)
	if class == 1 {
		t.metric.Malicious++
		t.attackers[e.Host] = t.attackers[e.Host] || alarm
		t.caught[e.Host] = t.caught[e.Host] || fires
		t.metric.Brier += (1 - p) * (1 - p)
		return
	}
	t.metric.Benign++
	t.hosts[e.Host] = true
	t.metric.Brier += p * p
	if alarm {
		t.alarms++
	}
	if fires {
		t.false++
	}
}

func (t *tally) result(schema Schema, r rule) Metric {
	m := t.metric
	m.Attackers, m.Hosts = len(t.attackers), len(t.hosts)
	m.Hours = float64(m.Benign) * windowHours
	m.Brier /= max(float64(m.Windows), 1)
	m.AUC, m.Found, m.False = auc(t.model), trues(t.attackers), t.alarms/max(m.Hours, windowHours)
	m.Rule = RuleMetric{Feature: schema.Names[r.feature], Cut: r.cut, Below: r.below,
		AUC: auc(t.line), Found: trues(t.caught), False: t.false / max(m.Hours, windowHours)}
	return m
}

func trues(m map[string]bool) int {
	n := 0
	for _, v := range m {
		if v {
			n++
		}
	}
	return n
}

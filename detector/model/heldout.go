package model

import (
	"hash/fnv"
	"math"
	"slices"
)

// heldOut predicts every window by learners that saw neither its set nor, where
// there are not sets enough, its host. A host that is in the part left out is
// not learned from elsewhere either: attackers call at many doors.
func (t *trainer) heldOut() (list []held, kind string) {
	kind = "sets"
	part := func(e *Example) int { return e.Set }
	parts := len(t.o.Sets)
	if t.o.Base != nil || parts < 3 {
		kind, parts = "hosts", folds
		part = func(e *Example) int {
			h := fnv.New32a()
			_, _ = h.Write([]byte(e.Host)) // a hash takes everything
			return int(h.Sum32() % folds)
		}
	}
	t.rules = map[int]rule{}
	for p := range parts {
		list = append(list, t.leaveOut(p, part)...)
	}
	t.even(list)
	return list, kind
}

// even lets every set count the same in the calibration, but for those with few
// windows, and a host in it as the square root of its windows: what a probability
// is worth on hosts that were not seen is to be learned from many, not from the
// one with the most windows.
func (t *trainer) even(list []held) {
	type part struct{ set, class int }
	type owner struct {
		part
		host string
	}
	of := func(h *held) owner {
		e := &t.examples[h.example]
		return owner{part{e.Set, h.class}, e.Host}
	}
	windows, sums, count := map[owner]float64{}, map[part]float64{}, map[part]float64{}
	for i := range list {
		windows[of(&list[i])]++
	}
	for i := range list {
		o := of(&list[i])
		list[i].weight = 1 / math.Sqrt(windows[o])
		sums[o.part] += list[i].weight
		count[o.part]++
	}
	for i := range list {
		o := of(&list[i])
		list[i].weight *= min(count[o.part], setWindows) / sums[o.part]
	}
}

// leaveOut learns from everything but a part and predicts that. It returns
// nothing when a class would be missing.
func (t *trainer) leaveOut(p int, part func(*Example) int) []held {
	here := map[string]bool{}
	for i := range t.examples {
		if e := &t.examples[i]; part(e) == p {
			here[e.Host] = true
		}
	}
	var learn, test []int
	for i := range t.examples {
		switch e := &t.examples[i]; {
		case part(e) == p:
			test = append(test, i)
		case !here[e.Host]:
			learn = append(learn, i)
		}
	}
	rows := t.weigh(learn)
	if len(test) == 0 || !enough(rows, 1) {
		return nil
	}
	m := t.fit(rows)
	r := bestRule(rows, flatten(rows, m.Bins), m.Bins)
	var s Scratch
	list := make([]held, 0, len(test))
	for _, i := range test {
		e := &t.examples[i]
		t.rules[i] = r
		list = append(list, held{example: i, x: m.raw(e.Values, &s), class: e.class()})
	}
	return list
}

// calibrates reports whether what was held out of a site suffices to say anew
// what a probability is worth; until then the base's word stands.
func (t *trainer) calibrates(list []held) bool {
	var hosts [2]map[string]bool
	var windows [2]int
	for _, h := range list {
		if hosts[h.class] == nil {
			hosts[h.class] = map[string]bool{}
		}
		hosts[h.class][t.examples[h.example].Host] = true
		windows[h.class]++
	}
	return min(windows[0], windows[1]) >= calibrateWindows && min(len(hosts[0]), len(hosts[1])) >= calibrateHosts
}

// threshold is the lowest probability, not below thresholdOdds, that keeps the
// windows of benign hosts within the budget in every set. What operators said
// takes no part, and a base's threshold moves by no more than thresholdStep: an
// attack that is called benign must not lift it over the next one.
func (t *trainer) threshold(list []held, c Calibration) float64 {
	budget := t.o.Budget
	if budget == 0 {
		budget = DefaultBudget
	}
	benign := make([][]float64, len(t.o.Sets))
	for _, h := range list {
		if e := &t.examples[h.example]; h.class == 0 && !e.Verdict {
			set := e.Set
			benign[set] = append(benign[set], c.probability(h.x))
		}
	}
	odds := thresholdOdds * c.Prior / (1 - c.Prior)
	limit := odds / (1 + odds)
	for _, p := range benign {
		slices.Sort(p)
		allowed := int(budget * windowHours * float64(len(p)))
		if allowed < len(p) {
			limit = max(limit, math.Nextafter(p[len(p)-1-allowed], 2))
		}
	}
	if base := t.o.Base; base != nil {
		limit = min(max(limit, shift(base.Threshold, 1/thresholdStep)), shift(base.Threshold, thresholdStep))
	}
	return min(limit, 1)
}

// shift multiplies the odds of a probability.
func shift(p, factor float64) float64 {
	odds := factor * p / max(1-p, 1e-9)
	return odds / (1 + odds)
}

// metrics are those of every set, in their order.
func (t *trainer) metrics(list []held, m *Model) []Metric {
	tallies := make([]*tally, len(t.o.Sets))
	rules := make([]rule, len(t.o.Sets))
	for _, h := range list {
		e := &t.examples[h.example]
		if tallies[e.Set] == nil {
			tallies[e.Set] = newTally(t.o.Sets[e.Set].Name)
			rules[e.Set] = t.rules[h.example]
		}
		odds := m.Calibration.Slope*h.x + m.Calibration.Offset
		tallies[e.Set].add(e, odds, m.Calibration.probability(h.x) >= m.Threshold, t.rules[h.example])
	}
	var out []Metric
	for i, x := range tallies {
		if x != nil {
			out = append(out, x.result(m.Schema, rules[i]))
		}
	}
	return out
}

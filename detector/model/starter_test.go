package model

import "testing"

// vote is the least score that corroborates another finding.
const vote = 0.95

// Nothing that anybody could send makes the starter model a vote that contains
// somebody: its highest score, if every feature did its worst, stays below.
func TestStarterCannotVote(t *testing.T) {
	m, err := Starter()
	if err != nil {
		t.Fatal(err)
	}
	x := m.Linear.bias
	for f, cuts := range m.Bins {
		most := 0.0
		for b := range len(cuts) + 1 {
			most = max(most, m.Linear.part(f, int8(b)))
		}
		x += most
	}
	y := m.TreeBias
	for _, tree := range m.Trees {
		most := tree.Value[0]
		for _, v := range tree.Value {
			most = max(most, v)
		}
		y += most
	}
	if p := m.Calibration.probability((x + y) / 2); p >= vote {
		t.Errorf("a window could score %.3f", p)
	}
	if m.Calibration.Held != "sets" {
		t.Errorf("calibrated on %q, want sets left out", m.Calibration.Held)
	}
}

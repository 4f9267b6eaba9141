package model

import (
	"fmt"
	"math"
)

// What a candidate must have gone through beside the active model before it may
// take its place.
const (
	// ShadowWindows is how many windows both must have scored: a day of one
	// host, an hour of two dozen.
	ShadowWindows = 1440
	// ShadowLabels is how many findings with an operator's verdict, given
	// after the candidate was trained, must be among them.
	ShadowLabels = 3
	// lossMargin is how much worse the mean log loss may look and still be
	// called no worse.
	lossMargin = 0.02
	// minProbability bounds the loss of a single window.
	minProbability = 1e-3
)

// Shadow compares a candidate with the active model on the same windows, none
// of which the candidate has learned from.
type Shadow struct {
	Active    string `json:"active"` // hashes of the two
	Candidate string `json:"candidate"`
	// Windows counts what both scored, the alarms those of them above the
	// model's own threshold.
	Windows         int64 `json:"windows"`
	ActiveAlarms    int64 `json:"active_alarms"`
	CandidateAlarms int64 `json:"candidate_alarms"`
	// Labels counts findings with a verdict, the losses are sums of the mean
	// log loss over the windows behind each.
	Labels        int     `json:"labels"`
	ActiveLoss    float64 `json:"active_loss"`
	CandidateLoss float64 `json:"candidate_loss"`
}

// Window counts a window that both scored.
func (s *Shadow) Window(activeAlarm, candidateAlarm bool) {
	s.Windows++
	if activeAlarm {
		s.ActiveAlarms++
	}
	if candidateAlarm {
		s.CandidateAlarms++
	}
}

// Label counts a verdict on windows that both score.
func (s *Shadow) Label(active, candidate *Model, windows [][]float64, malicious bool) {
	if len(windows) == 0 {
		return
	}
	var scratch Scratch
	var a, c float64
	for _, v := range windows {
		a += loss(active.Score(v, &scratch), malicious)
		c += loss(candidate.Score(v, &scratch), malicious)
	}
	a, c = a/float64(len(windows)), c/float64(len(windows))
	s.Labels++
	s.ActiveLoss, s.CandidateLoss = s.ActiveLoss+a, s.CandidateLoss+c
}

func loss(p float64, malicious bool) float64 {
	if !malicious {
		p = 1 - p
	}
	return -math.Log(max(p, minProbability))
}

// Promotable says whether the candidate may take over, and why not. The
// rule: both have scored ShadowWindows windows and ShadowLabels verdicts; over
// the verdicts the candidate's mean log loss is not above the active model's by
// more than lossMargin; and it raises no more alarms
// than the active model does, give or take two standard deviations of a count.
func (s Shadow) Promotable() (ok bool, why string) {
	if s.Windows < ShadowWindows {
		return false, fmt.Sprintf("it has scored %d windows beside the active model, %d are needed", s.Windows, ShadowWindows)
	}
	if s.Labels < ShadowLabels {
		return false, fmt.Sprintf("%d verdicts have been given since it was trained, %d are needed (platelet feedback)", s.Labels, ShadowLabels)
	}
	n := float64(s.Labels)
	mean := (s.CandidateLoss - s.ActiveLoss) / n
	if mean > lossMargin {
		return false, fmt.Sprintf("on %d verdicts it is worse: log loss %.3f, the active model %.3f", s.Labels, s.CandidateLoss/n, s.ActiveLoss/n)
	}
	if limit := float64(s.ActiveAlarms) + 2*math.Sqrt(float64(s.ActiveAlarms)+1); float64(s.CandidateAlarms) > limit {
		return false, fmt.Sprintf("it raises more alarms: %d in %d windows, the active model %d", s.CandidateAlarms, s.Windows, s.ActiveAlarms)
	}
	return true, fmt.Sprintf("over %d windows and %d verdicts it is not worse: log loss %.3f against %.3f, %d alarms against %d",
		s.Windows, s.Labels, s.CandidateLoss/n, s.ActiveLoss/n, s.CandidateAlarms, s.ActiveAlarms)
}

package measure

import (
	"context"
	"slices"
	"time"

	"github.com/platelet-sdn/platelet/lab/benign"
	"github.com/platelet-sdn/platelet/lab/runner"
)

// checkProfile refuses a profile that does not exist.
func checkProfile(name string) error {
	_, err := benign.Find(name)
	return err
}

// profileFor chooses the honest traffic that fits a lab's labels.
func profileFor(lab *runner.Lab) string {
	for _, fit := range []struct{ app, profile string }{{"plc", "ot"}, {"camera", "iot"}, {"db", "datacenter"}} {
		if len(lab.Select("app", fit.app)) > 0 {
			return fit.profile
		}
	}
	return benign.DefaultProfile
}

// fared counts honest flows before, during and after an attack, when the fate
// of all of them is known: by when each began. Those of hosts that attacked by
// then are no longer honest, whatever else these hosts do, and are counted
// apart.
func (s *session) fared(ctx context.Context, before time.Time, o observation, after time.Time, guilty []culprit) (Benign, error) {
	if _, err := s.traffic.Loss(ctx); err != nil {
		return Benign{}, err
	}
	b := Benign{
		Before: Harm{Seconds: o.first.Sub(before).Seconds()}, During: Harm{Seconds: o.ended.Sub(o.first).Seconds()},
		After: Harm{Seconds: after.Sub(o.ended).Seconds()},
	}
	attacks := func(node string, at time.Time) bool {
		return slices.ContainsFunc(guilty, func(c culprit) bool { return c.node == node && !at.Before(c.since) })
	}
	for _, f := range s.traffic.Flows(before, after) {
		to := &b.During
		switch {
		case attacks(f.Client, f.End) || attacks(f.Server, f.End):
			to = &b.Attackers
		case f.Start.Before(o.first):
			to = &b.Before
		case !f.Start.Before(o.ended):
			to = &b.After
		}
		to.count(f)
	}
	return b, nil
}

// count adds a flow.
func (h *Harm) count(f benign.Flow) {
	h.Flows++
	h.Lost += f.Lost
	if !f.Harmed {
		return
	}
	h.Harmed++
	if h.By == nil {
		h.By = map[string]int{}
	}
	h.By[f.Behaviour+" "+f.Client]++
}

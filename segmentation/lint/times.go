package lint

import (
	"reflect"
	"slices"
	"time"

	"github.com/platelet-sdn/platelet/segmentation/policy"
)

const (
	horizon      = 366 // days that are looked ahead
	maxSchedules = 40  // for which a year is looked at; a week for more
	maxTimes     = 64  // at which everything is judged
)

// times lists instants at which what is in force differs, of all that come:
// the first of each combination of open windows and policies past their end.
func times(s *policy.Set, now time.Time) []time.Time {
	var schedules []*policy.Schedule
	var ends []time.Time
	note := func(x *policy.Schedule) {
		if x != nil && !slices.ContainsFunc(schedules, func(y *policy.Schedule) bool { return reflect.DeepEqual(x, y) }) {
			schedules = append(schedules, x)
		}
	}
	for _, g := range s.Groups {
		note(g.During)
	}
	for i := range s.Policies {
		p := &s.Policies[i]
		note(p.Schedule)
		if p.ExpiresAt != nil && p.ExpiresAt.After(now) {
			ends = append(ends, *p.ExpiresAt)
		}
	}
	candidates := append([]time.Time{now}, ends...)
	days := horizon
	if len(schedules) > maxSchedules {
		days = 7
	}
	for _, x := range schedules {
		loc := time.UTC
		if x.Zone.Location != nil {
			loc = x.Zone.Location
		}
		year, month, day := now.In(loc).Date()
		for d := range days {
			for _, minute := range []policy.Clock{0, x.From, x.To} {
				if at := time.Date(year, month, day+d, 0, int(minute), 0, 0, loc); at.After(now) {
					candidates = append(candidates, at)
				}
			}
		}
	}
	slices.SortFunc(candidates, time.Time.Compare)
	seen := map[string]bool{}
	var out []time.Time
	for _, at := range candidates {
		state := make([]byte, 0, len(schedules)+len(ends))
		for _, x := range schedules {
			state = append(state, flag(x.Covers(at)))
		}
		for _, end := range ends {
			state = append(state, flag(at.Before(end)))
		}
		if !seen[string(state)] && len(out) < maxTimes {
			seen[string(state)] = true
			out = append(out, at)
		}
	}
	return out
}

func flag(b bool) byte {
	if b {
		return 1
	}
	return 0
}

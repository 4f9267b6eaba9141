// Package calendar tells at which times policies can mean something else: what
// schedules open and ends close comes in finitely many combinations, and what
// is judged once in each is judged for all times.
package calendar

import (
	"reflect"
	"slices"
	"time"

	"github.com/platelet-sdn/platelet/segmentation/policy"
)

// Instants returns the first time, from now on, of each combination of open
// schedules and policies past their end that some sets can come to. The first
// is now. Schedules repeat week by week as long as their zones keep their
// offsets from each other. So it is enough to look at the week after now, after
// each end, and after each change of an offset within a year of these.
func Instants(now time.Time, sets ...*policy.Set) []time.Time {
	schedules, ends := parts(now, sets)
	var out []time.Time
	seen := map[string]bool{}
	for _, at := range candidates(now, schedules, ends) {
		state := make([]byte, 0, len(schedules)+len(ends))
		for _, s := range schedules {
			state = append(state, flag(s.Covers(at)))
		}
		for _, end := range ends {
			state = append(state, flag(at.Before(end)))
		}
		if !seen[string(state)] {
			seen[string(state)] = true
			out = append(out, at)
		}
	}
	return out
}

// parts lists what differs: schedules, each once, and ends that are to come.
func parts(now time.Time, sets []*policy.Set) (schedules []*policy.Schedule, ends []time.Time) {
	note := func(s *policy.Schedule) {
		if s != nil && !slices.ContainsFunc(schedules, func(o *policy.Schedule) bool { return reflect.DeepEqual(s, o) }) {
			schedules = append(schedules, s)
		}
	}
	for _, set := range sets {
		for _, g := range set.Groups {
			note(g.During)
		}
		for i := range set.Policies {
			p := &set.Policies[i]
			note(p.Schedule)
			if p.ExpiresAt != nil && p.ExpiresAt.After(now) {
				ends = append(ends, *p.ExpiresAt)
			}
		}
	}
	slices.SortFunc(ends, time.Time.Compare)
	return schedules, slices.CompactFunc(ends, time.Time.Equal)
}

const (
	year = 366 * 24 * time.Hour
	// week has a day more, for those that are short or long, and one for
	// windows that begin on the day before.
	week = 9
)

// candidates lists, in order, the times at which something may change.
func candidates(now time.Time, schedules []*policy.Schedule, ends []time.Time) []time.Time {
	out := append([]time.Time{now}, ends...)
	begins := slices.Clone(out)
	for _, s := range schedules {
		loc := zone(s)
		for _, from := range out {
			for at := from; ; {
				_, until := at.In(loc).ZoneBounds()
				if until.IsZero() || until.Sub(from) > year {
					break
				}
				begins, at = append(begins, until), until
			}
		}
	}
	slices.SortFunc(begins, time.Time.Compare)
	begins = slices.CompactFunc(begins, time.Time.Equal)
	for _, s := range schedules {
		loc := zone(s)
		for _, begin := range begins {
			y, month, day := begin.In(loc).Date()
			for d := range week {
				for _, minute := range []policy.Clock{0, s.From, s.To} {
					out = append(out, time.Date(y, month, day+d-1, 0, int(minute), 0, 0, loc))
				}
			}
		}
	}
	if len(schedules) > 0 {
		out = append(out, begins...) // the clock jumps over the edge of a window
	}
	out = slices.DeleteFunc(out, func(at time.Time) bool { return at.Before(now) })
	slices.SortFunc(out, time.Time.Compare)
	return slices.CompactFunc(out, time.Time.Equal)
}

func zone(s *policy.Schedule) *time.Location {
	if s.Zone.Location != nil {
		return s.Zone.Location
	}
	return time.UTC
}

func flag(b bool) byte {
	if b {
		return 1
	}
	return 0
}

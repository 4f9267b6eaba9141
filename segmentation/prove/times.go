package prove

import (
	"time"

	"github.com/platelet-sdn/platelet/segmentation/calendar"
	"github.com/platelet-sdn/platelet/segmentation/policy"
)

// MaxInstants bounds at how many times DiffOverTime compares.
const MaxInstants = 256

// DiffOverTime is Diff at one time of each combination of open schedules and
// ends that either set can come to, from now on. Each change is told once, with
// the first time at which it is one. The inventory stays as it is. Until is
// the zero time if all combinations were compared, else how far that went.
func DiffOverTime(before, after *policy.Set, inv policy.Inventory, now time.Time) (changes []Change, until time.Time) {
	instants := calendar.Instants(now, before, after)
	if len(instants) > MaxInstants {
		until, instants = instants[MaxInstants], instants[:MaxInstants]
	}
	told := map[string]bool{}
	for _, at := range instants {
		for _, c := range Diff(before, after, inv, at) {
			if key := c.text(); !told[key] {
				told[key] = true
				c.At = at
				changes = append(changes, c)
			}
		}
	}
	return changes, until
}

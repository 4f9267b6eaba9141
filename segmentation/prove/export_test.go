package prove

import (
	"time"

	"github.com/platelet-sdn/platelet/segmentation/policy"
)

// DiffNaming is Diff with as many rules named as asked for.
func DiffNaming(before, after *policy.Set, inv policy.Inventory, now time.Time, named int) []Change {
	return diff(before, after, inv, now, named)
}

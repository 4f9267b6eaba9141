package lint

import (
	"fmt"
	"time"

	"github.com/platelet-sdn/platelet/segmentation/calendar"
	"github.com/platelet-sdn/platelet/segmentation/strictyaml"
)

// maxTimes bounds at how many times everything is judged; what is left out is
// said.
const maxTimes = 1024

// times are those at which rules are judged.
func (c *checker) times() []time.Time {
	all := calendar.Instants(c.opt.Now, c.set)
	if len(all) <= maxTimes {
		return all
	}
	c.add(Finding{Severity: SeverityNote, Kind: KindUnchecked, Message: fmt.Sprintf("schedules and ends come in %d combinations: the first %d are judged, until %s",
		len(all), maxTimes, all[maxTimes].UTC().Format(time.RFC3339))}, strictyaml.Position{})
	return all[:maxTimes]
}

func flag(b bool) byte {
	if b {
		return 1
	}
	return 0
}

package controller

import (
	"testing"

	"github.com/platelet-sdn/platelet/flowcollector/flow"
)

// An attack that is not steady does not have the tap changed all the time, and one
// that grows is followed.
func TestSteered(t *testing.T) {
	const full = flow.FullProbability
	for _, c := range []struct {
		name             string
		is, enough, want uint16
	}{
		{"hardly too fast", full, full/2 + 1, full},
		{"three times too fast", full, full / 3, full / 3},
		{"slower, but not slow", full / 3, full / 2, full / 3},
		{"somewhat faster", full / 3, full / 5, full / 3},
		{"ten times faster", full / 3, full / 30, full / 30},
		{"ten times slower", full / 30, full / 3, full / 3},
		{"slow", full / 3, full, full},
	} {
		if have := steered(c.is, c.enough, full); have != c.want {
			t.Errorf("%s: %d, want %d", c.name, have, c.want)
		}
	}
}

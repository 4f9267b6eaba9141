package pipeline

import (
	"testing"
	"time"
)

// Back-off: eager while a restarting switch may return, then rarer up to a
// limit, never in step, and never without a pause.
func TestRetryDelay(t *testing.T) {
	for _, c := range []struct {
		n         int
		sinceLoss time.Duration
		local     bool
		most      time.Duration
	}{
		{0, 0, true, eagerRetry},
		{400, eagerPeriod - 1, true, eagerRetry},
		{0, eagerPeriod, true, backoffFirst},
		{1000, time.Hour, true, backoffLocal},
		{0, 0, false, backoffFirst},
		{15, eagerPeriod - 1, false, backoffLocal},
		{3, eagerPeriod, false, 8 * backoffFirst},
		{1000, time.Hour, false, backoffMax},
	} {
		seen := map[time.Duration]bool{}
		for range 100 {
			d := retryDelay(c.n, c.sinceLoss, c.local)
			if d < c.most/2 || d > c.most {
				t.Fatalf("attempt %d, %v after the loss: %v, want up to %v", c.n, c.sinceLoss, d, c.most)
			}
			seen[d] = true
		}
		if c.most != eagerRetry && len(seen) < 2 {
			t.Errorf("attempt %d: always %v", c.n, c.most)
		}
	}
}

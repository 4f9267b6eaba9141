package detector

import (
	"math"
	"testing"

	"github.com/platelet-sdn/platelet/flowcollector/flow"
)

// More samples than can be looked at in full are sampled again, and volumes stay
// right in the mean; what opens connections is never left out.
func TestThinning(t *testing.T) {
	const n, rate = 600_000, 1_200_000 // a second
	s := newSim(t)
	batch := make([]flow.Record, 0, 100)
	attempts := 0
	for i := range n {
		r := syn(clientAddr(i%200), hostAddr(i%20), 443)
		r.Time = t0 + int64(i)*sec/rate
		r.Source, r.Signal, r.TCPFlags, r.Rate, r.Packets = flow.SourceSFlow, flow.SignalNone, flow.ACK, 10, 1
		if i%1000 == 0 {
			r.Source, r.Signal, r.TCPFlags, r.Rate = flow.SourceTap, flow.SignalAttempt, flow.SYN, 1
			attempts++
		}
		if batch = append(batch, r); len(batch) == cap(batch) {
			s.e.Observe(batch)
			batch = batch[:0]
		}
	}
	st := s.e.Stats()
	if st.Thinned < n/2 || st.Thinned > n*9/10 || st.Attempts != uint64(attempts) {
		t.Errorf("%d of %d samples were thinned, %d attempts of %d counted", st.Thinned, n, st.Attempts, attempts)
	}
	packets := 0.0
	for i := range s.e.edges.table.All() {
		packets += s.e.edges.table.At(i).up.packets
	}
	if truth := float64(n-attempts) * 10; math.Abs(packets-truth) > truth/50 {
		t.Errorf("%.0f packets, want %.0f", packets, truth)
	}
	// At a rate that can be looked at nothing is left out.
	before := s.e.Stats().Thinned
	for i := range 20_000 {
		r := syn(clientAddr(i%200), hostAddr(i%20), 443)
		r.Time = t0 + 10*sec + int64(i)*sec/100_000
		r.Source, r.Signal, r.TCPFlags, r.Rate = flow.SourceSFlow, flow.SignalNone, flow.ACK, 10
		s.e.Observe([]flow.Record{r})
	}
	if left := s.e.Stats().Thinned - before; left > 10 { // until the rate is taken anew
		t.Errorf("%d samples left out at 100,000 a second", left)
	}
}

package detector

import (
	"math"
	"net/netip"
	"testing"

	"github.com/platelet-sdn/platelet/flowcollector/flow"
)

// Every limit that a finding names is true: what is found of a loud attack is
// played again, once with the feature just within its limit and once beyond, all
// else equal.
func TestLimitsAreTrue(t *testing.T) {
	t.Parallel()
	stranger := netip.MustParseAddr("203.0.113.5")
	for _, c := range []struct {
		kind    Kind
		feature string
		// play scripts the attack with so much of the feature.
		play  func(s *sim, x float64)
		loud  float64
		count bool // it comes in whole numbers
	}{
		{KindPortScan, "failed_first_contacts", func(s *sim, x float64) {
			for i := range int(x) {
				s.probe(int64(i)*ms, hostAddr(1), hostAddr(2), uint16(i+1), ms/5, flow.SignalRefuse)
			}
		}, 50, true},
		{KindPortScan, "distinct_ports", func(s *sim, x float64) {
			for i := range int(x) {
				r := udp(hostAddr(1), 40_000, hostAddr(2), uint16(1+17*i), 100)
				s.at(int64(i)*500*ms, r)
			}
		}, 45, true},
		{KindPortScan, "unanswered_attempts", func(s *sim, x float64) {
			s.knock(stranger, hostAddr(2), 7000, int(x), flow.SourceLog)
		}, 60, true},
		{KindHostSweep, "empty_echo_requests_to_new_hosts", func(s *sim, x float64) {
			for i := range int(x) {
				r := udp(hostAddr(1), 0, hostAddr(2+i), 0, 1)
				r.Source, r.Proto, r.Signal, r.ICMPType, r.Bytes = flow.SourcePacket, flow.ProtoICMP, flow.SignalICMP, 8, 28
				s.at(int64(i)*100*ms, r)
				a := answer(r, flow.SignalICMP)
				a.ICMPType, a.Bytes = 0, 28
				s.at(int64(i)*100*ms+ms, a)
			}
		}, 40, true},
		{KindARPSweep, "unanswered_address_requests", func(s *sim, x float64) {
			for i := range int(x) {
				s.at(int64(i)*ms, arpRequest(1, 1000+i, true))
			}
		}, 100, true},
		{KindSYNFlood, "packets_per_second", func(s *sim, x float64) {
			for i := range int(20 * x) {
				s.at(int64(float64(i)*1e9/x), syn(clientAddr(int(mix(uint64(i))%(1<<20))), hostAddr(2), 80))
			}
		}, 5000, false},
		{KindLinkFlap, "link_changes", func(s *sim, x float64) {
			for i := range int(x) {
				s.e.Link(flow.Exporter{}, 7, i%2 == 1, t0)
			}
		}, 12, true},
		{KindRhythmBreak, "interval_seconds", func(s *sim, x float64) {
			s.keeps(0, 1200*sec, sec/2, hostAddr(90), hostAddr(91), 502, false)
			r := syn(hostAddr(90), hostAddr(91), 502)
			r.Source, r.Signal, r.TCPFlags = flow.SourcePacket, flow.SignalNone, flow.PSH|flow.ACK
			for i := range 200 {
				at := 1200*sec + int64(float64(i+1)*x*1e9)
				s.at(at, r)
				s.at(at+ms, answer(r, flow.SignalNone))
			}
		}, 2, false},
		{KindDeviceSilent, "unanswered_requests", func(s *sim, x float64) {
			s.beats(0, 1200*sec, 10*sec, hostAddr(90), hostAddr(91), 502)
			s.keeps(0, 1900*sec, 10*sec, hostAddr(90), hostAddr(92), 502, false)
			for i := range int(x) {
				s.at(1200*sec+int64(i)*10*sec, syn(hostAddr(90), hostAddr(91), 502))
			}
			s.office(1900 * sec)
		}, 60, true},
	} {
		t.Run(string(c.kind)+"/"+c.feature, func(t *testing.T) {
			t.Parallel()
			find := func(x float64) *Finding {
				s := newSim(t).warm()
				c.play(s, x)
				s.playback()
				for _, f := range s.fired() {
					if f.Kind != c.kind {
						continue
					}
					for _, l := range f.Limits {
						if l.Feature == c.feature {
							return &f
						}
					}
				}
				return nil
			}
			f := find(c.loud)
			if f == nil {
				t.Fatalf("%v is not found, or names no such limit", c.loud)
			}
			limit := math.NaN()
			for _, l := range f.Limits {
				if l.Feature == c.feature {
					limit = l.Value
				}
			}
			within, beyond := limit, limit+1
			if !c.count {
				within, beyond = 0.99*limit, 1.5*limit
			}
			t.Logf("the limit is %v", limit)
			if find(within) != nil {
				t.Errorf("%v is found, though the limit is %v", within, limit)
			}
			if find(beyond) == nil {
				t.Errorf("%v is not found, though the limit is %v", beyond, limit)
			}
		})
	}
}

package detector

import (
	"net/netip"
	"testing"

	"github.com/platelet-sdn/platelet/flowcollector/flow"
)

// plant is a segment that only the control room may reach.
func plant(c *Config) {
	c.Policy.Segments = []Segment{{Name: "plant",
		Prefixes: []netip.Prefix{netip.MustParsePrefix("10.0.1.0/24")},
		From:     []netip.Prefix{netip.MustParsePrefix("10.0.0.0/28")}}}
}

func TestPolicyViolation(t *testing.T) {
	inside := hostAddr(256 + 5)
	for name, c := range map[string]struct {
		play     func(s *sim)
		severity Severity
	}{
		"denied and silent": {func(s *sim) {
			for i := range 3 {
				r := syn(hostAddr(99), inside, 502)
				r.SrcPort = uint16(30_000 + i)
				s.at(int64(i)*10*sec, r)
			}
		}, SeverityLow},
		"denied but not enforced": {func(s *sim) { s.probe(0, hostAddr(99), inside, 502, ms, flow.SignalAccept) }, SeverityMedium},
		"dropped by a rule of ours": {func(s *sim) {
			for i := range 3 {
				r := syn(hostAddr(99), inside, 502)
				r.Signal, r.Verdict = flow.SignalDropped, flow.VerdictDropped
				s.at(int64(i)*sec, r)
			}
		}, SeverityLow},
		"seen in samples alone": {func(s *sim) {
			for i := range 3 {
				r := udp(hostAddr(99), 40_000, inside, uint16(161+i), 64)
				r.Source = flow.SourceSFlow
				s.at(int64(i)*sec, r)
			}
		}, SeverityLow},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSim(t, plant)
			c.play(s)
			s.run(25 * sec)
			f := s.only(KindPolicyViolation)
			if f.Host != hostAddr(99) || f.Severity != c.severity || f.Sequential || f.ICS != "T0886" {
				t.Errorf("%v %s %s", f.Host, f.Severity, f.ICS)
			}
		})
	}
}

func TestPolicyVerdictComesFirst(t *testing.T) {
	asked := 0
	s := newSim(t, plant, func(c *Config) {
		c.Policy.Verdict = func(_, _ netip.Addr, _ uint8, port uint16) (bool, bool, string) {
			asked++
			return true, port == 502, "maintenance"
		}
	})
	s.probe(0, hostAddr(99), hostAddr(256+5), 502, ms, flow.SignalAccept) // allowed by rule
	s.probe(sec, hostAddr(99), hostAddr(256+5), 22, ms, flow.SignalAccept)
	s.run(3 * sec)
	f := s.only(KindPolicyViolation)
	if f.DstPort != 22 || asked != 2 {
		t.Errorf("port %d, asked %d times", f.DstPort, asked)
	}
}

func TestBenignPolicy(t *testing.T) {
	s := newSim(t, plant)
	inside := hostAddr(256 + 5)
	for i := range 100 {
		s.probe(int64(i)*sec, hostAddr(3), inside, 502, ms, flow.SignalAccept)        // the control room
		s.probe(int64(i)*sec, hostAddr(256+6), inside, 502, ms, flow.SignalAccept)    // a neighbour
		s.probe(int64(i)*sec, hostAddr(99), hostAddr(80), 443, ms, flow.SignalAccept) // no policy
		s.probe(int64(i)*sec, inside, hostAddr(99), 514, ms, flow.SignalAccept)       // outwards
		r := syn(hostAddr(99), hostAddr(80), 443)                                     // dropped, but not by policy
		r.Signal, r.Verdict = flow.SignalDropped, flow.VerdictDropped
		s.at(int64(i)*sec, r)
	}
	s.run(110 * sec)
	s.quiet()
}

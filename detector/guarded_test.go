package detector

import (
	"net/netip"
	"testing"

	"github.com/platelet-sdn/platelet/flowcollector/flow"
)

// A packet whose source is forged, as a guarded port knows, is about the port
// and its owner. Who was named is not accused, and nothing is learned of him:
// not where he is, and not what he does.
func TestForgedSourcesNameThePort(t *testing.T) {
	s := office(t, func(c *Config) {
		c.Policy.Guarded = func(inPort uint32) (netip.Addr, string, bool) {
			return attacker.addr, "own at br0/p6 (vm6, enforce)", inPort == attacker.port
		}
	})
	forged := func(as netip.Addr, port uint32) flow.Record {
		r := attacker.sends(as, gateway.addr, gateway)
		r.Signal, r.Rate, r.InPort, r.Rule = flow.SignalForged, 16, port, 7
		return r
	}
	for i := range 40 {
		at := 100*sec + int64(i)*10*ms
		s.at(at, forged(victim.addr, attacker.port))
		s.at(at, forged(netip.AddrFrom4([4]byte{203, 0, 113, byte(i)}), attacker.port))
		s.at(at, forged(victim.addr, 99))
	}
	s.run(110 * sec)
	f := s.found(KindIPSpoof)
	if len(f) != 1 || f[0].Host != attacker.addr || f[0].InPort != attacker.port || f[0].Spoofed || f[0].MayContain() || f[0].Evidence[0].Feature != "source guard own at br0/p6 (vm6, enforce)" {
		t.Errorf("findings: %+v", f)
	}
	for _, x := range s.fired() {
		if x.Host == victim.addr {
			t.Errorf("who was named is accused: %+v", x)
		}
	}
}

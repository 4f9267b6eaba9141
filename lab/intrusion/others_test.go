package intrusion

import (
	"net/netip"
	"testing"

	"github.com/platelet-sdn/platelet/lab/agent"
)

func TestOthers(t *testing.T) {
	for prefix, want := range map[string]struct {
		bits, n     int
		first, last string
	}{
		"10.77.0.15/24": {22, 253, "10.77.0.1", "10.77.0.254"},
		"10.77.0.1/24":  {27, 30, "10.77.0.2", "10.77.0.31"},
		"10.77.0.14/28": {27, 13, "10.77.0.1", "10.77.0.13"},
		"10.9.9.9/8":    {22, 1023, "10.9.8.0", "10.9.11.255"},
		"10.81.0.2/30":  {27, 1, "10.81.0.1", "10.81.0.1"},
	} {
		got := others(&agent.Station{Prefixes: []netip.Prefix{netip.MustParsePrefix("fd77::1/64"), netip.MustParsePrefix(prefix)}}, want.bits)
		if len(got) != want.n || got[0].String() != want.first || got[len(got)-1].String() != want.last {
			t.Errorf("%s by %d bits: %d addresses, %v", prefix, want.bits, len(got), got)
		}
	}
	if got := others(&agent.Station{}, 27); got != nil {
		t.Errorf("without an address: %v", got)
	}
}

package pipeline

import (
	"testing"

	"github.com/platelet-sdn/platelet/controller/openflow"
	"github.com/platelet-sdn/platelet/flowcollector/flow"
)

// A flow keeps what it matches when it is put into a bank, other marks as well,
// and is found there.
func TestBankNarrows(t *testing.T) {
	for name, c := range map[string]struct{ plain, second openflow.Match }{
		"no mark": {openflow.Match{openflow.EthType(flow.EtherIPv4)},
			openflow.Match{openflow.EthType(flow.EtherIPv4), openflow.Reg(15, 1<<26, 1<<26)}},
		"marks": {openflow.Match{openflow.Reg(15, 1<<28, 1<<28|1<<29), openflow.EthType(flow.EtherIPv6)},
			openflow.Match{openflow.EthType(flow.EtherIPv6), openflow.Reg(15, 1<<26|1<<28, 1<<26|1<<28|1<<29)}},
	} {
		if _, in := bankOf(&openflow.Flow{Match: c.plain}); in {
			t.Errorf("%s: in a bank before", name)
		}
		f := openflow.Flow{Match: bank(1).narrow(c.plain)}
		if k, in := bankOf(&f); f.Match.Key() != c.second.Key() || k != 1 || !in {
			t.Errorf("%s: %s in bank %d, %v", name, f.Match, k, in)
		}
		f.Match = bank(0).narrow(c.plain)
		if k, in := bankOf(&f); k != 0 || !in {
			t.Errorf("%s: %s in bank %d, %v", name, f.Match, k, in)
		}
	}
}

// The parts of a table have every flow once.
func TestDivided(t *testing.T) {
	for _, n := range []int{0, 1, sliceSize, sliceSize + 1, 10000} {
		parts := divided(openflow.FlowFilter{Cookie: cookieOwner, CookieMask: cookieOwnerMask}, n)
		if n > sliceSize*len(parts) {
			t.Errorf("%d flows in %d parts", n, len(parts))
		}
		for object := range uint32(200) {
			in := 0
			for _, f := range parts {
				if (cookie(CategoryEndpoint, object)^f.Cookie)&f.CookieMask == 0 {
					in++
				}
			}
			if in != 1 {
				t.Fatalf("object %d is in %d of %d parts", object, in, len(parts))
			}
		}
	}
}

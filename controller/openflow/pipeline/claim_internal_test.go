package pipeline

import (
	"encoding/binary"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/platelet-sdn/platelet/controller/openflow"
)

// covers reports whether a flow's match on metadata covers a number.
func covers(t *testing.T, f *openflow.Flow, number uint64) bool {
	t.Helper()
	if len(f.Match) != 1 || f.Match[0].Field() != openflow.FieldMetadata {
		t.Fatalf("match %s", f.Match)
	}
	value, mask := f.Match[0].Bytes()
	m := binary.BigEndian.Uint64(mask)
	return number&m == binary.BigEndian.Uint64(value)
}

// A fence covers all earlier claims and none that is later, and no flow of it
// is equal to a claim: that would be replaced, not found to overlap.
func TestFenceCoversWhatIsEarlier(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for range 2000 {
		c := claim{epoch: r.Uint32() >> r.IntN(32)}
		fence := c.fence(200)
		for _, other := range []uint32{0, 1, c.epoch - 1, c.epoch, c.epoch + 1, c.epoch / 2, r.Uint32(), ^uint32(0)} {
			o := claim{epoch: other}
			covered := 0
			for i := range fence {
				if covers(t, &fence[i], o.number()) {
					covered++
				}
			}
			if earlier := other < c.epoch; earlier && covered != 1 || !earlier && covered != 0 {
				t.Fatalf("claim %d is covered %d times by the fence of %d", other, covered, c.epoch)
			}
		}
		own := c.flow()
		for i := range fence {
			if _, mask := fence[i].Match[0].Bytes(); mask[7]&1 == 1 {
				t.Fatalf("%s could be a claim", fence[i].Match)
			}
			if err := fence[i].Validate(); err != nil || fence[i].Priority != own.Priority {
				t.Fatalf("%s: %v", fence[i].String(), err)
			}
		}
	}
}

// What is read from a claim, whatever stands there, can be shown to people and
// written again.
func FuzzParseClaim(f *testing.F) {
	f.Add("platelet first 7 process 3 on a host\x00\x00")
	f.Add("platelet 8d3f-1.x 4294900000 ")
	f.Add("platelet a 4294967296 b")
	f.Add("platelet \x1b[31m 7 b")
	f.Fuzz(func(t *testing.T, text string) {
		c, ok := parseClaim(text)
		if !ok {
			return
		}
		if len(c.who) > maxWho || strings.ContainsFunc(c.String(), func(r rune) bool { return r < ' ' || r > '~' }) {
			t.Fatalf("%q", c.String())
		}
		flow := c.flow()
		if err := flow.Validate(); err != nil {
			t.Fatal(err)
		}
		if again, ok := parseClaim(flow.Actions[0].(openflow.Note).Data); !ok || again != c {
			t.Fatalf("%+v became %+v", c, again)
		}
	})
}

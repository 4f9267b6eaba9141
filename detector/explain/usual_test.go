package explain_test

import (
	"encoding/json"
	"math"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/platelet-sdn/platelet/detector"
	"github.com/platelet-sdn/platelet/detector/explain"
)

func known() *detector.Profile {
	at := time.Date(2026, 11, 23, 14, 20, 0, 0, time.UTC) // a Monday
	p := &detector.Profile{Host: netip.MustParseAddr("10.0.0.3"), Inside: true, Minutes: 4000, Since: at.Add(-72 * time.Hour).UnixNano(),
		Role: "client", At: at.UnixNano(), Seasonal: true}
	for i, f := range detector.Features() {
		p.Features = append(p.Features, detector.Usual{Feature: f.Name, Unit: f.Unit, Value: float64(i), Low: float64(i) / 2, High: 2*float64(i) + 1, Peers: math.NaN()})
	}
	p.Features[detector.FeatureOpens].Peers = 3
	return p
}

// What was normal for the host is said for every kind, in the units of its
// features, and is in the JSON in full.
func TestUsualForEveryKind(t *testing.T) {
	for _, k := range detector.Kinds() {
		x := explain.Of(detector.Finding{ID: "f", Kind: k.Kind, Usual: known()}, nil)
		said := strings.Join(x.Normal, "\n")
		if !strings.Contains(said, "10.0.0.3 has the role of a client; 4,000 minutes of it were learned since 2026-11-20 14:20 UTC.") ||
			strings.Count(said, "at this hour of the week") < 3 {
			t.Errorf("%s: %s", k.Kind, said)
		}
		raw, err := json.Marshal(x)
		if err != nil {
			t.Fatal(err)
		}
		var back explain.Explanation
		if err := json.Unmarshal(raw, &back); err != nil || len(back.Usual.Features) != detector.NumFeatures || back.Usual.At != "Monday 14:00 UTC" {
			t.Errorf("%s: %v, %s", k.Kind, err, raw)
		}
	}
	scan := explain.Of(detector.Finding{Kind: detector.KindPortScan, Usual: known()}, nil)
	if want := "Opens: usually 0 a minute at this hour of the week (0 to 1 in nine minutes of ten); others of its role 3."; !slices.Contains(scan.Normal, want) {
		t.Errorf("no %q in %q", want, scan.Normal)
	}
}

// Where nothing is known, that is said, and why.
func TestUsualThatIsNotKnown(t *testing.T) {
	host := netip.MustParseAddr("10.0.0.3")
	for want, p := range map[string]*detector.Profile{
		"about no host":               nil,
		"not of the guarded network":  {Host: host},
		"nothing was learned of it":   {Host: host, Inside: true},
		"17 minutes of 60 were learn": {Host: host, Inside: true, Minutes: 17},
	} {
		x := explain.Of(detector.Finding{Kind: detector.KindBeacon, Usual: p}, nil)
		if said := strings.Join(x.Normal, "\n"); !strings.Contains(said, want) {
			t.Errorf("want %q in %s", want, said)
		}
	}
}

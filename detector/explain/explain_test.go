package explain_test

import (
	"encoding/json"
	"math"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/platelet-sdn/platelet/detector"
	"github.com/platelet-sdn/platelet/detector/explain"
	"github.com/platelet-sdn/platelet/flowcollector/flow"
)

const ms = int64(time.Millisecond)

// scan lets an engine find a scan and returns the finding.
func scan(t *testing.T) detector.Finding {
	t.Helper()
	cfg := detector.DefaultConfig()
	cfg.Seed = 1
	cfg.Limit = detector.LimitConfig{Hosts: 64, Contacts: 256, Pending: 64, Suspects: 64, MACs: 64, Cells: 64, Sessions: 64, Edges: 256, Windows: 64, Findings: 8}
	e, err := detector.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	attacker, victim := netip.MustParseAddr("10.0.0.3"), netip.MustParseAddr("10.0.0.9")
	now := time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC).UnixNano()
	for i := range 6 {
		r := flow.Record{Time: now, Source: flow.SourceTap, Signal: flow.SignalAttempt, Rate: 1, Packets: 1, Bytes: 60, Proto: flow.ProtoTCP,
			EtherType: flow.EtherIPv4, Src: attacker, Dst: victim, SrcPort: 40000, DstPort: uint16(20 + i), TCPFlags: flow.SYN, InPort: 7,
			SrcMAC: flow.MAC{2, 0, 0, 0, 0, 3}, Exporter: flow.Exporter{Addr: netip.MustParseAddr("127.0.0.1")}}
		a := r
		a.Time, a.Signal, a.TCPFlags = now+ms/5, flow.SignalRefuse, flow.RST|flow.ACK
		a.Src, a.Dst, a.SrcPort, a.DstPort, a.InPort = victim, attacker, r.DstPort, r.SrcPort, 8
		e.Observe([]flow.Record{r, a})
		now += ms
	}
	list := e.Active()
	if len(list) != 1 {
		t.Fatalf("found %+v", list)
	}
	return list[0]
}

func TestScanInWords(t *testing.T) {
	f := scan(t)
	var out strings.Builder
	if err := explain.Of(f, []detector.Finding{f}).WriteText(&out); err != nil {
		t.Fatal(err)
	}
	golden(t, "scan.txt", out.String())
}

// golden compares with a file in testdata; UPDATE_GOLDEN=1 writes it.
func golden(t *testing.T, name, have string) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if os.Getenv("UPDATE_GOLDEN") != "" {
		if err := os.WriteFile(path, []byte(have), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if have != string(want) {
		t.Errorf("have\n%s\nwant\n%s", have, want)
	}
}

// What the words say is in the JSON as well, and comes back from it.
func TestJSONRoundTrip(t *testing.T) {
	f := scan(t)
	x := explain.Of(f, []detector.Finding{f})
	raw, err := json.Marshal(x)
	if err != nil {
		t.Fatal(err)
	}
	var back explain.Explanation
	if err := json.Unmarshal(raw, &back); err != nil {
		t.Fatal(err)
	}
	var a, b strings.Builder
	if err := x.WriteText(&a); err != nil {
		t.Fatal(err)
	}
	if err := back.WriteText(&b); err != nil {
		t.Fatal(err)
	}
	if a.String() != b.String() || len(back.Evidence) == 0 || len(back.Limits) == 0 || len(back.Excerpt) == 0 {
		t.Errorf("JSON %s gives\n%s", raw, b.String())
	}
}

// The limits are true: with as many failures as the explanation says would not
// have sufficed, nothing fires.
func TestLimitIsTrue(t *testing.T) {
	f := scan(t)
	for _, l := range f.Limits {
		if l.Feature == "failed_first_contacts" && l.Value != 3 {
			t.Errorf("%v failures would not have sufficed, the walk needs four", l.Value)
		}
	}
}

func TestEveryKindIsExplained(t *testing.T) {
	for _, k := range detector.Kinds() {
		x := explain.Of(detector.Finding{ID: "f", Kind: k.Kind, InPort: 7, SampledTo: 10, SampledFrom: 10, Confidence: 0.5}, nil)
		if x.About == "" || len(x.Unknown) < 3 || len(x.NotFiring) == 0 || x.Source == "" {
			t.Errorf("%s: %+v", k.Kind, x)
		}
	}
}

func TestRisk(t *testing.T) {
	h, other := netip.MustParseAddr("10.0.0.3"), netip.MustParseAddr("10.0.0.4")
	f := func(host netip.Addr, k detector.Kind, family detector.Family, p, c float64, s detector.State) detector.Finding {
		return detector.Finding{Host: host, Kind: k, Family: family, Score: p, Confidence: c, State: s}
	}
	r := explain.RiskOf(h, []detector.Finding{
		f(h, detector.KindBeacon, detector.FamilyPeriodicity, 0.8, 1, detector.StateFiring),
		f(h, detector.KindExfiltration, detector.FamilyVolume, 0.9, 0.5, detector.StateFiring), // sampled: 0.7
		f(h, detector.KindBruteForce, detector.FamilyVolume, 0.6, 1, detector.StateFiring),     // same family, less
		f(h, detector.KindAnomaly, detector.FamilyOutlier, 0.9, 1, detector.StateResolved),
		f(other, detector.KindPortScan, detector.FamilySequential, 1, 1, detector.StateFiring),
	})
	if want := 1 - 0.2*0.3; math.Abs(r.Probability-want) > 1e-9 || len(r.Kinds) != 3 || r.Kinds[0].Kind != detector.KindBeacon {
		t.Errorf("risk %+v, want %v", r, want)
	}
	if r := explain.RiskOf(netip.Addr{}, nil); r.Probability != 0 {
		t.Errorf("nobody's risk is %v", r.Probability)
	}
}

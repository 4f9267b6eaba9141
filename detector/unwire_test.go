package detector

import (
	"encoding/json"
	"net/netip"
	"reflect"
	"testing"

	"github.com/platelet-sdn/platelet/flowcollector/flow"
)

func TestFindingIsReadBack(t *testing.T) {
	f := Finding{ID: "f-1", Kind: KindARPSpoof, State: StateFiring, Time: 1_700_000_001_500_000_000, FirstSeen: 1_700_000_000_000_000_000,
		Host: netip.MustParseAddr("fe80::3"), HostMAC: flow.MAC{2, 0, 0, 0, 0, 9}, Origin: netip.MustParseAddr("10.0.0.8"), Victims: []netip.Addr{netip.MustParseAddr("10.0.0.9")},
		Exporter: flow.Exporter{Addr: netip.MustParseAddr("127.0.0.1"), Domain: 7}, InPort: 3, Proto: 6, DstPort: 22, Rate: 10, Baseline: 1,
		Score: 0.97, Confidence: 0.99, Severity: SeverityHigh, Technique: "T1046", ICS: "T0846", Family: FamilySequential, Records: 37, Sequential: true, Spoofed: true,
		Evidence: []Evidence{{"failed_first_contacts", 12, 0.2, 0.71}}, Limits: []Limit{{"failed_first_contacts", 3}}, Agrees: []Vote{{"f-2", KindBeacon, FamilyPeriodicity, 0.98}}}
	raw, err := json.Marshal(f)
	if err != nil {
		t.Fatal(err)
	}
	var got Finding
	if err := json.Unmarshal(raw, &got); err != nil || !reflect.DeepEqual(got, f) {
		t.Errorf("%v\n got %+v\nwant %+v", err, got, f)
	}
	for _, bad := range []string{`{"time":"noon"}`, `{"host":"x"}`, `{"victims":["x"]}`, `{"host_mac":"x"}`, `{"score":"x"}`} {
		if err := json.Unmarshal([]byte(bad), &got); err == nil {
			t.Errorf("%s is accepted", bad)
		}
	}
}

func FuzzFinding(f *testing.F) {
	f.Add([]byte(`{"id":"f-1","kind":"port-scan","time":"2023-11-14T22:13:21.5Z","host":"10.0.0.3","victims":["10.0.0.9"],"host_mac":"02:00:00:00:00:09"}`))
	f.Add([]byte(`{"host":"fe80::1%eth0","first_seen":"0001-01-01T00:00:00Z","score":1e300}`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		var one, again Finding
		if json.Unmarshal(raw, &one) != nil {
			return
		}
		text, err := json.Marshal(one)
		if err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal(text, &again); err != nil || again.ID != one.ID || again.Host != one.Host || again.Time != one.Time {
			t.Fatalf("%v: %+v became %+v", err, one, again)
		}
	})
}

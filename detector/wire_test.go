package detector

import (
	"encoding/json"
	"net/netip"
	"strings"
	"testing"
)

func TestFindingJSON(t *testing.T) {
	f := Finding{ID: "f-0123456789abcdef", Kind: KindPortScan, State: StateFiring,
		Time: 1_700_000_001_500_000_000, FirstSeen: 1_700_000_000_000_000_000,
		Host: netip.MustParseAddr("10.0.0.3"), Victims: []netip.Addr{netip.MustParseAddr("10.0.0.9")},
		Score: 0.97, Confidence: 0.99, Severity: SeverityHigh, Technique: "T1046", Family: FamilySequential, Records: 37, Sequential: true,
		Evidence: []Evidence{{"failed_first_contacts", 12, 0.2, 0.71}}}
	b, err := json.Marshal(f)
	if err != nil {
		t.Fatal(err)
	}
	const want = `{"type":"finding","id":"f-0123456789abcdef","time":"2023-11-14T22:13:21.5Z",` +
		`"first_seen":"2023-11-14T22:13:20Z","kind":"port-scan","host":"10.0.0.3","victims":["10.0.0.9"],` +
		`"score":0.97,"confidence":0.99,"severity":"high","technique":"T1046","family":"sequential","state":"firing",` +
		`"evidence":[{"feature":"failed_first_contacts","value":12,"baseline":0.2,"contribution":0.71}],` +
		`"records":37,"spoofed":false,"sequential":true,"may_contain":true}`
	if string(b) != want {
		t.Errorf("have %s\nwant %s", b, want)
	}
}

func TestUnknownHostIsEmpty(t *testing.T) {
	b, err := json.Marshal(Finding{Spoofed: true, InPort: 7, Rate: 1e5})
	if err != nil {
		t.Fatal(err)
	}
	for _, part := range []string{`"host":""`, `"victims":[]`, `"evidence":[]`, `"in_port":7`, `"rate_pps":100000`, `"spoofed":true`} {
		if !strings.Contains(string(b), part) {
			t.Errorf("%s lacks %s", b, part)
		}
	}
}

func TestNoticeOnTheWire(t *testing.T) {
	for want, n := range map[string]Notice{
		`{"type":"learning","time":"2023-11-14T22:13:20Z","state":"paused","host":"10.0.0.1","why":"w"}`: {t0, hostAddr(1), LearningPaused, "w"},
		`{"type":"learning","time":"2023-11-14T22:13:20Z","state":"ready","host":"","why":"w"}`:          {t0, netip.Addr{}, LearningReady, "w"},
	} {
		if b, err := json.Marshal(n); err != nil || string(b) != want {
			t.Errorf("%s, %v; want %s", b, err, want)
		}
	}
}

func TestSameRecordsSameFindings(t *testing.T) {
	tell := func() []string {
		s := newSim(t).warm()
		for i := range 200 {
			s.probe(int64(i)*ms, hostAddr(1), hostAddr(2), uint16(i+1), ms/5, 3)
			s.probe(int64(i)*ms, hostAddr(3), hostAddr(4), uint16(i+1), ms/5, 3)
			s.at(int64(i)*ms, arpRequest(5, i, true))
		}
		for i := range 3000 {
			s.at(sec+int64(i)*ms/100, syn(clientAddr(i), hostAddr(2), 80))
		}
		s.run(60 * sec)
		var lines []string
		for _, f := range s.emitted {
			b, err := json.Marshal(f)
			if err != nil {
				t.Fatal(err)
			}
			lines = append(lines, string(b))
		}
		return lines
	}
	first, second := strings.Join(tell(), "\n"), strings.Join(tell(), "\n")
	if first != second || strings.Count(first, `"firing"`) != 4 {
		t.Errorf("first:\n%s\nsecond:\n%s", first, second)
	}
}

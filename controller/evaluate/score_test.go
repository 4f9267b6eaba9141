package evaluate

import (
	"fmt"
	"maps"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/platelet-sdn/platelet/controller/config"
	"github.com/platelet-sdn/platelet/controller/response"
	"github.com/platelet-sdn/platelet/detector"
	"github.com/platelet-sdn/platelet/flowcollector/replay"
)

const (
	header = "ts,dur,proto,src,sport,dst,dport,state,spkts,dpkts,sbytes,dbytes,label,detail\n"
	begin  = 1_700_000_000 // of the invented recordings, Unix seconds
)

// invented is a recording in which the right numbers are obvious:
//
//	203.0.113.9   knocks at twelve closed ports, one a second, from the 100th
//	203.0.113.10  is answered ten times, one a second, from the 200th
//	203.0.113.11  knocks three times
//	10.0.0.2      reads a page every ten minutes for an hour and a half, benign
//	10.0.0.3      does so once, benign
//	10.0.0.4      does so once, nobody says what it is
func invented() string {
	var b strings.Builder
	b.WriteString(header)
	flow := func(at int, src, dst string, port int, state string, label int, detail string) {
		fmt.Fprintf(&b, "%d,0.05,tcp,%s,%d,%s,%d,%s,5,4,500,4000,%d,%s\n", begin+at, src, 40000+at, dst, port, state, label, detail)
	}
	for i := range 12 {
		flow(100+i, "203.0.113.9", "10.0.0.1", 1000+i, "REJ", 1, "PortScan")
	}
	for i := range 10 {
		flow(200+i, "203.0.113.10", "10.0.0.1", 80, "SF", 1, "")
	}
	for i := range 3 {
		flow(300+i, "203.0.113.11", "10.0.0.1", 23, "S0", 1, "")
	}
	for i := range 10 {
		flow(600*i, "10.0.0.2", "10.0.0.1", 80, "SF", 0, "")
	}
	flow(10, "10.0.0.3", "10.0.0.1", 80, "SF", 0, "")
	flow(20, "10.0.0.4", "10.0.0.1", 80, "SF", -1, "")
	return b.String()
}

// write puts a recording in a directory of its own.
func write(t *testing.T, name, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func inventedTruth(t *testing.T, labels ...HostLabel) *truth {
	t.Helper()
	tr, malformed, err := survey(t.Context(), Set{Name: "invented", Inputs: []string{write(t, "flows.csv", invented())}, Labels: labels})
	if err != nil || malformed != 0 {
		t.Fatal(malformed, err)
	}
	return tr
}

func at(seconds float64, host string, kind detector.Kind, severity detector.Severity) alarm {
	return alarm{time: int64((begin + seconds) * 1e9), host: Host{Addr: netip.MustParseAddr(host)}, kind: kind, severity: severity}
}

func TestScoreIsByHost(t *testing.T) {
	tr := inventedTruth(t)
	scan := at(103.1, "203.0.113.9", detector.KindPortScan, detector.SeverityHigh)
	scan.contains, scan.target = true, response.Target{Host: scan.host.Addr}
	wrong := at(700, "10.0.0.2", detector.KindHostSweep, detector.SeverityHigh)
	wrong.contains, wrong.target = true, response.Target{Host: wrong.host.Addr}
	r := tr.score([]alarm{
		at(50, "203.0.113.9", "anomaly", detector.SeverityLow), // before it did anything: false
		scan,
		at(104, "203.0.113.9", detector.KindHostSweep, detector.SeverityHigh), // found already
		at(300, "203.0.113.11", "brute-force", detector.SeverityMedium),
		wrong,
		at(800, "10.0.0.2", detector.KindHostSweep, detector.SeverityMedium),
		at(900, "10.0.0.4", detector.KindHostSweep, detector.SeverityMedium),
		{time: (begin + 110) * 1e9, kind: detector.KindSYNFlood, victims: []netip.Addr{netip.MustParseAddr("10.0.0.1")}},
	})
	type counts struct {
		attackers, found, owed, foundOwed, quick, prompt, kind, named, benign, falseHosts, contained, falseContainments, containments, unjudged int
	}
	have := counts{r.Attackers, r.Found, r.AttackersOwed, r.FoundOwed, r.PromptOwed, r.Prompt, r.AttackersNaming, r.AttackersNamed,
		r.BenignHosts, r.FalseHosts, r.ContainedHosts, r.FalseContainments, r.Containments, r.Unjudged}
	if want := (counts{3, 2, 2, 1, 1, 1, 1, 1, 2, 2, 1, 1, 2, 1}); have != want {
		t.Errorf("counts %+v\n  want %+v", have, want)
	}
	if want := map[detector.Severity]int{detector.SeverityLow: 1, detector.SeverityMedium: 1, detector.SeverityHigh: 1}; !maps.Equal(r.False, want) {
		t.Errorf("false findings %v, want %v", r.False, want)
	}
	if s, f := r.DelaySeconds, r.DelayFlows; s.N != 1 || s.Max < 3.09 || s.Max > 3.11 || f.Max != 4 {
		t.Errorf("delay %+v s, %+v flows; want 3.1 s and 4 flows", s, f)
	}
	if len(r.Missed) != 1 || r.Missed[0].Host.String() != "203.0.113.10" {
		t.Errorf("missed %+v", r.Missed)
	}
}

// 10.0.0.2 began flows in the first and in the second hour, of which the recording
// has half; 10.0.0.3 in the first.
func TestHostHours(t *testing.T) {
	tr := inventedTruth(t)
	if have := tr.hostHours(); have < 2.49 || have > 2.51 {
		t.Errorf("%.3f host-hours, want 2.5", have)
	}
	r := tr.score([]alarm{at(700, "10.0.0.2", "anomaly", detector.SeverityHigh)})
	if have := r.PerHostHour(detector.SeverityHigh); have < 0.39 || have > 0.41 {
		t.Errorf("%.3f false findings of severity high per host-hour, want 0.4", have)
	}
}

func TestLabelsOfHostsComeFirst(t *testing.T) {
	labels, err := ReadLabels(strings.NewReader(`host,from,to,kind,malicious
203.0.113.9,,,,false
10.0.0.2,2023-11-14T22:13:20Z,1700001000,beacon,true
10.0.0.2,,,,false
`))
	if err != nil {
		t.Fatal(err)
	}
	tr := inventedTruth(t, labels...)
	if p := tr.parties[Host{Addr: netip.MustParseAddr("203.0.113.9")}]; p.attack != nil || p.class != replay.ClassBenign {
		t.Errorf("the scanner is labelled benign, but %+v", p)
	}
	p := tr.parties[Host{Addr: netip.MustParseAddr("10.0.0.2")}]
	if p.attack == nil || len(p.attack.begins) != 2 || p.attack.kinds["command"] != 2 {
		t.Errorf("two flows within the time of the label, but %+v", p.attack)
	}
}

func TestSpoofedFindingsAreJudgedByTheirVictims(t *testing.T) {
	tr := inventedTruth(t)
	limit := func(victim string) alarm {
		v := netip.MustParseAddr(victim)
		return alarm{time: (begin + 200) * 1e9, kind: detector.KindUDPFlood, severity: detector.SeverityHigh, victims: []netip.Addr{v},
			contains: true, target: response.Target{Victim: v}}
	}
	r := tr.score([]alarm{limit("10.0.0.1"), limit("10.0.0.3"), limit("192.0.2.1")})
	if r.FalseContainments != 1 || r.Falses() != 1 || r.Unjudged != 1 || r.Containments != 3 {
		t.Errorf("%d false containments of %d, %d false findings, %d unjudged", r.FalseContainments, r.Containments, r.Falses(), r.Unjudged)
	}
}

func TestAttackKinds(t *testing.T) {
	for _, c := range []struct{ text, detail, want string }{
		{"Malicious", "PartOfAHorizontalPortScan", "scan"},
		{"Malicious", "From_malicious-To_malicious-C&C-File_download", "command"},
		{"1", "CC", "command"},
		{"1", "External-Attack-to-Device", "other"},
		{"flow=From-Botnet-V42-TCP-CC6", "", "command"},
		{"1", "DDoS-HOIC", "flood"},
		{"1", "DoS Hulk", "flood"},
		{"1", "FTP-Patator", "brute-force"},
		{"brute-force", "", "brute-force"},
		{"dns-tunnel", "", "dns-tunnel"},
		{"port-scan", "", "scan"},
		{"1", "BAD-MITM", "spoofing"},
		{"1", "Operation", "other"}, // no rat in it
	} {
		if have := attackKind(c.text, c.detail); have != c.want {
			t.Errorf("%q %q is %s, want %s", c.text, c.detail, have, c.want)
		}
	}
}

// The whole way, from files to a report: nobody else is named in it than the
// hosts that the invented recording has.
func TestEvaluate(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{
		"a/flows.csv": invented(), "a/orig.log": "what it was made of", "b/README.md": "text",
		"b/hosts.csv": strings.ReplaceAll(invented(), ",1,", ",-1,"), "b/other.bin": "no recording",
		"b/labels.csv": "set,host,kind,malicious\nhosts,203.0.113.9,scan,true\n",
	} {
		if err := os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	sets, err := Find([]string{dir}, nil)
	if err != nil {
		t.Fatal(err)
	}
	cfg := config.Default()
	o := Options{Detector: cfg.DetectorConfig(), Response: cfg.ResponseConfig(), Samplings: []Sampling{{Rate: 1}, {Rate: 10, Tap: true}}}
	report, err := Evaluate(t.Context(), sets, o)
	if err != nil {
		t.Fatal(err)
	}
	if len(report.Sets) != 2 || report.Sets[0].Name != "a" || report.Sets[1].Name != "b/hosts" || len(report.Skipped) != 1 {
		t.Fatalf("sets %+v, left out %v", report.Sets, report.Skipped)
	}
	for _, set := range report.Sets {
		for _, run := range set.Runs {
			if run.Detector != product {
				continue
			}
			r := run.Result
			if k := r.Kinds["scan"]; k.Attackers != 1 || k.Found != 1 || k.Named != 1 || r.Prompt != 1 {
				t.Errorf("%s %s: the scanner: %+v, prompt %d", set.Name, run.Sampling, k, r.Prompt)
			}
			if r.FalseContainments != 0 || r.Falses() != 0 {
				t.Errorf("%s %s: %+v", set.Name, run.Sampling, r.Wrong)
			}
		}
	}
	for _, format := range []string{"text", "json", "markdown"} {
		var b strings.Builder
		if err := report.Print(&b, format); err != nil || !strings.Contains(b.String(), "tap+1:10") {
			t.Errorf("%s: %v\n%s", format, err, b.String())
		}
	}
}

package learning

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/platelet-sdn/platelet/controller/evaluate"
	"github.com/platelet-sdn/platelet/detector"
)

// recording writes a log in which 10.0.0.66 scans in the first minutes and is
// benign later, 10.0.0.7 is benign, and 10.0.0.9 is only attacked.
func recording(t *testing.T) string {
	t.Helper()
	var b strings.Builder
	b.WriteString("ts,dur,proto,src,sport,dst,dport,state,spkts,dpkts,sbytes,dbytes,label,detail\n")
	row := func(at float64, src, dst string, port int, state string, label int) {
		fmt.Fprintf(&b, "%.3f,0.1,tcp,%s,%d,%s,%d,%s,4,4,400,900,%d,\n", at, src, 40000+int(at)%20000, dst, port, state, label)
	}
	for i := range 20 { // minutes
		at := 1.7e9 + float64(60*i)
		if i < 5 {
			for p := range 30 {
				row(at+float64(p), "10.0.0.66", "10.0.0.9", 1000+100*i+p, "REJ", 1)
			}
		} else if i >= 8 {
			row(at, "10.0.0.66", "10.0.0.20", 443, "SF", 0)
		}
		row(at+5, "10.0.0.7", "10.0.0.20", 443, "SF", 0)
		row(at+6, "10.0.0.8", "10.0.0.20", 443, "SF", -1)
	}
	path := filepath.Join(t.TempDir(), "site.csv")
	if err := os.WriteFile(path, []byte(b.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func small() detector.Config {
	cfg := detector.DefaultConfig()
	cfg.Seed = 1
	cfg.Limit.Hosts, cfg.Limit.Contacts, cfg.Limit.Edges, cfg.Limit.Windows = 1<<10, 1<<12, 1<<12, 1<<10
	return cfg
}

func TestGatherLabelsWindows(t *testing.T) {
	path := recording(t)
	set := evaluate.Set{Name: "site", Inputs: []string{path}}
	list, info, err := Gather(t.Context(), small(), set, evaluate.Sampling{Rate: 1}, 4)
	if err != nil {
		t.Fatal(err)
	}
	count := map[string][2]int{}
	for _, e := range list {
		c := count[e.Host]
		if e.Malicious {
			c[1]++
			if e.Values[detector.FeatureFailed] < 10 {
				t.Errorf("a window of the scan with %v failed conversations", e.Values[detector.FeatureFailed])
			}
		} else {
			c[0]++
		}
		count[e.Host] = c
		if e.Set != 4 {
			t.Fatalf("set %d", e.Set)
		}
	}
	if c := count["10.0.0.66"]; c[1] != 5 || c[0] < 10 {
		t.Errorf("the scanner has %d malicious and %d benign windows", c[1], c[0])
	}
	if c := count["10.0.0.7"]; c[1] != 0 || c[0] < 18 {
		t.Errorf("the client has %d malicious and %d benign windows", c[1], c[0])
	}
	for _, h := range []string{"10.0.0.8", "10.0.0.9", "10.0.0.20"} {
		if c, ok := count[h]; ok {
			t.Errorf("%s, unlabelled, a victim or a server, has windows %v", h, c)
		}
	}
	if len(info.SHA256) != 64 {
		t.Errorf("SHA-256 of the input: %q", info.SHA256)
	}
	again, _, err := Gather(t.Context(), small(), set, evaluate.Sampling{Rate: 1}, 4)
	if err != nil || fmt.Sprint(again) != fmt.Sprint(list) {
		t.Errorf("a second reading gives other windows (%v)", err)
	}
}

// Labels of hosts win over those of flows.
func TestGatherTakesHostLabels(t *testing.T) {
	host := func(a string, malicious bool) evaluate.HostLabel {
		p := netip.MustParseAddr(a)
		return evaluate.HostLabel{Hosts: netip.PrefixFrom(p, p.BitLen()), Malicious: malicious}
	}
	list, _, err := Gather(t.Context(), small(), evaluate.Set{Name: "site", Inputs: []string{recording(t)},
		Labels: []evaluate.HostLabel{host("10.0.0.8", true), host("10.0.0.66", false)}}, evaluate.Sampling{Rate: 1}, 0)
	if err != nil {
		t.Fatal(err)
	}
	seen := 0
	for _, e := range list {
		if e.Host == "10.0.0.8" {
			seen++
		}
		if e.Malicious != (e.Host == "10.0.0.8") {
			t.Errorf("%s: malicious %v", e.Host, e.Malicious)
		}
	}
	if seen == 0 {
		t.Error("no window of the host that was named")
	}
}

func TestGatherStops(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, _, err := Gather(ctx, small(), evaluate.Set{Name: "site", Inputs: []string{recording(t)}}, evaluate.Sampling{Rate: 1}, 0); err == nil {
		t.Error("went on after it was cancelled")
	}
	if _, _, err := Gather(t.Context(), small(), evaluate.Set{Name: "x", Inputs: []string{"/does/not/exist"}}, evaluate.Sampling{Rate: 1}, 0); err == nil {
		t.Error("read what is not there")
	}
}

// The tap shows every attempt and every outcome; what it does not show is counted
// from samples.
func TestGatherAsTheTapShowsIt(t *testing.T) {
	set := evaluate.Set{Name: "site", Inputs: []string{recording(t)}}
	list, info, err := Gather(t.Context(), small(), set, evaluate.Sampling{Rate: 10, Tap: true}, 0)
	if err != nil || info.Name != "site (tap+1:10)" {
		t.Fatalf("%q, %v", info.Name, err)
	}
	scans := 0
	for _, e := range list {
		if e.Malicious {
			scans++
			if e.Host != "10.0.0.66" || e.Values[detector.FeatureFailed] < 10 {
				t.Errorf("%s with %v failed conversations", e.Host, e.Values[detector.FeatureFailed])
			}
		}
	}
	if scans != 5 {
		t.Errorf("%d windows of the scan", scans)
	}
}

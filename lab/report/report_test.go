package report_test

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"errors"
	"flag"
	"io"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"strings"
	"testing"

	"github.com/platelet-sdn/platelet/lab/measure"
	"github.com/platelet-sdn/platelet/lab/ovs"
	"github.com/platelet-sdn/platelet/lab/report"
)

// TestMain keeps the browser, which likes to ask its makers for news, off every
// network.
func TestMain(m *testing.M) { os.Exit(ovs.Isolate(m.Run)) }

var update = flag.Bool("update", false, "write the expected outputs anew")

// sample is a report of a real measurement, with an attack of each sort: one
// contained by quarantine, one by a limit, one that fails and one that nothing
// detects.
func sample(t *testing.T) measure.Report {
	t.Helper()
	raw, err := os.ReadFile("testdata/sample.json")
	if err != nil {
		t.Fatal(err)
	}
	var r measure.Report
	if err := json.Unmarshal(raw, &r); err != nil {
		t.Fatal(err)
	}
	return r
}

func render(t *testing.T, format string, r measure.Report) string {
	t.Helper()
	f, err := report.Format(format)
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	if err := f(&b, r); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func TestGolden(t *testing.T) {
	r := sample(t)
	for format, file := range map[string]string{"text": "sample.txt", "markdown": "sample.md", "html": "sample.html"} {
		got, path := render(t, format, r), filepath.Join("testdata", file)
		if *update {
			if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
				t.Fatal(err)
			}
			continue
		}
		want, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if got != string(want) {
			t.Errorf("%s differs from %s (go test ./lab/report -update writes it anew, when that is what you want)", format, path)
		}
	}
}

// What JSON gives back is the same report, so that others can compute again
// what it sums up; and its sums are those of its samples.
func TestJSONIsWhole(t *testing.T) {
	r := sample(t)
	var again measure.Report
	if err := json.Unmarshal([]byte(render(t, "json", r)), &again); err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(again, r) {
		t.Error("a report changes by being written and read")
	}
	if lines := strings.Count(render(t, "json", r), "\n{\"name\":\""); lines != len(r.Labs)+len(r.Labs[0].Attacks) {
		t.Errorf("%d labs and attacks on lines of their own", lines)
	}
	for _, l := range r.Labs {
		for _, a := range l.Attacks {
			want, _ := json.Marshal(measure.Summarise(a.Runs, a.Expected))
			if got, _ := json.Marshal(a.Summary); !bytes.Equal(got, want) {
				t.Errorf("%s: sums %s\nof the samples %s", a.Name, got, want)
			}
		}
	}
}

// The page needs nothing but itself, and its pictures are well-formed.
func TestPageNeedsNothingElse(t *testing.T) {
	page := render(t, "html", sample(t))
	for _, bad := range []string{"<script", "src=", "url(", "@import", "http://www.w3.org/1999", "javascript:"} {
		if strings.Contains(page, bad) {
			t.Errorf("the page contains %q", bad)
		}
	}
	for _, m := range regexp.MustCompile(`https?://[^"' <]*`).FindAllString(page, -1) {
		if m != "http://www.w3.org/2000/svg" { // a name, not an address
			t.Errorf("the page points to %s", m)
		}
	}
	pictures := regexp.MustCompile(`(?s)<svg.*?</svg>`).FindAllString(page, -1)
	if len(pictures) < 4 {
		t.Errorf("%d pictures", len(pictures))
	}
	for _, p := range pictures {
		d := xml.NewDecoder(strings.NewReader(p))
		for {
			_, err := d.Token()
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				t.Fatalf("%v in %.200s", err, p)
			}
		}
		if strings.Contains(p, "NaN") || strings.Contains(p, "Inf") {
			t.Errorf("a coordinate is no number in %.200s", p)
		}
	}
}

// Names from files and from controllers are text, whatever they contain.
func TestPageEscapes(t *testing.T) {
	const evil = `<img src=x onerror=alert(1)>&"'`
	r := sample(t)
	a := &r.Labs[0].Attacks[0]
	a.Name, a.About, a.Error, r.Labs[0].Name, r.Command = evil, evil, evil, evil, []string{evil}
	for i := range a.Runs {
		a.Runs[i].Kinds, a.Runs[i].False = []string{evil}, []string{evil}
		for j := range a.Runs[i].Steps {
			a.Runs[i].Steps[j].Who, a.Runs[i].Steps[j].What = evil, evil
		}
	}
	a.Summary = measure.Summarise(a.Runs, a.Expected)
	if page := render(t, "html", r); strings.Contains(page, "<img") {
		t.Error("markup from outside got in")
	}
}

func TestOfNothing(t *testing.T) {
	for _, r := range []measure.Report{
		{}, {Interrupted: true, Labs: []measure.Lab{{Name: "x"}}},
		{Labs: []measure.Lab{{Name: "x", Attacks: []measure.Attack{{Name: "y", Runs: []measure.Outcome{{}, {Zoom: &measure.Packets{Step: 1}, Whole: &measure.Packets{Step: 1}}}}}}}},
	} {
		for _, format := range []string{"text", "json", "html", "markdown"} {
			if out := render(t, format, r); strings.Contains(out, "NaN") || strings.Contains(out, "Inf") {
				t.Errorf("%s of %+v has a figure that is no number", format, r)
			}
		}
	}
	if _, err := report.Format("pdf"); err == nil || !strings.Contains(err.Error(), "html") {
		t.Errorf("got %v", err)
	}
}

// More packets may arrive than left the attacker: that is no share.
func TestAmplified(t *testing.T) {
	a := measure.Attack{Name: "ntp-amplification", Expected: "amplification", Runs: []measure.Outcome{{Sent: 100, Delivered: 990}}}
	a.Summary = measure.Summarise(a.Runs, a.Expected)
	r := measure.Report{Labs: []measure.Lab{{Name: "x", Attacks: []measure.Attack{a}}}}
	for _, format := range []string{"text", "html", "markdown"} {
		if out := render(t, format, r); !strings.Contains(out, "amplified × 9.9") {
			t.Errorf("%s does not say so", format)
		}
	}
}

// FuzzReport shows whatever a file says that was kept and then changed.
func FuzzReport(f *testing.F) {
	raw, err := os.ReadFile("testdata/sample.json")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(raw)
	f.Add([]byte(`{"labs":[{"name":"x","attacks":[{"name":"port-scan","runs":[{"ttd_ms":1e300,"ttc_ms":-5,"ended_ms":-1,"zoom":{"step_ms":-1,"sent":[1,-2],"delivered":[]},"whole":{"step_ms":1e308,"sent":[9],"delivered":[1,2,3]}}]}]}]}`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		var r measure.Report
		if json.Unmarshal(raw, &r) != nil {
			return
		}
		for _, l := range r.Labs {
			for i := range l.Attacks {
				l.Attacks[i].Summary = measure.Summarise(l.Attacks[i].Runs, l.Attacks[i].Expected)
			}
		}
		for _, format := range []string{"text", "json", "html", "markdown"} {
			show, err := report.Format(format)
			if err != nil {
				t.Fatal(err)
			}
			if err := show(io.Discard, r); err != nil {
				t.Errorf("%s: %v", format, err)
			}
		}
	})
}

func TestUpdateMarkdown(t *testing.T) {
	r := sample(t)
	path := filepath.Join(t.TempDir(), "README.md")
	put := func(text string) {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	put("# Title\n\n" + report.Begin + "\nold\n" + report.End + "\nafter\n")
	for range 2 { // the second time changes nothing
		if err := report.UpdateMarkdown(path, r); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if want := "# Title\n\n" + report.Begin + "\n" + render(t, "markdown", r) + report.End + "\nafter\n"; string(got) != want {
		t.Errorf("got\n%s", got)
	}
	put("no markers\n")
	if err := report.UpdateMarkdown(path, r); err == nil || !strings.Contains(err.Error(), report.Begin) {
		t.Errorf("got %v", err)
	}
	if got, _ := os.ReadFile(path); string(got) != "no markers\n" {
		t.Errorf("changed to %s", got)
	}
}

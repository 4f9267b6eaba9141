package report_test

import (
	"context"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestBrowserShowsThePage lets a real browser render the page: everything is
// there, nothing is complained of, and nothing is asked of anybody.
func TestBrowserShowsThePage(t *testing.T) {
	dom, complaints, urls := browse(t, render(t, "html", sample(t)))
	for _, want := range []string{"How it was measured", "<svg", "Time to contain", "</html>"} {
		if !strings.Contains(dom, want) {
			t.Errorf("the browser shows no %q", want)
		}
	}
	if len(complaints) > 0 {
		t.Errorf("the browser complains: %s", strings.Join(complaints, ""))
	}
	if len(urls) > 0 {
		t.Errorf("the page asked for %v", urls)
	}
}

// A page that is not as it should be is noticed.
func TestBrowserNotices(t *testing.T) {
	_, complaints, urls := browse(t, `<!doctype html><title>x</title><img src="http://127.0.0.1:9/x.png"><script>console.error("broken")</script>`)
	if len(urls) != 1 || urls[0] != "http://127.0.0.1:9/x.png" {
		t.Errorf("asked for %v", urls)
	}
	if !strings.Contains(strings.Join(complaints, ""), "broken") {
		t.Errorf("complained of %q", complaints)
	}
	page := strings.Replace(render(t, "html", sample(t)), "</main>", `<img src="http://127.0.0.1:9/x.png"></main>`, 1)
	if _, complaints, urls := browse(t, page); len(urls) > 0 || len(complaints) == 0 {
		t.Errorf("the page's own policy let %v pass, with %q", urls, complaints)
	}
}

// browse renders a page, and returns what came of it, the complaints on the
// console, and what the page asked for over the network.
func browse(t *testing.T, page string) (dom string, complaints, urls []string) {
	t.Helper()
	browser, err := exec.LookPath("chromium")
	if err != nil {
		t.Skip("chromium is not installed here; scripts/install-deps.sh --test installs it")
	}
	dir := t.TempDir()
	file, log := filepath.Join(dir, "page.html"), filepath.Join(dir, "net.json")
	if err := os.WriteFile(file, []byte(page), 0o644); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, browser, "--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--no-first-run",
		"--user-data-dir="+filepath.Join(dir, "profile"), "--window-size=1280,900", "--enable-logging=stderr", "--log-net-log="+log,
		"--net-log-capture-mode=Default", "--dump-dom", "file://"+file)
	var said strings.Builder
	cmd.Stderr = &said
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v: %s", err, said.String())
	}
	for line := range strings.Lines(said.String()) {
		if strings.Contains(line, "CONSOLE") {
			complaints = append(complaints, line)
		}
	}
	return string(out), complaints, requested(t, log)
}

// requested lists the addresses that a page asked for, by the browser's own
// log. What the browser itself wants to know of its makers has no origin.
func requested(t *testing.T, log string) []string {
	t.Helper()
	raw, err := os.ReadFile(log)
	if err != nil {
		t.Fatal(err)
	}
	var net struct {
		Constants struct {
			Types map[string]int `json:"logEventTypes"`
		}
		Events []struct {
			Type   int
			Params struct{ URL, Initiator string }
		}
	}
	if err := json.Unmarshal(raw, &net); err != nil {
		t.Fatalf("the browser's log: %v", err)
	}
	start, ok := net.Constants.Types["URL_REQUEST_START_JOB"]
	if !ok {
		t.Fatal("the browser's log knows no requests")
	}
	var out []string
	for _, e := range net.Events {
		own := e.Params.Initiator == "not an origin"
		if e.Type == start && e.Params.URL != "" && !own && !strings.HasPrefix(e.Params.URL, "data:") {
			out = append(out, e.Params.URL)
		}
	}
	return out
}

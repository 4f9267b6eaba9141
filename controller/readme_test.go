package controller_test

import (
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

// The commands of the README's section on one's own bridges, each run against
// a controller that has contained something.
func TestReadmeCommands(t *testing.T) {
	raw, err := os.ReadFile("../README.md")
	if err != nil {
		t.Fatal(err)
	}
	section := regexp.MustCompile("(?s)While it runs:\n\n```sh\n(.*?)```").FindSubmatch(raw)
	if section == nil {
		t.Fatal("the section is gone from the README")
	}
	r := newRig(t, "plt-readme")
	r.start(strings.Replace(quick, "min_hold: 2s", "min_hold: 10m", 1))
	r.scan("h5", r.addr("h1"))
	d := r.awaitState(r.addr("h5").String(), "verified")
	for line := range strings.Lines(string(section[1])) {
		args := strings.Fields(strings.TrimSpace(line))[1:]
		for i, a := range args {
			switch {
			case strings.HasPrefix(a, "d-"):
				args[i] = d.ID
			case strings.HasPrefix(a, "f-"):
				args[i] = d.Finding
			case a == "10.0.0.8":
				args[i] = r.addr("h4").String()
			case a == "10.0.0.7":
				args[i] = r.addr("h6").String()
			}
		}
		if args[0] == "audit" {
			args = append(args, "--dir", filepath.Join(r.dir, "state", "audit"))
		} else {
			args = append(args, "--socket", r.socket)
		}
		switch args[0] {
		case "watch": // never ends by itself
			continue
		case "approve": // it acts already, and says so
			if out, err := r.run(args...); err == nil || !strings.Contains(out, "not possible now") {
				t.Errorf("%v: %v: %s", args, err, out)
			}
			continue
		case "quarantine", "segment":
			node := map[string]string{"quarantine": "h6", "segment": "h4"}[args[0]]
			r.await(node+" known", func() bool {
				_ = r.fetch(node, netip.AddrPortFrom(r.addr("h1"), 81).String(), denied) // has to be seen first
				out, err := r.run(args...)
				return err == nil && strings.HasPrefix(out, "d-")
			})
			continue
		}
		start := time.Now()
		silent := slices.Contains([]string{"brake", "release", "extend", "exempt"}, args[0]) || args[1] == "diff" // which has nothing to say of a switch in order
		if out, err := r.run(args...); err != nil || silent != (out == "") {
			t.Errorf("%v after %s: %v: %s", args, time.Since(start), err, out)
		}
	}
	if got := r.awaitState(r.addr("h5").String(), "released"); got.ID != d.ID {
		t.Errorf("released %s", got.ID)
	}
	r.awaitState(r.addr("h6").String(), "verified")
	if r.reaches("h6", r.addr("h1")) {
		t.Error("the operator's quarantine does not hold")
	}
}

package controller_test

import (
	"slices"
	"strings"
	"testing"
)

// thinned counts the places where the tap samples less than elsewhere.
func (r *rig) thinned() int {
	r.t.Helper()
	flows, err := r.ovs.Ofctl(r.t.Context(), "-O", "OpenFlow14", "dump-flows", "--no-stats", r.ovs.Mgmt(r.bridge))
	if err != nil {
		r.t.Fatal(err)
	}
	n := 0
	for line := range strings.Lines(flows) {
		if strings.Contains(line, "in_port=") && strings.Contains(line, "sample(probability=") && !strings.Contains(line, "sample(probability=65535") {
			n++
		}
	}
	return n
}

// A flood that nothing contains is sampled thinly where it enters, stays
// known as one, and is sampled in full again when it is over. One that is
// contained is left alone.
func TestTapIsThinnedForAFlood(t *testing.T) {
	r := newRig(t, "plt-steer")
	r.start(strings.Replace(quick, "autonomous", "observe", 1))
	web := r.addr("h1")
	firing := func() bool {
		return slices.ContainsFunc(r.findings(), func(f finding) bool { return f.Kind == "syn-flood" && f.State == "firing" })
	}
	stop := r.flood("h6", web, "-S", "-p", "80", "--rand-source")
	r.await("a thin tap", func() bool { return r.thinned() > 0 })
	// As thin as it is, it shows that the flood goes on.
	for range 3 {
		if !firing() {
			t.Error("the flood is not seen any more")
		}
		r.awaitReach("h3", web, "beside the flood")
	}
	stop()
	r.await("the flood's end", func() bool { return !firing() })
	r.await("a full tap", func() bool { return r.thinned() == 0 })
	for _, d := range r.decisions() {
		if d.State == "applied" || d.State == "verified" {
			t.Errorf("observing, and yet: %s", pretty(d))
		}
	}
}

// So is a scan, of which every probe and every refusal would be a sample.
func TestTapIsThinnedForAScan(t *testing.T) {
	r := newRig(t, "plt-thinscan")
	r.start(strings.Replace(quick, "autonomous", "observe", 1))
	web := r.addr("h1")
	stop := r.background("h6", "nmap", "-sS", "-n", "-Pn", "--min-rate", "5000", "--max-retries", "0", "-p-", web.String())
	r.await("a thin tap", func() bool { return r.thinned() > 0 })
	r.awaitReach("h3", web, "beside the scan")
	stop()
	r.await("a full tap", func() bool { return r.thinned() == 0 })
}

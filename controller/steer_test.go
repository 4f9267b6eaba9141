package controller_test

import (
	"fmt"
	"math"
	"net/netip"
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

// probed is what the controller knows that somebody opened to somebody else.
func (r *rig) probed(from, to netip.Addr) (connections, seen float64) {
	r.t.Helper()
	for _, p := range r.dryRun("quarantine", from.String()).WhatIf.Peers {
		if p.Host == to {
			return p.Traffic.Connections, p.Traffic.Seen
		}
	}
	return 0, 0
}

// Of a scan at the speed of usual tools, which somebody has to decide about, every
// probe is known: the tap is not thinned for it.
func TestScanIsKnownToTheLastProbe(t *testing.T) {
	r := newRig(t, "plt-probes")
	r.start(strings.Replace(quick, "autonomous", "advise", 1))
	bad, web := r.addr("h5"), r.addr("h1")
	r.scan("h5", web) // 600 probes
	r.await("every probe", func() bool {
		connections, seen := r.probed(bad, web)
		return connections == 600 && seen == 600
	})
}

// Of a faster one some are seen, and stand for all of them.
func TestThinnedScanIsEstimated(t *testing.T) {
	r := newRig(t, "plt-estimate")
	r.start(strings.Replace(quick, "autonomous", "advise", 1))
	bad, web := r.addr("h5"), r.addr("h1")
	const probes, rate = 10_000, 2500
	if out, err := r.in("h5", "nmap", "-sS", "-n", "-Pn", "--min-rate", fmt.Sprint(rate), "--max-rate", fmt.Sprint(rate), "--max-retries", "0",
		"-p", fmt.Sprintf("1-%d", probes), web.String()); err != nil {
		t.Fatalf("nmap: %v: %s", err, out)
	}
	var connections, seen float64
	r.await("all samples", func() bool {
		was := connections
		connections, seen = r.probed(bad, web)
		return was == connections && connections > 0
	})
	t.Logf("%.0f of %d probes seen, %.0f estimated", seen, probes, connections)
	if off := math.Abs(connections - probes); off > 5*math.Sqrt(probes*(probes/seen-1))+1 {
		t.Errorf("%.0f of %d probes were seen, and taken for %.0f", seen, probes, connections)
	}
}

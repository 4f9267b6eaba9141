package controller_test

import (
	"encoding/json"
	"math"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/platelet-sdn/platelet/controller/response"
)

// hit is a decision with what it would hit.
type hit struct {
	ID, State string
	WhatIf    *response.WhatIf `json:"what_if"`
}

// dryRun asks what an order would hit.
func (r *rig) dryRun(args ...string) hit {
	r.t.Helper()
	out, err := r.run(append(args, "--dry-run", "-o", "json", "--socket", r.socket)...)
	var h hit
	if err != nil || json.Unmarshal([]byte(out), &h) != nil || h.WhatIf == nil {
		r.t.Fatalf("%v: %v: %s", args, err, out)
	}
	return h
}

// within fails when an estimate is further from the truth than sampling explains:
// twice what 95 % of the estimates are within, and 2 % for what nobody counted.
func (r *rig) within(what string, have, want, packets float64) {
	r.t.Helper()
	allowed := 0.02 + 2*1.96*math.Sqrt(0.9*10/packets)
	r.t.Logf("%s: %.0f seen, %.0f sent, %.1f %% off of %.1f %% allowed", what, have, want, 100*(have/want-1), 100*allowed)
	if d := math.Abs(have - want); d > allowed*want {
		r.t.Errorf("%s: %.0f, want %.0f within %.0f %%", what, have, want, 100*allowed)
	}
}

// What an action would have hit is what was sent: iperf3's bytes and ping's packets,
// within the error of sampling one in ten, and connections to the last one.
func TestWhatIfAgreesWithWhatWasSent(t *testing.T) {
	r := newRig(t, "plt-whatif")
	r.start(strings.Replace(quick, "autonomous", "advise", 1))
	bad, file, dns, client := r.addr("h5"), r.addr("h1"), r.addr("h2"), r.addr("h3")
	r.awaitReach("h5", file, "before anything")
	stop := r.background("h1", "iperf3", "-s", "-B", file.String())
	defer stop()
	r.await("the server", func() bool {
		_, err := r.in("h4", "iperf3", "-c", file.String(), "-n", "1K")
		return err == nil
	})
	const sent, mtu, overhead = 16 << 20, 1448, 66
	// Slow enough for the switch to take every sample.
	if out, err := r.in("h5", "iperf3", "-c", file.String(), "-n", "16M", "-b", "50M"); err != nil {
		t.Fatalf("iperf3: %v: %s", err, out)
	}
	if out, err := r.in("h5", "ping", "-q", "-c", "300", "-i", "0.01", "-s", "958", dns.String()); err != nil {
		t.Fatalf("ping: %v: %s", err, out)
	}
	r.serve("h5", 8080)
	for range 3 {
		if err := r.fetch("h3", netip.AddrPortFrom(bad, 8080).String(), served); err != nil {
			t.Fatal(err)
		}
	}
	var q hit
	r.await("all samples", func() bool { // the last of them leave the switch within a second
		was := q
		q = r.dryRun("quarantine", bad.String())
		fetched := slices.ContainsFunc(q.WhatIf.Peers, func(p response.Peer) bool { return p.Host == client && p.Traffic.Connections >= 3 })
		return was.WhatIf != nil && was.WhatIf.Rest == q.WhatIf.Rest && fetched && q.WhatIf.Hosts == 3 && q.WhatIf.Until.Sub(was.WhatIf.Until) == 0
	})
	peer := func(w *response.WhatIf, host netip.Addr) response.Peer {
		i := slices.IndexFunc(w.Peers, func(p response.Peer) bool { return p.Host == host })
		if i < 0 {
			t.Fatalf("%s would lose nothing: %s", host, pretty(w))
		}
		return w.Peers[i]
	}
	if p := peer(q.WhatIf, client); p.Traffic.Connections != 3 || !slices.Equal(p.Uses, []string{"tcp/8080"}) {
		t.Errorf("client: %+v", p)
	}
	p := peer(q.WhatIf, dns)
	r.within("packets of ping", p.Traffic.Packets, 600, 600)
	r.within("bytes of ping", p.Traffic.Bytes, 600*1000, 600)
	s := r.dryRun("segment", bad.String(), "--service", "tcp/5201")
	p = peer(s.WhatIf, file)
	r.within("bytes of iperf3", p.Traffic.Bytes, sent/mtu*(mtu+overhead), sent/mtu)
	if s.WhatIf.Hosts != 1 || p.Traffic.Connections != 2 || !slices.Equal(p.Serves, []string{"tcp/5201"}) { // one to talk about the other
		t.Errorf("segment: %s", pretty(s.WhatIf))
	}
	if math.Abs(s.WhatIf.Sampling-10) > 0.01 || s.WhatIf.Attack.Packets != 0 {
		t.Errorf("coverage: %s", pretty(s.WhatIf))
	}
	r.scan("h5", r.addr("h6"))
	d := r.awaitState(bad.String(), "awaiting-approval")
	r.whatIfInWords(d.ID, bad)
}

// whatIfInWords looks at a proposal as who is to approve it does.
func (r *rig) whatIfInWords(id string, bad netip.Addr) {
	r.t.Helper()
	var list []hit
	if err := r.get("decisions", &list); err != nil || list[0].WhatIf == nil || list[0].WhatIf.Attack.Connections < 4 {
		r.t.Errorf("proposal: %v: %s", err, pretty(list))
	}
	out, err := r.run("explain", id, "--socket", r.socket)
	r.t.Log(out)
	for _, want := range []string{"awaiting-approval: quarantine of " + bad.String(), "3 hosts would have been cut off", "sampled 1:10", "tcp/5201"} {
		if err != nil || !strings.Contains(out, want) {
			r.t.Errorf("explain: %v: no %q", err, want)
		}
	}
	if out, err := r.run("decisions", "--socket", r.socket); err != nil || !strings.Contains(out, "3 hosts, ") {
		r.t.Errorf("decisions: %v: %s", err, out)
	}
	if out, err := r.run("audit", "show", id, "--dir", r.dir+"/state/audit"); err != nil || !strings.Contains(out, "3 hosts would have been cut off") {
		r.t.Errorf("audit: %v: %s", err, out)
	}
}

package controller_test

import (
	"context"
	"io"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// A host whose own honest program goes on trying comes back when its attack is
// over, by way of a rate limit; one that attacks again on the way is contained
// again, for longer.
func TestHonestProgramsLeadBack(t *testing.T) {
	r := newRig(t, "plt-back")
	r.start(strings.Replace(quick, "limited: 1s, watched: 1s", "limited: 4s, watched: 4s", 1))
	bad, web := r.addr("h5"), r.addr("h1")
	r.serve("h1", 8080)
	ctx, cancel := context.WithCancel(t.Context())
	var honest sync.WaitGroup
	defer honest.Wait()
	defer cancel()
	r.await("honest traffic", func() bool { return r.fetch("h5", web.String()+":8080", denied) == nil })
	honest.Go(func() {
		for ctx.Err() == nil {
			_ = r.fetch("h5", web.String()+":8080", denied) // fails in quarantine, and is tried again
		}
	})
	r.scan("h5", web)
	first := r.awaitState(bad.String(), "verified")
	at := func(id, stage string) func() bool {
		return func() bool {
			return slices.ContainsFunc(r.decisions(), func(d decision) bool { return d.ID == id && d.Stage == stage })
		}
	}
	r.await("the first step back", at(first.ID, "limited"))
	if rules := strings.Join(r.emergency(), "\n"); !strings.Contains(rules, "meter:") || strings.Contains(rules, "drop") {
		t.Errorf("on probation the switch has\n%s", rules)
	}
	r.awaitReach("h5", web, "on probation")
	r.scan("h5", web)
	var second decision
	r.await("the relapse", func() bool {
		all := r.decisions()
		second = all[len(all)-1]
		return second.ID != first.ID && second.State == "verified"
	})
	if second.Relapse != 1 || !at(first.ID, "")() {
		t.Errorf("after the relapse: %s", pretty(second))
	}
	r.await("the second step back", at(second.ID, "limited"))
	r.await("the third", at(second.ID, "watched"))
	if n := len(r.emergency()); n != 0 {
		t.Errorf("%d emergency rules when it is only watched", n)
	}
	r.await("its release", func() bool {
		return slices.ContainsFunc(r.decisions(), func(d decision) bool { return d.ID == second.ID && d.State == "released" })
	})
	cancel()
	if held := second.Ended; !held.IsZero() && second.Ended.Before(second.Applied.Add(4*time.Second)) {
		t.Errorf("the second time was no longer: %s", pretty(second))
	}
}

// Where the rung is segment, a host is kept from its victim and from nobody else.
func TestSegmentKeepsFromTheVictimAlone(t *testing.T) {
	r := newRig(t, "plt-seg")
	r.start(strings.Replace(quick, "response:\n", "response:\n  actions: {port-scan: segment}\n", 1))
	bad, web, other := r.addr("h5"), r.addr("h1"), r.addr("h3")
	r.awaitReach("h5", web, "before the attack")
	r.scan("h5", web)
	d := r.awaitState(bad.String(), "verified")
	if d.Action != "segment" || !d.Proof.Effective || !d.Proof.Harmless || d.Proof.Passed != 0 {
		t.Errorf("got %s", pretty(d))
	}
	if r.reaches("h5", web) {
		t.Error("the host reaches its victim")
	}
	r.awaitReach("h5", other, "beside what it is kept from")
	r.awaitReach("h3", web, "beside the containment")
	r.awaitState(bad.String(), "released")
	r.awaitReach("h5", web, "after release")
}

// A host that is rerouted talks to the honeypot, whomever it means, and nobody
// else notices: neither those for whom the honeypot answers nor the detectors.
func TestRerouteLeadsToTheHoneypot(t *testing.T) {
	r := newRig(t, "plt-pot")
	bad, web, gw, pot := r.addr("h5"), r.addr("h1"), r.addr("gw"), r.addr("h6")
	settings := strings.Replace(quick, "response:\n", "response:\n  actions: {port-scan: reroute}\n  honeypot: "+pot.String()+"\n", 1)
	r.start(strings.Replace(settings, "min_hold: 2s", "min_hold: 5s", 1))
	// The honeypot takes packets for the victim, and says nothing of it in ARP.
	for _, args := range [][]string{
		{"sysctl", "-qw", "net.ipv4.conf.all.arp_ignore=1"}, {"sysctl", "-qw", "net.ipv4.conf.all.arp_announce=2"},
		{"ip", "route", "add", "local", web.String() + "/32", "dev", "lo"},
	} {
		if out, err := r.in("h6", args[0], args[1:]...); err != nil {
			t.Fatalf("%v: %v: %s", args, err, out)
		}
	}
	r.answer("h1", web, "the web server")
	r.answer("h6", web, "the honeypot")
	r.await("the honeypot known", func() bool {
		var hosts []struct {
			Address string
			Bound   bool
		}
		_ = r.fetch("h3", netip.AddrPortFrom(pot, 81).String(), denied) // it says no, and where it is
		if r.get("hosts", &hosts) != nil || r.page("h5", web) != "the web server" {
			return false
		}
		for _, h := range hosts {
			if h.Address == pot.String() && h.Bound {
				return true
			}
		}
		return false
	})
	r.scan("h5", web)
	d := r.awaitState(bad.String(), "verified")
	if d.Action != "reroute" || !d.Proof.Effective || !d.Proof.Harmless || d.Proof.Dropped == 0 {
		t.Errorf("got %s", pretty(d))
	}
	r.await("the honeypot to answer", func() bool { return r.page("h5", web) == "the honeypot" })
	r.await("the web server's answer beside the reroute", func() bool {
		page := r.page("h3", web)
		if page == "the honeypot" {
			t.Error("another host is led to the honeypot")
		}
		return page != ""
	})
	r.awaitReach("h5", gw, "to remediation")
	r.awaitState(bad.String(), "released")
	r.await("the web server to answer again", func() bool { return r.page("h5", web) == "the web server" })
	for _, f := range r.findings() {
		if f.Host != bad.String() {
			t.Errorf("a finding about %s: %+v", f.Host, f)
		}
	}
	for _, e := range r.decisions() {
		if e.Target != bad.String() {
			t.Errorf("contained for the honeypot's answers: %s", pretty(e))
		}
	}
}

// answer serves one line on TCP 8080 of an address, inside a node.
func (r *rig) answer(node string, as netip.Addr, line string) {
	r.t.Helper()
	var l net.Listener
	if err := r.lab.Do(node, func() (err error) {
		l, err = net.Listen("tcp", netip.AddrPortFrom(as, 8080).String())
		return err
	}); err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			_, _ = io.WriteString(c, line)
			c.Close()
		}
	}()
}

// page is what a node gets there, empty without an answer.
func (r *rig) page(node string, of netip.Addr) string {
	c, err := r.dial(node, "tcp", netip.AddrPortFrom(of, 8080).String(), denied)
	if err != nil {
		return ""
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(2 * time.Second))
	line, _ := io.ReadAll(c)
	return string(line)
}

package controller_test

import (
	"context"
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
	r.await("honest traffic", func() bool { return r.fetch("h5", web.String()+":8080") == nil })
	honest.Go(func() {
		for ctx.Err() == nil {
			_ = r.fetch("h5", web.String()+":8080") // fails in quarantine, and is tried again
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

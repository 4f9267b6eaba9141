package controller_test

import (
	"context"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/platelet-sdn/platelet/controller/bus"
	"github.com/platelet-sdn/platelet/detector"
	"github.com/platelet-sdn/platelet/flowcollector/flow"
)

// yesterday is what an engine has learned of so many hosts, on recorded time.
func yesterday(t *testing.T, hosts int) []byte {
	t.Helper()
	e, err := detector.New(detector.DefaultConfig())
	if err != nil {
		t.Fatal(err)
	}
	at := time.Now().Add(-24 * time.Hour)
	server := netip.MustParseAddr("10.0.0.254")
	for minute := range 3 {
		for host := range hosts {
			now := at.Add(time.Duration(minute)*time.Minute + time.Duration(host)*time.Millisecond).UnixNano()
			e.Observe([]flow.Record{{Time: now, Source: flow.SourceLog, Signal: flow.SignalAttempt, Rate: 1, Packets: 3, Bytes: 300, Proto: flow.ProtoTCP,
				Src: netip.AddrFrom4([4]byte{10, 0, 1, byte(host)}), Dst: server, SrcPort: 40000, DstPort: 443}})
			e.Advance(now)
		}
	}
	e.Advance(at.Add(10 * time.Minute).UnixNano())
	l, err := e.Learned()
	if err != nil {
		t.Fatal(err)
	}
	raw, err := l.MarshalBinary()
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

// keep writes what was learned into the state of a controller that does not
// run.
func (r *rig) keep(learned []byte) {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(r.t.Context(), patience)
	defer cancel()
	state, err := bus.Open(ctx, bus.Config{Dir: filepath.Join(r.dir, "state")})
	if err != nil {
		r.t.Fatal(err)
	}
	defer state.Close()
	large, err := state.Large(ctx, "learned")
	if err != nil {
		r.t.Fatal(err)
	}
	if err := large.Save(ctx, learned); err != nil {
		r.t.Fatal(err)
	}
}

func (r *rig) baselines() int {
	var s struct{ Detector struct{ Baselines int } }
	if err := r.get("status", &s); err != nil {
		r.t.Fatal(err)
	}
	return s.Detector.Baselines
}

// What one run of the controller has learned the next one knows, after an orderly
// end and after a kill; what is damaged is learned anew, and said so.
func TestExperienceSurvivesRestart(t *testing.T) {
	r := newRig(t, "plt-exper")
	const hosts = 50
	r.keep(yesterday(t, hosts))
	const known = hosts + 1 // and their server
	r.start("mode: observe\n")
	if n := r.baselines(); n < known {
		t.Errorf("%d baselines, %d were learned", n, known)
	}
	r.stop() // which saves
	r.start("mode: observe\n")
	if n := r.baselines(); n < known {
		t.Errorf("%d baselines after a restart, %d were learned", n, known)
	}
	r.kill()
	r.start("mode: observe\n")
	if n := r.baselines(); n < known {
		t.Errorf("%d baselines after a kill, %d were learned", n, known)
	}
	r.stop()
	r.keep([]byte("of another version"))
	r.start("mode: observe\n")
	if n := r.baselines(); n >= known {
		t.Errorf("%d baselines from damaged state", n)
	}
	raw, err := os.ReadFile(filepath.Join(r.dir, "platelet.log"))
	if err != nil || !strings.Contains(string(raw), "baselines are learned anew") {
		t.Errorf("nobody was told: %v", err)
	}
}

package wire_test

import (
	"context"
	"errors"
	"math"
	"testing"
	"testing/synctest"
	"time"

	"github.com/platelet-sdn/platelet/lab/wire"
)

func TestPaceIsExactWhenSlow(t *testing.T) {
	for _, rate := range []float64{0.2, 1, 3, 7.5, 100} {
		synctest.Test(t, func(t *testing.T) {
			p, err := wire.NewPace(rate)
			if err != nil {
				t.Fatal(err)
			}
			start := time.Now()
			for n := range 101 {
				if got, err := p.Wait(t.Context(), 8); got != 1 || err != nil {
					t.Fatalf("rate %v, packet %d: %d at once, %v", rate, n, got, err)
				}
			}
			if d, want := time.Since(start).Seconds(), 100/rate; math.Abs(d-want) > want/1e6+1e-6 {
				t.Errorf("rate %v: 101 packets took %v s, want %v", rate, d, want)
			}
		})
	}
}

func TestPaceCatchesUpWithASecondAtMost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, err := wire.NewPace(1000)
		if err != nil {
			t.Fatal(err)
		}
		wait := func(want int) {
			t.Helper()
			if got, err := p.Wait(t.Context(), 1<<20); got != want || err != nil {
				t.Errorf("%d are due, %v; want %d", got, err, want)
			}
		}
		wait(1)
		time.Sleep(500 * time.Millisecond)
		wait(500)
		time.Sleep(10 * time.Second)
		wait(1000)
		if p.Forfeit() != 9000 {
			t.Errorf("%d forfeit, want 9000", p.Forfeit())
		}
		time.Sleep(time.Second)
		wait(1000)
		// Bursts have their bound, and catching up its speed.
		time.Sleep(time.Second)
		start := time.Now()
		for range 31 {
			wait32, err := p.Wait(t.Context(), 32)
			if wait32 != 32 || err != nil {
				t.Errorf("%d, %v: a burst has its bound", wait32, err)
			}
		}
		if d := time.Since(start).Seconds(); math.Abs(d-0.48) > 0.02 {
			t.Errorf("992 packets late by a second took %v s, want 0.48 at twice the rate", d)
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := p.Wait(ctx, 1); !errors.Is(err, context.Canceled) {
			t.Errorf("after the end: %v", err)
		}
	})
}

func TestPaceRefusesRates(t *testing.T) {
	for _, rate := range []float64{0, -1, math.NaN(), math.Inf(1), wire.MaxRate + 1} {
		if _, err := wire.NewPace(rate); err == nil {
			t.Errorf("%v was taken", rate)
		}
	}
}

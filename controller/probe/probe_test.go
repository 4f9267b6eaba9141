package probe_test

import (
	"context"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/platelet-sdn/platelet/controller/probe"
)

func await(t *testing.T, what string, ok func() bool) {
	t.Helper()
	deadline := time.After(20 * time.Second)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-deadline:
			t.Fatalf("no %s", what)
		case <-tick.C:
		}
	}
}

// Only what answered before and does not since is broken, by whichever way.
func TestBroke(t *testing.T) {
	var sick atomic.Bool
	var seen atomic.Int64
	web := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		seen.Add(1)
		if sick.Load() {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
	}))
	defer web.Close()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	var knocks atomic.Int64
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			knocks.Add(1)
			c.Close()
		}
	}()
	never := "tcp://127.0.0.1:1"
	tcp := "tcp://" + l.Addr().String()
	all := []string{web.URL, tcp, never}
	s, err := probe.New(all)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	defer func() { cancel(); <-done }()
	start := time.Now()
	await(t, "first round", func() bool { return s.Broke(all, start) == "" && seen.Load() > 1 && knocks.Load() > 1 })

	since := time.Now()
	sick.Store(true)
	await(t, "sick server", func() bool {
		why := s.Broke(all, since)
		return strings.HasPrefix(why, web.URL+" does not answer") && strings.Contains(why, "503")
	})
	if why := s.Broke([]string{tcp, never}, since); why != "" {
		t.Errorf("what never answered, or still does, is broken: %s", why)
	}
	if why := s.Broke(all, time.Now()); why != "" {
		t.Errorf("what broke before is blamed on what came later: %s", why)
	}
	sick.Store(false)
	await(t, "recovery", func() bool { return s.Broke(all, since) == "" })
	since = time.Now()
	l.Close()
	await(t, "closed port", func() bool { return strings.HasPrefix(s.Broke(all, since), tcp) })
}

func TestNoProbe(t *testing.T) {
	if _, err := probe.New([]string{"ftp://x"}); err == nil {
		t.Error("a set of what is no probe")
	}
}

package ovsdb_test

import (
	"context"
	"io"
	"sync"
	"testing"

	"github.com/sirupsen/logrus"

	"github.com/platelet-sdn/platelet/controller/ovsdb"
	"github.com/platelet-sdn/platelet/controller/ovsdb/internal/ovstest"
)

// runLocks runs a set of locks until stop.
func runLocks(t *testing.T, endpoint string) (s *ovsdb.Locks, stop func()) {
	t.Helper()
	log := logrus.New()
	log.SetOutput(io.Discard)
	s, err := ovsdb.NewLocks(ovsdb.Config{Endpoint: endpoint, Log: log})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(stop)
	return s, stop
}

func TestLockFollowsItsHolder(t *testing.T) {
	i := ovstest.Start(t)
	first, stopFirst := runLocks(t, i.DB)
	second, _ := runLocks(t, i.DB)
	is := func(l *ovsdb.Lock, want ovsdb.LockState) func() bool {
		return func() bool { s, _ := l.State(); return s == want }
	}
	a, other := first.Lock("platelet_a"), first.Lock("platelet_b")
	ovstest.Until(t, "the first to hold both", func() bool { return is(a, ovsdb.LockHeld)() && is(other, ovsdb.LockHeld)() })
	b := second.Lock("platelet_a")
	ovstest.Until(t, "the second to wait", is(b, ovsdb.LockOthers))

	// The database restarts: who held the lock gets it again.
	for range 3 {
		if err := i.KillDB(); err != nil {
			t.Fatal(err)
		}
		ovstest.Until(t, "the loss to be noticed", func() bool { return is(a, ovsdb.LockUnknown)() && is(b, ovsdb.LockUnknown)() })
		if err := i.StartDB(ovstest.Context(t)); err != nil {
			t.Fatal(err)
		}
		ovstest.Until(t, "the second to wait again", is(b, ovsdb.LockOthers))
		ovstest.Until(t, "the first to hold it again", is(a, ovsdb.LockHeld))
	}

	b.Steal()
	ovstest.Until(t, "the second to have stolen it", is(b, ovsdb.LockHeld))
	ovstest.Until(t, "the first to know", is(a, ovsdb.LockOthers))
	a.Steal()
	ovstest.Until(t, "the first to have taken it back", func() bool { return is(a, ovsdb.LockHeld)() && is(b, ovsdb.LockOthers)() })
	a.Steal() // what we hold need not be stolen

	stopFirst()
	ovstest.Until(t, "the lock to pass on with its holder's end", is(b, ovsdb.LockHeld))
	select {
	case <-b.Changed():
	default:
		t.Error("the change was not announced")
	}
	if s, since := b.State(); s != ovsdb.LockHeld || since.IsZero() {
		t.Errorf("state %v since %v", s, since)
	}
}

func TestRefusedLockHurtsNoOther(t *testing.T) {
	i := ovstest.Start(t)
	s, _ := runLocks(t, i.DB)
	bad, good := s.Lock("not-a-name"), s.Lock("fine")
	ovstest.Until(t, "the good one to be held", func() bool { st, _ := good.State(); return st == ovsdb.LockHeld })
	if st, _ := bad.State(); st != ovsdb.LockUnknown {
		t.Errorf("state %v", st)
	}
}

package bus_test

import (
	"context"
	"errors"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"

	"github.com/platelet-sdn/platelet/controller/bus"
)

// shared is a server that several controllers use.
func shared(t *testing.T) *server.Server {
	t.Helper()
	srv, err := server.NewServer(&server.Options{Host: "127.0.0.1", Port: -1, JetStream: true, StoreDir: t.TempDir(), NoSigs: true, NoLog: true})
	if err != nil {
		t.Fatal(err)
	}
	go srv.Start()
	t.Cleanup(srv.Shutdown)
	if !srv.ReadyForConnections(10 * time.Second) {
		t.Fatal("server is not ready")
	}
	return srv
}

// What two controllers write down under the same names stays apart, but for what
// they share on purpose.
func TestScopes(t *testing.T) {
	srv, ctx := shared(t), t.Context()
	b := open(t, bus.Config{URL: srv.ClientURL()})
	defer b.Close()
	scopes := map[string]*bus.Bus{"a": b.As("a"), "b": b.As("b.c"), "": b}
	for _, name := range []string{"a", "b", ""} { // last who sees what the others wrote
		k, err := scopes[name].Bucket(ctx, "decisions")
		if err != nil {
			t.Fatal(err)
		}
		if name == "" {
			all, err := k.All(ctx)
			if keys := slices.Sorted(maps.Keys(all)); err != nil || len(keys) != 4 {
				t.Errorf("all: %q, %v", keys, err)
			}
			continue
		}
		for _, key := range []string{"d-1", "fd77::1/" + name} {
			if err := k.Put(ctx, key, []byte(name)); err != nil {
				t.Fatal(err)
			}
		}
		defer func() {
			if err := k.Delete(ctx, "d-1"); err != nil {
				t.Error(err)
			}
			all, err := k.All(ctx)
			if err != nil || len(all) != 1 || string(all["fd77::1/"+name]) != name {
				t.Errorf("of %s: %q, %v", name, all, err)
			}
		}()
	}
	large, err := b.As("a").Large(ctx, "learned")
	if err == nil {
		err = large.Save(ctx, []byte(strings.Repeat("x", 1<<20)))
	}
	other, lerr := b.As("b").Large(ctx, "learned")
	if lerr == nil {
		var got []byte
		if got, lerr = other.Load(ctx); len(got) > 0 {
			t.Errorf("%d bytes of another controller", len(got))
		}
	}
	if err := errors.Join(err, lerr); err != nil {
		t.Error(err)
	}
}

// A value has one writer: who writes on top of what it does not know is refused, by
// the write itself.
func TestLedgerHasOneWriter(t *testing.T) {
	srv, ctx := shared(t), t.Context()
	ledger := func() *bus.Ledger {
		b := open(t, bus.Config{URL: srv.ClientURL()})
		t.Cleanup(b.Close)
		l, err := b.Ledger(ctx, "runs")
		if err != nil {
			t.Fatal(err)
		}
		return l
	}
	first, second := ledger(), ledger()
	put := func(l *bus.Ledger, value string, want error) {
		t.Helper()
		if err := l.Put(ctx, "r-1", []byte(value)); !errors.Is(err, want) {
			t.Fatalf("%s: %v, want %v", value, err, want)
		}
	}
	put(first, "begun", nil)
	put(first, "step one", nil)
	put(second, "the same run", bus.ErrTaken) // of the same name
	claim := func(l *bus.Ledger, next string, want bool) map[string][]byte {
		t.Helper()
		mine, err := l.Claim(ctx, func(key string, _ []byte) ([]byte, bool) {
			if next == "" {
				return nil, want && key == "r-1"
			}
			return []byte(next), want && key == "r-1"
		})
		if err != nil {
			t.Fatal(err)
		}
		return mine
	}
	if mine := claim(second, "x", false); len(mine) != 0 {
		t.Fatalf("%q", mine)
	}
	put(second, "what is not claimed", bus.ErrTaken)
	put(first, "step two", nil)
	if mine := claim(second, "taken", true); string(mine["r-1"]) != "taken" {
		t.Fatalf("%q", mine)
	}
	put(second, "mine", nil)                 // it knows what it takes
	put(first, "step two", bus.ErrTaken)     // cut off, and back
	put(first, "step two too", bus.ErrTaken) // and stays so
	if err := first.Delete(ctx, "r-1"); err != nil {
		t.Fatal(err)
	}
	put(second, "step two", nil)
	if err := second.Delete(ctx, "r-1"); err != nil {
		t.Fatal(err)
	}
	if mine := claim(second, "", true); len(mine) != 0 {
		t.Errorf("%q", mine)
	}
	put(second, "anew", nil)
	if mine := claim(first, "", true); string(mine["r-1"]) != "anew" {
		t.Errorf("%q", mine)
	}
	put(first, "as it was read", nil)
	put(second, "and not written", bus.ErrTaken)
}

// A write whose answer was lost may have been taken: it is our own.
func TestLedgerKnowsItsOwnWrites(t *testing.T) {
	srv, ctx := shared(t), t.Context()
	b := open(t, bus.Config{URL: srv.ClientURL()})
	defer b.Close()
	l, err := b.Ledger(ctx, "runs")
	if err != nil {
		t.Fatal(err)
	}
	if err := l.Put(ctx, "r-1", []byte("begun")); err != nil {
		t.Fatal(err)
	}
	lost := 0
	for i := range 2000 { // some of them are written before their time is up
		hurry, cancel := context.WithTimeout(ctx, time.Duration(i)*time.Microsecond)
		err := l.Put(hurry, "r-1", []byte(strings.Repeat("s", i+1)))
		cancel()
		if errors.Is(err, bus.ErrTaken) {
			t.Fatalf("write %d: %v after %d lost answers", i, err, lost)
		}
		if err != nil {
			lost++
		}
		if lost > 50 {
			break
		}
	}
	if err := l.Put(ctx, "r-1", []byte("end")); err != nil {
		t.Fatalf("after %d lost answers: %v", lost, err)
	}
	if lost == 0 {
		t.Error("no answer was lost: the test shows nothing")
	}
}

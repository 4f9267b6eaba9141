package bus_test

import (
	"bytes"
	"context"
	"errors"
	"math/rand/v2"
	"testing"

	"github.com/platelet-sdn/platelet/controller/bus"
)

// value is n bytes that do not repeat.
func value(n int, seed uint64) []byte {
	r := rand.NewChaCha8([32]byte{byte(seed)})
	b := make([]byte, n)
	_, _ = r.Read(b)
	return b
}

func large(t *testing.T, b *bus.Bus) (*bus.Large, *bus.Bucket) {
	t.Helper()
	l, err := b.Large(t.Context(), "learned")
	if err != nil {
		t.Fatal(err)
	}
	k, err := b.Bucket(t.Context(), "learned")
	if err != nil {
		t.Fatal(err)
	}
	return l, k
}

// Values grow, shrink and survive a restart; nothing of older ones stays.
func TestLargeValue(t *testing.T) {
	cfg := bus.Config{Dir: t.TempDir()}
	for i, n := range []int{1, 3_000_000, 700_000, 0, 512 << 10, 5_000_000} {
		b := open(t, cfg)
		l, _ := large(t, b)
		if have, err := l.Load(t.Context()); err != nil || i == 0 && have != nil {
			t.Fatalf("before save %d: %d bytes, %v", i, len(have), err)
		}
		if err := l.Save(t.Context(), value(n, uint64(i))); err != nil {
			t.Fatal(err)
		}
		b.Close()
		b = open(t, cfg)
		l, k := large(t, b)
		have, err := l.Load(t.Context())
		if err != nil || !bytes.Equal(have, value(n, uint64(i))) {
			t.Fatalf("%d bytes of %d came back, %v", len(have), n, err)
		}
		all, err := k.All(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if want := 1 + (n+512<<10-1)/(512<<10); len(all) != want {
			t.Errorf("%d keys for %d bytes, want %d", len(all), n, want)
		}
		b.Close()
	}
}

// A save that is cut short at any moment leaves the value before, which the next
// save replaces.
func TestLargeValueSurvivesHalfASave(t *testing.T) {
	b := open(t, bus.Config{Dir: t.TempDir()})
	defer b.Close()
	l, k := large(t, b)
	old := value(1_200_000, 1)
	if err := l.Save(t.Context(), old); err != nil {
		t.Fatal(err)
	}
	const shots = 20
	cut := 0
	for i := range shots {
		ctx, cancel := context.WithCancel(t.Context())
		next, done := value(1_500_000, uint64(i+2)), make(chan error, 1)
		go func() { done <- l.Save(ctx, next) }()
		for range i { // writes take turns with this
			if err := k.Put(t.Context(), "other", []byte{byte(i)}); err != nil {
				t.Fatal(err)
			}
		}
		cancel()
		err := <-done
		have, lerr := l.Load(t.Context())
		switch {
		case lerr != nil:
			t.Fatal(lerr)
		case err == nil || bytes.Equal(have, next):
			old = next // complete, but for what is cleaned up
		default:
			cut++
		}
		if !bytes.Equal(have, old) {
			t.Fatalf("save %d ended with %v and %d bytes of neither value", i, err, len(have))
		}
	}
	t.Logf("%d of %d saves were cut short", cut, shots)
	if err := l.Save(t.Context(), old); err != nil {
		t.Fatal(err)
	}
	if all, err := k.All(t.Context()); err != nil || len(all) > 5 {
		t.Errorf("%d keys are left, %v", len(all), err)
	}
}

func TestDamagedLargeValueIsNoticed(t *testing.T) {
	b := open(t, bus.Config{Dir: t.TempDir()})
	defer b.Close()
	l, k := large(t, b)
	if err := l.Save(t.Context(), value(600_000, 1)); err != nil {
		t.Fatal(err)
	}
	all, err := k.All(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for key, was := range all {
		if err := k.Put(t.Context(), key, []byte("damage")); err != nil {
			t.Fatal(err)
		}
		if _, err := l.Load(t.Context()); !errors.Is(err, bus.ErrDamaged) {
			t.Errorf("%s: %v", key, err)
		}
		if err := k.Put(t.Context(), key, was); err != nil {
			t.Fatal(err)
		}
	}
	if err := k.Delete(t.Context(), "0/001"); err != nil {
		t.Fatal(err)
	}
	if _, err := l.Load(t.Context()); !errors.Is(err, bus.ErrDamaged) {
		t.Errorf("a chunk is missing: %v", err)
	}
	if err := l.Save(t.Context(), value(10, 2)); err != nil {
		t.Errorf("what is damaged cannot be replaced: %v", err)
	}
}

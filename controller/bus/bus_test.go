package bus_test

import (
	"context"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"

	"github.com/platelet-sdn/platelet/controller/bus"
)

func open(t *testing.T, cfg bus.Config) *bus.Bus {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	b, err := bus.Open(ctx, cfg)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestStateSurvivesRestart(t *testing.T) {
	cfg := bus.Config{Dir: t.TempDir()}
	b := open(t, cfg)
	k, err := b.Bucket(t.Context(), "decisions")
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]string{"d-1": "one", "fd77::1|eth0 x": "two"}
	for key, v := range want {
		if err := k.Put(t.Context(), key, []byte(v)); err != nil {
			t.Fatal(err)
		}
	}
	if err := k.Put(t.Context(), "gone", []byte("x")); err != nil {
		t.Fatal(err)
	}
	if err := k.Delete(t.Context(), "gone"); err != nil {
		t.Fatal(err)
	}
	b.Close()

	b = open(t, cfg)
	defer b.Close()
	if k, err = b.Bucket(t.Context(), "decisions"); err != nil {
		t.Fatal(err)
	}
	all, err := k.All(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if len(all) != len(want) {
		t.Fatalf("got %d keys, want %d: %v", len(all), len(want), all)
	}
	for key, v := range want {
		if string(all[key]) != v {
			t.Errorf("%s = %q, want %q", key, all[key], v)
		}
	}
}

func TestExternalServer(t *testing.T) {
	srv, err := server.NewServer(&server.Options{Host: "127.0.0.1", Port: -1, JetStream: true, StoreDir: t.TempDir(), NoSigs: true, NoLog: true})
	if err != nil {
		t.Fatal(err)
	}
	go srv.Start()
	defer srv.Shutdown()
	if !srv.ReadyForConnections(10 * time.Second) {
		t.Fatal("server is not ready")
	}
	b := open(t, bus.Config{URL: srv.ClientURL()})
	defer b.Close()
	k, err := b.Bucket(t.Context(), "decisions")
	if err != nil {
		t.Fatal(err)
	}
	if err := k.Put(t.Context(), "a", []byte("b")); err != nil {
		t.Fatal(err)
	}
	all, err := k.All(t.Context())
	if err != nil || string(all["a"]) != "b" {
		t.Fatalf("got %v, %v", all, err)
	}
}

func TestUnusableDirectoryIsAnError(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if b, err := bus.Open(ctx, bus.Config{Dir: "/proc/1/nowhere"}); err == nil {
		b.Close()
		t.Fatal("opened state in a directory that cannot exist")
	}
}

func TestSecondControllerIsRefused(t *testing.T) {
	dir := t.TempDir()
	b := open(t, bus.Config{Dir: dir})
	defer b.Close()
	if second, err := bus.Open(t.Context(), bus.Config{Dir: dir}); err == nil {
		second.Close()
		t.Fatal("two controllers opened the same state")
	}
}

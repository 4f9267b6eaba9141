package namespace_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/platelet-sdn/platelet/lab/namespace"
)

// fresh makes a namespace that the test removes.
func fresh(t *testing.T) string {
	t.Helper()
	name := fmt.Sprintf("plns-%d-%s", os.Getpid(), strings.ToLower(t.Name()))
	if err := namespace.Create(name); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := namespace.Delete(name); err != nil {
			t.Error(err)
		}
	})
	return name
}

func TestDoIsInsideAndComesBack(t *testing.T) {
	name := fresh(t)
	before, err := os.Readlink("/proc/thread-self/ns/net")
	if err != nil {
		t.Fatal(err)
	}
	failure := errors.New("from inside")
	err = namespace.Do(name, func() error {
		ifs, err := net.Interfaces()
		if err != nil || len(ifs) != 1 {
			t.Errorf("a fresh namespace has lo only, got %v, %v", ifs, err)
		}
		return failure
	})
	if !errors.Is(err, failure) {
		t.Errorf("got %v", err)
	}
	if after, _ := os.Readlink("/proc/thread-self/ns/net"); after != before {
		t.Errorf("thread stayed in %s", after)
	}
	if err := namespace.Create(name); err == nil {
		t.Error("made the same namespace twice")
	}
	if err := exec.Command("ip", "netns", "exec", name, "true").Run(); err != nil {
		t.Errorf("iproute2 cannot enter: %v", err)
	}
}

func TestCommandAndKill(t *testing.T) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	name := fresh(t)
	out, err := namespace.Command(ctx, name, "ip", "-o", "link").Output()
	if err != nil || strings.Count(string(out), "\n") != 1 {
		t.Fatalf("%s, %v", out, err)
	}
	// One process that obeys, and one that ignores the polite request.
	polite := namespace.Command(ctx, name, "sleep", "600")
	rude := namespace.Command(ctx, name, "sh", "-c", "trap '' TERM; while :; do sleep 1; done")
	for _, c := range []*namespace.Cmd{polite, rude} {
		if err := c.Start(); err != nil {
			t.Fatal(err)
		}
		go c.Wait() // reaps
	}
	if pids, err := namespace.Processes(name); err != nil || len(pids) < 2 {
		t.Fatalf("%v, %v", pids, err)
	}
	if err := namespace.Kill(ctx, name, 100*time.Millisecond); err != nil {
		t.Fatal(err)
	}
	if pids, err := namespace.Processes(name); err != nil || len(pids) != 0 {
		t.Fatalf("left: %v, %v", pids, err)
	}
}

func TestDeleteForgives(t *testing.T) {
	if err := namespace.Delete("plns-never-was"); err != nil {
		t.Error(err)
	}
	// A crash between making the file and binding the namespace to it.
	if err := os.MkdirAll(namespace.Dir, 0o755); err != nil {
		t.Fatal(err)
	}
	name := fmt.Sprintf("plns-%d-half", os.Getpid())
	if err := os.WriteFile(namespace.Path(name), nil, 0o444); err != nil {
		t.Fatal(err)
	}
	if err := namespace.Delete(name); err != nil || namespace.Exists(name) {
		t.Errorf("half-made namespace stays: %v", err)
	}
}

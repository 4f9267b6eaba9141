package namespace_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/platelet-sdn/platelet/lab/namespace"
)

// fresh makes a namespace that the test removes.
func fresh(t *testing.T) string {
	t.Helper()
	name := fmt.Sprintf("plns-%d-%s", os.Getpid(), strings.ToLower(t.Name()))
	if err := namespace.CreateMarked(name, "mark-of-"+name); err != nil {
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
	if err := namespace.CreateMarked(name, "mark-of-"+name); err == nil {
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

func TestMarks(t *testing.T) {
	name := fresh(t)
	if mark, err := namespace.Mark(name); err != nil || mark != "mark-of-"+name {
		t.Errorf("mark %q, %v", mark, err)
	}
	if names, err := namespace.List(); err != nil || !slices.Contains(names, name) {
		t.Errorf("listed %q, %v", names, err)
	}
}

// TestView: mounts over what is there, beside it, and where nothing is, all
// of it seen by the process alone.
func TestView(t *testing.T) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	name, dir := fresh(t), t.TempDir()
	for file, text := range map[string]string{"hosts": "of the node\n", "conf/a": "conf\n"} {
		if err := os.MkdirAll(filepath.Dir(filepath.Join(dir, file)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, file), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	view := &namespace.View{Hostname: "node1", Dir: filepath.Join(dir, "view"), Mounts: []namespace.Mount{
		{Source: filepath.Join(dir, "hosts"), Target: "/etc/hosts"},
		{Source: filepath.Join(dir, "conf"), Target: "/etc/platelet-test/conf", ReadOnly: true},
		{Source: filepath.Join(dir, "hosts"), Target: "/platelet-test/deep/file"},
		{Source: filepath.Join(dir, "conf"), Target: "/platelet-other"},
	}}
	run := func(script string) string {
		t.Helper()
		cmd := namespace.Command(ctx, name, "sh", "-c", script)
		cmd.View = view
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("%s: %v\n%s", script, err, out)
		}
		return string(out)
	}
	for range 2 { // the second process finds the first one's mount points
		if got := run("cat /etc/hosts /etc/platelet-test/conf/a /platelet-test/deep/file /platelet-other/a; uname -n; ls /sys/class/net; test -f /etc/passwd"); got != "of the node\nconf\nof the node\nconf\nnode1\nlo\n" {
			t.Errorf("saw %q", got)
		}
	}
	run("! touch /etc/platelet-test/conf/b && echo written > /platelet-other/c")
	if data, err := os.ReadFile(filepath.Join(dir, "conf/c")); err != nil || string(data) != "written\n" {
		t.Errorf("a write through a bind does not arrive: %q, %v", data, err)
	}
	for _, path := range []string{"/etc/platelet-test", "/platelet-test", "/platelet-other"} {
		if _, err := os.Stat(path); err == nil {
			t.Errorf("%s is on the machine", path)
		}
	}
	if host, _ := os.Hostname(); host == "node1" {
		t.Error("the machine's own name changed")
	}
	// A process that is to die with its thread lives on all the same.
	cmd := namespace.Command(ctx, name, "cat")
	cmd.View, cmd.SysProcAttr = view, &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if _, err := in.Write([]byte("x")); err != nil || in.Close() != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Errorf("died early: %v", err)
	}
}

func TestWithEnv(t *testing.T) {
	cmd := exec.Command("sleep", "600")
	cmd.Env = []string{"PLATELET_TEST_ENV=" + t.Name()}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = cmd.Process.Kill(); _ = cmd.Wait() }()
	for _, value := range []string{t.Name(), ""} {
		found, err := namespace.WithEnv("PLATELET_TEST_ENV", value)
		if err != nil || found[cmd.Process.Pid] != t.Name() {
			t.Errorf("%q: %v, %v", value, found, err)
		}
	}
}

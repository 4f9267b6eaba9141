package actions

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/platelet-sdn/platelet/controller/response/playbook"
	"github.com/platelet-sdn/platelet/lab/dockertest"
	"github.com/platelet-sdn/platelet/lab/ovs"
)

func TestMain(m *testing.M) { os.Exit(ovs.Isolate(m.Run)) }

// waiter counts its starts in a file and waits to be ended.
const waiter = `package main

import ("fmt"; "os"; "os/signal"; "syscall")

func main() {
	end := make(chan os.Signal, 1)
	signal.Notify(end, syscall.SIGTERM)
	f, err := os.OpenFile("/starts", os.O_CREATE|os.O_RDWR|os.O_APPEND, 0o600)
	if err != nil { panic(err) }
	fmt.Fprint(f, "x")
	info, _ := f.Stat()
	fmt.Println("start", info.Size(), os.Getenv("ROLE"))
	<-end
}
`

// image makes an image of the waiter alone.
func image(t *testing.T, ctx context.Context, d *dockertest.Daemon) {
	t.Helper()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "main.go"), []byte(waiter), 0o600); err != nil {
		t.Fatal(err)
	}
	build := exec.CommandContext(ctx, "go", "build", "-ldflags", "-s -w", "-o", "waiter", "main.go")
	build.Dir, build.Env = dir, append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=-buildvcs=false")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build: %v: %s", err, out)
	}
	binary, err := os.ReadFile(filepath.Join(dir, "waiter"))
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	err = w.WriteHeader(&tar.Header{Name: "waiter", Mode: 0o755, Size: int64(len(binary))})
	if _, werr := w.Write(binary); err != nil || werr != nil || w.Close() != nil {
		t.Fatal(err, werr)
	}
	name := filepath.Join(dir, "image.tar")
	if err := os.WriteFile(name, b.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	docker(t, ctx, d, "import", "--change", `ENTRYPOINT ["/waiter"]`, name, "waiter:latest")
}

func docker(t *testing.T, ctx context.Context, d *dockertest.Daemon, args ...string) string {
	t.Helper()
	out, err := d.Docker(ctx, args...)
	if err != nil {
		t.Fatalf("docker %s: %v: %s", strings.Join(args, " "), err, out)
	}
	return strings.TrimSpace(out)
}

// victim starts the container that is to be healed, in place of all others.
func victim(t *testing.T, ctx context.Context, d *dockertest.Daemon) (id string) {
	t.Helper()
	if all := strings.Fields(docker(t, ctx, d, "ps", "--all", "--quiet")); len(all) > 0 {
		docker(t, ctx, d, append([]string{"rm", "--force"}, all...)...)
	}
	return docker(t, ctx, d, "run", "--detach", "--name", "web", "--network", "none", "--label", "host=10.0.0.7", "--env", "ROLE=shop", "--restart", "always", "waiter:latest")
}

// checkHealed: one new container has the place of the old, which is kept and
// will not come back.
func checkHealed(t *testing.T, ctx context.Context, d *dockertest.Daemon, old, name string) {
	t.Helper()
	running := strings.Fields(docker(t, ctx, d, "ps", "--no-trunc", "--quiet"))
	got := docker(t, ctx, d, "inspect", "--format", `{{.Name}} {{.Config.Image}} {{.HostConfig.RestartPolicy.Name}} {{index .Config.Labels "host"}} {{.State.Running}} {{.Config.Env}}`, "web")
	if len(running) != 1 || running[0] == old || !strings.HasPrefix(got, "/web waiter:latest always 10.0.0.7 true [") || !strings.Contains(got, "ROLE=shop") {
		t.Errorf("%s: running %v, old %s; %s", name, running, old, got)
	}
	was := docker(t, ctx, d, "inspect", "--format", `{{.Name}} {{.HostConfig.RestartPolicy.Name}} {{.State.Running}}`, old)
	if was != "/web"+retired("r-1-step")+" no false" {
		t.Errorf("%s: the old one is %s", name, was)
	}
	if n := len(strings.Fields(docker(t, ctx, d, "ps", "--all", "--quiet"))); n != 2 {
		t.Errorf("%s: %d containers, want the new one and the old one", name, n)
	}
}

// gate stands between the action and the engine, and breaks down at a request.
type gate struct {
	http.Server
	path    string
	seen    atomic.Int64
	at      int64 // request at which it breaks down, 0 never
	after   bool  // the engine still gets it
	broken  func()
	refuses string // part of the path of requests that are answered with an error
}

func newGate(t *testing.T, d *dockertest.Daemon) *gate {
	t.Helper()
	dir, err := os.MkdirTemp("", "plg")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	g := &gate{path: filepath.Join(dir, "s"), broken: func() {}}
	proxy := httputil.NewSingleHostReverseProxy(&url.URL{Scheme: "http", Host: "engine"})
	proxy.Transport = &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", d.Socket())
	}}
	g.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		crash := g.seen.Add(1) == g.at
		if crash && g.after {
			r = r.WithContext(context.WithoutCancel(r.Context()))
			proxy.ServeHTTP(discard{http.Header{}}, r)
		}
		switch {
		case crash:
			g.broken()
			panic(http.ErrAbortHandler)
		case g.refuses != "" && strings.Contains(r.URL.Path, g.refuses):
			http.Error(w, `{"message":"no"}`, http.StatusInternalServerError)
		default:
			proxy.ServeHTTP(w, r)
		}
	})
	l, err := net.Listen("unix", g.path)
	if err != nil {
		t.Fatal(err)
	}
	go func() { _ = g.Serve(l) }()
	t.Cleanup(func() { g.Close() })
	return g
}

// discard takes an answer that nobody will see.
type discard struct{ h http.Header }

func (d discard) Header() http.Header         { return d.h }
func (d discard) Write(p []byte) (int, error) { return len(p), nil }
func (d discard) WriteHeader(int)             {}

func TestDocker(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 8*time.Minute)
	defer cancel()
	d := dockertest.Start(t, ctx)
	image(t, ctx, d)
	args := playbook.Docker{Socket: d.Socket(), Label: "host=10.0.0.7", Do: "recreate"}
	do := func(a playbook.Docker) (string, error) { return New(nil).Do(ctx, call(a)) }

	t.Run("recreate", func(t *testing.T) {
		old := victim(t, ctx, d)
		result, err := do(args)
		if err != nil || result != "recreated web" {
			t.Fatalf("%q, %v", result, err)
		}
		checkHealed(t, ctx, d, old, "once")
		if out := docker(t, ctx, d, "logs", "web"); out != "start 1 shop" {
			t.Errorf("the new one says %q: is it the old one's disk?", out)
		}
		if _, err := do(args); err != nil { // the same attempt, made again
			t.Fatal(err)
		}
		checkHealed(t, ctx, d, old, "twice")
	})
	t.Run("restart", func(t *testing.T) {
		victim(t, ctx, d)
		restart := args
		restart.Do = "restart"
		if result, err := do(restart); err != nil || result != "restarted web" {
			t.Fatalf("%q, %v", result, err)
		}
		for out := ""; !strings.Contains(out, "start 2 shop") && ctx.Err() == nil; time.Sleep(10 * time.Millisecond) {
			out = docker(t, ctx, d, "logs", "web")
		}
	})
	t.Run("nobody is meant", func(t *testing.T) {
		for label, do := range map[string]string{"host=10.0.0.8": "recreate", "host=10.0.0.9": "restart", "host=": "restart"} {
			if _, err := New(nil).Do(ctx, call(playbook.Docker{Socket: d.Socket(), Label: label, Do: do})); !permanent(err) {
				t.Errorf("%s %s: %v", do, label, err)
			}
		}
	})
	t.Run("the new one does not start", func(t *testing.T) {
		old := victim(t, ctx, d)
		g := newGate(t, d)
		g.refuses = "/stop"
		through := args
		through.Socket = g.path
		if _, err := do(through); err == nil || !strings.Contains(err.Error(), "engine: no (500)") {
			t.Fatalf("%v", err)
		}
		got := docker(t, ctx, d, "inspect", "--format", `{{.Name}} {{.HostConfig.RestartPolicy.Name}} {{.State.Running}}`, old)
		if n := len(strings.Fields(docker(t, ctx, d, "ps", "--all", "--quiet"))); got != "/web always true" || n != 1 {
			t.Errorf("not put back: %s, %d containers", got, n)
		}
	})
	t.Run("cut off at every request", func(t *testing.T) { cutOff(t, ctx, d, args) })
}

// cutOff breaks the controller down at each request, before the engine gets it
// and after, and lets the next one make the attempt again.
func cutOff(t *testing.T, ctx context.Context, d *dockertest.Daemon, args playbook.Docker) {
	for _, after := range []bool{false, true} {
		for at := int64(1); ; at++ {
			name := fmt.Sprintf("request %d, after %v", at, after)
			old := victim(t, ctx, d)
			g := newGate(t, d)
			life, crash := context.WithCancel(ctx)
			g.at, g.after, g.broken = at, after, crash
			through := args
			through.Socket = g.path
			_, err := New(nil).Do(life, call(through))
			if err == nil {
				crash()
				if at < 8 {
					t.Errorf("only %d requests: the test shows too little", at)
				}
				break
			}
			if !errors.Is(life.Err(), context.Canceled) {
				t.Fatalf("%s: %v", name, err)
			}
			if _, err := New(nil).Do(ctx, call(args)); err != nil {
				t.Errorf("%s: made again: %v", name, err)
			}
			checkHealed(t, ctx, d, old, name)
		}
	}
}

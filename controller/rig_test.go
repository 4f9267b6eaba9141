package controller_test

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/platelet-sdn/platelet/controller/api"
	"github.com/platelet-sdn/platelet/lab/clab"
	"github.com/platelet-sdn/platelet/lab/ovs"
	"github.com/platelet-sdn/platelet/lab/runner"
)

// patience is how long a test waits for what should take milliseconds.
const patience = 45 * time.Second

// rig is a lab on a switch of its own, and a controller process beside it.
type rig struct {
	t       testing.TB
	dir     string
	ovs     *ovs.Instance
	lab     *runner.Lab
	bridge  string
	api     *api.Client
	socket  string
	config  string
	reach   string // section ovs of the configuration; empty for the local switch
	ports   [2]int
	nats    string // of a state that is shared; empty for one of its own
	process *exec.Cmd
	log     *os.File
}

// binary builds the program under test once.
func binary(t testing.TB) string {
	t.Helper()
	built.once.Do(func() {
		dir, err := os.MkdirTemp("", "plb")
		if err != nil {
			built.err = err
			return
		}
		built.path = filepath.Join(dir, "platelet")
		out, err := exec.Command("go", "build", "-o", built.path, "./cmd/platelet").CombinedOutput()
		if err != nil {
			built.err = fmt.Errorf("build: %w: %s", err, out)
		}
	})
	if built.err != nil {
		t.Fatal(built.err)
	}
	return built.path
}

var built struct {
	once sync.Once
	path string
	err  error
}

func TestMain(m *testing.M) {
	os.Exit(ovs.Isolate(func() int {
		defer func() {
			if built.path != "" {
				os.RemoveAll(filepath.Dir(built.path))
			}
		}()
		return m.Run()
	}))
}

// newRig brings lab/first up on a private switch. Names carry the process
// and a serial number, so that parallel runs and leftovers do not collide.
func newRig(t testing.TB, name string) *rig {
	t.Helper()
	return newRigOn(t, name, "../lab/first.clab.yml")
}

// newRigOn does so for another topology.
func newRigOn(t testing.TB, name, topology string) *rig {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Fatal("needs root, for namespaces and bridges: run it by make test")
	}
	ctx := t.Context()
	dir, err := os.MkdirTemp("", "pl")
	if err != nil {
		t.Fatal(err)
	}
	r := &rig{t: t, dir: dir, socket: filepath.Join(dir, "api.sock"), config: filepath.Join(dir, "c.yaml")}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if r.ovs, err = ovs.Start(ctx, dir); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := r.ovs.Stop(); err != nil {
			t.Errorf("stop Open vSwitch: %v", err)
		}
	})
	topo, err := clab.Load(topology)
	if err != nil {
		t.Fatal(err)
	}
	r.lab, err = runner.Up(ctx, topo, runner.Options{Name: name, DB: r.ovs.DB, StateDir: filepath.Join(dir, "lab"), Reconfigure: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		r.stop()
		if err := r.lab.Down(ctx); err != nil {
			t.Errorf("lab down: %v", err)
		}
	})
	r.bridge = r.lab.Bridges()[0]
	r.ports = [2]int{freePort(t), freePort(t)}
	r.api = api.NewClient(r.socket)
	return r
}

func freePort(t testing.TB) int {
	t.Helper()
	c, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	return c.LocalAddr().(*net.UDPAddr).Port
}

// start runs the controller with the given settings on top of the rig's, and
// waits until it cares for the bridge.
func (r *rig) start(settings string, args ...string) {
	r.t.Helper()
	r.startOnly(settings, args...)
	r.await("the bridge in care, with its tap", func() bool {
		flows, err := r.ovs.Ofctl(r.t.Context(), "-O", "OpenFlow14", "dump-flows", r.ovs.Mgmt(r.bridge))
		return err == nil && strings.Contains(flows, "collector_set_id")
	})
}

func (r *rig) startOnly(settings string, args ...string) {
	r.t.Helper()
	cfg := fmt.Sprintf("ovs: %s\nstate: {dir: %q, nats: %q}\napi: {socket: %q}\ntelemetry: {sflow: \"127.0.0.1:%d\", ipfix: \"127.0.0.1:%d\"}\n%s\n",
		cmp.Or(r.reach, fmt.Sprintf("{db: %q}", r.ovs.DB)), filepath.Join(r.dir, "state"), r.nats, r.socket, r.ports[0], r.ports[1], settings)
	if err := os.WriteFile(r.config, []byte(cfg), 0o600); err != nil {
		r.t.Fatal(err)
	}
	log, err := os.OpenFile(filepath.Join(r.dir, "platelet.log"), os.O_CREATE|os.O_APPEND|os.O_RDWR, 0o600)
	if err != nil {
		r.t.Fatal(err)
	}
	r.log = log
	r.process = exec.Command(binary(r.t), append([]string{"run", "-c", r.config}, args...)...)
	r.process.Stdout, r.process.Stderr = log, log
	if err := r.process.Start(); err != nil {
		r.t.Fatal(err)
	}
	r.await("an answer of the API", func() bool { return r.get("status", &struct{}{}) == nil })
}

// stop ends the controller in order; kill as a crash would.
func (r *rig) stop() { r.end(syscall.SIGTERM) }
func (r *rig) kill() { r.end(syscall.SIGKILL) }

func (r *rig) end(sig syscall.Signal) {
	if r.process == nil {
		return
	}
	p := r.process
	r.process = nil
	_ = p.Process.Signal(sig)
	late := time.AfterFunc(patience, func() { _ = p.Process.Kill() })
	err := p.Wait()
	if !late.Stop() {
		r.t.Error("the controller did not stop")
	}
	if sig == syscall.SIGTERM && err != nil {
		r.t.Errorf("the controller ended with %v", err)
	}
	r.dumpLog()
	r.log.Close()
}

func (r *rig) dumpLog() {
	if !r.t.Failed() {
		return
	}
	raw, _ := os.ReadFile(r.log.Name())
	r.t.Logf("log of the controller:\n%s", raw)
}

func (r *rig) get(what string, out any) error {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	return r.api.Get(ctx, what, out)
}

type decision struct {
	ID, Finding, Kind, Action, Target, State, Why, Who, Stage string
	At                                                        struct{ Switch, Port string }
	Guards                                                    []struct {
		Guard, Why string
		Pass       bool
	}
	Proof struct {
		Installed, Effective, Harmless bool
		Dropped, Passed                uint64
		Handed, Returned               uint64
	}
	Station                            struct{ Address, Port string }
	Detected, Applied, Verified, Ended time.Time
	Relapse                            int
}

type finding struct {
	ID, Kind, Host, State string
	Victims               []string
	Spoofed               bool
}

func (r *rig) decisions() []decision {
	r.t.Helper()
	var out []decision
	if err := r.get("decisions", &out); err != nil {
		return nil
	}
	return out
}

func (r *rig) findings() []finding {
	r.t.Helper()
	var out []finding
	if err := r.get("findings", &out); err != nil {
		r.t.Fatal(err)
	}
	return out
}

// await polls until a condition holds, generously.
func (r *rig) await(what string, ok func() bool) {
	r.t.Helper()
	deadline := time.After(patience)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-deadline:
			if r.log != nil {
				raw, _ := os.ReadFile(r.log.Name())
				r.t.Logf("log of the controller:\n%s", raw)
			}
			r.t.Fatalf("waited in vain for %s; decisions %+v", what, r.decisions())
		case <-tick.C:
		}
	}
}

// awaitState waits until some decision on a target is in a state.
func (r *rig) awaitState(target, state string) decision {
	r.t.Helper()
	var found decision
	r.await(target+" "+state, func() bool {
		for _, d := range r.decisions() {
			if strings.Contains(d.Target, target) && d.State == state {
				found = d
				return true
			}
		}
		return false
	})
	return found
}

// in runs a command inside a node and returns what it printed.
func (r *rig) in(node, program string, args ...string) (string, error) {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(r.t.Context(), patience)
	defer cancel()
	c, err := r.lab.Command(ctx, node, program, args...)
	if err != nil {
		r.t.Fatal(err)
	}
	out, err := c.CombinedOutput()
	return string(out), err
}

// background runs a command inside a node until the test ends.
func (r *rig) background(node, program string, args ...string) (stop func()) {
	r.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	c, err := r.lab.Command(ctx, node, program, args...)
	if err != nil {
		r.t.Fatal(err)
	}
	// In order, so that timeout ends what it runs, too.
	c.Cancel = func() error { return c.Process.Signal(syscall.SIGTERM) }
	c.WaitDelay = patience
	if err := c.Start(); err != nil {
		r.t.Fatal(err)
	}
	var once sync.Once
	stop = func() { once.Do(func() { cancel(); _ = c.Wait() }) }
	r.t.Cleanup(stop)
	return stop
}

// reaches reports whether one ping gets an answer.
func (r *rig) reaches(from string, to netip.Addr) bool {
	r.t.Helper()
	_, err := r.in(from, "ping", "-n", "-c1", "-W1", to.String())
	return err == nil
}

// awaitReach waits for an answer. A change of rules reaches the datapath some
// milliseconds after the tables, in this direction as in the other, so that a
// single ping right behind it may be lost.
func (r *rig) awaitReach(from string, to netip.Addr, when string) {
	r.t.Helper()
	r.await(fmt.Sprintf("a way from %s to %s %s", from, to, when), func() bool { return r.reaches(from, to) })
}

func (r *rig) addr(node string) netip.Addr {
	r.t.Helper()
	p, err := r.lab.Addr(node, "eth1")
	if err != nil {
		r.t.Fatal(err)
	}
	return p.Addr()
}

// scan probes closed ports as fast as real tools do.
func (r *rig) scan(from string, to netip.Addr) {
	r.t.Helper()
	out, err := r.in(from, "nmap", "-sS", "-n", "-Pn", "--min-rate", "1000", "--max-rate", "1000", "--max-retries", "0", "-p", "1-600", to.String())
	if err != nil {
		r.t.Fatalf("nmap: %v: %s", err, out)
	}
}

// emergency lists our emergency rules as the switch has them; a switch that
// does not answer has one, of that text.
func (r *rig) emergency() []string {
	out, err := r.ovs.Ofctl(r.t.Context(), "-O", "OpenFlow14", "dump-flows", r.ovs.Mgmt(r.bridge), "table=201,cookie=0x504c000300000000/0xffff00ff00000000")
	if err != nil {
		return []string{err.Error()}
	}
	var rules []string
	for line := range strings.Lines(out) {
		if strings.Contains(line, "cookie=0x504c") {
			rules = append(rules, strings.TrimSpace(line))
		}
	}
	return rules
}

// run runs the program under test.
func (r *rig) run(args ...string) (string, error) {
	r.t.Helper()
	var out bytes.Buffer
	c := exec.CommandContext(r.t.Context(), binary(r.t), args...)
	c.Stdout, c.Stderr = &out, &out
	err := c.Run()
	return out.String(), err
}

func pretty(v any) string {
	b, _ := json.MarshalIndent(v, "", " ")
	return string(b)
}

package ovsimport_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/shlex"
	"github.com/vishvananda/netlink"

	"github.com/platelet-sdn/platelet/lab/clab"
	"github.com/platelet-sdn/platelet/lab/namespace"
	"github.com/platelet-sdn/platelet/lab/ovs"
	"github.com/platelet-sdn/platelet/lab/ovsimport"
	"github.com/platelet-sdn/platelet/lab/runner"
)

func TestMain(m *testing.M) { os.Exit(ovs.Isolate(m.Run)) }

// rig is a private Open vSwitch, whose programs find it by OVS_RUNDIR.
type rig struct {
	*testing.T
	ctx context.Context
	ovs *ovs.Instance
	dir string
}

func newRig(t *testing.T) *rig {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	t.Cleanup(cancel)
	r := &rig{T: t, ctx: ctx}
	r.start()
	return r
}

// start starts an empty Open vSwitch.
func (r *rig) start() {
	r.Helper()
	dir, err := os.MkdirTemp("", "plimp") // t.TempDir is too long for sockets
	if err != nil {
		r.Fatal(err)
	}
	i, err := ovs.Start(r.ctx, dir)
	if err != nil {
		r.Fatal(err)
	}
	r.Cleanup(func() {
		if err := i.Stop(); err != nil {
			r.Error(err)
		}
		os.RemoveAll(dir)
	})
	r.ovs, r.dir = i, dir
	r.Setenv("OVS_RUNDIR", dir)
}

// do runs command lines, one per line; '#' begins a comment.
func (r *rig) do(lines string) {
	r.Helper()
	for line := range strings.Lines(lines) {
		if line = strings.TrimSpace(line); line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		r.out(line)
	}
}

// out runs a command line and returns what it prints.
func (r *rig) out(line string) string {
	r.Helper()
	words, err := shlex.Split(line)
	if err != nil {
		r.Fatalf("%s: %v", line, err)
	}
	out, err := exec.CommandContext(r.ctx, words[0], words[1:]...).CombinedOutput()
	if err != nil {
		r.Fatalf("%s: %v\n%s", line, err, out)
	}
	return string(out)
}

// guest makes a namespace with a cable to the switch.
func (r *rig) guest(ns, nic, port, mac string, addrs ...string) {
	r.Helper()
	if !namespace.Exists(ns) {
		r.do("ip netns add " + ns)
		r.Cleanup(func() {
			if err := namespace.Delete(ns); err != nil {
				r.Error(err)
			}
		})
	}
	r.do(fmt.Sprintf("ip link add %s mtu 1500 type veth peer name %s address %s mtu 1500 netns %s", port, nic, mac, ns))
	r.do("ethtool -K " + port + " tx off\nip link set " + port + " up\nip -n " + ns + " link set " + nic + " up\nip netns exec " + ns + " ethtool -K " + nic + " tx off")
	for _, a := range addrs {
		nodad := ""
		if strings.Contains(a, ":") {
			nodad = " nodad"
		}
		r.do("ip -n " + ns + " addr add " + a + " dev " + nic + nodad)
	}
}

// flows loads flows from text.
func (r *rig) flows(bridge, text string) {
	r.Helper()
	file := filepath.Join(r.TempDir(), "flows")
	if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
		r.Fatal(err)
	}
	r.do("ovs-ofctl -O OpenFlow10,OpenFlow13,OpenFlow14,OpenFlow15 add-flows " + bridge + " " + file)
}

func (r *rig) importHost(o ovsimport.Options) *ovsimport.Result {
	r.Helper()
	o.DB = r.ovs.DB
	res, err := ovsimport.Import(r.ctx, o)
	if err != nil {
		r.Fatal(err)
	}
	return res
}

// up writes a topology to a directory and brings it up.
func (r *rig) up(dir, name string, res *ovsimport.Result) *runner.Lab {
	r.Helper()
	for file, data := range res.Flows {
		if err := os.WriteFile(filepath.Join(dir, file), data, 0o644); err != nil {
			r.Fatal(err)
		}
	}
	file := filepath.Join(dir, name+".clab.yml")
	if err := os.WriteFile(file, res.Topology, 0o644); err != nil {
		r.Fatal(err)
	}
	topo, err := clab.Load(file)
	if err != nil {
		r.Fatalf("%v\n%s", err, res.Topology)
	}
	// The runner knows by itself which switch the lab is in.
	r.Setenv("OVS_RUNDIR", "/nonexistent")
	lab, err := runner.Up(r.ctx, topo, runner.Options{DB: r.ovs.DB, StateDir: filepath.Join(r.dir, "labs")})
	if err != nil {
		r.Fatalf("%v\n%s", err, res.Topology)
	}
	r.Setenv("OVS_RUNDIR", r.dir)
	r.Cleanup(func() {
		if err := lab.Down(context.Background()); err != nil && !errors.Is(err, fs.ErrNotExist) {
			r.Error(err)
		}
	})
	return lab
}

// old reports whether a bridge speaks nothing that knows groups and meters.
func (r *rig) old(bridge string) bool {
	r.Helper()
	return strings.TrimSpace(r.out("ovs-vsctl get bridge "+bridge+" protocols")) == "[OpenFlow10]"
}

// dump is what a bridge is programmed with, without what is counted.
func (r *rig) dump(bridge string) string {
	r.Helper()
	const versions = " -O OpenFlow10,OpenFlow13,OpenFlow15 "
	var out []string
	verbs := []string{"dump-flows --no-stats", "dump-groups", "dump-meters"}
	if r.old(bridge) {
		verbs = verbs[:1]
	}
	for _, verb := range verbs {
		text := r.out("ovs-ofctl --no-names" + versions + verb + " " + bridge)
		lines := strings.Split(strings.TrimSpace(text), "\n")
		if strings.Contains(lines[0], "(xid=") {
			lines = lines[1:]
		}
		for i := range lines {
			lines[i] = strings.TrimSpace(lines[i])
		}
		if verb != "dump-meters" {
			slices.Sort(lines)
		}
		out = append(out, strings.Join(lines, "\n"))
	}
	return strings.Join(out, "\n--\n")
}

// trace asks the switch what it would do with a packet, naming the ports
// that the packet would leave by.
func (r *rig) trace(bridge, packet string) string {
	r.Helper()
	text, err := r.ovs.Appctl(r.ctx, "ofproto/trace", "--names", bridge, packet)
	if err != nil {
		r.Fatal(err)
	}
	at := strings.LastIndex(text, "Datapath actions: ")
	if at < 0 {
		r.Fatalf("trace of %s on %s: %s", packet, bridge, text)
	}
	return strings.TrimSpace(text[at:])
}

// sameText reports the first lines in which two texts differ.
func (r *rig) sameText(what string, got, want []byte) {
	r.Helper()
	if bytes.Equal(got, want) {
		return
	}
	g, w := strings.Split(string(got), "\n"), strings.Split(string(want), "\n")
	for i := range max(len(g), len(w)) {
		a, b := "(end)", "(end)"
		if i < len(g) {
			a = g[i]
		}
		if i < len(w) {
			b = w[i]
		}
		if a != b {
			r.Errorf("%s differs in line %d:\n got %s\nwant %s", what, i+1, a, b)
			return
		}
	}
}

// pings tries each pair at once and tells which get through. run prepares a
// program inside a host.
func (r *rig) pings(pairs [][2]string, run func(host, program string, args ...string) *namespace.Cmd) string {
	r.Helper()
	out := make([]string, len(pairs))
	done := make(chan int)
	for i, p := range pairs {
		go func() {
			got := "no"
			if run(p[0], "ping", "-c", "3", "-i", "0.2", "-W", "2", p[1]).Run() == nil {
				got = "yes"
			}
			out[i] = p[0] + " > " + p[1] + " " + got
			done <- i
		}()
	}
	for range pairs {
		<-done
	}
	return strings.Join(out, "\n")
}

var notCarried = regexp.MustCompile(`(?s)#\n# Not carried over:\n.*?\nname:`)

// withoutNotes leaves out what the first import could not carry: the lab has
// nothing of that left to report.
func withoutNotes(topology []byte) []byte {
	return notCarried.ReplaceAll(topology, []byte("name:"))
}

func itoa(n int) string { return strconv.Itoa(n) }

func deleteLink(name string) error {
	l, err := netlink.LinkByName(name)
	if err != nil {
		return err
	}
	return netlink.LinkDel(l)
}

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/platelet-sdn/platelet/lab/agent"
	"github.com/platelet-sdn/platelet/lab/attack"
	"github.com/platelet-sdn/platelet/lab/labtest"
	"github.com/platelet-sdn/platelet/lab/runner"
)

// TestLabAttack attacks a running lab from outside and from inside a node.
func TestLabAttack(t *testing.T) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	env := labtest.New(ctx, t, "../../../lab/first.clab.yml")
	lab := env.Up(ctx, t)
	where := []string{"--db", env.Options.DB, "--state-dir", env.Options.StateDir}
	lab1 := append([]string{"lab", "attack", lab.Name()}, where...)
	t.Run("attacks", func(t *testing.T) { attacksOnce(t, lab1) })
	t.Run("faults", func(t *testing.T) {
		for _, c := range []struct {
			args []string
			code int
			want string
		}{
			{[]string{"port-scam"}, 2, `did you mean "port-scan"?`},
			{[]string{"port-scan", "--from", "h9"}, 1, `"h9" is no node that can attack`},
			{[]string{"port-scan", "--from", "pl-first"}, 1, "is no node that can attack"},
			{[]string{"port-scan", "--rate", "-1"}, 2, "rate -1"},
			{[]string{"port-scan", "--rate", "1e9"}, 2, "want 0 to 1000000"},
			{[]string{"port-scan", "--for", "0"}, 2, "for 0s"},
			{[]string{"port-scan", "--for", "25h"}, 2, "at most 1h"},
			{[]string{"port-scan", "-o", "xml"}, 2, `"xml" is not text or json`},
			{[]string{"hping3-udp-flood", "--rate", "5"}, 2, "hping3, which keeps its own rate"},
			{[]string{}, 2, "name a running lab and an attack"},
			{[]string{"port-scan", "--list"}, 2, "--list takes no arguments"},
		} {
			if _, code, err := call(t, append(append([]string{}, lab1...), c.args...)...); code != c.code || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%v: exit %d, %v; want %d, %q", c.args, code, err, c.code, c.want)
			}
		}
		if _, code, err := call(t, append([]string{"lab", "attack", "nolab", "port-scan"}, where...)...); code != 1 || !strings.Contains(err.Error(), "nolab does not run") {
			t.Errorf("no lab: exit %d, %v", code, err)
		}
	})
	t.Run("interrupted", func(t *testing.T) { attackInterrupted(ctx, t, lab, lab1) })
	t.Run("inside a node", func(t *testing.T) { attacksInside(ctx, t, lab, where) })
}

func attacksOnce(t *testing.T, lab []string) {
	truth := filepath.Join(t.TempDir(), "truth.jsonl")
	out, code, err := call(t, append(lab, "port-scan,syn-flood", "--rate", "500", "--packets", "250", "--truth", truth, "-o", "json")...)
	if code != 0 {
		t.Fatal(err)
	}
	dec := json.NewDecoder(strings.NewReader(out))
	for _, name := range []string{"port-scan", "syn-flood"} {
		var s summary
		if err := dec.Decode(&s); err != nil || s.Attack != name || s.From != "h5" || s.Packets != 250 || s.Bytes < 250*54 || s.Rate > 525 { // a busy machine is slower
			t.Errorf("%v: %+v", err, s)
		}
	}
	lines, err := os.ReadFile(truth)
	if err != nil || bytes.Count(lines, []byte(`"behaviour":"port-scan"`)) != 250 || !bytes.Contains(lines, []byte(`"action":"burst"`)) {
		t.Errorf("ground truth: %v: %.400s", err, lines)
	}
	out, code, err = call(t, append(lab, "arp-sweep", "--packets", "20", "--truth", "-", "--from", "h3")...)
	if code != 0 || strings.Count(out, "\n") != 20 || !strings.Contains(out, `"agent":"h3"`) {
		t.Errorf("exit %d, %v: %s", code, err, out)
	}
	// A tool, and an attack through the kernel's sockets.
	out, code, err = call(t, append(lab, "nmap-host-sweep,connect-scan", "--for", "2s")...)
	if code != 0 || strings.Count(out, " packets in ") != 2 {
		t.Errorf("exit %d, %v: %s", code, err, out)
	}
}

// attackInterrupted interrupts an attack that has prepared something: it ends,
// undoes that, and the ground truth is whole.
func attackInterrupted(ctx context.Context, t *testing.T, lab *runner.Lab, args []string) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	truth := filepath.Join(t.TempDir(), "truth.jsonl")
	cmd := exec.CommandContext(ctx, self, append(args[:len(args):len(args)], "distributed-scan", "--for", "50s", "--rate", "100", "--truth", truth)...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	sent := func() uint64 {
		counter, err := attack.NewCounter(lab, attack.Roles{Attacker: "h5", AttackerIface: "eth1"})
		if err != nil {
			t.Fatal(err)
		}
		defer counter.Close()
		n, err := counter.Sent()
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	addresses := func() int {
		all, err := lab.Addrs("h5", "eth1")
		if err != nil {
			t.Fatal(err)
		}
		return len(all)
	}
	before, had := sent(), addresses()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	waitFor(ctx, t, "the attack", func() bool { return sent() > before+20 })
	if addresses() <= had {
		t.Error("it took no further addresses")
	}
	if err := cmd.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err == nil || cmd.ProcessState.ExitCode() != 1 || !strings.Contains(out.String(), "canceled after") {
		t.Errorf("%v: %s", err, out.String())
	}
	if now := addresses(); now != had {
		t.Errorf("%d addresses are left, there were %d", now, had)
	}
	raw, err := os.ReadFile(truth)
	if lines := bytes.Split(bytes.TrimSpace(raw), []byte("\n")); err != nil || len(lines) < 20 || !json.Valid(lines[len(lines)-1]) {
		t.Errorf("ground truth: %v, %d lines", err, len(lines))
	}
}

func attacksInside(ctx context.Context, t *testing.T, lab *runner.Lab, where []string) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	args := append([]string{"lab", "agent", "attack", "port-scan", "--iface", "eth1", "--to", "10.77.0.11", "--packets", "50", "-o", "json"}, where...)
	cmd, err := lab.Command(ctx, "h6", self, args...)
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.CombinedOutput()
	var s summary
	if err != nil || json.Unmarshal(out, &s) != nil || s.Packets != 50 || s.From != "h6" {
		t.Errorf("%v: %s", err, out)
	}
	for _, c := range []struct {
		args []string
		want string
	}{
		{[]string{"port-scan", "--iface", "eth1", "--to", "8.8.8.8"}, "outside the lab: 8.8.8.8"},
		{[]string{"port-scan", "--iface", "eth0", "--to", "10.77.0.11"}, "is for management"},
		{[]string{"port-scan", "--iface", "eth1"}, "there is no address to attack"},
		{[]string{"port-scan", "--to", "10.77.0.11"}, `"iface" not set`},
		{[]string{"dns-amplification", "--iface", "eth1", "--to", "10.77.0.11"}, "one agent alone cannot play it"},
		{[]string{"worm", "--iface", "eth1", "--to", "10.77.0.11"}, "one agent alone cannot play it"},
		{[]string{"port-scan", "--iface", "eth1", "--to", "h1"}, "--to"},
		{[]string{"port-scan", "--iface", "eth1", "--to", "10.77.0.11", "--net", "10.0.0.0/33"}, "--net"},
	} {
		cmd, err := lab.Command(ctx, "h6", self, append(append([]string{"lab", "agent", "attack"}, c.args...), where...)...)
		if err != nil {
			t.Fatal(err)
		}
		if out, err := cmd.CombinedOutput(); err == nil || !strings.Contains(string(out), c.want) {
			t.Errorf("%v: %v: %s; want %q", c.args, err, out, c.want)
		}
	}
	if _, code, err := call(t, args...); code != 1 || !strings.Contains(err.Error(), agent.ErrOutside.Error()) {
		t.Errorf("outside any node: exit %d, %v", code, err)
	}
}

func TestAttackCatalogue(t *testing.T) {
	out, code, err := call(t, "lab", "attack", "--list", "-o", "json")
	var all []entry
	if code != 0 || json.Unmarshal([]byte(out), &all) != nil || len(all) != len(attack.All()) {
		t.Fatalf("exit %d, %v: %s", code, err, out)
	}
	for _, e := range all {
		if e.Name == "" || e.Finding == "" || e.Technique == "" || e.About == "" {
			t.Errorf("%+v", e)
		}
	}
	if text, _, _ := call(t, "lab", "attack", "--list"); strings.Count(text, "\n") != len(all)+1 || !strings.Contains(text, "hping3-udp-flood") {
		t.Errorf("as text:\n%s", text)
	}
}

// TestIdleIsAFirstProcess runs the agent as the first process of a process
// namespace, as in a container: it takes orphans in, and ends when told to.
func TestIdleIsAFirstProcess(t *testing.T) {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(ctx, self, "lab", "agent", "idle")
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWPID, Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = cmd.Process.Kill() }()
	pid := strconv.Itoa(cmd.Process.Pid)
	orphan := exec.CommandContext(ctx, "nsenter", "--target", pid, "--pid", "sh", "-c", "sleep 1 >/dev/null 2>&1 &")
	if out, err := orphan.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	children := func() string {
		raw, err := os.ReadFile("/proc/" + pid + "/task/" + pid + "/children")
		if err != nil {
			t.Fatal(err)
		}
		return strings.TrimSpace(string(raw))
	}
	waitFor(ctx, t, "the orphan to be taken in", func() bool { return children() != "" })
	// That it is reaped shows that idle has come to listen for signals, too.
	waitFor(ctx, t, "the orphan to be reaped", func() bool { return children() == "" })
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Errorf("ended by %v", err)
	}
}

func waitFor(ctx context.Context, t *testing.T, what string, is func() bool) {
	t.Helper()
	for !is() {
		if ctx.Err() != nil {
			t.Fatalf("waited in vain for %s", what)
		}
		time.Sleep(time.Millisecond)
	}
}

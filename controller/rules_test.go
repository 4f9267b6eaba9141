package controller_test

import (
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// command runs the program against the rig's controller and returns what it
// prints and its exit code.
func (r *rig) command(args ...string) (string, int) {
	r.t.Helper()
	out, err := exec.Command(binary(r.t), append(args, "--socket", r.socket)...).Output()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		r.t.Fatal(err)
	}
	if exit != nil {
		return string(out) + string(exit.Stderr), exit.ExitCode()
	}
	return string(out), 0
}

// ours returns the flows of ours on the switch, sorted.
func (r *rig) ours() string {
	r.t.Helper()
	out, err := r.ovs.Ofctl(r.t.Context(), "-O", "OpenFlow14", "dump-flows", "--no-stats", r.ovs.Mgmt(r.bridge), "cookie=0x504c000000000000/0xffff000000000000")
	if err != nil {
		r.t.Fatal(err)
	}
	lines := strings.Split(out, "\n")
	slices.Sort(lines)
	return strings.Join(lines, "\n")
}

// ofctl runs COMMAND on the rig's bridge.
func (r *rig) ofctl(command string, args ...string) string {
	r.t.Helper()
	out, err := r.ovs.Ofctl(r.t.Context(), append([]string{"-O", "OpenFlow14", command, r.ovs.Mgmt(r.bridge)}, args...)...)
	if err != nil {
		r.t.Fatal(err)
	}
	return out
}

func TestRulesAreShownComparedAndInstalledAgain(t *testing.T) {
	r := newRig(t, "plt-rules")
	r.start("mode: autonomous\nresponse: {ttl: 30m, min_hold: 20m, quiet_for: 20m}\n")
	r.scan("h5", r.addr("h1"))
	d := r.awaitState(r.addr("h5").String(), "verified")
	r.await("no drift", func() bool {
		out, code := r.command("rules", "diff")
		return code == 0 && out == ""
	})
	r.showsDrift()

	text, code := r.command("rules", "-o", "flows", "--bridge", r.bridge)
	if code != 0 || !strings.Contains(text, " of "+d.ID+": ") || !strings.Contains(text, "# "+r.bridge+": emergency\n") {
		t.Fatalf("exit %d: %s", code, text)
	}
	before := r.ours()
	r.kill() // what it left is not healed any more
	file := filepath.Join(r.dir, "flows")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if r.ofctl("del-flows", "cookie=0x504c000000000000/0xffff000000000000"); r.ours() != "" {
		t.Fatalf("left: %s", r.ours())
	}
	r.ofctl("add-flows", file)
	if after := r.ours(); after != before {
		t.Errorf("before\n%s\nafter\n%s\nfrom\n%s", before, after, text)
	}
	if out, code := r.command("rules", "diff"); code != 2 {
		t.Errorf("without a controller: exit %d: %s", code, out)
	}
}

// showsDrift puts a foreign flow into one of our tables, which stays as long
// as its owner lets it, and takes it away again.
func (r *rig) showsDrift() {
	r.t.Helper()
	const foreign = "table=203,priority=7,ip,nw_src=10.9.8.7"
	r.ofctl("add-flow", foreign+",cookie=0xf,actions=drop")
	out, code := r.command("rules", "diff", "--bridge", r.bridge)
	if code != 1 || !strings.Contains(out, "+priority=7,ip,nw_src=10.9.8.7,table=203,") || !strings.Contains(out, "# foreign flow admit") ||
		!strings.Contains(out, "drift on 1 of 1 switches, 1 in all") {
		r.t.Errorf("exit %d: %s", code, out)
	}
	var drift []struct {
		Switch string
		Drift  []struct{ Kind, What, Table, Have string }
	}
	out, code = r.command("rules", "diff", "-o", "json")
	if err := json.NewDecoder(strings.NewReader(out)).Decode(&drift); err != nil || code != 1 || len(drift) != 1 ||
		drift[0].Switch != r.bridge || len(drift[0].Drift) != 1 || drift[0].Drift[0].Kind != "foreign" {
		r.t.Errorf("exit %d, %v: %s", code, err, out)
	}
	r.ofctl("del-flows", "--strict", foreign)
	if out, code := r.command("rules", "diff", "--bridge", "nowhere"); code != 2 {
		r.t.Errorf("a bridge that is not there: exit %d: %s", code, out)
	}
}

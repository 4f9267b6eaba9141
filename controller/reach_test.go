package controller_test

import (
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// The database and the bridge over mutual TLS, with keys from Open vSwitch's
// own tool: what is detected is contained there as on the local switch. Both
// directions: the bridge listens, or dials us.
func TestContainmentOverTLS(t *testing.T) {
	for _, c := range []struct{ name, theirs, ours string }{
		{"plt-pssl", "pssl:%d:127.0.0.1", "ssl:127.0.0.1:%d"},
		{"plt-ssl", "ssl:127.0.0.1:%d", "pssl:%d:127.0.0.1"},
	} {
		t.Run(strings.TrimPrefix(c.name, "plt-"), func(t *testing.T) {
			keys := tlsFiles(t) // first, so that they outlive the switch
			r := newRig(t, c.name)
			db, of := freePort(t), freePort(t)
			r.ctl("set-ssl", keys("sw-privkey.pem"), keys("sw-cert.pem"), keys("pki/controllerca/cacert.pem"))
			r.ctl("set-manager", fmt.Sprintf("pssl:%d:127.0.0.1", db))
			r.ctl("set-fail-mode", r.bridge, "secure", "--", "set", "bridge", r.bridge, "other-config:disable-in-band=true",
				"--", "set-controller", r.bridge, fmt.Sprintf(c.theirs, of))
			// Where that flushed the bridge, its owner programs it again.
			if _, err := r.ovs.Ofctl(t.Context(), "-O", "OpenFlow14", "add-flow", r.ovs.Mgmt(r.bridge), "priority=0,actions=NORMAL"); err != nil {
				t.Fatal(err)
			}
			target := fmt.Sprintf(c.ours, of)
			r.reach = fmt.Sprintf("{db: \"ssl:127.0.0.1:%d\", openflow: {%s: %q}, tls: {ca: %q, certificate: %q, key: %q, names: {127.0.0.1: sw}}}",
				db, r.bridge, target, keys("pki/switchca/cacert.pem"), keys("us-cert.pem"), keys("us-privkey.pem"))
			r.start(quick)
			var status struct {
				Switches []struct{ Name, Target, State string }
			}
			if err := r.get("status", &status); err != nil || len(status.Switches) != 1 || status.Switches[0].Target != target {
				t.Fatalf("status %+v, %v: want target %s", status, err, target)
			}
			bad, web := r.addr("h5"), r.addr("h1")
			r.awaitReach("h5", web, "before the attack")
			r.scan("h5", web)
			r.awaitState(bad.String(), "verified")
			if r.reaches("h5", web) {
				t.Error("the quarantined host reaches its victim")
			}
			r.awaitReach("h3", web, "beside the containment")
		})
	}
}

func (r *rig) ctl(args ...string) {
	r.t.Helper()
	if _, err := r.ovs.Ctl(r.t.Context(), args...); err != nil {
		r.t.Fatal(err)
	}
}

// tlsFiles makes a switch "sw" and a controller "us", and finds their files.
func tlsFiles(t *testing.T) func(string) string {
	t.Helper()
	dir := t.TempDir()
	for _, args := range [][]string{{"init"}, {"req+sign", "sw", "switch"}, {"req+sign", "us", "controller"}} {
		cmd := exec.Command("ovs-pki", append([]string{"--dir=" + filepath.Join(dir, "pki"), "--log=" + filepath.Join(dir, "log"), "--unique", "--batch"}, args...)...)
		cmd.Dir = dir
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("ovs-pki %v: %v: %s", args, err, out)
		}
	}
	return func(name string) string { return filepath.Join(dir, name) }
}

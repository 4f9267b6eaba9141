package controller_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// switchContent is everything that a switch holds: all that was ever committed to
// its database but counters and states, which are nowhere written down, and each
// flow, hidden ones too, group and meter.
func (r *rig) switchContent() map[string]string {
	r.t.Helper()
	raw, err := os.ReadFile(filepath.Join(r.ovs.Dir, "conf.db"))
	if err != nil {
		r.t.Fatal(err)
	}
	out := map[string]string{"the database": string(raw)}
	hidden, err := r.ovs.Appctl(r.t.Context(), "bridge/dump-flows", "--offload-stats", r.bridge)
	if err != nil {
		r.t.Fatal(err)
	}
	out["hidden flows"] = fmt.Sprint(strings.Count(hidden, "\n"))
	for what, args := range map[string][]string{"flows": {"--no-stats", "dump-flows"}, "groups": {"dump-groups"}, "meters": {"dump-meters"}} {
		for line := range strings.Lines(r.ofctl(args[len(args)-1], args[:len(args)-1]...)) {
			if !strings.Contains(line, "OFPST") { // which has a transaction's number
				out[what] += line
			}
		}
	}
	return out
}

// unchanged expects that a switch holds what it held before.
func (r *rig) unchanged(before map[string]string) {
	r.t.Helper()
	for what, is := range r.switchContent() {
		if is != before[what] {
			r.t.Errorf("%s changed:\n%s\nbefore:\n%s", what, is, before[what])
		}
	}
}

// What a careful engineer does first: point the controller at a switch in
// production, which exports already, and look at what policies would deny, have
// one learned, and change nothing. Policies of either mode act on nobody.
func TestReadOnlyJudgesPolicies(t *testing.T) {
	r := newRig(t, "plt-rop")
	r.serve("h1", 8080)
	web, client, bad := r.addr("h1"), r.addr("h3"), r.addr("h5")
	for name, exports := range map[string][]string{
		"sFlow": {"--", "--id=@x", "create", "sFlow", fmt.Sprintf(`targets="127.0.0.1:%d"`, r.ports[0]), "sampling=1", "header=128", "agent=lo", "--", "set", "bridge", r.bridge, "sflow=@x"},
		"IPFIX": {"--", "--id=@x", "create", "IPFIX", fmt.Sprintf(`targets="127.0.0.1:%d"`, r.ports[1]), "sampling=1", "cache_active_timeout=1", "--", "set", "bridge", r.bridge, "ipfix=@x"},
	} {
		t.Run(name, func(t *testing.T) {
			r.t = t
			r.ctl("--", "clear", "bridge", r.bridge, "sflow", "--", "clear", "bridge", r.bridge, "ipfix")
			before := r.switchContent()
			r.startOnly(quick+r.withPolicies(strings.Replace(threeTier, "mode: enforce", "mode: staged", 1)), "--read-only")
			defer r.stop()
			r.unchanged(before)
			r.ctl(exports...) // now: Open vSwitch sends templates when an export begins, and then every ten minutes
			before = r.switchContent()
			r.await("the denials that would have been", func() bool {
				if !r.opens("h3", web, 8080) || !r.opens("h5", web, 8080) {
					t.Fatal("a policy acts on a switch that must not be changed")
				}
				out, err := r.run("policy", "staged", "--socket", r.socket)
				return err == nil && strings.Contains(out, "web-default/ingress/rest: deny") && strings.Contains(out, bad.String())
			})
			r.readOnlyShows("ls", "application 100 web-ingress staged staged 1 of 1 web", "baseline 0 web-default enforce not-enforced 1 of 1 web", "read-only: nothing is enforced")
			r.await("the hits of both rules", func() bool {
				if !r.opens("h3", web, 8080) || !r.opens("h5", web, 8080) {
					t.Fatal("a policy acts on a switch that must not be changed")
				}
				out, err := r.run("policy", "hits", "--socket", r.socket)
				for _, rule := range []string{"ingress web-ingress clients allow ", "ingress web-default rest deny "} {
					line := words(out)
					if i := strings.Index(line, rule); i < 0 || line[i+len(rule)] == '0' {
						return false
					}
				}
				return err == nil && strings.Contains(out, "no switch counts")
			})
			r.readOnlyShows("workloads", client.String(), "role=client")

			inventory, err := r.run("policy", "workloads", "-o", "yaml", "--socket", r.socket)
			if err != nil {
				t.Fatal(err)
			}
			r.write("workloads.yaml", inventory)
			at := func(name string) string { return filepath.Join(r.dir, name) }
			for from, want := range map[string]string{client.String(): "allow", bad.String(): "deny"} {
				out, err := r.run("policy", "trace", at("policies.yaml"), "--inventory", at("workloads.yaml"), "--staged", "--from", from, "--to", web.String(), "--port", "8080")
				if err != nil || !strings.HasPrefix(out, want+":") {
					t.Errorf("trace from %s: %v\n%s", from, err, out)
				}
			}
			r.await("a policy that was learned", func() bool {
				if !r.opens("h3", web, 8080) {
					t.Fatal("a policy acts on a switch that must not be changed")
				}
				out, err := r.run("policy", "recommend", "--socket", r.socket, "--min-confidence", "0.1")
				return err == nil && strings.Contains(out, "8080")
			})
			if out, err := r.run("policy", "reload", "--socket", r.socket); err != nil {
				t.Errorf("%v\n%s", err, out)
			}
			for _, f := range r.findings() {
				if f.Kind == "policy-violation" {
					t.Errorf("%s accused of what nothing forbids", f.Host)
				}
			}
			r.stop()
			r.unchanged(before)
		})
	}
	r.t = t
}

// words is a text with one space between its words.
func words(text string) string { return strings.Join(strings.Fields(text), " ") }

// readOnlyShows expects words in what a command about policies prints.
func (r *rig) readOnlyShows(command string, want ...string) {
	r.t.Helper()
	out, err := r.run("policy", command, "--socket", r.socket)
	if err != nil {
		r.t.Fatalf("policy %s: %v\n%s", command, err, out)
	}
	for _, w := range want {
		if !strings.Contains(words(out), w) {
			r.t.Errorf("policy %s: %q is not in\n%s", command, w, out)
		}
	}
}

package controller_test

import (
	"net/netip"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"
)

// fenced keeps desktops from the web server, and from sending in the name of
// anybody else.
const fenced = `apiVersion: segmentation/v1
groups:
  desktops: {selector: {app: desktop}}
  servers: {selector: {role: server}}
protected: [10.77.0.1]
sourceGuards:
- {name: own, mode: enforce, appliesTo: [any]}
policies:
- name: desktops-out
  tier: application
  priority: 1
  mode: enforce
  appliesTo: [desktops]
  egress: [{name: no-servers, action: deny, to: [servers]}]
`

type sourceRow struct {
	Guard, Mode, Switch, Port, Workload, Why string
	Addrs                                    []netip.Addr
	Packets                                  uint64
}

// source is what a source guard does at a node's port.
func (r *rig) source(node string) (out sourceRow) {
	r.t.Helper()
	var rows []sourceRow
	if err := r.get("policies/sources", &rows); err != nil {
		r.t.Fatal(err)
	}
	for _, x := range rows {
		if x.Port == r.portOf(node) {
			return x
		}
	}
	return out
}

// declare says whose addresses a node's port has.
func (r *rig) declare(node, addrs string) {
	r.t.Helper()
	r.ctl("set", "interface", r.portOf(node), `external_ids:platelet-ips="`+addrs+`"`)
}

// forge sends SYNs to a host in the name of another one, and says how many.
func (r *rig) forge(node string, as, to netip.Addr) uint64 {
	// It ends with an error where nobody answers.
	_, _ = r.in(node, "hping3", "--spoof", as.String(), "-S", "-p", "8080", "-c", "40", "-i", "u1000", "-q", to.String())
	return 40
}

// Who forges his source escapes the egress rules of his group, until his
// addresses are declared: from then on what he forges is dropped at his port,
// he is named, and the host in whose name he sent is left in peace. What is
// declared is heeded at once.
func TestForgedSourcesAreDroppedAndNamed(t *testing.T) {
	r := newRig(t, "plt-src")
	r.serve("h1", 8080)
	web, guest := r.addr("h1"), netip.MustParseAddr("10.77.0.200")
	seen := make(chan struct{}, 1000)
	r.frames("h1", func(f []byte) bool {
		if len(f) > 38 && f[12] == 8 && f[13] == 0 && f[23] == 6 && netip.AddrFrom4([4]byte(f[26:30])) == guest {
			seen <- struct{}{}
		}
		return false
	})
	r.start(quick + r.withPolicies(fenced))
	r.await("the policy in force", func() bool { return !r.opens("h5", web, 8080) })
	r.forge("h5", guest, web)
	r.await("forged packets past the rule", func() bool { return len(seen) > 0 })
	if x := r.source("h5"); x.Mode != "open" || x.Why != "its addresses are not declared" {
		t.Errorf("%+v", x)
	}

	r.declare("h5", "10.77.0.15 fd77::15")
	r.declare("gw", "10.77.0.1")
	r.await("the guard", func() bool { return r.source("h5").Mode == "enforce" })
	r.await("the gateway left open", func() bool { x := r.source("gw"); return x.Mode == "open" && x.Why == "10.77.0.1 is protected" })
	for len(seen) > 0 {
		<-seen
	}
	n := r.forge("h5", guest, web)
	r.await("all that is forged to be dropped", func() bool { return r.source("h5").Packets >= n })
	if len(seen) > 0 {
		t.Errorf("%d of %d forged packets arrived", len(seen), n)
	}
	r.awaitReach("h5", r.addr("h3"), "an honest host")
	var f finding
	r.await("the finding", func() bool {
		r.forge("h5", r.addr("h3"), web)
		for _, x := range r.findings() {
			if x.Kind == "ip-spoof" && x.Host == r.addr("h5").String() {
				f = x
				return true
			}
		}
		return false
	})
	if out, err := r.run("explain", f.ID, "--socket", r.socket); err != nil || !strings.Contains(out, "Source guard own at "+r.bridge+"/"+r.portOf("h5")) {
		t.Errorf("%v\n%s", err, out)
	}
	for _, x := range r.findings() {
		if x.Host == r.addr("h3").String() {
			t.Errorf("whose address was forged is accused: %+v", x)
		}
	}
	if len(r.emergency()) > 0 {
		t.Errorf("somebody is contained: %v", r.emergency())
	}
	for command, want := range map[string]string{"sources": "its addresses are not declared", "hits": "source at " + r.portOf("h5")} {
		if out, err := r.run("policy", command, "--socket", r.socket); err != nil || !strings.Contains(out, want) {
			t.Errorf("policy %s: %v\n%s", command, err, out)
		}
	}
}

// A second address passes as soon as it is declared; a guard that is only
// staged counts; one that was enforced goes on while the controller is away.
func TestGuardsFollowWhatIsDeclared(t *testing.T) {
	r := newRig(t, "plt-srf")
	r.start(quick + r.withPolicies(fenced))
	second, peer := "10.77.0.99", r.addr("h3")
	r.declare("h5", "10.77.0.15")
	r.await("the guard", func() bool { return r.source("h5").Mode == "enforce" })
	if _, err := r.in("h5", "ip", "addr", "add", second+"/24", "dev", "eth1"); err != nil {
		t.Fatal(err)
	}
	// Else its questions for the peer are refused, and no packet follows.
	if _, err := r.in("h5", "ip", "neigh", "replace", peer.String(), "lladdr", r.mac("h3").String(), "dev", "eth1"); err != nil {
		t.Fatal(err)
	}
	passes := func() bool {
		_, err := r.in("h5", "ping", "-n", "-q", "-c", "1", "-W", "1", "-I", second, peer.String())
		return err == nil
	}
	r.await("the second address refused", func() bool { return !passes() })
	before := r.source("h5").Packets
	pings := make(chan string, 1)
	go func() {
		out, _ := r.in("h5", "ping", "-n", "-D", "-i", "0.005", "-w", "5", "-I", second, peer.String())
		pings <- out
	}()
	r.await("pings to be refused", func() bool { return r.source("h5").Packets > before+3 })
	r.declare("h5", "10.77.0.15,"+second)
	declared := float64(time.Now().UnixMicro()) / 1e6
	r.await("the second address let through", passes)
	if m := regexp.MustCompile(`(?m)^\[([0-9.]+)\] 64 bytes`).FindStringSubmatch(<-pings); m != nil {
		first, _ := strconv.ParseFloat(m[1], 64)
		t.Logf("the first packet passed %.1f ms after the address was declared", (first-declared)*1e3)
	}
	if after := r.source("h5").Packets; before == 0 || after < before {
		t.Errorf("%d packets were counted, then %d", before, after)
	}
	r.declare("h5", "10.77.0.15")
	r.await("the second address refused again", func() bool { return !passes() })

	r.kill()
	if passes() {
		t.Error("the guard ends with the controller")
	}
	r.start(quick + "segmentation: {policies: [policies.yaml]}\n")
	r.await("the guard taken over", func() bool { return r.source("h5").Mode == "enforce" })
	if passes() {
		t.Error("the guard ends with the controller's start")
	}
	r.policies(strings.Replace(fenced, "{name: own, mode: enforce", "{name: own, mode: staged", 1))
	r.await("the second address let through, as the guard is staged", passes)
	r.await("it to be counted", func() bool { x := r.source("h5"); return x.Mode == "staged" && x.Packets > 0 })
}

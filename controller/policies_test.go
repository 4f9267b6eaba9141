package controller_test

import (
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/platelet-sdn/platelet/controller/segment"
)

// threeTier lets clients reach the web server's port 8080, and nobody anything
// else of it.
const threeTier = `apiVersion: segmentation/v1
groups:
  web: {selector: {app: web}}
  clients: {selector: {role: client}}
services:
  http: [{proto: tcp, ports: [8080]}]
policies:
- name: web-ingress
  tier: application
  priority: 100
  mode: enforce
  appliesTo: [web]
  ingress:
  - {name: clients, action: allow, from: [clients], services: [http]}
- name: web-default
  tier: baseline
  mode: enforce
  appliesTo: [web]
  ingress:
  - {name: rest, action: deny, from: [any]}
`

// withPolicies writes a file of policies and returns the settings that name
// it.
func (r *rig) withPolicies(text string) string {
	r.t.Helper()
	r.policies(text)
	return "segmentation: {policies: [policies.yaml]}\n"
}

// write writes a file into the rig's directory.
func (r *rig) write(name, text string) {
	r.t.Helper()
	if err := os.WriteFile(filepath.Join(r.dir, name), []byte(text), 0o600); err != nil {
		r.t.Fatal(err)
	}
}

func (r *rig) policies(text string) {
	r.t.Helper()
	name := filepath.Join(r.dir, "policies.yaml")
	if err := os.WriteFile(name+".new", []byte(text), 0o600); err != nil {
		r.t.Fatal(err)
	}
	if err := os.Rename(name+".new", name); err != nil { // never half a file
		r.t.Fatal(err)
	}
}

// opens reports whether a node can connect to another's port.
func (r *rig) opens(node string, to netip.Addr, port int) bool {
	return r.fetch(node, netip.AddrPortFrom(to, uint16(port)).String(), denied) == nil
}

// awaitOpen waits until a node can connect. As with awaitReach, a single packet may
// be lost.
func (r *rig) awaitOpen(node string, to netip.Addr, port int, when string) {
	r.t.Helper()
	r.await(fmt.Sprintf("a connection of %s to %s:%d %s", node, to, port, when), func() bool { return r.opens(node, to, port) })
}

func (r *rig) listing() (l segment.Listing) {
	r.t.Helper()
	if err := r.get("policies", &l); err != nil {
		r.t.Fatal(err)
	}
	return l
}

// Policies hold on a real switch: groups follow labels, files that change are
// read again, and a fault in them changes nothing.
func TestPoliciesAreEnforcedAndFollowLabels(t *testing.T) {
	r := newRig(t, "plt-pol")
	settings := r.withPolicies(threeTier)
	r.serve("h1", 8080)
	r.serve("h1", 9090)
	web := r.addr("h1")
	r.start(quick + settings)
	r.await("the policy in force", func() bool { return !r.opens("h5", web, 8080) })
	r.await("clients let in", func() bool { return r.opens("h3", web, 8080) })
	if r.opens("h3", web, 9090) {
		t.Error("a client reaches a port that no rule allows")
	}
	r.awaitReach("h1", r.addr("h3"), "which ingress rules must not hinder")
	port := r.portOf("h5")
	r.ctl("set", "interface", port, "external_ids:role=client")
	r.await("the label heeded", func() bool { return r.opens("h5", web, 8080) })
	r.ctl("set", "interface", port, "external_ids:role=attacker")
	r.await("the label taken back", func() bool { return !r.opens("h5", web, 8080) })

	r.policies(strings.Replace(threeTier, "ports: [8080]", "ports: [9090]", 1))
	r.await("the changed file in force", func() bool { return r.opens("h3", web, 9090) && !r.opens("h3", web, 8080) })
	r.policies(strings.Replace(threeTier, "from: [clients]", "from: [client]", 1))
	r.await("the fault told", func() bool { return strings.Contains(r.listing().Error, `policies.yaml:14:43`) })
	if r.opens("h5", web, 9090) {
		t.Error("a file with a fault changed what is enforced")
	}
	r.awaitOpen("h3", web, 9090, "which a file with a fault must not change")
	r.policies(threeTier)
	if _, err := r.run("policy", "reload", "--socket", r.socket); err != nil {
		t.Fatal(err)
	}
	r.await("the repaired file in force", func() bool { return r.opens("h3", web, 8080) && !r.opens("h3", web, 9090) })
	out, err := r.run("policy", "ls", "--socket", r.socket)
	if err != nil || !strings.Contains(out, "web-ingress") || !strings.Contains(out, "1 of 1") {
		t.Errorf("%v\n%s", err, out)
	}
	out, err = r.run("policy", "hits", "--socket", r.socket)
	if err != nil || !strings.Contains(out, "rest") {
		t.Errorf("%v\n%s", err, out)
	}
}

// A switch that forgets everything, and a controller that dies, leave no gap
// that lasts.
func TestPoliciesSurviveFailures(t *testing.T) {
	r := newRig(t, "plt-polf")
	settings := quick + r.withPolicies(threeTier)
	r.serve("h1", 8080)
	web := r.addr("h1")
	r.start(settings)
	r.await("the policy in force", func() bool { return !r.opens("h5", web, 8080) && r.opens("h3", web, 8080) })
	if err := r.ovs.KillSwitch(); err != nil {
		t.Fatal(err)
	}
	if err := r.ovs.StartSwitch(t.Context()); err != nil {
		t.Fatal(err)
	}
	r.await("the policy back after a restart of the switch", func() bool { return r.opens("h3", web, 8080) && !r.opens("h5", web, 8080) })
	r.await("the web server's address written down", func() bool {
		_ = r.opens("h3", web, 8080) // what the switch had to tell of earlier ones went with it
		return r.wrote(fmt.Sprintf("%q:{", web))
	})
	r.kill()
	if r.opens("h5", web, 8080) {
		t.Error("without the controller the policy is not enforced")
	}
	r.awaitOpen("h3", web, 8080, "without the controller")
	r.start(settings)
	for range 5 { // while the controller finds out who is where; each waits for a second
		if r.opens("h5", web, 8080) {
			t.Fatal("the policy had a gap when the controller came back")
		}
	}
	r.await("clients let in again", func() bool { return r.opens("h3", web, 8080) })
}

// wrote reports whether the controller has something in its files, where it is when
// the controller is killed.
func (r *rig) wrote(text string) (found bool) {
	r.t.Helper()
	_ = filepath.WalkDir(filepath.Join(r.dir, "state"), func(name string, _ fs.DirEntry, _ error) error {
		raw, err := os.ReadFile(name)
		found = found || err == nil && strings.Contains(string(raw), text)
		return nil
	})
	return found
}

// What a finding says of a host puts it into groups by risk: the policy that
// an operator wrote for such hosts holds as long as it fires.
func TestGroupsFollowRisk(t *testing.T) {
	r := newRig(t, "plt-risk")
	settings := r.withPolicies(`apiVersion: segmentation/v1
groups:
  risky: {risk: medium}
services:
  http: [{proto: tcp, ports: [8080]}]
policies:
- name: risky-hosts
  tier: admin
  priority: 1
  mode: enforce
  appliesTo: [risky]
  egress:
  - {name: web, action: deny, to: [any], services: [http]}
`)
	r.serve("h3", 8080)
	r.start(strings.Replace(quick, "mode: autonomous", "mode: observe", 1) + settings)
	other := r.addr("h3")
	r.await("the service reached", func() bool { return r.opens("h5", other, 8080) })
	r.scan("h5", r.addr("h1"))
	r.await("the policy for risky hosts", func() bool { return !r.opens("h5", other, 8080) })
	r.awaitOpen("h4", other, 8080, "without a finding")
	r.await("the end of it", func() bool { return r.opens("h5", other, 8080) })
}

// A containment is a policy of the emergency tier, with what it comes from and
// when it ends.
func TestContainmentsAreListedAsPolicies(t *testing.T) {
	r := newRig(t, "plt-emer")
	r.start(quick + r.withPolicies(threeTier))
	bad := r.addr("h5")
	r.scan("h5", r.addr("h1"))
	d := r.awaitState(bad.String(), "verified")
	for _, p := range r.listing().Policies {
		if p.Decision == d.ID {
			if p.Tier.String() != "emergency" || p.ExpiresAt == nil || p.ExpiresAt.Before(time.Now()) || fmt.Sprint(p.AppliesTo) != fmt.Sprint([]string{bad.String()}) {
				t.Errorf("%+v", p)
			}
			return
		}
	}
	t.Errorf("no policy of %s in %+v", d.ID, r.listing())
}

// The README's policy and commands, on a real switch.
func TestReadmePolicies(t *testing.T) {
	raw, err := os.ReadFile("../README.md")
	if err != nil {
		t.Fatal(err)
	}
	section := regexp.MustCompile("(?s)### Who may talk to whom\n.*?```yaml\n(.*?)```.*?```sh\n(.*?)```").FindSubmatch(raw)
	if section == nil {
		t.Fatal("the section is gone from the README")
	}
	r := newRig(t, "plt-polr")
	r.serve("h1", 8080)
	r.start(quick + r.withPolicies(string(section[1])))
	web := r.addr("h1")
	r.await("the policy in force", func() bool { return r.opens("h3", web, 8080) && !r.opens("h5", web, 8080) })
	r.write("netpol.yaml", `apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: web, namespace: shop}
spec: {podSelector: {matchLabels: {app: web}}, ingress: [{from: [{podSelector: {}}], ports: [{port: 80}]}]}
`)
	workloads := ""
	for line := range strings.Lines(string(section[2])) {
		line, _, _ = strings.Cut(line, "#")
		args := strings.Fields(line)[1:]
		live := slices.Contains([]string{"ls", "hits", "staged", "sources", "workloads"}, args[1])
		if live {
			args = append(args, "--socket", r.socket)
		}
		for i, a := range args {
			if strings.HasSuffix(a, ".yaml") {
				args[i] = filepath.Join(r.dir, a)
			}
		}
		if args[1] == "trace" {
			r.write("workloads.yaml", workloads)
		}
		out, err := r.run(args...)
		if err != nil || live && out == "" {
			t.Errorf("%v: %v: %s", args, err, out)
		}
		switch args[1] {
		case "workloads":
			workloads = out
		case "trace":
			if !strings.Contains(out, "allow") || !strings.Contains(out, "clients") {
				t.Errorf("%v: %s", args, out)
			}
		}
	}
}

// portOf is the switch port behind which a node stands.
func (r *rig) portOf(node string) string {
	r.t.Helper()
	port, err := r.lab.HostSide(node, "eth1")
	if err != nil {
		r.t.Fatal(err)
	}
	return port
}

// Staged policies act on nobody, and tell whom they would have denied.
func TestStagedPoliciesTellAndDoNothing(t *testing.T) {
	r := newRig(t, "plt-stage")
	r.serve("h1", 8080)
	web := r.addr("h1")
	r.start(quick + r.withPolicies(strings.ReplaceAll(threeTier, "mode: enforce", "mode: staged")))
	type report struct {
		WouldDeny struct{ Hosts int } `json:"would_deny"`
		Rules     []struct {
			Rule      string
			WouldDeny struct{ Conversations float64 } `json:"would_deny"`
			Exchanges []struct{ Opener, Service string }
		}
	}
	r.await("the denial that would have been", func() bool {
		for _, node := range []string{"h3", "h5"} {
			r.awaitOpen(node, web, 8080, "as a staged policy does not act")
		}
		var got report
		if err := r.get("policies/staged", &got); err != nil {
			return false
		}
		for _, rule := range got.Rules {
			for _, x := range rule.Exchanges {
				if rule.Rule == "rest" && x.Opener == r.addr("h5").String() && strings.Contains(x.Service, "8080") {
					return true
				}
			}
		}
		return false
	})
	if out, err := r.run("policy", "staged", "--socket", r.socket); err != nil || !strings.Contains(out, "rest") {
		t.Errorf("%v\n%s", err, out)
	}
	learned := filepath.Join(r.dir, "learned.yaml")
	if out, err := r.run("policy", "recommend", "--socket", r.socket, "--min-confidence", "0.1", "-o", learned); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if out, err := r.run("policy", "trace", learned, "--from", r.addr("h3").String(), "--to", web.String(), "--proto", "tcp", "--port", "8080", "-o", "json"); err != nil || !strings.Contains(out, `"verdict":"allow"`) {
		t.Errorf("what was learned: %v\n%s", err, out)
	}
}

// A policy that would restrict what is protected is refused, at its place.
func TestPoliciesSpareWhatIsProtected(t *testing.T) {
	r := newRig(t, "plt-polp")
	settings := quick + r.withPolicies(threeTier)
	r.start(settings)
	r.policies(threeTier + "- name: gateway\n  tier: admin\n  mode: enforce\n  appliesTo: [10.77.0.1]\n  ingress: [{name: none, action: deny, from: [any]}]\n")
	r.await("the refusal told", func() bool { return strings.Contains(r.listing().Error, "policies.yaml:2") })
	r.awaitReach("h3", r.addr("gw"), "the gateway")
}

// Who goes on trying what a rule denies is reported, with the rule.
func TestDenialsAreFindingsThatNameTheRule(t *testing.T) {
	r := newRig(t, "plt-deny")
	r.serve("h1", 8080)
	web := r.addr("h1")
	r.start(quick + r.withPolicies(threeTier))
	r.await("the policy in force", func() bool { return r.opens("h3", web, 8080) && !r.opens("h5", web, 8080) })
	var f finding
	r.await("the finding", func() bool {
		for port := 9000; port < 9003; port++ {
			_ = r.opens("h5", web, port)
		}
		for _, x := range r.findings() {
			if x.Kind == "policy-violation" && x.Host == r.addr("h5").String() {
				f = x
				return true
			}
		}
		return false
	})
	if out, err := r.run("explain", f.ID, "--socket", r.socket); err != nil || !strings.Contains(out, "web-default/ingress/rest") {
		t.Errorf("%v\n%s", err, out)
	}
	if len(r.emergency()) > 0 {
		t.Errorf("somebody is contained for what a policy denies: %v", r.emergency())
	}
}

// A feed that grows puts an address into a group, and a file that is being
// written is not read before it is whole.
func TestGroupsFollowFeeds(t *testing.T) {
	r := newRig(t, "plt-feed")
	write := func(text string) { r.write("bad.txt", text) }
	write("# nobody yet\n")
	settings := r.withPolicies(`apiVersion: segmentation/v1
groups:
  bad: {intel: blocklist}
  web: {selector: {app: web}}
policies:
- name: blocklist
  tier: admin
  priority: 1
  mode: enforce
  appliesTo: [web]
  ingress:
  - {name: bad, action: reject, from: [bad]}
`)
	r.serve("h1", 8080)
	web := r.addr("h1")
	r.start(quick + strings.Replace(settings, "{policies", "{feeds: {blocklist: bad.txt}, policies", 1))
	r.await("the service reached", func() bool { return r.opens("h5", web, 8080) })
	write(r.addr("h5").String() + "\n")
	r.await("the feed heeded", func() bool { return !r.opens("h5", web, 8080) })
	r.awaitOpen("h4", web, 8080, "as it is in no feed")
	write("nonsense\n")
	r.await("the fault told", func() bool { return strings.Contains(r.listing().Error, "bad.txt:1:1") })
	if r.opens("h5", web, 8080) {
		t.Error("a feed with a fault freed somebody")
	}
	write("# nobody any more\n")
	r.await("the end of it", func() bool { return r.opens("h5", web, 8080) })
}

// A disk that does not answer delays no label, and no file of another disk. What
// it brings at last does not take the place of what is newer.
func TestASlowDiskDelaysNothing(t *testing.T) {
	r := newRig(t, "plt-slow")
	feed := filepath.Join(r.dir, "bad.txt")
	r.write("bad.txt", "# nobody yet\n")
	text := strings.Replace(threeTier, "groups:\n", "groups:\n  bad: {intel: blocklist}\n", 1) + `- name: blocklist
  tier: admin
  mode: enforce
  appliesTo: [web]
  ingress:
  - {name: bad, action: reject, from: [bad]}
`
	r.serve("h1", 8080)
	r.serve("h1", 9090)
	web := r.addr("h1")
	r.start(quick + strings.Replace(r.withPolicies(text), "{policies", "{feeds: {blocklist: bad.txt}, policies", 1))
	r.await("the policy in force", func() bool { return r.opens("h3", web, 8080) && !r.opens("h5", web, 8080) })

	if err := syscall.Mkfifo(feed+".pipe", 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(feed+".pipe", feed); err != nil { // who reads it waits for somebody who writes
		t.Fatal(err)
	}
	r.await("the reader held up, and said to be", func() bool {
		out, err := r.run("policy", "ls", "--socket", r.socket)
		return err == nil && strings.Contains(out, "feed blocklist: being read since")
	})
	r.ctl("set", "interface", r.portOf("h5"), "external_ids:role=client")
	r.await("the label heeded", func() bool { return r.opens("h5", web, 8080) })
	r.policies(strings.Replace(text, "ports: [8080]", "ports: [8080, 9090]", 1))
	r.await("the changed file in force", func() bool { return r.opens("h5", web, 9090) })

	pipe, err := os.OpenFile(feed, os.O_WRONLY, 0) // of which the reader has the other end
	if err != nil {
		t.Fatal(err)
	}
	defer pipe.Close()
	r.write("bad.new", r.addr("h5").String()+"\n")
	if err := os.Rename(filepath.Join(r.dir, "bad.new"), feed); err != nil {
		t.Fatal(err)
	}
	if _, err := pipe.WriteString(r.addr("h3").String() + "\n"); err != nil {
		t.Fatal(err)
	}
	pipe.Close()
	r.await("the newer feed in force", func() bool { return !r.opens("h5", web, 8080) })
	raw, err := os.ReadFile(r.log.Name())
	if n := strings.Count(string(raw), `what="feed blocklist"`); err != nil || n != 1 || !r.opens("h3", web, 8080) {
		t.Errorf("the feed was in force %d times (%v): what was read late was", n, err)
	}
}

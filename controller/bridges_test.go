package controller_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// chain is three bridges in a row: the first two are joined by a veth pair,
// the last two by patch ports, which the test makes.
const chain = `name: chain
topology:
  kinds: {linux: {network-mode: none}}
  nodes:
    pl-c1: {kind: ovs-bridge}
    pl-c2: {kind: ovs-bridge}
    pl-c3: {kind: ovs-bridge}
    near: {kind: linux, exec: ["ip addr add 10.91.0.1/24 dev eth1"]}
    far: {kind: linux, exec: ["ip addr add 10.91.0.2/24 dev eth1"]}
    gw: {kind: linux, exec: ["ip addr add 10.91.0.254/24 dev eth1"]}
  links:
    - {endpoints: ["near:eth1", "pl-c1:c-near"], mtu: 1500}
    - {endpoints: ["pl-c1:c-to2", "pl-c2:c-to1"], mtu: 1500}
    - {endpoints: ["far:eth1", "pl-c3:c-far"], mtu: 1500}
    - {endpoints: ["gw:eth1", "pl-c2:c-gw"], mtu: 1500}
`

// TestPacketAcrossBridgesCountsOnce sends connection attempts over three
// bridges, each of which taps them, and expects each to be counted once, and
// the containment where the attacker is.
func TestPacketAcrossBridgesCountsOnce(t *testing.T) {
	file := filepath.Join(t.TempDir(), "chain.clab.yml")
	if err := os.WriteFile(file, []byte(chain), 0o600); err != nil {
		t.Fatal(err)
	}
	r := newRigOn(t, "chain", file)
	if _, err := r.ovs.Ctl(t.Context(),
		"add-port", "pl-c2", "c-p2", "--", "set", "interface", "c-p2", "type=patch", "options:peer=c-p3",
		"--", "add-port", "pl-c3", "c-p3", "--", "set", "interface", "c-p3", "type=patch", "options:peer=c-p2"); err != nil {
		t.Fatal(err)
	}
	r.awaitReach("near", r.addr("far"), "over three bridges")
	r.start("mode: autonomous\nresponse: {ttl: 20s, quarantine: {max: 2}}")
	for _, b := range r.lab.Bridges() {
		r.await("a tap on "+b, func() bool {
			flows, err := r.ovs.Ofctl(t.Context(), "-O", "OpenFlow14", "dump-flows", r.ovs.Mgmt(b))
			return err == nil && strings.Contains(flows, "collector_set_id")
		})
	}
	attempts := func() uint64 {
		var status struct{ Detector struct{ Attempts uint64 } }
		if err := r.get("status", &status); err != nil {
			t.Fatal(err)
		}
		return status.Detector.Attempts
	}
	// Each is one SYN, refused at once; few enough that nobody calls it a scan.
	connect := func(port int) {
		t.Helper()
		if out, err := r.in("near", "bash", "-c", fmt.Sprintf("exec 3<>/dev/tcp/%s/%d", r.addr("far"), port)); err == nil || !strings.Contains(out, "refused") {
			t.Fatalf("port %d: %v: %s", port, err, out)
		}
	}
	before := attempts()
	const first = 3
	for port := range first {
		connect(9000 + port)
	}
	r.await("the attempts in the records", func() bool { return attempts() >= before+first })
	// Whatever comes twice has come by the time that a later one has.
	connect(9100)
	r.await("one more", func() bool { return attempts() >= before+first+1 })
	if got := attempts() - before; got != first+1 {
		t.Errorf("%d attempts counted, %d made", got, first+1)
	}

	if out, err := r.in("near", "nmap", "-sS", "-n", "-Pn", "--max-retries", "0", "--min-rate", "500", "-p", "1-400", r.addr("far").String()); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	d := r.awaitState(r.addr("near").String(), "verified")
	if d.At.Switch != "pl-c1" || d.At.Port != "c-near" {
		t.Errorf("contained at %+v, and the attacker is at c-near of pl-c1", d.At)
	}
}

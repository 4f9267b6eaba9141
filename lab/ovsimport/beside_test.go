package ovsimport_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/platelet-sdn/platelet/lab/clab"
	"github.com/platelet-sdn/platelet/lab/namespace"
	"github.com/platelet-sdn/platelet/lab/ovsimport"
	"github.com/platelet-sdn/platelet/lab/runner"
)

// odd makes a bridge whose ports are all that a host can have and a lab
// cannot, under names that are hard to carry.
func (r *rig) odd(bridge string) {
	r.Helper()
	const long1, long2 = "abcdefghijklmno", "abcdefghijklmnp"
	r.do(`
		ovs-vsctl add-br ` + bridge + ` -- set bridge ` + bridge + ` datapath_type=netdev 'external_ids:note="it''s \"odd\""' other_config:hwaddr=02:aa:00:00:00:01
		ovs-vsctl add-br br-rest -- set bridge br-rest datapath_type=netdev
		ovs-vsctl set-controller br-rest tcp:127.0.0.1:1 -- set-controller ` + bridge + ` ptcp:0:127.0.0.1
		ip addr add 10.5.0.1/24 dev ` + bridge + `
		ip link set ` + bridge + ` up
		ip tuntap add tap0 mode tap
		ip tuntap add tap1 mode tap
		ip link set tap0 up
		ip link set tap1 up
		ip link add vh0 type veth peer name vh1
		ip link set vh0 up
		ip link set vh1 up
		ip addr add 10.6.0.8/24 dev vh1
	`)
	r.Cleanup(func() {
		for _, l := range []string{"tap0", "tap1", "vh0"} {
			if err := deleteLink(l); err != nil {
				r.Error(err)
			}
		}
	})
	add := func(port string, more string) {
		r.do("ovs-vsctl add-port " + bridge + " " + port + " " + more)
	}
	r.guest("vm1", "eth0", long1, "02:00:00:00:05:11", "10.5.0.11/24")
	r.guest("vm@2", "eth0", long2, "02:00:00:00:05:12", "10.5.0.12/24")
	r.guest("vm3", "eth0", `'q"t'"'"`, "02:00:00:00:05:13", "10.5.0.13/24")
	r.guest("vm4", "eth0", "fünf", "02:00:00:00:05:14", "10.5.0.14/24")
	r.guest("vm5", "eth0", "normal", "02:00:00:00:05:15", "10.5.0.15/24")
	r.guest("vm6", "eth0", "123", "02:00:00:00:05:16", "10.5.0.16/24")
	add(long1, `-- set interface `+long1+` 'external_ids:home="${HOME} $HOME $$"' 'external_ids:text="two\nlines"' external_ids:app=web`)
	add(long2, "")
	add(`'q"t'"'"`, "")
	add("fünf", "")
	add("normal", "")
	add("123", "")
	add("tap0", "tag=0")
	add("tap1", "")
	add("vh0", "")
	add("int0", "-- set interface int0 type=internal")
	add("int1", "-- set interface int1 type=internal")
	add("tun0", "-- set interface tun0 type=vxlan options:remote_ip=192.0.2.7")
	add("patch-to-the-rest-of-the-world", "-- set interface patch-to-the-rest-of-the-world type=patch options:peer=patch-back ofport_request=50 -- add-port br-rest patch-back -- set interface patch-back type=patch options:peer=patch-to-the-rest-of-the-world")
	r.oddTraffic(bridge, long2)
}

// oddTraffic gives the bridge of odd learned addresses, and flows.
func (r *rig) oddTraffic(bridge, attacker string) {
	r.Helper()
	r.do(`
		ip link set int0 netns vm1
		ip -n vm1 addr add 10.7.0.1/24 dev int0
		ip -n vm1 link set int0 up
		ip addr add 10.5.0.9/24 dev int1
		ip link set int1 up
		ip neigh replace 10.5.0.77 lladdr 02:00:00:00:05:77 dev ` + bridge + `
		ip neigh replace 10.5.0.78 lladdr 02:00:00:00:05:78 dev ` + bridge + `
	`)
	for _, l := range []string{"tap0 0 02:00:00:00:05:77", "tap1 0 02:00:00:00:05:78", "tap1 0 02:00:00:00:05:79"} {
		r.do("ovs-appctl -t " + r.ovs.Unixctl() + " fdb/add " + bridge + " " + l)
	}
	r.do("ovs-ofctl -O OpenFlow15 add-meter " + bridge + " meter=900,pktps,burst,stats,bands=type=drop,rate=9,burst_size=9")
	r.flows(bridge, `
cookie=0x504c010700000000,table=0,priority=60000,reg15=0/0x80000000,actions=resubmit(,200)
cookie=0x504c010200000001,table=201,priority=9,ip,actions=meter:900,resubmit(,207)
cookie=0x1,table=0,priority=20,udp,tp_dst=7,actions=output:123,tap0,vh0,tun0,50
cookie=0x2,table=0,priority=20,in_port=`+attacker+`,tcp,tp_dst=23,actions=drop
cookie=0x3,table=200,priority=1,ip,actions=NORMAL
`)
}

func TestTheLabComesUpBesideTheLiveHost(t *testing.T) {
	r := newRig(t)
	const live = "br-ü"
	r.odd(live)
	r.container(live, "ctr0", "10.5.0.30/24")
	before := r.dump(live)
	res := r.importHost(ovsimport.Options{Lab: "reh", Rename: true, Bridges: []string{live}})
	notes := strings.Join(res.Notes, "\n")
	for _, want := range []string{"controller ptcp:0:127.0.0.1", "type vxlan", "a patch port to a bridge that is not imported", "3 flows and meters of Platelet's own",
		`external_ids:"text"`, "a tap; node tap0", "1 more addresses", "hwaddr"} {
		if !strings.Contains(notes, want) {
			t.Errorf("no note of %q in:\n%s", want, notes)
		}
	}
	lab := r.up(t.TempDir(), "reh", res)
	if after := r.dump(live); after != before {
		t.Errorf("the live bridge changed:\n%s\nwas\n%s", after, before)
	}
	var others []string
	for _, line := range strings.Split(before, "\n") {
		if !strings.Contains(line, "cookie=0x504c") && !strings.Contains(line, "meter=900") && !strings.Contains(line, "rate=9 burst_size=9") {
			others = append(others, line)
		}
	}
	bridge := lab.Bridges()[0]
	r.sameText("program", []byte(strings.TrimSpace(r.dump(bridge))), []byte(strings.TrimSpace(strings.Join(others, "\n"))))
	run := func(host, program string, args ...string) *namespace.Cmd {
		cmd, err := lab.Command(r.ctx, host, program, args...)
		if err != nil {
			t.Fatal(err)
		}
		return cmd
	}
	pairs := [][2]string{{"vm1", "10.5.0.77"}, {"tap1", "10.5.0.9"}, {"ctr0", "10.5.0.14"}}
	for pair := range strings.Lines(r.pings(pairs, run)) {
		if !strings.HasSuffix(strings.TrimSpace(pair), "yes") {
			t.Error(pair)
		}
	}
	again := r.importHost(ovsimport.Options{Lab: "reh", Rename: true, Bridges: []string{bridge}})
	r.sameText("import of the lab", withoutNotes(again.Topology), withoutNotes(res.Topology))
	if len(again.Notes) != 0 {
		t.Errorf("the lab cannot be carried over: %q", again.Notes)
	}
}

// container starts a process in a namespace without a name, as a container
// has, with a cable to a bridge.
func (r *rig) container(bridge, port, addr string) {
	r.Helper()
	const helper = "plimp-helper"
	r.do("ip netns add " + helper)
	cmd := namespace.Command(context.Background(), helper, "sleep", "300")
	if err := cmd.Start(); err != nil {
		r.Fatal(err)
	}
	r.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	r.do(fmt.Sprintf("ip link add %s type veth peer name eth0 netns %s", port, helper))
	r.do("ip link set " + port + " up\nip -n " + helper + " link set eth0 up\nip -n " + helper + " addr add " + addr + " dev eth0")
	r.do("ovs-vsctl add-port " + bridge + " " + port)
	if err := namespace.Delete(helper); err != nil {
		r.Fatal(err)
	}
}

func TestRefusesWhatItCannotImport(t *testing.T) {
	r := newRig(t)
	r.do("ovs-vsctl add-br br-int -- set bridge br-int datapath_type=netdev -- add-br br-ex -- set bridge br-ex datapath_type=netdev")
	for name, tc := range map[string]struct {
		o    ovsimport.Options
		want string
	}{
		"no switch":       {ovsimport.Options{DB: "unix:/nonexistent/db.sock"}, "is Open vSwitch running at unix:/nonexistent/db.sock"},
		"another machine": {ovsimport.Options{DB: "tcp:192.0.2.1:6640"}, "needs unix:/PATH"},
		"no such bridge":  {ovsimport.Options{DB: r.ovs.DB, Bridges: []string{"br-ex", "br-nix"}}, `there is no bridge "br-nix"`},
		"bad name":        {ovsimport.Options{DB: r.ovs.DB, Lab: "a b"}, `lab name "a b"`},
		"bad directory":   {ovsimport.Options{DB: r.ovs.DB, Dir: "here"}, `directory "here"`},
	} {
		if _, err := ovsimport.Import(r.ctx, tc.o); err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: %v, want %q", name, err, tc.want)
		}
	}
	r.importHost(ovsimport.Options{}) // br-int alone does not mean OVN
	r.do("ovs-vsctl set open_vswitch . external_ids:ovn-remote=tcp:192.0.2.2:6642")
	if _, err := ovsimport.Import(r.ctx, ovsimport.Options{DB: r.ovs.DB}); !errors.Is(err, ovsimport.ErrOVN) || !strings.Contains(err.Error(), "br-int") {
		t.Errorf("OVN's bridge: %v", err)
	}
	r.importHost(ovsimport.Options{Bridges: []string{"br-ex"}})
	if err := r.ovs.KillSwitch(); err != nil {
		t.Fatal(err)
	}
	if _, err := ovsimport.Import(r.ctx, ovsimport.Options{DB: r.ovs.DB, Bridges: []string{"br-ex"}}); err == nil || !strings.Contains(err.Error(), "bridge br-ex: flows") {
		t.Errorf("no ovs-vswitchd: %v", err)
	}
}

// A file under the live host's own names, brought up on that host by
// mistake, must not program the live bridge.
func TestALabNeverProgramsTheLiveBridge(t *testing.T) {
	r := newRig(t)
	r.do("ovs-vsctl add-br br-prod -- set bridge br-prod datapath_type=netdev fail_mode=secure")
	r.flows("br-prod", "priority=5,ip,actions=NORMAL")
	res := r.importHost(ovsimport.Options{Lab: "oops"})
	r.flows("br-prod", "priority=6,arp,actions=NORMAL")
	before := r.dump("br-prod")
	file := filepath.Join(t.TempDir(), "oops.clab.yml")
	if err := os.WriteFile(file, res.Topology, 0o644); err != nil {
		t.Fatal(err)
	}
	topo, err := clab.Load(file)
	if err != nil {
		t.Fatal(err)
	}
	_, err = runner.Up(r.ctx, topo, runner.Options{DB: r.ovs.DB, StateDir: filepath.Join(r.dir, "labs")})
	if err == nil || !strings.Contains(err.Error(), "bridge br-prod is not one that lab oops made") {
		t.Errorf("up: %v", err)
	}
	if after := r.dump("br-prod"); after != before {
		t.Errorf("the live bridge changed:\n%s\nwas\n%s", after, before)
	}
}

package ovsimport_test

import (
	"context"
	"flag"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/platelet-sdn/platelet/lab/clab"
	"github.com/platelet-sdn/platelet/lab/namespace"
	"github.com/platelet-sdn/platelet/lab/ovsimport"
)

// richFlows are a pipeline of several tables: conntrack for TCP, a meter on
// ICMP, a group that spreads, port numbers in registers, and a drop.
const richFlows = `
cookie=0x11,table=0,priority=100,in_port=ia-db,icmp,actions=meter:7,load:0x5->NXM_NX_REG0[],resubmit(,10)
cookie=0x12,table=0,priority=100,in_port=ia-ext,ip,actions=resubmit(,10)
cookie=0x1e,table=0,priority=95,tun_metadata0=0x7,actions=drop
cookie=0x13,table=0,priority=90,arp,actions=NORMAL
cookie=0x14,table=0,priority=90,icmp6,actions=NORMAL
cookie=0x15,table=0,priority=80,in_port=ia-pb,ip,actions=resubmit(,20)
cookie=0x16,table=0,priority=80,in_port=ia-db,ip,actions=resubmit(ia-db,20)
cookie=0x17,table=10,priority=50,icmp,nw_dst=10.1.0.11,actions=drop
cookie=0x18,table=10,priority=40,icmp,actions=group:3
cookie=0x19,table=10,priority=40,tcp,tp_dst=80,actions=ct(commit,zone=5,table=20)
cookie=0x1a,table=20,priority=40,ip,nw_dst=10.1.0.31,actions=output:ia-db
cookie=0x1b,table=20,priority=40,ip,nw_dst=10.1.0.32,actions=load:0x9->NXM_NX_REG5[0..15],output:NXM_NX_REG5[]
cookie=0x1c,table=20,priority=30,ip,actions=group:4
cookie=0x1d,table=20,priority=5,hard_timeout=3000,importance=4,actions=drop
table=30,priority=7,dl_vlan=10,actions=learn(table=31,hard_timeout=60,NXM_OF_ETH_DST[]=NXM_OF_ETH_SRC[],output:NXM_OF_IN_PORT[])
`

// rich makes a host with three bridges, joined by patch ports and by a
// cable, with VLANs, a bond, a mirror, a router on a trunk, flows, groups
// and meters.
func (r *rig) rich() {
	r.Helper()
	r.richHosts()
	r.do(`
		ip link add ib-c type veth peer name ic-b
		ip link set ib-c up
		ip link set ic-b up
		ovs-vsctl add-br br-a -- set bridge br-a datapath_type=netdev fail_mode=secure external_ids:site=lab
		ovs-vsctl add-br br-b -- set bridge br-b datapath_type=netdev other_config:mac-aging-time=200 mcast_snooping_enable=true
		ovs-vsctl add-br br-c -- set bridge br-c datapath_type=netdev protocols=OpenFlow10,OpenFlow13
		ovs-vsctl add-port br-a ia-db -- set interface ia-db ofport_request=5 external_ids:app=db external_ids:env=prod
		ovs-vsctl add-port br-a ia-ext -- set interface ia-ext ofport_request=9 'external_ids:"odd key"="a \"quoted\" value"'
		ovs-vsctl add-port br-a ia-pb -- set interface ia-pb type=patch options:peer=ib-pa ofport_request=77
		ovs-vsctl add-port br-b ib-pa -- set interface ib-pa type=patch options:peer=ia-pb -- set port ib-pa tag=10
		ovs-vsctl add-port br-b ib-web tag=10 -- set interface ib-web external_ids:app=web
		ovs-vsctl add-port br-b ib-cli tag=10
		ovs-vsctl add-port br-b ib-off tag=20 vlan_mode=access
		ovs-vsctl add-port br-b ib-gw trunks=20,10 tag=10 vlan_mode=native-untagged -- set interface ib-gw external_ids:app=gateway external_ids:leg=inside
		ovs-vsctl add-port br-b ib-gw2 tag=20 -- set interface ib-gw2 external_ids:app=gateway
		ovs-vsctl add-port br-b ib-c vlan_mode=native-untagged tag=30 trunks=30,40
		ovs-vsctl add-port br-c ic-b
		ovs-vsctl add-port br-c ic-gw -- set interface ic-gw external_ids:app=gateway external_ids:leg=outside
		ovs-vsctl add-port br-c ic-far
		ovs-vsctl add-bond br-c bond0 ic-nas1 ic-nas2 bond_mode=active-backup other_config:bond-primary=ic-nas1 -- set interface ic-nas1 ofport_request=4 -- set interface ic-nas2 ofport_request=5
		ovs-vsctl --id=@p get port ib-web -- --id=@o get port ib-off -- --id=@m create mirror name=watch select_src_port=@p select_dst_port=@p output_port=@o -- add bridge br-b mirrors @m
		ovs-ofctl -O OpenFlow15 add-meter br-a meter=7,pktps,burst,stats,bands=type=drop,rate=50,burst_size=20
		ovs-ofctl -O OpenFlow15 add-meter br-a meter=12,kbps,bands=type=drop,rate=900
		ovs-ofctl -O OpenFlow15 add-group br-a group_id=4,type=indirect,bucket=actions=output:ia-pb
		ovs-ofctl -O OpenFlow15 add-group br-a group_id=3,type=all,bucket=actions=group:4,bucket=actions=output:9
		ovs-ofctl -O OpenFlow15 add-group br-a "group_id=8,type=ff,bucket=watch_port:ia-db,actions=output:ia-db,bucket=watch_port:ia-ext,actions=output:ia-ext"
	`)
	r.do(`
		ovs-ofctl add-tlv-map br-a {class=0xffff,type=0,len=4}->tun_metadata0,{class=0xffff,type=1,len=8}->tun_metadata3
		ovs-ofctl -O OpenFlow10 mod-port br-a ia-ext no-packet-in
		ovs-ofctl -O OpenFlow10 mod-port br-b ib-off no-flood
		ip link set ic-nas2 down
	`)
	r.flows("br-a", richFlows)
	r.flows("br-b", "cookie=0xb1,priority=200,tcp,in_port=ib-cli,tp_dst=23,actions=drop\ncookie=0xb2,priority=150,udp,in_port=ib-web,actions=output:ib-cli,ib-gw\n")
}

// richHosts makes the hosts of rich, which wait to be put at a switch.
func (r *rig) richHosts() {
	r.Helper()
	r.guest("db", "eth1", "ia-db", "02:00:00:00:01:31", "10.1.0.31/24", "fd01::31/64")
	r.guest("ext", "net0", "ia-ext", "02:00:00:00:01:32", "10.1.0.32/24")
	r.guest("web", "eth1", "ib-web", "02:00:00:00:01:11", "10.1.0.11/24", "fd01::11/64")
	r.guest("client", "eth1", "ib-cli", "02:00:00:00:01:12", "10.1.0.12/24", "fd01::12/64")
	r.guest("office", "eth1", "ib-off", "02:00:00:00:02:13", "10.2.0.13/24")
	r.guest("gw", "eth1", "ib-gw", "02:00:00:00:01:01", "10.1.0.1/24")
	r.guest("gw", "eth3", "ib-gw2", "02:00:00:00:02:01", "10.2.0.1/24")
	r.guest("gw", "eth2", "ic-gw", "02:00:00:00:03:01", "10.3.0.1/24")
	r.guest("far", "eth1", "ic-far", "02:00:00:00:03:21", "10.3.0.21/24")
	r.guest("nas", "eth1", "ic-nas1", "02:00:00:00:03:41", "10.3.0.41/24")
	r.guest("nas", "eth2", "ic-nas2", "02:00:00:00:03:42")
	r.do(`
		ip netns exec gw sysctl -qw net.ipv4.ip_forward=1
		ip -n gw addr add 10.9.9.9/32 dev lo
		ip -n gw route add blackhole 10.66.0.0/16
		ip -n web route add default via 10.1.0.1
		ip -n client route add 10.3.0.0/24 via 10.1.0.1 metric 7
		ip -n client route add 10.2.0.0/24 via 10.1.0.1
		ip -n office route add default via 10.2.0.1
		ip -n far route add default via 10.3.0.1
		ip -n far neigh replace 10.3.0.200 lladdr 02:00:00:00:03:99 dev eth1
		# behind the router, at no switch
		ip netns add inner
		ip -n gw link add inner0 address 02:00:00:00:04:01 type veth peer name up0 address 02:00:00:00:04:02 netns inner
		ip -n gw addr add 10.4.0.1/24 dev inner0
		ip -n gw link set inner0 up
		ip -n inner link set up0 up
		ip -n inner addr add 10.4.0.2/24 dev up0
		ip -n inner route add default via 10.4.0.1
		ip -n web route add 10.4.0.0/24 via 10.1.0.1
	`)
}

// richPackets are packets and where they enter.
var richPackets = [][2]string{
	{"br-a", "in_port=ia-db,icmp,dl_src=02:00:00:00:01:31,dl_dst=02:00:00:00:0f:ff,nw_src=10.1.0.31,nw_dst=10.1.0.12,nw_ttl=64"},
	{"br-a", "in_port=ia-ext,icmp,dl_src=02:00:00:00:01:32,nw_src=10.1.0.32,nw_dst=10.1.0.11,nw_ttl=64"},
	{"br-a", "in_port=ia-ext,tcp,dl_src=02:00:00:00:01:32,nw_src=10.1.0.32,nw_dst=10.1.0.31,tcp_dst=80,nw_ttl=64"},
	{"br-a", "in_port=ia-pb,tcp,dl_src=02:00:00:00:01:12,nw_src=10.1.0.12,nw_dst=10.1.0.32,tcp_dst=443,nw_ttl=64"},
	{"br-a", "in_port=ia-pb,udp,dl_src=02:00:00:00:01:12,nw_src=10.1.0.12,nw_dst=10.1.0.31,udp_dst=53,nw_ttl=64"},
	{"br-b", "in_port=ib-cli,tcp,dl_src=02:00:00:00:01:12,dl_dst=02:00:00:00:0f:ff,nw_src=10.1.0.12,nw_dst=10.1.0.11,tcp_dst=23,nw_ttl=64"},
	{"br-b", "in_port=ib-web,udp,dl_src=02:00:00:00:01:11,nw_src=10.1.0.11,nw_dst=10.1.0.12,udp_dst=53,nw_ttl=64"},
	{"br-b", "in_port=ib-gw,dl_vlan=30,icmp,dl_src=02:00:00:00:01:01,nw_src=10.1.0.1,nw_dst=10.1.0.12,nw_ttl=64"},
	{"br-c", "in_port=ic-far,icmp,dl_src=02:00:00:00:03:21,dl_dst=01:00:5e:00:00:01,nw_src=10.3.0.21,nw_dst=224.0.0.1,nw_ttl=1"},
}

// richPings are pairs of which some get through and some do not.
var richPings = [][2]string{
	{"client", "10.1.0.11"}, {"client", "fd01::11"}, {"client", "10.1.0.31"}, {"client", "10.3.0.21"}, {"office", "10.1.0.11"},
	{"far", "10.2.0.13"}, {"far", "10.3.0.41"}, {"web", "10.9.9.9"}, {"inner", "10.1.0.11"}, {"db", "10.1.0.12"}, {"web", "fd01::31"},
	{"ext", "10.1.0.11"}, {"office", "10.66.0.1"},
}

func TestALiveHostRunsAgainInTheLab(t *testing.T) {
	r := newRig(t)
	r.rich()
	bridges := []string{"br-a", "br-b", "br-c"}
	before := r.pings(richPings, func(host, program string, args ...string) *namespace.Cmd {
		return namespace.Command(r.ctx, host, program, args...)
	})
	if yes := strings.Count(before, "yes"); yes < 8 || strings.Count(before, "no") < 2 {
		t.Fatalf("the host itself is not what the test wants:\n%s", before)
	}
	dumps, traces, columns := map[string]string{}, map[string]string{}, r.columns(bridges)
	for _, b := range bridges {
		dumps[b] = r.dump(b)
	}
	r.do("ovs-appctl -t " + r.ovs.Unixctl() + " fdb/flush")
	for _, p := range richPackets {
		traces[p[1]] = r.trace(p[0], p[1])
	}
	first := r.importHost(ovsimport.Options{Lab: "twin"})
	r.golden("testdata/rich.clab.yml", first.Topology)
	if len(first.Notes) != 0 {
		t.Errorf("not carried over: %q", first.Notes)
	}
	if again := r.importHost(ovsimport.Options{Lab: "twin"}); string(again.Topology) != string(first.Topology) {
		t.Error("two imports of one host differ")
	}
	r.clear()

	r.start()
	lab := r.up(t.TempDir(), "twin", first)
	for _, b := range bridges {
		r.sameText("program of "+b, []byte(r.dump(b)), []byte(dumps[b]))
	}
	r.sameText("database", []byte(r.columns(bridges)), []byte(columns))
	r.do("ovs-appctl -t " + r.ovs.Unixctl() + " fdb/flush")
	for _, p := range richPackets {
		if got := r.across(p[0], p[1]); inOrder(got) != inOrder(traces[p[1]]) {
			t.Errorf("%s at %s:\n got %s\nwant %s", p[1], p[0], got, traces[p[1]])
		}
	}
	after := r.pings(richPings, func(host, program string, args ...string) *namespace.Cmd {
		cmd, err := lab.Command(r.ctx, host, program, args...)
		if err != nil {
			t.Fatal(err)
		}
		return cmd
	})
	r.sameText("pings", []byte(after), []byte(before))
	second := r.importHost(ovsimport.Options{Lab: "twin"})
	r.sameText("import of the lab", second.Topology, first.Topology)
	if err := lab.Down(context.Background()); err != nil {
		t.Error(err)
	}
	if left := r.out("ovs-vsctl list-br"); left != "" {
		t.Errorf("left behind: %s", left)
	}
}

var update = flag.Bool("update", false, "write what is compared with testdata")

// golden compares with a file, which also shows people what an import is.
func (r *rig) golden(file string, got []byte) {
	r.Helper()
	if *update {
		if err := os.WriteFile(file, got, 0o644); err != nil {
			r.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		r.Fatal(err)
	}
	r.sameText(file, got, want)
}

// clear ends the switch and removes the hosts of rich.
func (r *rig) clear() {
	r.Helper()
	if err := r.ovs.Stop(); err != nil {
		r.Fatal(err)
	}
	for _, ns := range []string{"db", "ext", "web", "client", "office", "gw", "far", "nas", "inner"} {
		if err := namespace.Delete(ns); err != nil {
			r.Fatal(err)
		}
	}
	for _, l := range []string{"ia-db", "ia-ext", "ib-web", "ib-cli", "ib-off", "ib-gw", "ib-gw2", "ic-gw", "ic-far", "ic-nas1", "ic-nas2", "ib-c"} {
		_ = deleteLink(l) // gone with its namespace, sooner or later
	}
}

// portConfigs is what OpenFlow says of how ports are set.
func (r *rig) portConfigs(bridge string) string {
	r.Helper()
	var out []string
	port := ""
	version := "OpenFlow10" // which alone tells whether a port is flooded to
	if p := r.out("ovs-vsctl get bridge " + bridge + " protocols"); strings.Contains(p, "OpenFlow") && !strings.Contains(p, version) {
		version = "OpenFlow13,OpenFlow15"
	}
	for line := range strings.Lines(r.out("ovs-ofctl -O " + version + " dump-ports-desc " + bridge)) {
		if head, _, ok := strings.Cut(line, "("); ok && strings.Contains(line, "addr:") {
			port = head
		}
		if strings.Contains(line, "config:") {
			out = append(out, port+strings.Join(strings.Fields(line), " "))
		}
	}
	slices.Sort(out)
	return strings.Join(out, "\n")
}

// columns is what the database says of bridges and ports, where it matters.
func (r *rig) columns(bridges []string) string {
	r.Helper()
	var out []string
	for _, b := range bridges {
		out = append(out, b, r.portConfigs(b), r.out("ovs-vsctl get bridge "+b+" fail_mode mcast_snooping_enable other_config protocols rstp_enable stp_enable"))
		for _, p := range strings.Fields(r.out("ovs-vsctl list-ports " + b)) {
			out = append(out, p, r.out("ovs-vsctl get port "+p+" tag trunks vlan_mode bond_mode other_config"))
		}
		for _, i := range strings.Fields(r.out("ovs-vsctl list-ifaces " + b)) {
			out = append(out, i, r.out("ovs-vsctl get interface "+i+" ofport admin_state"))
		}
	}
	return strings.Join(out, "\n")
}

// inOrder sorts what a switch does with a packet: flooding has no order.
func inOrder(actions string) string {
	list := strings.Split(strings.TrimPrefix(actions, "Datapath actions: "), ",")
	slices.Sort(list)
	return strings.Join(list, ",")
}

// across traces a packet through the lab, where a path ends at the cable to
// the next bridge and a patch port would lead on.
func (r *rig) across(bridge, packet string) string {
	r.Helper()
	text := r.trace(bridge, packet)
	if _, rest, ok := strings.Cut(packet, ","); ok && strings.Contains(text, "ia-pb") {
		there := strings.TrimPrefix(r.trace("br-b", "in_port=ib-pa,"+rest), "Datapath actions: ")
		text = strings.Replace(text, "ia-pb", there, 1)
	}
	return text
}

func TestTheTopologyIsAFileOfItsOwn(t *testing.T) {
	r := newRig(t)
	r.do("ovs-vsctl add-br br-f -- set bridge br-f datapath_type=netdev")
	var many strings.Builder
	for i := range 500 {
		many.WriteString("priority=10,tcp,tp_dst=" + string(rune('1'+i%9)) + strings.Repeat("0", i%3) + ",nw_dst=10.0." + itoa(i/250) + "." + itoa(i%250) + ",actions=drop\n")
	}
	r.flows("br-f", many.String())
	dir := t.TempDir()
	res := r.importHost(ovsimport.Options{Lab: "long", Dir: dir, Rename: true})
	data, ok := res.Flows["long.long-br-f.flows"]
	if !ok || strings.Count(string(data), "\n") != 502 {
		t.Fatalf("files %v, %d lines", len(res.Flows), strings.Count(string(data), "\n"))
	}
	want := r.dump("br-f")
	lab := r.up(dir, "long", res)
	r.sameText("program", []byte(r.dump("long-br-f")), []byte(want))
	if err := lab.Down(r.ctx); err != nil {
		t.Fatal(err)
	}
	moved := t.TempDir()
	if err := os.Rename(filepath.Join(dir, "long.long-br-f.flows"), filepath.Join(moved, "long.long-br-f.flows")); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PLATELET_LAB_DIR", moved)
	r.up(moved, "long", &ovsimport.Result{Topology: res.Topology})
	r.sameText("program of the moved file", []byte(r.dump("long-br-f")), []byte(want))
	inline := r.importHost(ovsimport.Options{Lab: "long", Bridges: []string{"long-br-f"}, Rename: true})
	if len(inline.Flows) != 0 {
		t.Error("flows in files that nobody asked for")
	}
	if _, err := clab.Parse("inline.clab.yml", inline.Topology, func(string) (string, bool) { return "", false }); err != nil {
		t.Error(err)
	}
}

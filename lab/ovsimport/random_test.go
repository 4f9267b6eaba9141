package ovsimport_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/platelet-sdn/platelet/lab/ovsimport"
)

// The import of a reproduced host is the same file again, whatever the host:
// bridges, VLANs, patch ports, bonds and pipelines at random.
func TestImportOfTheReproductionIsTheSame(t *testing.T) {
	r := newRig(t)
	for seed := range uint64(4) {
		t.Run(fmt.Sprint("seed", seed), func(t *testing.T) {
			sub := &rig{T: t, ctx: r.ctx, ovs: r.ovs, dir: r.dir}
			lab := fmt.Sprintf("s%d", seed)
			bridges := sub.random(rand.New(rand.NewPCG(seed, 1)), lab)
			first := sub.importHost(ovsimport.Options{Lab: lab, Rename: true, Bridges: bridges})
			up := sub.up(t.TempDir(), lab, first)
			sub.sameText("database", []byte(strings.ReplaceAll(sub.columns(up.Bridges()), lab+"-", "")), []byte(sub.columns(bridges)))
			for i, b := range bridges {
				sub.sameText("program of "+b, []byte(sub.dump(up.Bridges()[i])), []byte(sub.dump(b)))
			}
			second := sub.importHost(ovsimport.Options{Lab: lab, Rename: true, Bridges: up.Bridges()})
			sub.sameText("import of the lab", withoutNotes(second.Topology), withoutNotes(first.Topology))
			if len(second.Notes) != 0 {
				t.Errorf("notes on the lab: %q", second.Notes)
			}
			if t.Failed() {
				t.Logf("%s", first.Topology)
			}
			if err := up.Down(context.Background()); err != nil {
				t.Error(err)
			}
			for _, b := range bridges {
				sub.do("ovs-vsctl del-br " + b)
			}
		})
	}
}

// random makes one to three bridges.
func (r *rig) random(rnd *rand.Rand, lab string) []string {
	r.Helper()
	pick := func(words ...string) string { return words[rnd.IntN(len(words))] }
	var bridges []string
	for b := range 1 + rnd.IntN(3) {
		bridge := fmt.Sprintf("%sbr%d", lab, b)
		bridges = append(bridges, bridge)
		r.do("ovs-vsctl add-br " + bridge + " -- set bridge " + bridge + " datapath_type=netdev " +
			pick("", "fail_mode=secure", "fail_mode=standalone") + pick("", " mcast_snooping_enable=true", " other_config:mac-table-size=77", " stp_enable=true"))
		if pick("", "p") != "" {
			r.do("ovs-vsctl set bridge " + bridge + pick(" protocols=OpenFlow10", " protocols=OpenFlow13,OpenFlow14", " protocols=OpenFlow15"))
		}
		var ports []string
		for p := range 1 + rnd.IntN(4) {
			port := fmt.Sprintf("%sp%d-%d", lab, b, p)
			r.guest(fmt.Sprintf("%sh%d-%d", lab, b, rnd.IntN(p+1)), fmt.Sprintf("eth%d", p), port, fmt.Sprintf("02:00:%02x:00:%02x:%02x", len(lab), b, p),
				fmt.Sprintf("10.%d.%d.%d/24", b, p, 1+rnd.IntN(250)), fmt.Sprintf("fd00:%d:%d::%d/64", b, p, 1+rnd.IntN(250)))
			ports = append(ports, port)
			r.do("ovs-vsctl add-port " + bridge + " " + port + " " + pick("", "tag=7", "trunks=3,1,2", "tag=9 vlan_mode=native-tagged", "tag=5 vlan_mode=dot1q-tunnel cvlans=8,9") +
				" -- set interface " + port + " " + pick("external_ids:app=a", "external_ids:a.b/c=\"'x y'\"", fmt.Sprintf("ofport_request=%d", 100+p)))
		}
		if b > 0 {
			here, there := fmt.Sprintf("%sto%d", lab, b), fmt.Sprintf("%sfrom%d", lab, b)
			r.do("ovs-vsctl add-port " + bridge + " " + here + " -- set interface " + here + " type=patch options:peer=" + there +
				" -- add-port " + bridges[rnd.IntN(b)] + " " + there + " -- set interface " + there + " type=patch options:peer=" + here)
			ports = append(ports, here)
		}
		r.program(pick, bridge, ports)
	}
	return bridges
}

// program gives a bridge a few flows of each kind that it knows.
func (r *rig) program(pick func(...string) string, bridge string, ports []string) {
	r.Helper()
	old := r.old(bridge)
	var flows []string
	for i := range 12 {
		actions := []string{"drop", "NORMAL", "output:" + pick(ports...), "resubmit(,7)", "load:0x3->NXM_NX_REG1[0..3],output:NXM_NX_REG1[]",
			"set_field:02:00:00:00:00:07->eth_dst," + pick(ports...), "in_port", "LOCAL", "mod_vlan_vid:5," + pick(ports...)}
		if !old {
			actions = append(actions, "group:1", "meter:3,NORMAL", "write_actions(output:"+pick(ports...)+"),goto_table:9")
		}
		flows = append(flows, fmt.Sprintf("cookie=%#x,table=%s,priority=%d%s,%s,actions=%s", i, pick("0", "3"), 10+i, pick("", ",idle_timeout=900", ",in_port="+pick(ports...)),
			pick("ip", "ip,nw_dst=10.0.0.0/9", "tcp,tp_dst=0x10/0xfff0", "udp6,ipv6_src=fd00::/16", "dl_vlan=4", "dl_src=02:00:00:00:00:00/ff:00:00:00:00:00"), pick(actions...)))
	}
	if !old {
		r.do("ovs-ofctl -O OpenFlow13,OpenFlow15 add-group " + bridge + " group_id=1,type=select,bucket=weight:3,output:" + pick(ports...) + ",bucket=weight:1,output:" + pick(ports...) +
			"\novs-ofctl -O OpenFlow13,OpenFlow15 add-meter " + bridge + " meter=3,kbps,burst,bands=type=drop,rate=50,burst_size=5")
	}
	r.flows(bridge, strings.Join(flows, "\n")+"\n")
}

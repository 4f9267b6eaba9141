package openflow

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// foreignMatches are all of TCP over IPv4, so that every action may follow.
// Some of their fields this package does not know.
func foreignMatches() []string {
	return []string{
		"tcp", "tcp,in_port=1", "tcp,dl_vlan=7,dl_vlan_pcp=3", "tcp,vlan_tci=0x1000/0x1000", "tcp,nw_src=10.0.0.0/255.0.255.0,tp_dst=0x50/0xfff0",
		"tcp,metadata=5/0xff,reg3=7/0xf,xreg4=9,xxreg3=5/0xff", "tcp,tun_id=5,tun_src=1.2.3.4,tun_flags=oam,tun_gbp_id=7,tun_gbp_flags=3",
		"tcp,tun_metadata0=5/0xff", "tcp,ct_state=+trk-inv,ct_nw_proto=6,ct_nw_src=10.0.0.0/8,ct_tp_dst=80",
		"tcp,pkt_mark=4,conj_id=5", "tcp,actset_output=4", "tcp,nw_frag=not_later,nw_ttl=3,nw_tos=16,nw_ecn=2",
		"tcp,dl_src=02:00:00:00:00:01/ff:00:00:00:00:ff,tcp_flags=+syn-ack", "tcp,tcp_flags=0x800/0xf00",
	}
}

// otherMatches have actions of their own, or none.
func otherMatches() []string {
	return []string{
		"mpls,mpls_label=5,mpls_tc=3,mpls_bos=1", "packet_type=(1,0x800),nw_src=10.0.0.1", "icmp6,icmp_type=135,nd_target=fe80::1,nd_sll=02:00:00:00:00:01",
		"icmp6,icmp_type=136,nd_options_type=2,nd_reserved=5", "arp,arp_op=2,arp_tha=02:00:00:00:00:01/ff:ff:ff:00:00:00", "dl_type=0x88cc",
		"ipv6,ipv6_label=0x12/0xff,ipv6_dst=2001:db8::/ffff:ffff::ff", "dl_type=0x894f,nsh_mdtype=1,nsh_spi=5,nsh_c1=7/0xff", "sctp,tp_dst=5",
		"rarp,arp_spa=1.2.3.4", "mpls,mpls_ttl=5",
	}
}

// foreignActions has actions that this package does not know beside those
// that it does.
func foreignActions() []string {
	return []string{
		"output:1", "NORMAL", "FLOOD", "LOCAL", "IN_PORT", "CONTROLLER:100", "controller(max_len=50,id=3,reason=no_match)",
		"controller(userdata=01.02.03,pause)", "output(port=2,max_len=100)", "output:reg3[0..15]", "resubmit:5", "resubmit(,9)", "resubmit(5,)",
		"load:5->reg3[2..9]", "set_field:10.0.0.9->nw_dst", "set_field:0x5/0xf->metadata", "move:reg1[]->xxreg1[3..34]", "mod_nw_tos:16", "mod_nw_ttl:5",
		"mod_tp_dst:80", "push_vlan:0x88a8,set_field:4101->vlan_vid,pop_vlan", "mod_vlan_vid:7", "push_vlan:0x8100,strip_vlan", "clone(push_mpls:0x8847,pop_mpls:0x0800)", "dec_ttl", "dec_ttl(1,2)",
		"set_queue:4,output:1,pop_queue", "set_tunnel:5", "set_tunnel64:0x123456789", "note:01.02.03.04.05.06.07.08", "exit", "push:reg3[0..15],pop:reg4[0..15]",
		"learn(table=5,hard_timeout=60,priority=7,NXM_OF_ETH_DST[]=NXM_OF_ETH_SRC[],load:NXM_OF_IN_PORT[]->NXM_NX_REG0[0..15])",
		"learn(table=5,limit=10,result_dst=reg0[0],delete_learned,eth_type=0x800,nw_proto=6,tcp_src=5,output:NXM_OF_IN_PORT[])",
		"multipath(eth_src,50,modulo_n,1,0,reg3[0..7])", "bundle(symmetric_l4,0,hrw,ofport,members:1,2,3)", "bundle_load(eth_src,0,active_backup,ofport,reg3[0..15],members:1,2)",
		"fin_timeout(idle_timeout=5,hard_timeout=9)", "ct", "ct(commit,zone=5,exec(set_field:1->ct_mark,set_field:5/7->ct_label))",
		"ct(commit,force,table=7,zone=reg3[0..15],nat(src=10.0.0.1-10.0.0.9:100-200,random),alg=ftp)", "ct(nat,table=3)", "ct_clear",
		"sample(probability=100,collector_set_id=1,obs_domain_id=2,obs_point_id=3)", "sample(probability=100,collector_set_id=1,sampling_port=5,egress)",
		"check_pkt_larger(1500)->reg3[0]", "clone(output:2,output:3)", "set_field:5->tun_id", "set_field:3->tun_metadata0", "clone(encap(nsh(md_type=1)),encap(ethernet))",
		"delete_field:tun_metadata0", "enqueue:1:2", "group:9", "output:reg7", "load:0->in_port",
	}
}

func foreignLast() []string {
	return []string{"", ",clear_actions", ",write_actions(output:2,group:9,dec_ttl)", ",write_metadata:5/7", ",goto_table:90",
		",clear_actions,write_actions(set_field:5->reg1),write_metadata:9,goto_table:77"}
}

// What others wrote, with actions and matches that we know nothing of, reads
// back so exactly that we can write it again, into another table and with
// another cookie, and Open vSwitch prints the same.
func TestForeignFlowsReadBackExactly(t *testing.T) {
	const bridge, file = "plforeign", "flows"
	ctx, sw, target := realSwitch(t, bridge)
	ofctl := func(args ...string) string {
		out, err := sw.Ofctl(ctx, append([]string{"-O", "OpenFlow15"}, args...)...)
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	ofctl("add-tlv-map", sw.Mgmt(bridge), "{class=0xffff,type=1,len=4}->tun_metadata0")
	ofctl("add-group", sw.Mgmt(bridge), "group_id=9,type=all,bucket=actions=drop")
	ofctl("add-meter", sw.Mgmt(bridge), "meter=3,kbps,bands=type=drop,rate=1000")
	c, err := Dial(ctx, target)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	dir := t.TempDir()
	rapid.Check(t, func(t *rapid.T) {
		path := filepath.Join(dir, file)
		if err := os.WriteFile(path, []byte(drawForeign(t)), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := c.Commit(ctx, Tx{Flows: []FlowMod{{Command: Delete, Flow: Flow{Table: TableAll}}}}); err != nil {
			t.Fatal(err)
		}
		ofctl("add-flows", sw.Mgmt(bridge), path)
		flows, err := c.Flows(ctx, FlowFilter{Table: 1})
		if err != nil {
			t.Fatal(err)
		}
		errs, err := c.sendChecked(ctx, len(flows), func(b []byte, i int, xid uint32) []byte {
			flows[i].Table, flows[i].Cookie = 2, 0x504c
			b, err := (&FlowMod{Flow: flows[i].Flow}).append(b, xid)
			if err != nil {
				t.Fatal(err)
			}
			return b
		})
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range errs {
			t.Errorf("%v", e)
		}
		if want, got := twoTables(ofctl("--no-stats", "--no-names", "dump-flows", sw.Mgmt(bridge))); len(want) == 0 || !slices.Equal(want, got) {
			t.Errorf("they wrote %s\nwe wrote   %s", strings.Join(want, "\n           "), strings.Join(got, "\n           "))
		}
	})
}

// twoTables returns the flows of table 1 and of table 2 in what dump-flows
// printed, sorted, without table and cookie.
func twoTables(dump string) (theirs, ours []string) {
	own := regexp.MustCompile(`cookie=0x[0-9a-f]+,|table=\d+,`)
	for line := range strings.Lines(dump) {
		text := strings.Join(strings.Fields(own.ReplaceAllString(line, "")), " ")
		switch {
		case strings.Contains(line, "table=1,"):
			theirs = append(theirs, text)
		case strings.Contains(line, "table=2,"):
			ours = append(ours, text)
		}
	}
	slices.Sort(theirs)
	slices.Sort(ours)
	return theirs, ours
}

// drawForeign draws the lines of a file for ovs-ofctl add-flows.
func drawForeign(t *rapid.T) string {
	var text strings.Builder
	line := func(i int, match, actions string) {
		text.WriteString(rapid.SampledFrom([]string{"", "hard_timeout=100,", "idle_timeout=9,importance=5,", "send_flow_rem,no_byte_counts,"}).Draw(t, "options"))
		text.WriteString("cookie=" + rapid.SampledFrom([]string{"0", "0xffffffffffffffff", "7"}).Draw(t, "cookie"))
		text.WriteString(",table=1,priority=" + string(rune('1'+i/10)) + string(rune('0'+i%10)) + "," + match + ",actions=" + actions + "\n")
	}
	for i := range rapid.IntRange(1, 30).Draw(t, "flows") {
		if rapid.IntRange(0, 5).Draw(t, "kind") == 0 {
			line(i, rapid.SampledFrom(otherMatches()).Draw(t, "match"), rapid.SampledFrom([]string{"drop", "output:1", "learn(table=3,eth_type=0x88cc)", "goto_table:9"}).Draw(t, "actions"))
			continue
		}
		actions := rapid.SliceOfN(rapid.SampledFrom(foreignActions()), 1, 4).Draw(t, "actions")
		meter := rapid.SampledFrom([]string{"", "", "meter:3,"}).Draw(t, "meter")
		line(i, rapid.SampledFrom(foreignMatches()).Draw(t, "match"),
			meter+strings.Join(actions, ",")+rapid.SampledFrom(foreignLast()).Draw(t, "last"))
	}
	return text.String()
}

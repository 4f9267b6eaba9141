package pipeline_test

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// foreign is a pipeline of somebody else's: flows in table 0 and elsewhere,
// at priorities around and equal to our hook's, with cookies that look like
// ours, groups, meters, conntrack, learning, VLANs, and NORMAL.
type foreign struct {
	flows, groups, meters []string
	ports                 int
}

// foreignTables are the tables that the foreign pipeline uses, in the order in
// which its packets may go on; the last ones stand around ours.
func foreignTables() []int { return []int{0, 1, 5, 10, 50, 199, 250} }

func randomForeign(r *rand.Rand, ports int) *foreign {
	f := &foreign{ports: ports}
	kinds := []string{"all", "select", "indirect", "ff"}
	for id := range 4 {
		kind := kinds[id]
		var g strings.Builder
		fmt.Fprintf(&g, "group_id=%d,type=%s", id+1, kind)
		for n := range 2 {
			if kind == "indirect" && n > 0 {
				break
			}
			watch := ""
			if kind == "ff" {
				watch = fmt.Sprintf("watch_port:%d,", n+1)
			}
			fmt.Fprintf(&g, ",bucket=%sactions=output:%d", watch, 1+r.IntN(ports))
		}
		f.groups = append(f.groups, g.String())
	}
	for id := range 3 {
		f.meters = append(f.meters, fmt.Sprintf("meter=%d,pktps,burst,stats,bands=type=drop,rate=%d,burst_size=%d", id+1, 1000+r.IntN(1000), 1+r.IntN(100)))
	}
	// In the range that is reserved for our meters.
	f.meters = append(f.meters, fmt.Sprintf("meter=%d,kbps,bands=type=drop,rate=%d", 200000+r.IntN(60000), 1000+r.IntN(1000)))
	for range 60 {
		f.flows = append(f.flows, f.flow(r))
	}
	f.flows = append(f.flows, "table=0,priority=0,actions=NORMAL")
	return f
}

func pick[T any](r *rand.Rand, from ...T) T { return from[r.IntN(len(from))] }

// flow is one random flow that the switch takes.
func (f *foreign) flow(r *rand.Rand) string {
	tables := foreignTables()
	at := r.IntN(len(tables))
	if r.IntN(2) == 0 {
		at = 0
	}
	match, ip := f.match(r)
	priority := pick(r, 1, 100, 1000, 32768, 59999, 60000, 60001, 65535)
	cookie := pick(r, 0, r.Uint64(), r.Uint64(), 0x504c<<48, 0x504c<<48|1<<40|1<<32, 0x504c<<48|1<<40|3<<32|r.Uint64()>>32, 0x504d<<48)
	if cookie == ^uint64(0) {
		cookie = 1
	}
	extra := pick(r, "", "", "", ",send_flow_rem", ",idle_timeout=60000", ",hard_timeout=60000")
	return fmt.Sprintf("cookie=0x%x,table=%d,priority=%d%s%s,actions=%s", cookie, tables[at], priority, match, extra, f.actions(r, tables[at+1:], ip))
}

func (f *foreign) match(r *rand.Rand) (text string, ip bool) {
	var parts []string
	if r.IntN(2) == 0 {
		parts = append(parts, fmt.Sprintf("in_port=%d", 1+r.IntN(f.ports)))
	}
	if r.IntN(4) == 0 {
		parts = append(parts, pick(r, "dl_vlan=7", "vlan_tci=0x1000/0x1000", "dl_src=02:00:00:00:00:01", "reg1=5", "metadata=0x7", "reg15=0/0xff"))
	}
	switch r.IntN(7) {
	case 0:
		parts, ip = append(parts, fmt.Sprintf("ip,nw_src=10.%d.0.0/16", r.IntN(3))), true
	case 1:
		parts, ip = append(parts, fmt.Sprintf("tcp,tp_dst=%d", pick(r, 22, 80, 443))), true
	case 2:
		parts, ip = append(parts, fmt.Sprintf("udp,nw_dst=10.0.%d.0/24", r.IntN(3))), true
	case 3:
		parts = append(parts, "arp")
	case 4:
		parts, ip = append(parts, pick(r, "ct_state=+trk+new,ip", "ct_state=+trk+est,ip", "ct_state=-trk,ip")), true
	case 5:
		parts, ip = append(parts, "ipv6"), true
	}
	if len(parts) == 0 {
		return "", ip
	}
	return "," + strings.Join(parts, ","), ip
}

// actions go on to one of the tables behind, if at all.
func (f *foreign) actions(r *rand.Rand, behind []int, ip bool) string {
	port := 1 + r.IntN(f.ports)
	choices := []string{
		"NORMAL", "NORMAL", "drop", "FLOOD", "IN_PORT", fmt.Sprintf("output:%d", port), fmt.Sprintf("group:%d", 1+r.IntN(4)),
		"CONTROLLER:128", fmt.Sprintf("meter:%d,NORMAL", 1+r.IntN(3)), "push_vlan:0x8100,set_field:4103->vlan_vid,NORMAL",
		fmt.Sprintf("clone(output:%d),NORMAL", port), "note:01.02.03,NORMAL", "set_queue:1,NORMAL",
		"learn(table=10,hard_timeout=60,priority=7,NXM_OF_ETH_DST[]=NXM_OF_ETH_SRC[],output:NXM_OF_IN_PORT[]),NORMAL",
	}
	if ip {
		choices = append(choices, fmt.Sprintf("dec_ttl,output:%d", port), fmt.Sprintf("ct(commit,zone=%d),NORMAL", 1+r.IntN(9)))
	}
	if len(behind) > 0 {
		to := behind[r.IntN(len(behind))]
		onward := []string{
			fmt.Sprintf("goto_table:%d", to), fmt.Sprintf("resubmit(,%d)", to), fmt.Sprintf("resubmit(,%d),resubmit(,%d)", to, to),
			fmt.Sprintf("load:%d->NXM_NX_REG1[],resubmit(,%d)", 4+r.IntN(3), to), fmt.Sprintf("write_metadata:0x7,goto_table:%d", to),
			fmt.Sprintf("write_actions(output:%d),goto_table:%d", port, to), fmt.Sprintf("move:NXM_OF_IN_PORT[]->NXM_NX_REG3[0..15],goto_table:%d", to),
			fmt.Sprintf("load:1->NXM_NX_REG15[0..7],resubmit(,%d)", to),
		}
		if ip {
			onward = append(onward, fmt.Sprintf("ct(table=%d,zone=%d)", to, 1+r.IntN(9)))
		}
		choices = append(choices, onward...)
		choices = append(choices, onward...)
	}
	return choices[r.IntN(len(choices))]
}

// install replaces everything on the switch by the foreign pipeline.
func (f *foreign) install(l *lab) {
	l.t.Helper()
	l.ofctl("del-flows")
	l.ofctl("del-groups")
	l.ofctl("del-meters")
	for _, g := range f.groups {
		l.ofctl("add-group", g)
	}
	for _, m := range f.meters {
		l.ofctl("add-meter", m)
	}
	file := filepath.Join(l.sw.Dir, "foreign.flows")
	if err := os.WriteFile(file, []byte(strings.Join(f.flows, "\n")+"\n"), 0o600); err != nil {
		l.t.Fatal(err)
	}
	l.ofctl("add-flows", file)
}

// remains is everything on the switch that is not ours: sorted, without
// counters. What is ours is told by its place and its cookie, or by its meter ID.
func (l *lab) remains(f *foreign) string {
	l.t.Helper()
	ownFlow := regexp.MustCompile(`^ *cookie=0x504c0[0-9a-f]{11}, (hard_timeout=[0-9]+, )?(table=2[0-4][0-9],|priority=60000,reg15=0/0x80000000 )`)
	known := strings.Join(f.meters, "\n")
	var out []string
	for line := range strings.Lines(l.ofctl("dump-flows", "--no-stats")) {
		if !ownFlow.MatchString(line) {
			out = append(out, strings.TrimSpace(line))
		}
	}
	for line := range strings.Lines(l.ofctl("dump-groups")) {
		if !strings.Contains(line, "xid=") {
			out = append(out, strings.TrimSpace(line))
		}
	}
	var meter string
	for line := range strings.Lines(l.ofctl("dump-meters")) {
		if id := regexp.MustCompile(`meter=\d+`).FindString(line); id != "" {
			meter = id
		}
		if text := strings.TrimSpace(line); text != "" && meter != "" && strings.Contains(known, meter+",") {
			out = append(out, meter+" "+text)
		}
	}
	slices.Sort(out)
	return strings.Join(out, "\n")
}

// packets are random packets in the syntax of ofproto/trace.
func (f *foreign) packets(r *rand.Rand, n int) []string {
	out := make([]string, n)
	for i := range out {
		p := fmt.Sprintf("in_port=%d,dl_src=02:00:00:00:00:0%d,dl_dst=%s", 1+r.IntN(f.ports), 1+r.IntN(3),
			pick(r, "02:00:00:00:00:09", "ff:ff:ff:ff:ff:ff", "02:00:00:00:00:02"))
		if r.IntN(4) == 0 {
			p += ",dl_vlan=7"
		}
		v4 := fmt.Sprintf("nw_src=10.%d.0.%d,nw_dst=10.0.%d.9,nw_ttl=64", r.IntN(4), 1+r.IntN(9), r.IntN(4))
		p += pick(r, ",arp,arp_op=1,arp_spa=10.0.0.1,arp_tpa=10.0.0.2", ",icmp,"+v4, ",tcp,"+v4+fmt.Sprintf(",tcp_src=40000,tcp_dst=%d", pick(r, 22, 80, 443, 99)),
			",udp,"+v4+",udp_src=53,udp_dst=53", ",tcp6,ipv6_src=fd00::1,ipv6_dst=fd00::2,nw_ttl=64,tcp_src=1,tcp_dst=80", ",dl_type=0x88cc")
		out[i] = p
	}
	return out
}

// decides is what the datapath does with each packet, in all passes.
func (l *lab) decides(packets []string) []string {
	l.t.Helper()
	passing := regexp.MustCompile(`recirc(_id)?(\(|=)(0x)?[0-9a-f]+`)
	out := make([]string, len(packets))
	for i, p := range packets {
		trace, err := l.sw.Appctl(l.ctx, "ofproto/trace", l.bridge, p)
		if err != nil {
			l.t.Fatal(err)
		}
		var does []string
		for line := range strings.Lines(trace) {
			if actions, ok := strings.CutPrefix(line, "Datapath actions: "); ok {
				does = append(does, passing.ReplaceAllString(strings.TrimSpace(actions), "recirc"))
			}
		}
		if len(does) == 0 {
			l.t.Fatalf("trace of %s says no actions: %s", p, trace)
		}
		out[i] = strings.Join(does, " then ")
	}
	return out
}

// difference is what only one of two sorted texts has.
func difference(before, after string) string {
	old, now := strings.Split(before, "\n"), strings.Split(after, "\n")
	var out []string
	for _, line := range old {
		if !slices.Contains(now, line) {
			out = append(out, "- "+line)
		}
	}
	for _, line := range now {
		if !slices.Contains(old, line) {
			out = append(out, "+ "+line)
		}
	}
	return strings.Join(out, "\n")
}

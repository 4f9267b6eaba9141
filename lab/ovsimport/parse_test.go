package ovsimport

import (
	"net/netip"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/shlex"
)

func TestNamesStandWhereNumbersWere(t *testing.T) {
	names := map[int]string{2: "eth-b", 3: "c.10", 77: "va"}
	for text, want := range map[string]string{
		"priority=10,in_port=77,actions=meter:1,set_field:0x3->reg0,resubmit(,10)":           "priority=10,in_port=va,actions=meter:1,set_field:0x3->reg0,resubmit(,10)",
		"ip,in_port=2,actions=resubmit(3,11),set_queue:1,output:2,pop_queue":                 "ip,in_port=eth-b,actions=resubmit(c.10,11),set_queue:1,output:eth-b,pop_queue",
		"actions=clone(output:2,ct(commit,zone=3)),bundle(eth_src,0,hrw,ofport,members:2,3)": "actions=clone(output:eth-b,ct(commit,zone=3)),bundle(eth_src,0,hrw,ofport,members:eth-b,c.10)",
		"actions=sample(probability=1,obs_point_id=2,sampling_port=2),note:02.03":            "actions=sample(probability=1,obs_point_id=2,sampling_port=eth-b),note:02.03",
		"actions=set_field:77->in_port,output(port=77,max_len=100),output:NXM_NX_REG0[]":     "actions=set_field:va->in_port,output(port=va,max_len=100),output:NXM_NX_REG0[]",
		"group_id=2,type=ff,bucket=bucket_id:2,watch_port:2,actions=output:2,output:9":       "group_id=2,type=ff,bucket=bucket_id:2,watch_port:eth-b,actions=output:eth-b,output:9",
		"in_port=2,in_port=3,actions=output:3,output:2":                                      "in_port=eth-b,in_port=c.10,actions=output:c.10,output:eth-b",
		"nw_dst=10.0.0.2,tp_dst=2,actions=resubmit:3,group:2,goto_table:3":                   "nw_dst=10.0.0.2,tp_dst=2,actions=resubmit:c.10,group:2,goto_table:3",
		"actions=bundle(eth_src,0,hrw,ofport,slaves:3)":                                      "actions=bundle(eth_src,0,hrw,ofport,slaves:c.10)",
	} {
		if got := nameNumbers(text, names); got != want {
			t.Errorf("%s:\n got %s\nwant %s", text, got, want)
		}
	}
}

func TestReadsFlowsGroupsAndMeters(t *testing.T) {
	flows, err := parseFlows("OFPST_FLOW reply (OF1.5) (xid=0x2):\n cookie=0x504c010200000001, table=201, hard_timeout=5, send_flow_rem importance=3, priority=7,ip actions=drop\n actions=NORMAL\n")
	if err != nil || len(flows) != 2 {
		t.Fatalf("%+v, %v", flows, err)
	}
	if f := flows[0]; f.cookie>>ownCookieShift != ownCookie || f.table != 201 || f.priority != 7 ||
		f.text != "cookie=0x504c010200000001,table=201,hard_timeout=5,send_flow_rem,importance=3,priority=7,ip,actions=drop" {
		t.Errorf("%+v", f)
	}
	if f := flows[1]; f.table != 0 || f.priority != 32768 || f.text != "actions=NORMAL" {
		t.Errorf("%+v", f)
	}
	groups, err := parseGroups(" group_id=1,type=all,bucket=actions=group:10\n group_id=10,type=ff,bucket=watch_group:2,actions=drop\n group_id=2,type=all,bucket=actions=group:2\n")
	if err != nil || len(groups) != 3 || !strings.HasPrefix(groups[0], "group_id=2,") || !strings.HasPrefix(groups[2], "group_id=1,") {
		t.Errorf("%q, %v", groups, err)
	}
	meters, err := parseMeters("OFPST_METER_CONFIG reply (OF1.5) (xid=0x2):\nmeter=10 kbps bands=\ntype=drop rate=1\n\nmeter=9 pktps burst stats bands=\ntype=drop rate=100 burst_size=20\n")
	if want := []string{"meter=9,pktps,burst,stats,bands=type=drop,rate=100,burst_size=20", "meter=10,kbps,bands=type=drop,rate=1"}; err != nil || !slices.Equal(meters, want) {
		t.Errorf("%q, %v", meters, err)
	}
	flags := parsePortFlags("OFPST_PORT_DESC reply (xid=0x2):\n 2(va): addr:42:27:66:0d:0c:97\n     config:     NO_RECV NO_FLOOD PORT_DOWN\n 3(q\"(x): addr:00:00:00:00:00:00\n     config:     0\n LOCAL(br0): addr:f6:19:77:0d:16:43\n     config:     NO_FWD\n")
	if len(flags) != 1 || !slices.Equal(flags[2], []string{"no-receive", "no-flood"}) {
		t.Errorf("%v", flags)
	}
	fields := parseTunnelFields("NXT_TLV_TABLE_REPLY (OF1.5) (xid=0x2):\n max option space=256 max fields=64\n allocated option space=4\n\n mapping table:\n  class  type  length  match field\n ------  ----  ------  --------------\n 0xffff     0       4  tun_metadata0\n")
	if len(fields) != 1 || fields[0] != "{class=0xffff,type=0,len=4}->tun_metadata0" {
		t.Errorf("%q", fields)
	}
	for _, bad := range []string{"priority=70000 actions=drop", "table=256 actions=drop", "cookie=x actions=drop", "ip"} {
		if f, err := parseFlow(bad); err == nil {
			t.Errorf("%s: %+v", bad, f)
		}
	}
	for _, bad := range []string{"type=all", "group_id=1,a\ngroup_id=1,b"} {
		if g, err := parseGroups(bad); err == nil {
			t.Errorf("%s: %q", bad, g)
		}
	}
	for _, bad := range []string{"type=drop rate=1", "meter=1 kbps bands=", "what"} {
		if m, err := parseMeters(bad); err == nil {
			t.Errorf("%s: %q", bad, m)
		}
	}
}

// VLANs and further addresses become interfaces on top of the cable, where
// the kernel can have them.
func TestStandsInForManyAddresses(t *testing.T) {
	fdb, err := parseFDB(" port  VLAN  MAC                Age\n    3     0  02:00:00:00:00:01    3\n    3    20  02:00:00:00:00:02  static\nLOCAL     0  02:00:00:00:00:09    1\n    3     0  02:00:00:00:00:03    1\n    4     0  02:00:00:00:00:04    1\n")
	if err != nil || len(fdb) != 4 {
		t.Fatalf("%v, %v", fdb, err)
	}
	b := &bridge{name: "b"}
	i := &iface{name: "up", ofport: 3, bridge: b, port: &port{row: row{}}}
	known := map[string][]neighbour{"02:00:00:00:00:01": {hint("10.0.0.1/24")}, "02:00:00:00:00:02": {hint("10.2.0.2/24"), hint("fd02::2/64")}, "02:00:00:00:00:03": {hint("10.0.0.3/24")}}
	for _, tc := range []struct {
		can  map[string]bool
		want string
		left int
	}{
		{map[string]bool{"vlan": true, "macvlan": true}, `ip link add link eth1 name eth1.20 address 02:00:00:00:00:02 type vlan id 20
ip link set dev eth1.20 up
ip link add link eth1 name mac1 address 02:00:00:00:00:03 type macvlan mode bridge
ip link set dev mac1 up
ip addr add 10.0.0.1/24 dev eth1
ip addr add 10.2.0.2/24 dev eth1.20
ip -6 addr add fd02::2/64 nodad dev eth1.20
ip addr add 10.0.0.3/24 dev mac1`, 0},
		{nil, "ip addr add 10.0.0.1/24 dev eth1", 1},
	} {
		p := &plan{learned: map[*bridge][]learnedMAC{b: fdb}, known: known, kernel: &kernel{can: tc.can}}
		main, n := nic{name: "eth1"}, &node{}
		nics := p.impersonate(n, i, &main, p.behind(i))
		nics = append([]nic{main}, nics...)
		slices.SortFunc(nics, func(a, b nic) int { return strings.Compare(a.name, b.name) })
		if got := strings.Join(lines(nics), "\n"); got != tc.want {
			t.Errorf("kernel with %v:\n%s\nwant\n%s", tc.can, got, tc.want)
		}
		if len(p.notes) != tc.left {
			t.Errorf("notes %q", p.notes)
		}
	}
}

func TestNamesFit(t *testing.T) {
	taken := names{}
	for _, name := range []string{"br0", `q"t`, "fünf", "..", "", "-x", "a b", "abcdefghijklmnopqrstuvwxyz", "abcdefghijklmnopqrstuvwxyy", "br0"} {
		got := taken.take(fit(name, nameMax), nameMax)
		if len(got) > nameMax || !labName.MatchString(got) {
			t.Errorf("%q became %q", name, got)
		}
	}
	if len(taken) != 10 {
		t.Errorf("names are not unique: %v", taken)
	}
	if got := fit("br-int.7", nameMax); got != "br-int.7" {
		t.Errorf("a name that fits became %q", got)
	}
}

// What is quoted for a shell comes out of the runner's splitter as it was.
func FuzzQuoteShell(f *testing.F) {
	for _, s := range []string{"", "a b", `it's`, `"`, `\`, "a\nb", "#x", "ü", "''"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if !utf8.ValidString(s) || !carriable(strings.ReplaceAll(s, "\n", "")) {
			t.Skip()
		}
		words, err := shlex.Split("a " + quoteShell(s) + " b")
		if err != nil || len(words) != 3 || words[1] != s {
			t.Errorf("%q became %q, %v", s, words, err)
		}
	})
}

func FuzzParseFlow(f *testing.F) {
	for _, s := range []string{" cookie=0x5, idle_timeout=300, send_flow_rem importance=3, priority=10,in_port=77 actions=meter:1,resubmit(,10)", "actions=", "table=255 actions=drop", "a=actions=b", "priority=-1 actions=drop"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, line string) {
		flow, err := parseFlow(line)
		if err != nil {
			return
		}
		again, err := parseFlow(flow.text)
		if err != nil || again != flow {
			t.Errorf("%q is %+v, and that is %+v, %v", line, flow, again, err)
		}
		if got := nameNumbers(flow.text, nil); got != flow.text {
			t.Errorf("%q became %q without names", flow.text, got)
		}
	})
}

func FuzzParseFDB(f *testing.F) {
	f.Add(" port  VLAN  MAC                Age\n    3     0  02:00:00:00:00:01    3\n")
	f.Add("LOCAL 0 02:00:00:00:00:01 static")
	f.Add("1 4096 x y")
	f.Fuzz(func(t *testing.T, text string) {
		list, err := parseFDB(text)
		if err != nil && list != nil {
			t.Error("entries beside an error")
		}
		for _, l := range list {
			if l.port < 0 || l.port > 0xffff || l.vlan < 0 || l.vlan > 0xfff || len(l.mac) != 17 {
				t.Errorf("%+v", l)
			}
		}
	})
}

func FuzzParseGroupsAndMeters(f *testing.F) {
	f.Add("group_id=1,type=all,bucket=actions=group:1\ngroup_id=2,watch_group:1")
	f.Add("meter=1 kbps bands=\ntype=drop rate=1\n")
	f.Add(" 2(va): addr:42:27:66:0d:0c:97\n     config:     NO_FLOOD\n 0xffff 0 4 tun_metadata0")
	f.Fuzz(func(t *testing.T, text string) {
		for port, flags := range parsePortFlags(text) {
			if port <= 0 || len(flags) == 0 {
				t.Errorf("port %d: %q", port, flags)
			}
		}
		for _, field := range parseTunnelFields(text) {
			if strings.ContainsAny(field, " '\n") {
				t.Errorf("field %q", field)
			}
		}
		if groups, err := parseGroups(text); err == nil {
			for _, g := range groups {
				if !groupID.MatchString(g) {
					t.Errorf("group %q", g)
				}
			}
		}
		if meters, err := parseMeters(text); err == nil {
			for _, m := range meters {
				if !strings.HasPrefix(m, "meter=") || strings.ContainsAny(m, " \n") {
					t.Errorf("meter %q", m)
				}
			}
		}
	})
}

func FuzzDecodeTables(f *testing.F) {
	f.Add(`{"headings":["_uuid","name","tag","other_config"],"data":[[["uuid","x"],"br0",["set",[1,2]],["map",[["a","b"]]]]]}`)
	f.Add(`{"data":[[1]],"headings":[]}{"data":[]}`)
	f.Add(`{"headings":["a"],"data":[[["set",[["uuid"]]]]]}`)
	f.Fuzz(func(t *testing.T, text string) {
		tables, err := decodeTables(text)
		if err != nil && tables != nil {
			t.Error("tables beside an error")
		}
		for _, table := range tables {
			for _, r := range table {
				_ = r.one("name")
			}
		}
	})
}

func hint(prefix string) neighbour { return neighbour{netip.MustParsePrefix(prefix)} }

package openflow

import (
	"bytes"
	"errors"
	"net/netip"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// ofpParse is the oracle: it prints messages as Open vSwitch understands them.
func ofpParse(t rapid.TB, messages []byte) []string {
	t.Helper()
	cmd := exec.Command("ovs-ofctl", "ofp-parse", "-")
	cmd.Stdin = bytes.NewReader(messages)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("ofp-parse: %v: %s", err, out)
	}
	var lines []string
	for line := range strings.Lines(string(out)) {
		if line = strings.TrimSpace(line); line != "" {
			lines = append(lines, line)
		}
	}
	return lines
}

// flowModText is what follows "OFPT_FLOW_MOD (OF1.4) (xid=...): ".
var flowModText = regexp.MustCompile(`^OFPT_FLOW_MOD \(.*?\)(?: \(xid=.*?\))?: (.*)$`)

// Each flow is encoded and given to Open vSwitch to print; its text form is
// given to Open vSwitch to parse and print. Both must come out the same.
func TestFlowModsAsOpenVSwitchReadsThem(t *testing.T) {
	for _, f := range sampleFlows() {
		if err := f.Validate(); err != nil {
			t.Fatalf("%s: %v", f.String(), err)
		}
		msg, err := (&FlowMod{Flow: f}).append(nil, 7)
		if err != nil {
			t.Fatal(err)
		}
		out, err := exec.Command("ovs-ofctl", "-O", "OpenFlow14", "parse-flow", f.String()).CombinedOutput()
		if err != nil {
			t.Errorf("%s: %v: %s", f.String(), err, out)
			continue
		}
		_, wantLine, _ := strings.Cut(string(out), "OFPT_FLOW_MOD")
		want := flowModText.FindStringSubmatch("OFPT_FLOW_MOD" + strings.TrimRight(wantLine, "\n"))
		got := flowModText.FindStringSubmatch(ofpParse(t, msg)[0])
		if want == nil || got == nil {
			t.Errorf("%s: oracle printed %q and %q", f.String(), out, ofpParse(t, msg))
			continue
		}
		if want[1] != got[1] {
			t.Errorf("our bytes: %s\nour text:  %s", got[1], want[1])
		}
	}
}

// groupModText is what follows "OFPT_GROUP_MOD (OF1.4) (xid=...):".
var groupModText = regexp.MustCompile(`(?s)OFPT_GROUP_MOD \(.*?\)(?: \(xid=.*?\))?:\s*(.*)$`)

// The same with groups.
func TestGroupModsAsOpenVSwitchReadsThem(t *testing.T) {
	for _, g := range sampleGroups() {
		if err := g.Validate(); err != nil {
			t.Fatalf("%s: %v", g.String(), err)
		}
		msg, err := (&GroupMod{Group: g}).append(nil, 7)
		if err != nil {
			t.Fatal(err)
		}
		out, err := exec.Command("ovs-ofctl", "-O", "OpenFlow14", "parse-group", g.String()).CombinedOutput()
		if err != nil {
			t.Errorf("%s: %v: %s", g.String(), err, out)
			continue
		}
		want := groupModText.FindStringSubmatch(strings.TrimSpace(string(out)))
		got := groupModText.FindStringSubmatch(strings.Join(ofpParse(t, msg), " "))
		if want == nil || got == nil || want[1] != got[1] {
			t.Errorf("our bytes: %q\nour text:  %q", got, want)
		}
	}
}

func TestOtherMessagesAsOpenVSwitchReadsThem(t *testing.T) {
	meter := Meter{ID: 5, Flags: MeterPktps | MeterBurst | MeterStats, Rate: 100, Burst: 10}
	bundle, err := appendBundleAdd(nil, 3, 17, (&FlowMod{Flow: Flow{Table: 1, Match: Match{InPort(1)}}}).append)
	if err != nil {
		t.Fatal(err)
	}
	packetOut, err := appendPacketOut(nil, 4, &PacketOut{Actions: []Action{Output{Port: 3}}, Data: make([]byte, 14)})
	if err != nil {
		t.Fatal(err)
	}
	groupBundle, err := appendBundleAdd(nil, 3, 17, (&GroupMod{Command: GroupDelete, Group: Group{ID: 5}}).append)
	if err != nil {
		t.Fatal(err)
	}
	zone := uint16(9)
	for _, c := range []struct {
		msg  []byte
		want []string
	}{
		{appendHello(nil, 1), []string{"OFPT_HELLO (OF1.4)", "version bitmap: 0x05"}},
		{appendMeterMod(nil, 2, MeterAdd, meter), []string{"OFPT_METER_MOD", "ADD meter=5 pktps burst stats bands=", "type=drop rate=100 burst_size=10"}},
		{appendMeterMod(nil, 2, MeterDelete, meter), []string{"DEL meter=5"}},
		{packetOut, []string{"OFPT_PACKET_OUT", "in_port=CONTROLLER actions=output:3 data_len=14"}},
		{appendMultipart(nil, 6, multipartGroup, groupBody(7)), []string{"OFPST_GROUP request", "group_id=7"}},
		{appendCTFlush(nil, 9, &CTFlush{Zone: &zone, Proto: 6, Orig: CTTuple{Src: netip.MustParseAddr("10.0.0.1"), DstPort: 443},
			Reply: CTTuple{Src: netip.MustParseAddr("10.0.0.9")}}),
			[]string{"NXT_CT_FLUSH", "zone=9", "ct_nw_src=10.0.0.1,ct_nw_dst=::,ct_tp_src=0,ct_tp_dst=443,ct_nw_proto=6", "ct_nw_src=10.0.0.9"}},
		{appendCTFlush(nil, 9, &CTFlush{Zone: &zone}), []string{"NXT_CT_FLUSH_ZONE", "zone_id=9"}},
		{appendBundleControl(nil, 3, 17, bundleOpen), []string{"OFPT_BUNDLE_CONTROL", "bundle_id=0x11 type=OPEN_REQUEST flags=atomic ordered"}},
		{bundle, []string{"OFPT_BUNDLE_ADD_MESSAGE", "bundle_id=0x11 flags=atomic ordered", "table:1 priority=0,in_port=1 actions=drop"}},
		{groupBundle, []string{"OFPT_BUNDLE_ADD_MESSAGE", "bundle_id=0x11", "DEL group_id=5"}},
		{appendMessage(nil, TypeSetAsync, 4, Async{FlowRemoved: true, PortStatus: true}.body()),
			[]string{"OFPT_SET_ASYNC", "PACKET_IN: (off)", "PORT_STATUS: add delete modify", "FLOW_REMOVED: idle hard delete"}},
		{appendMultipart(nil, 5, multipartFlow, FlowFilter{Table: 3, Cookie: 1, CookieMask: 3, Match: Match{InPort(4)}}.appendStatsRequest(nil)),
			[]string{"OFPST_FLOW request", "table=3", "in_port=4"}},
		{appendMultipart(nil, 6, multipartMeter, meterBody(MeterAll)), []string{"OFPST_METER request", "meter=all"}},
		{appendMultipart(nil, 7, multipartFlowMonitor, monitorBody(9, FlowFilter{Table: 200})),
			[]string{"FLOW_MONITOR request", "id=9 flags=add,delete,modify", "table=200"}},
		{appendMessage(nil, TypeRoleRequest, 8, roleBody(RoleMaster, 42)), []string{"OFPT_ROLE_REQUEST", "role=", "generation_id=42"}},
	} {
		got := strings.Join(ofpParse(t, c.msg), " ")
		for _, w := range c.want {
			if !strings.Contains(strings.Join(strings.Fields(got), " "), w) {
				t.Errorf("%q lacks %q", got, w)
			}
		}
	}
}

func TestFlowsRoundTrip(t *testing.T) {
	var reply []byte
	want := sampleFlows()
	for i := range want {
		reply = append(reply, asStats(&want[i])...)
	}
	got, err := decodeFlowStats(reply)
	if err != nil {
		t.Fatal(err)
	}
	for i := range want {
		w, g := &want[i], &got[i].Flow
		if g.Key() != w.Key() || g.Instructions.Key() != w.Instructions.Key() || g.String() != w.String() ||
			g.Cookie != w.Cookie || g.Flags != w.Flags || g.HardTimeout != w.HardTimeout {
			t.Errorf("wrote %s\nread  %s", w, g)
		}
	}
}

func TestCanonicalMatch(t *testing.T) {
	p := netip.MustParsePrefix
	a := Match{IPDst(p("10.0.0.1/32")), EthType(0x0800), Reg(1, 0xff, 0xffffffff), IPSrc(p("1.2.3.4/0"))}
	b := Match{Reg(1, 0xff, 0xffffffff), EthType(0x0800), IPDst(p("10.0.0.1/32"))}
	if a.Key() != b.Key() || a.String() != "ip,reg1=255,nw_dst=10.0.0.1" && a.String() != b.String() {
		t.Fatalf("%s and %s", a, b)
	}
	c := Match{EthType(0x0800), IPSrc(p("10.1.2.3/8"))}
	d := Match{EthType(0x0800), IPSrc(p("10.0.0.0/8"))}
	if c.Key() != d.Key() {
		t.Fatalf("%s and %s", c, d)
	}
}

// The order in which a match is written does not matter, and decoding what
// was encoded gives the same match.
func TestMatchRoundTripProperty(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		f := rapid.SampledFrom(sampleFlows()).Draw(t, "flow")
		m := slices.Clone(f.Match)
		for range rapid.IntRange(0, 3).Draw(t, "extra") {
			reg := rapid.IntRange(4, 14).Draw(t, "reg")
			if !slices.ContainsFunc(m, func(o OXM) bool { return o.Field() == FieldReg0+Field(reg) }) {
				m = append(m, Reg(reg, rapid.Uint32().Draw(t, "value"), rapid.Uint32().Draw(t, "mask")))
			}
		}
		shuffled := rapid.Permutation(m).Draw(t, "order")
		wire := Match(shuffled).append(nil)
		if len(wire)%8 != 0 {
			t.Fatalf("match of %d bytes is not padded", len(wire))
		}
		back, rest, err := decodeMatch(wire)
		if err != nil || len(rest) != 0 {
			t.Fatalf("%v, %d bytes left", err, len(rest))
		}
		if back.Key() != Match(m).Key() || !bytes.Equal(back.append(nil), wire) {
			t.Fatalf("%s became %s", Match(m), back)
		}
	})
}

func TestPrerequisites(t *testing.T) {
	for _, c := range []struct {
		m    Match
		need string
	}{
		{Match{TCPDst(80)}, "eth_type 0x0800 or 0x86dd and ip_proto 6 (tcp)"},
		{Match{EthType(0x0800), TCPDst(80)}, "ip_proto 6"},
		{Match{EthType(0x0800), IPProto(17), TCPDst(80)}, "ip_proto 6"},
		{Match{IPProto(6)}, "eth_type 0x0800 or 0x86dd"},
		{Match{EthType(0x86dd), IPSrc(netip.MustParsePrefix("10.0.0.0/8"))}, "eth_type 0x0800"},
		{Match{EthType(0x0800), IPSrc(netip.MustParsePrefix("fe80::/16"))}, "eth_type 0x86dd"},
		{Match{EthType(0x0800), ARPOp(1)}, "eth_type 0x0806"},
		{Match{EthType(0x86dd), IPProto(58), NDTarget(netip.MustParseAddr("::1"))}, "icmp6 type 135 or 136"},
		{Match{EthType(0x86dd), IPProto(58), ICMPType(1)}, "ip_proto 1 (icmp)"},
	} {
		var missing *PrereqError
		if err := c.m.Validate(); !errors.As(err, &missing) || !strings.Contains(missing.Needs, c.need) {
			t.Errorf("%s: got %v, want it to need %s", c.m, err, c.need)
		}
	}
	for name, m := range map[string]Match{
		"twice":     {InPort(1), InPort(2)},
		"masked":    {oxmMasked(FieldInPort, []byte{0, 0, 0, 1}, []byte{0, 0, 0, 1})},
		"no family": {EthType(0x0806), ARPSPA(netip.MustParsePrefix("fe80::/16"))},
	} {
		if m.Validate() == nil {
			t.Errorf("%s: accepted %s", name, m)
		}
	}
}

func TestErrorNames(t *testing.T) {
	e := &Error{Type: ErrorTypeBadMatch, Code: 9}
	if got := e.Error(); got != "switch refused: BAD_MATCH BAD_PREREQ" {
		t.Error(got)
	}
	if !errors.Is(e, &Error{Type: ErrorTypeBadMatch, Code: 9}) || errors.Is(e, &Error{Type: ErrorTypeBadMatch}) {
		t.Error("errors.Is does not compare type and code")
	}
	got, err := decodeError(Message{Body: []byte{0xff, 0xff, 0, 3, 0, 0, 0x23, 0x20, 1, 2}})
	if err != nil || got.Experimenter != experimenterNicira || got.TypeName() != "EXPERIMENTER 0x00002320" || got.CodeName() != "code 3" || len(got.Data) != 2 {
		t.Errorf("%+v, %v", got, err)
	}
}

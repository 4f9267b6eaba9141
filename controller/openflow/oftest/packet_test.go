package oftest

import (
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// A packet's text is the packet again, in all that a trace shows.
func TestPacketsReadBack(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := gen{t: t}.packet()
		p.CT.State = CTState(rapid.IntRange(0, 0x3f).Draw(t, "ct_state"))
		p.CT.Zone, p.CT.Mark, p.CT.Label[7] = uint16(p.CT.State), uint32(p.CT.State), byte(p.CT.State)
		back, err := ParsePacket(p.String())
		if err != nil || comparable(back) != comparable(p) {
			t.Fatalf("%s\nreads %s, %v", p, back, err)
		}
	})
}

func TestParsePacketRefuses(t *testing.T) {
	for _, text := range []string{"tcp,in_port", "nw_src=10.0.0", "tcp,tcp_dst=a", "reg16=1", "regx=1", "ct_state=old", "ct_label=0x" + strings.Repeat("0", 33) + "1",
		"tcp,tcp_flags=syn|nope", "dl_src=1:2", "nw_frag=", "nw_frag=some", "colour=red", strings.Repeat("a", maxText+1)} {
		if p, err := ParsePacket(text); err == nil {
			t.Errorf("%.40q reads as %s", text, p)
		}
	}
}

// FuzzParsePacket: whatever parses prints, and prints the same again.
func FuzzParsePacket(f *testing.F) {
	for _, text := range []string{"tcp,in_port=1,nw_src=10.0.0.1,tp_dst=22,tcp_flags=syn", "arp,arp_op=1,arp_spa=10.0.0.1",
		"icmp6,icmpv6_type=135,nd_target=fe80::1,nd_sll=02:00:00:00:00:01", "dl_vlan=5,dl_vlan_pcp=3,vlan_tci1=0x0000,ip,nw_proto=89,nw_frag=later",
		"ct_state=est|rpl|trk,ct_zone=3,ct_label=0x10000000000000000,udp6,ipv6_src=::1", "vlan_tci=0x1005,in_port=LOCAL,dl_type=0x88b5"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		p, err := ParsePacket(text)
		if err != nil {
			return
		}
		once := p.String()
		again, err := ParsePacket(once)
		if err != nil {
			t.Skip(err) // fields that contradict its kind
		}
		if twice := again.String(); twice != once {
			t.Fatalf("%q prints %q, and then %q", text, once, twice)
		}
	})
}

package wire

import (
	"net/netip"
	"testing"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
	"github.com/platelet-sdn/platelet/lab/agent"
)

func seeds(f *testing.F) {
	f.Helper()
	four := Path{SrcMAC: Broadcast(), DstMAC: Broadcast(), Src: netip.MustParseAddr("10.0.0.1"), Dst: netip.MustParseAddr("10.0.0.2")}
	six := Path{SrcMAC: Broadcast(), DstMAC: Broadcast(), Src: netip.MustParseAddr("fd00::1"), Dst: netip.MustParseAddr("fd00::2")}
	outside := four
	outside.Dst = netip.MustParseAddr("8.8.8.8")
	for _, p := range []Path{four, six, outside} {
		for _, build := range []func() ([]byte, error){
			func() ([]byte, error) { return p.TCP(Segment{Flags: SYN, MSS: 1460}) },
			func() ([]byte, error) { return p.UDP(1, 2, []byte("x")) },
			func() ([]byte, error) { return p.Echo(1, 2, nil) },
		} {
			frame, err := build()
			if err != nil {
				f.Fatal(err)
			}
			f.Add(frame)
		}
	}
	request, err := ARPRequest(Neighbour{Broadcast(), four.Src}, four.Dst)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(request)
	f.Add([]byte{})
}

// FuzzFence hands the sender any frame; gopacket, which knows more of what
// frames can be, says where those that it lets pass would go.
func FuzzFence(f *testing.F) {
	seeds(f)
	fence, err := agent.NewFence(netip.MustParsePrefix("10.0.0.0/24"), netip.MustParsePrefix("fd00::/64"))
	if err != nil {
		f.Fatal(err)
	}
	w := &Sender{Station: &agent.Station{Fence: fence}}
	f.Fuzz(func(t *testing.T, frame []byte) {
		if w.allow(frame) != nil {
			return
		}
		p := gopacket.NewPacket(frame, layers.LayerTypeEthernet, gopacket.NoCopy)
		for _, l := range p.Layers() {
			n, ok := l.(gopacket.NetworkLayer)
			if !ok {
				continue
			}
			to, ok := netip.AddrFromSlice(n.NetworkFlow().Dst().Raw())
			if !ok && p.ErrorLayer() != nil {
				return // no receiver takes it for a packet either
			}
			if !ok || fence.Check(to) != nil {
				t.Fatalf("%x was allowed, and goes to %v", frame, to)
			}
			return // what it carries inside is for its receiver
		}
	})
}

// FuzzTemplate patches whatever is taken for a template; checksums must change
// as they do when everything is added up again.
func FuzzTemplate(f *testing.F) {
	seeds(f)
	f.Fuzz(func(t *testing.T, frame []byte) {
		tpl, err := NewTemplate(frame)
		if err != nil {
			return
		}
		before := residue(tpl)
		if before.skip {
			return
		}
		tpl.SetSrc(netip.MustParseAddr("198.18.7.9"))
		tpl.SetDst(netip.MustParseAddr("10.9.8.7"))
		tpl.SetSrcPort(0xabcd)
		tpl.SetDstPort(0x1234)
		tpl.SetSeq(0xfeedbeef)
		tpl.SetID(0x4711)
		if after := residue(tpl); after != before {
			t.Fatalf("%x: sums %+v before, %+v after", frame, before, after)
		}
	})
}

// sums are the ones' complement sums over what a frame's checksums cover,
// the checksums included: patching must keep them.
type sums struct {
	l3, l4 uint16
	skip   bool
}

func residue(t *Template) sums {
	var s sums
	addresses := t.frame[off6Src:t.l4]
	if !t.six {
		addresses = t.frame[off4Src:t.l4]
		s.l3 = add(t.frame[offL3:t.l4])
	}
	covered := t.frame[t.l4:]
	if t.pseudo {
		covered = append(append([]byte(nil), addresses...), covered...)
	}
	s.l4 = add(covered)
	// A UDP checksum of zero is none at all, and one that comes to zero is
	// written as all ones: both are zero to the sum, as is 0xffff.
	s.skip = t.proto == protoUDP && t.frame[t.sum] == 0 && t.frame[t.sum+1] == 0
	return s
}

func add(b []byte) uint16 {
	var s uint32
	for i, v := range b {
		if i%2 == 0 {
			s += uint32(v) << 8
		} else {
			s += uint32(v)
		}
	}
	for s > 0xffff {
		s = s>>16 + s&0xffff
	}
	if s == 0xffff {
		s = 0
	}
	return uint16(s)
}

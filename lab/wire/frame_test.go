package wire_test

import (
	"bytes"
	"encoding/binary"
	"math/rand/v2"
	"net"
	"net/netip"
	"testing"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
	"github.com/platelet-sdn/platelet/lab/wire"
)

var (
	macA = net.HardwareAddr{2, 0, 0, 0, 0, 0xa}
	macB = net.HardwareAddr{2, 0, 0, 0, 0, 0xb}
)

func path4() wire.Path {
	return wire.Path{SrcMAC: macA, DstMAC: macB, Src: netip.MustParseAddr("10.0.0.1"), Dst: netip.MustParseAddr("10.0.0.2"), ID: 7}
}

func path6() wire.Path {
	return wire.Path{SrcMAC: macA, DstMAC: macB, Src: netip.MustParseAddr("fd00::1"), Dst: netip.MustParseAddr("fd00::2")}
}

// TestFrames compares frames with octets written out by hand from the RFCs;
// the checksums are added up plainly.
func TestFrames(t *testing.T) {
	syn, err := path4().TCP(wire.Segment{SrcPort: 1024, DstPort: 80, Seq: 1, Flags: wire.SYN, Window: 1024, MSS: 1460})
	if err != nil {
		t.Fatal(err)
	}
	want := []byte{
		2, 0, 0, 0, 0, 0xb, 2, 0, 0, 0, 0, 0xa, 8, 0,
		0x45, 0, 0, 44, 0, 7, 0, 0, 64, 6, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2,
		4, 0, 0, 80, 0, 0, 0, 1, 0, 0, 0, 0, 0x60, 2, 4, 0, 0, 0, 0, 0, 2, 4, 5, 0xb4,
	}
	binary.BigEndian.PutUint16(want[24:], ^sum(want[14:34]))
	pseudo := append([]byte{10, 0, 0, 1, 10, 0, 0, 2, 0, 6, 0, 24}, want[34:]...)
	binary.BigEndian.PutUint16(want[50:], ^sum(pseudo))
	if !bytes.Equal(syn, want) {
		t.Errorf("SYN:\n%x, want\n%x", syn, want)
	}
	request, err := wire.ARPRequest(wire.Neighbour{MAC: macA, Addr: netip.MustParseAddr("10.0.0.1")}, netip.MustParseAddr("10.0.0.9"))
	if err != nil {
		t.Fatal(err)
	}
	want = []byte{
		255, 255, 255, 255, 255, 255, 2, 0, 0, 0, 0, 0xa, 8, 6,
		0, 1, 8, 0, 6, 4, 0, 1, 2, 0, 0, 0, 0, 0xa, 10, 0, 0, 1, 0, 0, 0, 0, 0, 0, 10, 0, 0, 9,
	}
	if !bytes.Equal(request, want) {
		t.Errorf("ARP request:\n%x, want\n%x", request, want)
	}
}

// sum is the ones' complement sum of RFC 1071, plainly.
func sum(b []byte) uint16 {
	var s uint32
	for i := 0; i+1 < len(b); i += 2 {
		s += uint32(b[i])<<8 | uint32(b[i+1])
	}
	if len(b)%2 == 1 {
		s += uint32(b[len(b)-1]) << 8
	}
	for s > 0xffff {
		s = s>>16 + s&0xffff
	}
	return uint16(s)
}

// templates are one frame of each kind that floods use.
func templates(t testing.TB) map[string]*wire.Template {
	t.Helper()
	out := map[string]*wire.Template{}
	for name, p := range map[string]wire.Path{"4": path4(), "6": path6()} {
		for kind, build := range map[string]func() ([]byte, error){
			"tcp":  func() ([]byte, error) { return p.TCP(wire.Segment{SrcPort: 1, DstPort: 2, Flags: wire.SYN}) },
			"udp":  func() ([]byte, error) { return p.UDP(1, 2, []byte("odd")) },
			"icmp": func() ([]byte, error) { return p.Echo(1, 2, []byte("even")) },
		} {
			frame, err := build()
			if err != nil {
				t.Fatal(err)
			}
			if out[kind+name], err = wire.NewTemplate(frame); err != nil {
				t.Fatal(kind, name, err)
			}
		}
	}
	return out
}

// TestTemplatesStayValid changes fields at random and lets gopacket decode
// and serialise the frame again: lengths and checksums must come out the same.
func TestTemplatesStayValid(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for name, tpl := range templates(t) {
		t.Run(name, func(t *testing.T) {
			for range 2000 {
				src, dst, port := addr(r, name[len(name)-1]), addr(r, name[len(name)-1]), uint16(r.Uint32())
				tpl.SetSrc(src)
				tpl.SetDst(dst)
				tpl.SetSrcPort(port)
				tpl.SetDstPort(^port)
				tpl.SetSeq(r.Uint32())
				tpl.SetID(uint16(r.Uint32()))
				tpl.SetSrcMAC([6]byte{2, byte(r.Uint32())})
				check(t, tpl.Frame(), src, dst, port)
			}
		})
	}
}

func addr(r *rand.Rand, family byte) netip.Addr {
	var b [16]byte
	binary.BigEndian.PutUint64(b[:], r.Uint64())
	binary.BigEndian.PutUint64(b[8:], r.Uint64())
	if family == '4' {
		return netip.AddrFrom4([4]byte(b[:4]))
	}
	b[0] = 0xfd // not v4-mapped
	return netip.AddrFrom16(b)
}

func check(t *testing.T, frame []byte, src, dst netip.Addr, port uint16) {
	t.Helper()
	p := gopacket.NewPacket(frame, layers.LayerTypeEthernet, gopacket.Default)
	if len(p.Layers()) < 3 { // Ethernet, IP and what it carries; random ports mislead the decoder beyond
		t.Fatalf("%x decodes to %v", frame, p)
	}
	gotSrc, _ := netip.AddrFromSlice(p.NetworkLayer().NetworkFlow().Src().Raw())
	gotDst, _ := netip.AddrFromSlice(p.NetworkLayer().NetworkFlow().Dst().Raw())
	if gotSrc != src || gotDst != dst {
		t.Fatalf("from %v to %v, want %v, %v", gotSrc, gotDst, src, dst)
	}
	if l := p.TransportLayer(); l != nil && binary.BigEndian.Uint16(l.TransportFlow().Src().Raw()) != port {
		t.Fatalf("source port %v, want %d", l.TransportFlow().Src(), port)
	}
	for _, l := range p.Layers() {
		if c, ok := l.(interface {
			SetNetworkLayerForChecksum(gopacket.NetworkLayer) error
		}); ok {
			if err := c.SetNetworkLayerForChecksum(p.NetworkLayer()); err != nil {
				t.Fatal(err)
			}
		}
	}
	err, bad := p.VerifyChecksums()
	if err != nil || len(bad) > 0 {
		t.Fatalf("checksums of %x: %v %v", frame, bad, err)
	}
}

func TestPatchingDoesNotAllocate(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for name, tpl := range templates(t) {
		src := addr(r, name[len(name)-1])
		if n := testing.AllocsPerRun(1000, func() {
			tpl.SetSrc(src)
			tpl.SetSrcPort(uint16(r.Uint32()))
			tpl.SetSeq(r.Uint32())
			tpl.SetID(uint16(r.Uint32()))
		}); n != 0 {
			t.Errorf("%s: %v allocations per frame", name, n)
		}
	}
}

func TestTemplateRefusesWhatItCannotPatch(t *testing.T) {
	good, err := path4().UDP(1, 2, nil)
	if err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func([]byte) []byte{
		"short":    func(f []byte) []byte { return f[:30] },
		"options":  func(f []byte) []byte { f[14] = 0x46; return f },
		"arp":      func(f []byte) []byte { f[13] = 6; return f },
		"protocol": func(f []byte) []byte { f[23] = 47; return f },
		"cut":      func(f []byte) []byte { return f[:38] },
	} {
		if _, err := wire.NewTemplate(change(bytes.Clone(good))); err == nil {
			t.Errorf("%s was taken", name)
		}
	}
}

func TestNeighbourSolicitationIsToTheGroup(t *testing.T) {
	p := path6()
	frame, err := p.Solicit(netip.MustParseAddr("fd00::12:3456"))
	if err != nil {
		t.Fatal(err)
	}
	if want := []byte{0x33, 0x33, 0xff, 0x12, 0x34, 0x56}; !bytes.Equal(frame[:6], want) {
		t.Errorf("to %x, want %x", frame[:6], want)
	}
	check(t, frame, p.Src, netip.MustParseAddr("ff02::1:ff12:3456"), 0)
	packet := gopacket.NewPacket(frame, layers.LayerTypeEthernet, gopacket.Default)
	n, ok := packet.Layer(layers.LayerTypeICMPv6NeighborSolicitation).(*layers.ICMPv6NeighborSolicitation)
	if !ok || !n.TargetAddress.Equal(net.ParseIP("fd00::12:3456")) || len(n.Options) != 1 || !bytes.Equal(n.Options[0].Data, macA) {
		t.Errorf("solicitation %+v", n)
	}
	if ip := packet.Layer(layers.LayerTypeIPv6).(*layers.IPv6); ip.HopLimit != 255 {
		t.Errorf("hop limit %d: neighbours take 255 alone", ip.HopLimit)
	}
}

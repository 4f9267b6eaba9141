package openflow

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
	"pgregory.net/rapid"

	"github.com/platelet-sdn/platelet/lab/ovs"
)

// connection is one that the tracker knows.
type connection struct {
	zone     uint16
	proto    uint8
	src, dst netip.Addr
	// sport is an ICMP echo's identifier too.
	sport, dport uint16
}

func echo(id uint16) CTICMP      { return CTICMP{ID: id, Type: 8} }
func echoReply(id uint16) CTICMP { return CTICMP{ID: id, Type: 0} }

func (k connection) icmp() bool { return k.proto == 1 || k.proto == 58 }

// frame is the connection's first packet.
func (k connection) frame(t rapid.TB) []byte {
	eth := &layers.Ethernet{SrcMAC: net.HardwareAddr{2, 0, 0, 0, 0, 1}, DstMAC: net.HardwareAddr{2, 0, 0, 0, 0, 2}, EthernetType: layers.EthernetTypeIPv4}
	stack := []gopacket.SerializableLayer{eth}
	var network gopacket.NetworkLayer
	if k.src.Is4() {
		ip := &layers.IPv4{Version: 4, TTL: 64, Protocol: layers.IPProtocol(k.proto), SrcIP: k.src.AsSlice(), DstIP: k.dst.AsSlice()}
		stack, network = append(stack, ip), ip
	} else {
		eth.EthernetType = layers.EthernetTypeIPv6
		ip := &layers.IPv6{Version: 6, HopLimit: 64, NextHeader: layers.IPProtocol(k.proto), SrcIP: k.src.AsSlice(), DstIP: k.dst.AsSlice()}
		stack, network = append(stack, ip), ip
	}
	switch k.proto {
	case 1:
		stack = append(stack, &layers.ICMPv4{TypeCode: layers.CreateICMPv4TypeCode(8, 0), Id: k.sport})
	case 6:
		tcp := &layers.TCP{SrcPort: layers.TCPPort(k.sport), DstPort: layers.TCPPort(k.dport), SYN: true}
		_ = tcp.SetNetworkLayerForChecksum(network) // both are IP
		stack = append(stack, tcp)
	case 17:
		udp := &layers.UDP{SrcPort: layers.UDPPort(k.sport), DstPort: layers.UDPPort(k.dport)}
		_ = udp.SetNetworkLayerForChecksum(network)
		stack = append(stack, udp)
	case 58:
		icmp := &layers.ICMPv6{TypeCode: layers.CreateICMPv6TypeCode(128, 0)}
		_ = icmp.SetNetworkLayerForChecksum(network)
		stack = append(stack, icmp, &layers.ICMPv6Echo{Identifier: k.sport})
	}
	b := gopacket.NewSerializeBuffer()
	if err := gopacket.SerializeLayers(b, gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true}, append(stack, gopacket.Payload("data"))...); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// selectedBy is what CTFlush says of itself, written out.
func (k connection) selectedBy(f CTFlush) bool {
	if f.Zone != nil && *f.Zone != k.zone {
		return false
	}
	if !f.byTuple() {
		return true
	}
	if k.proto == 58 || f.Proto != 0 && f.Proto != k.proto {
		return false
	}
	reply := connection{k.zone, k.proto, k.dst, k.src, k.dport, k.sport}
	return k.has(f.Orig, echo(k.sport)) && reply.has(f.Reply, echoReply(k.sport))
}

func (k connection) has(t CTTuple, icmp CTICMP) bool {
	return (!t.Src.IsValid() || t.Src == k.src) && (!t.Dst.IsValid() || t.Dst == k.dst) &&
		(t.SrcPort == 0 || t.SrcPort == k.sport) && (t.DstPort == 0 || t.DstPort == k.dport) && (t.ICMP == nil || *t.ICMP == icmp)
}

var conntrackLine = regexp.MustCompile(`^(\w+),orig=\(src=([^,]+),dst=([^,]+),(?:sport=(\d+),dport=(\d+)|id=(\d+),[^)]*)\)`)

// connections reads what the tracker knows.
func connections(ctx context.Context, t rapid.TB, sw *ovs.Instance) (out []connection) {
	t.Helper()
	text, err := sw.Appctl(ctx, "dpctl/dump-conntrack")
	if err != nil {
		t.Fatal(err)
	}
	number := func(s string) uint16 {
		n, _ := strconv.ParseUint(s, 10, 16)
		return uint16(n)
	}
	protocols := map[string]uint8{"icmp": 1, "tcp": 6, "udp": 17, "icmpv6": 58}
	for line := range strings.Lines(text) {
		m := conntrackLine.FindStringSubmatch(line)
		if m == nil || protocols[m[1]] == 0 {
			t.Fatalf("cannot read %q", line)
		}
		k := connection{proto: protocols[m[1]], src: netip.MustParseAddr(m[2]), dst: netip.MustParseAddr(m[3]), sport: number(m[4] + m[6]), dport: number(m[5])}
		if _, zone, ok := strings.Cut(line, "zone="); ok {
			k.zone = number(strings.FieldsFunc(zone, func(r rune) bool { return r < '0' || r > '9' })[0])
		}
		out = append(out, k)
	}
	return sorted(out)
}

func sorted(c []connection) []connection {
	slices.SortFunc(c, func(a, b connection) int { return strings.Compare(fmt.Sprint(a), fmt.Sprint(b)) })
	return slices.Compact(c)
}

func drawConnection(t *rapid.T) connection {
	k := connection{
		zone: rapid.SampledFrom([]uint16{0, 5, 65535}).Draw(t, "zone"), proto: rapid.SampledFrom([]uint8{1, 6, 17, 58}).Draw(t, "proto"),
		sport: rapid.Uint16Range(1, 3).Draw(t, "sport"), dport: rapid.Uint16Range(1, 3).Draw(t, "dport"),
	}
	if k.icmp() {
		k.dport = 0
	}
	family := "10.0.0."
	if k.proto == 58 || k.proto != 1 && rapid.Bool().Draw(t, "ipv6") {
		family = "fe80::"
	}
	k.src = netip.MustParseAddr(family + strconv.Itoa(rapid.IntRange(1, 2).Draw(t, "src")))
	k.dst = netip.MustParseAddr(family + strconv.Itoa(rapid.IntRange(3, 4).Draw(t, "dst")))
	return k
}

// drawFlush draws some of a connection's marks.
func drawFlush(t *rapid.T) (f CTFlush) {
	k := drawConnection(t)
	if rapid.Bool().Draw(t, "by zone") {
		f.Zone = &k.zone
	}
	if rapid.Bool().Draw(t, "by proto") {
		f.Proto = k.proto
	}
	tuple := func(src, dst netip.Addr, sport, dport uint16, icmp CTICMP) (c CTTuple) {
		if rapid.Bool().Draw(t, "by src") {
			c.Src = src
		}
		if rapid.Bool().Draw(t, "by dst") {
			c.Dst = dst
		}
		if k.icmp() && f.Proto != 0 {
			c = CTTuple{Src: src, Dst: dst, ICMP: &icmp}
		}
		if k.icmp() || f.Proto == 0 || !rapid.Bool().Draw(t, "by ports") {
			return c
		}
		c.SrcPort = rapid.SampledFrom([]uint16{0, sport}).Draw(t, "source port")
		c.DstPort = rapid.SampledFrom([]uint16{0, dport}).Draw(t, "destination port")
		return c
	}
	if rapid.Bool().Draw(t, "by orig") {
		f.Orig = tuple(k.src, k.dst, k.sport, k.dport, echo(k.sport))
	}
	if rapid.Bool().Draw(t, "by reply") {
		f.Reply = tuple(k.dst, k.src, k.dport, k.sport, echoReply(k.sport))
	}
	return f
}

// A flush removes the connections that it names, those alone, and all of them.
func TestFlushConntrack(t *testing.T) {
	ctx, sw, target := realSwitch(t, "plflush")
	c, err := Dial(ctx, target)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	rapid.Check(t, func(t *rapid.T) {
		if err := c.FlushConntrack(ctx, CTFlush{}); err != nil {
			t.Fatal(err)
		}
		all := sorted(rapid.SliceOfN(rapid.Custom(drawConnection), 1, 20).Draw(t, "connections"))
		for _, k := range all {
			p := PacketOut{InPort: PortLocal, Actions: []Action{Conntrack{Commit: true, Zone: k.zone}}, Data: k.frame(t)}
			if err := c.PacketOut(ctx, p); err != nil {
				t.Fatal(err)
			}
		}
		if got := connections(ctx, t, sw); !slices.Equal(got, all) {
			t.Fatalf("the tracker knows %v, not %v", got, all)
		}
		f := drawFlush(t)
		if f.Validate() != nil {
			t.Skip("not a flush")
		}
		if err := c.FlushConntrack(ctx, f); err != nil {
			t.Fatal(err)
		}
		want := slices.DeleteFunc(slices.Clone(all), func(k connection) bool { return k.selectedBy(f) })
		if got := connections(ctx, t, sw); !slices.Equal(got, want) {
			t.Errorf("flush %s\nof   %v\nleft %v\nnot  %v", f, all, got, want)
		}
	})
}

// A packet that goes out through the tables comes in again, with what the
// pipeline knew of it.
func TestPacketOutAndIn(t *testing.T) {
	ctx, _, target := realSwitch(t, "plpackets")
	c, err := Dial(ctx, target)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := c.SetAsync(ctx, Async{PacketIn: true}); err != nil {
		t.Fatal(err)
	}
	do := func(table uint8, a ...Action) FlowMod {
		return FlowMod{Flow: Flow{Table: table, Priority: 9, Cookie: uint64(table) + 77, Match: Match{EthType(0x0800), IPProto(17)}, Instructions: Instructions{Actions: a}}}
	}
	if err := c.Commit(ctx, Tx{Flows: []FlowMod{
		do(0, Load{Dst: RegBits(3, 0, 8), Value: 7}, Resubmit{Table: 5}),
		do(5, Controller{MaxLen: 20, Reason: ReasonInvalidTTL}, Output{Port: PortController, MaxLen: 65535}),
	}}); err != nil {
		t.Fatal(err)
	}
	packet := connection{0, 17, netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("10.0.0.2"), 1000, 53}.frame(t)
	if err := c.PacketOut(ctx, PacketOut{InPort: PortLocal, Actions: []Action{Output{Port: PortTable}}, Data: packet}); err != nil {
		t.Fatal(err)
	}
	for _, want := range []PacketIn{{Reason: ReasonInvalidTTL, Data: packet}, {Reason: ReasonPacketOut, Data: packet}} {
		var p PacketIn
		select {
		case m := <-c.Async():
			if p, err = DecodePacketIn(m); err != nil {
				t.Fatal(err)
			}
		case <-ctx.Done():
			t.Fatal("no packet came in")
		}
		if p.Reason != want.Reason || p.Table != 5 || p.Cookie != 82 || p.InPort != PortLocal || int(p.Length) != len(packet) || !slices.Equal(p.Data, want.Data) {
			t.Errorf("got %+v", p)
		}
		if m := p.Match.String(); m != "in_port=LOCAL,reg3=7" {
			t.Errorf("metadata %s", m)
		}
	}
	err = c.PacketOut(ctx, PacketOut{Actions: []Action{refusedBySwitch()}, Data: packet})
	if refused := new(Error); !errors.As(err, &refused) || refused.CodeName() != "BAD_EXP_TYPE" {
		t.Errorf("got %v", err)
	}
}

// Copies of packets go to the controllers of their ID alone, and a meter takes
// from the copies, never from the packets.
func TestMeteredCopiesForOneController(t *testing.T) {
	ctx, _, target := realSwitch(t, "plcopies")
	dial := func(id uint16) *Conn {
		c, err := Dial(ctx, target)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		if err := errors.Join(c.SetAsync(ctx, Async{PacketIn: true}), c.SetControllerID(ctx, id)); err != nil {
			t.Fatal(err)
		}
		return c
	}
	ours, theirs := dial(0x504c), dial(0)
	const burst, sent = 7, 40
	meter := Meter{ID: 9, Flags: MeterPktps | MeterBurst | MeterStats, Rate: 1, Burst: burst, Bands: 1}
	copied := Flow{Priority: 9, Match: Match{EthType(0x0800)}, Instructions: Instructions{Actions: []Action{
		Controller{MaxLen: 65535, ID: 0x504c, Reason: ReasonAction, Meter: meter.ID}, Resubmit{Table: 5}}}}
	passed := Flow{Table: 5, Priority: 9, Cookie: 5, Instructions: Instructions{Actions: []Action{Controller{MaxLen: 65535, Reason: ReasonAction}}}}
	if err := ours.Commit(ctx, Tx{AddMeters: []Meter{meter}, Flows: []FlowMod{{Flow: copied}, {Flow: passed}}}); err != nil {
		t.Fatal(err)
	}
	packet := connection{0, 17, netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("10.0.0.2"), 1000, 53}.frame(t)
	for range sent {
		if err := theirs.PacketOut(ctx, PacketOut{InPort: PortLocal, Actions: []Action{Output{Port: PortTable}}, Data: packet}); err != nil {
			t.Fatal(err)
		}
	}
	for i := range sent { // every packet went on to the second table
		if p := nextPacket(ctx, t, theirs); p.Table != 5 {
			t.Fatalf("packet %d for ID 0 comes from table %d", i, p.Table)
		}
	}
	if p := nextPacket(ctx, t, ours); p.Table != 0 || p.InPort != PortLocal || !slices.Equal(p.Data, packet) {
		t.Errorf("got %+v", p)
	}
	if err := ours.Barrier(ctx); err != nil {
		t.Fatal(err)
	}
	// The meter gives one back each second, on a slow machine several.
	if n := len(ours.Async()) + 1; n < burst || n > sent/2 {
		t.Errorf("%d of %d copies came, with a burst of %d", n, sent, burst)
	}
}

// nextPacket waits for a packet-in.
func nextPacket(ctx context.Context, t *testing.T, c *Conn) PacketIn {
	t.Helper()
	select {
	case m := <-c.Async():
		p, err := DecodePacketIn(m)
		if err != nil {
			t.Fatal(err)
		}
		return p
	case <-ctx.Done():
		t.Fatal("no packet came in")
	}
	return PacketIn{}
}

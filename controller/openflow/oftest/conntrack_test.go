package oftest

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	of "github.com/platelet-sdn/platelet/controller/openflow"
	"pgregory.net/rapid"
)

// outPort is where packets go that show what the tracker said of them: state
// in the last byte of the source address, zone before it, then the mark.
const outPort = 3

func show() []of.Action {
	return []of.Action{
		of.Move{Src: of.Subfield{Field: of.FieldCTState, Bits: 8}, Dst: of.Subfield{Field: of.FieldEthSrc, Bits: 8}},
		of.Move{Src: of.Subfield{Field: of.FieldCTZone, Bits: 8}, Dst: of.Subfield{Field: of.FieldEthSrc, Offset: 8, Bits: 8}},
		of.Move{Src: of.Subfield{Field: of.FieldCTMark, Bits: 16}, Dst: of.Subfield{Field: of.FieldEthSrc, Offset: 16, Bits: 16}},
		of.Move{Src: of.Subfield{Field: of.FieldCTLabel, Offset: 64, Bits: 8}, Dst: of.Subfield{Field: of.FieldEthSrc, Offset: 32, Bits: 8}},
		of.Output{Port: outPort},
	}
}

// newlyCommitted stands where show writes a state.
const newlyCommitted = 0xaa

// shown reads what show wrote.
func shown(src [6]byte) string {
	return fmt.Sprintf("%s zone %d mark 0x%x label 0x%x", CTState(src[5]), src[4], binary.BigEndian.Uint16(src[2:]), src[1])
}

func mark(v uint64) []of.Action {
	return []of.Action{of.Load{Dst: of.Subfield{Field: of.FieldCTMark, Bits: 16}, Value: v},
		of.Load{Dst: of.Subfield{Field: of.FieldCTLabel, Offset: 64, Bits: 8}, Value: v & 0xff}}
}

// pipelines are stateful policies to hold packets against.
func pipelines() map[string][]of.Flow {
	flow := func(table uint8, priority uint16, m of.Match, a ...of.Action) of.Flow {
		return of.Flow{Table: table, Priority: priority, Match: m, Instructions: of.Instructions{Actions: a}}
	}
	both := func(build func(of.OXM) []of.Flow) []of.Flow {
		return append(build(of.EthType(EtherIPv4)), append(build(of.EthType(EtherIPv6)), probeFlow())...)
	}
	state := func(s, mask CTState) of.OXM { return of.CTState(uint32(s), uint32(mask)) }
	return map[string][]of.Flow{
		"commit everything": both(func(ip of.OXM) []of.Flow {
			return []of.Flow{
				flow(0, 10, of.Match{ip}, of.Conntrack{Commit: true, Zone: 5, Recirc: true, Table: 1, Exec: mark(0x77)}),
				flow(1, 10, of.Match{ip}, show()...)}
		}),
		"a copy commits first": both(func(ip of.OXM) []of.Flow {
			return []of.Flow{
				flow(0, 10, of.Match{ip}, of.Conntrack{Zone: 6, Recirc: true, Table: 1}, of.Conntrack{Commit: true, Zone: 6, Recirc: true, Table: 2}),
				flow(1, 10, of.Match{ip}, of.Conntrack{Commit: true, Zone: 6}),
				flow(2, 10, of.Match{ip}, show()...)}
		}),
		"commit what is allowed": both(func(ip of.OXM) []of.Flow {
			return []of.Flow{
				flow(0, 10, of.Match{ip}, of.Conntrack{Zone: 1, Recirc: true, Table: 1}),
				flow(1, 40, of.Match{ip, state(CTTracked|CTInvalid, CTTracked|CTInvalid), of.InPort(2)}),
				flow(1, 30, of.Match{ip, of.InPort(1), state(CTTracked|CTNew, CTTracked|CTNew)},
					append([]of.Action{of.Conntrack{Commit: true, Zone: 1, Exec: mark(0x1234)}}, of.Load{Dst: of.Subfield{Field: of.FieldEthSrc, Bits: 8}, Value: newlyCommitted}, of.Output{Port: outPort})...),
				flow(1, 20, of.Match{ip, state(CTTracked|CTNew, CTTracked|CTNew)}),
				flow(1, 10, of.Match{ip}, show()...)}
		}),
		"two zones": both(func(ip of.OXM) []of.Flow {
			return []of.Flow{
				flow(0, 10, of.Match{ip}, of.Conntrack{Commit: true, Zone: 1, Recirc: true, Table: 1, Exec: mark(1)}),
				flow(1, 10, of.Match{ip, of.InPort(1)}, of.Conntrack{Commit: true, Zone: 2, Recirc: true, Table: 2, Exec: mark(2)}),
				flow(1, 5, of.Match{ip}, append([]of.Action{of.Conntrack{Zone: 2, Recirc: true, Table: 2}}, show()...)...),
				flow(2, 10, of.Match{ip}, show()...)}
		}),
		"by the original direction": both(func(ip of.OXM) []of.Flow {
			a, b := hostsOf(ip)[0], hostsOf(ip)[1]
			opener := of.CTSrc(netip.PrefixFrom(a, a.BitLen()))
			return []of.Flow{
				flow(0, 10, of.Match{ip}, of.Conntrack{Commit: true, Zone: 7, Recirc: true, Table: 1}),
				flow(1, 20, of.Match{ip, state(CTTracked, CTTracked|CTInvalid), opener, of.CTIPProto(ProtoTCP), of.CTTransportDst(80)}, show()...),
				flow(1, 10, of.Match{ip, state(CTTracked, CTTracked|CTInvalid), of.CTIPProto(ProtoUDP)}, show()...),
				flow(1, 5, of.Match{ip, state(CTTracked, CTTracked|CTInvalid)}, of.Resubmit{Table: 2, CT: true}),
				flow(2, 10, of.Match{ip, of.IPSrc(netip.PrefixFrom(b, b.BitLen()))}, show()...)}
		}),
		"forced by port 1": both(func(ip of.OXM) []of.Flow {
			return []of.Flow{
				flow(0, 20, of.Match{ip, of.InPort(1)}, of.Conntrack{Commit: true, Force: true, Zone: 3, Recirc: true, Table: 1}),
				flow(0, 10, of.Match{ip}, of.Conntrack{Commit: true, Zone: 3, Recirc: true, Table: 1}),
				flow(1, 10, of.Match{ip}, show()...)}
		}),
	}
}

func four(ip of.OXM) bool {
	v, _ := ip.Bytes()
	return binary.BigEndian.Uint16(v) == EtherIPv4
}

func hostsOf(ip of.OXM) [2]netip.Addr {
	k := talk{six: !four(ip)}
	return k.hosts()
}

// talk is what may be said between two hosts: packets of a few connections,
// in any order.
type talk struct {
	six  bool
	fins [2][2]bool // per connection, which side has sent a FIN
}

func (k *talk) hosts() [2]netip.Addr {
	if k.six {
		return [2]netip.Addr{netip.MustParseAddr("fd00::1"), netip.MustParseAddr("fd00::2")}
	}
	return [2]netip.Addr{netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("10.0.0.2")}
}

// packet draws one; side 0 speaks by port 1, side 1 by port 2.
func (k *talk) packet(g gen) Packet {
	side := g.n("side", 1)
	hosts := k.hosts()
	src, dst := hosts[side], hosts[1-side]
	connection := g.n("connection", 1)
	portsOf := [2]uint16{1024 + uint16(connection), 80}
	from, to := netip.AddrPortFrom(src, portsOf[side]), netip.AddrPortFrom(dst, portsOf[1-side])
	port := uint32(side + 1)
	switch g.n("protocol", 9) {
	case 0, 1:
		return UDP(from, to).From(port)
	case 2:
		return k.echo(g, src, dst).From(port)
	case 3:
		return k.icmpError(g, src, dst, from, to).From(port)
	}
	flags := pick(g, "flags", SYN, SYN|ACK, ACK, ACK|PSH, FIN|ACK, RST, RST|ACK, SYN|FIN, 0, FIN)
	p := TCP(from, to, flags).From(port)
	g.sequence(&p, &k.fins[connection], side)
	return p
}

func (k *talk) echo(g gen, src, dst netip.Addr) Packet {
	types := []uint8{8, 0}
	if k.six {
		types = []uint8{128, 129}
	}
	p := ICMP(src, dst, pick(g, "type", types...), 0)
	p.ICMPID = uint16(7 + g.n("id", 1))
	return p
}

// icmpError says that a packet from the other side did not arrive.
func (k *talk) icmpError(g gen, src, dst netip.Addr, from, to netip.AddrPort) Packet {
	t := uint8(3)
	if k.six {
		t = 1
	}
	p := ICMP(src, dst, t, 0)
	p.Quoted = Tuple{Src: dst, Dst: src, Proto: pick(g, "quoted", ProtoTCP, ProtoUDP), SrcPort: to.Port(), DstPort: from.Port()}
	return p
}

// sequence gives a segment numbers that its stack would, or sometimes others.
func (g gen) sequence(p *Packet, fins *[2]bool, side int) {
	isn := [2]uint32{0xfffffff0, 3_000_000_000}
	if p.TCPFlags&(SYN|ACK) == SYN {
		*fins = [2]bool{}
	}
	p.Window = pick(g, "window", uint16(65535), 65535, 100, 0)
	p.Seq, p.Ack = isn[side], isn[1-side]+1
	if fins[1-side] {
		p.Ack++
	}
	if p.TCPFlags&SYN == 0 {
		p.Seq++
		p.Payload = pick(g, "payload", 0, 0, 10, 1000)
	}
	if p.TCPFlags&FIN != 0 {
		fins[side] = true
	} else if fins[side] && p.TCPFlags&SYN == 0 {
		p.Seq++
	}
	if g.chance("astray", 8) {
		p.Seq += pick(g, "by", uint32(1), 2, 1000, 70_000, 1<<31)
	}
	if g.chance("ack astray", 8) {
		p.Ack += pick(g, "by", uint32(1), 1000, 70_000, 1<<31)
	}
}

// both sends a packet through both switches and returns what left them, or
// how they differ.
func (w *wire) both(v *Switch, p Packet) ([]string, error) {
	data := frame(w.t, p)
	p.Length = len(data)
	res := v.Process(p)
	var virtual, real []string
	for _, e := range res.Effects {
		if o, ok := e.(Output); ok {
			virtual = append(virtual, fmt.Sprintf("port %d: %s", o.Port, shown(o.Packet.EthSrc)))
		}
	}
	out := w.send(p.InPort, data)
	for _, port := range ports {
		for _, f := range out[port] {
			real = append(real, fmt.Sprintf("port %d: %s", port, shown([6]byte(f[6:12]))))
		}
	}
	if !slices.Equal(virtual, real) {
		return nil, fmt.Errorf("%s\nvirtual %q\nreal    %q\n%s", p, virtual, real, &res)
	}
	return real, nil
}

// connections compares the tables of the trackers.
func (w *wire) connections(v *Switch) error {
	var virtual []string
	for _, c := range v.Connections() {
		o := c.Orig
		s := fmt.Sprintf("%d,orig=(src=%s,dst=%s", o.Proto, o.Src, o.Dst)
		if o.Proto == ProtoTCP || o.Proto == ProtoUDP {
			s += fmt.Sprintf(",sport=%d,dport=%d", o.SrcPort, o.DstPort)
		}
		virtual = append(virtual, fmt.Sprintf("%s) zone=%d mark=%d", s, c.Zone, c.Mark))
	}
	var real []string
	for line := range strings.Lines(w.must("dpctl/dump-conntrack")) {
		real = append(real, entry(line))
	}
	slices.Sort(virtual)
	slices.Sort(real)
	if !slices.Equal(virtual, real) {
		return fmt.Errorf("connections:\nvirtual %q\nreal    %q", virtual, real)
	}
	return nil
}

// entry puts a line of dump-conntrack into the words of connections.
func entry(line string) string {
	numbers := map[string]uint8{"tcp": ProtoTCP, "udp": ProtoUDP, "icmp": ProtoICMP, "icmpv6": ProtoICMPv6}
	var orig, zone, mark string
	proto, rest, _ := strings.Cut(strings.TrimSpace(line), ",")
	for _, it := range items(rest) {
		name, value, _ := strings.Cut(it.name, "=")
		switch name {
		case "orig":
			orig, _, _ = strings.Cut(it.args, ",id=")
		case "zone":
			zone = value
		case "mark":
			mark = value
		}
	}
	if zone == "" {
		zone = "0"
	}
	if mark == "" {
		mark = "0"
	}
	return fmt.Sprintf("%d,orig=(%s) zone=%s mark=%s", numbers[proto], orig, zone, mark)
}

// Random conversations: every packet is judged as the real tracker judges it,
// and the same connections are kept, also when time passes.
func TestConntrackAsOpenVSwitchTracks(t *testing.T) {
	w := newWire(newRig(t))
	all := pipelines()
	names := make([]string, 0, len(all))
	for name := range all {
		names = append(names, name)
	}
	slices.Sort(names)
	packets, seen := 0, map[string]int{}
	rapid.Check(t, func(rt *rapid.T) {
		g := gen{t: rt}
		v := New(Config{Ports: ports, Now: w.clock})
		name := pick(g, "pipeline", names...)
		w.dial()
		if refused, err := w.program(v, all[name]); err != nil || refused != nil {
			rt.Fatal(refused, err)
		}
		w.must("revalidator/purge")
		w.must("dpctl/flush-conntrack")
		k := &talk{six: g.chance("six", 3)}
		var said []string
		for range 5 + g.n("packets", 25) {
			if g.chance("pause", 6) {
				d := pick(g, "for", time.Second, 29*time.Second, 31*time.Second, 46*time.Second, 61*time.Second, 16*time.Minute, 25*time.Hour)
				w.pass(d)
				said = append(said, d.String())
			}
			p := k.packet(g)
			said = append(said, fmt.Sprintf("%s seq=%d ack=%d win=%d payload=%d", p, p.Seq, p.Ack, p.Window, p.Payload))
			packets++
			out, err := w.both(v, p)
			if err != nil {
				rt.Fatalf("%s: %v\n%s", name, err, strings.Join(said, "\n"))
			}
			for _, o := range out {
				state, _, _ := strings.Cut(o, " zone")
				seen[state]++
			}
		}
		if err := w.connections(v); err != nil {
			rt.Fatalf("%s: %v\n%s", name, err, strings.Join(said, "\n"))
		}
	})
	t.Logf("%d packets, %v", packets, seen)
}

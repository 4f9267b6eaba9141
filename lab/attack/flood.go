package attack

import (
	"context"
	"encoding/binary"
	"net/netip"
	"time"

	"github.com/platelet-sdn/platelet/lab/agent"
	"github.com/platelet-sdn/platelet/lab/wire"
)

const (
	// floodRate is in packets per second: what hping3 --flood reaches on a
	// core of the machines that we measure on.
	floodRate = 100_000
	// floodPort is where datagrams of floods go.
	floodPort = 9999
	// slice is how much of a flood a line of ground truth sums up.
	slice = 100 * time.Millisecond
)

// forged is a random source address from 198.18.0.0/15, the range kept for
// benchmarks (RFC 2544): nobody has one of them, and what answers to them is
// carried nowhere, even from a lab that has a way out.
func (s *Scene) forged() netip.Addr {
	r := s.Rand.Uint32()
	return netip.AddrFrom4([4]byte{198, byte(18 + r>>16&1), byte(r >> 8), byte(r)})
}

// flood is a kind of flood on the victim.
type flood struct {
	frame func(s *Scene, p wire.Path) ([]byte, error)
	// vary makes packet n differ from the one before it.
	vary  func(s *Scene, n uint64, t *wire.Template)
	spoof bool
	rate  float64 // floodRate when 0
	// action is the ground truth's protocol and port.
	proto string
	port  uint16
}

// play sends the flood until it is stopped.
func (f flood) play(ctx context.Context, s *Scene) error {
	if f.rate == 0 {
		f.rate = floodRate
	}
	pace, err := s.pace(f.rate)
	if err != nil {
		return err
	}
	p, err := s.path(ctx, 0, s.VictimAddr)
	if err != nil {
		return err
	}
	frame, err := f.frame(s, p)
	if err != nil {
		return err
	}
	t, err := wire.NewTemplate(frame)
	if err != nil {
		return err
	}
	w, err := s.sender(0)
	if err != nil {
		return err
	}
	a := agent.Action{Agent: s.From[0].Node, Action: "burst", From: p.Src, To: p.Dst, Proto: f.proto, Port: f.port}
	if f.spoof {
		a.From, a.Note = netip.Addr{}, "forged sources"
	}
	book := &ledger{scene: s, action: a}
	defer book.close()
	return w.Flood(ctx, pace, t, 0, func(n uint64, t *wire.Template) {
		t.SetID(uint16(s.Rand.Uint32()))
		if f.spoof {
			t.SetSrc(s.forged())
		}
		f.vary(s, n, t)
	}, book.add)
}

// ledger sums a flood up for the ground truth, a line per slice of time.
type ledger struct {
	scene  *Scene
	action agent.Action
	// role is the agent's side; the attackers' when empty.
	role agent.Role
	// open is the line that is being summed up.
	open agent.Action
}

// add counts packets that left at a time.
func (l *ledger) add(now time.Time, packets, octets int) {
	if l.open.Packets > 0 && now.Sub(l.open.Time) >= slice {
		l.close()
	}
	if l.open.Packets == 0 {
		l.open = l.action
		l.open.Time = now
	}
	l.open.Packets += uint64(packets)
	l.open.Bytes += uint64(octets)
	l.open.Seconds = now.Sub(l.open.Time).Seconds()
}

// close writes what is summed up.
func (l *ledger) close() {
	if l.open.Packets > 0 {
		if l.role == "" {
			l.scene.Record(l.open)
		} else {
			l.open.Role, l.open.Behaviour = l.role, l.scene.Attack
			l.scene.Truth.Record(l.open)
		}
		l.open = agent.Action{}
	}
}

// tcpFlood is a flood of segments on the victim's web server, in the form of
// hping3's.
func tcpFlood(flags wire.Flags, spoof bool) flood {
	return flood{
		frame: func(s *Scene, p wire.Path) ([]byte, error) {
			return p.TCP(wire.Segment{SrcPort: s.clientPort(), DstPort: 80, Seq: s.Rand.Uint32(), Ack: s.Rand.Uint32(), Flags: flags, Window: 512})
		},
		vary: func(s *Scene, _ uint64, t *wire.Template) {
			t.SetSrcPort(s.clientPort())
			t.SetSeq(s.Rand.Uint32())
		},
		spoof: spoof, proto: "tcp", port: 80,
	}
}

// udpFlood is a flood of empty datagrams.
func udpFlood(spoof bool) flood {
	return flood{
		frame: func(s *Scene, p wire.Path) ([]byte, error) { return p.UDP(s.clientPort(), floodPort, nil) },
		vary:  func(s *Scene, _ uint64, t *wire.Template) { t.SetSrcPort(s.clientPort()) },
		spoof: spoof, proto: "udp", port: floodPort,
	}
}

// icmpFlood is a flood of echo requests.
func icmpFlood(spoof bool) flood {
	return flood{
		frame: func(s *Scene, p wire.Path) ([]byte, error) { return p.Echo(uint16(s.Rand.Uint32()), 0, nil) },
		vary:  func(_ *Scene, n uint64, t *wire.Template) { t.SetDstPort(uint16(n)) },
		spoof: spoof, proto: "icmp",
	}
}

// forgedOUI begins the hardware addresses that MAC floods forge: locally
// administered, so nobody's, and always the same, so that captures know them.
const forgedOUI = 0x066d66

// forgedMAC is a random hardware address.
func (s *Scene) forgedMAC() [6]byte {
	var b [8]byte
	binary.BigEndian.PutUint64(b[:], forgedOUI<<24|uint64(s.Rand.Uint32()&0xffffff))
	return [6]byte(b[2:])
}

// macFlood sends segments from and to random hardware addresses, as macof
// does: the switch's table fills, and who cannot be found there is flooded.
func macFlood() flood {
	f := tcpFlood(wire.SYN, true)
	vary := f.vary
	f.vary = func(s *Scene, n uint64, t *wire.Template) {
		t.SetSrcMAC(s.forgedMAC())
		t.SetDstMAC(s.forgedMAC())
		vary(s, n, t)
	}
	f.rate, f.proto, f.port = 10_000, "ethernet", 0
	return f
}

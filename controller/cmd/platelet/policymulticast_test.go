package main

import (
	"context"
	"encoding/binary"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
	"golang.org/x/sys/unix"

	"github.com/platelet-sdn/platelet/lab/agent"
	"github.com/platelet-sdn/platelet/lab/labtest"
	"github.com/platelet-sdn/platelet/lab/runner"
	"github.com/platelet-sdn/platelet/lab/wire"
)

// announcement is a packet to everybody, or to a group.
type announcement struct {
	from  string // node
	src   string
	dst   string
	proto layers.IPProtocol
	port  uint16 // of both sides; 0 for protocols without
}

// frame is the announcement on the wire. VRRP's is an advertisement of version
// 2 (RFC 3768), what the others say nobody reads.
func (a announcement) frame(t *testing.T, mac net.HardwareAddr) []byte {
	t.Helper()
	dst := net.ParseIP(a.dst).To4()
	to := net.HardwareAddr{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}
	if dst.IsMulticast() {
		to = net.HardwareAddr{0x01, 0x00, 0x5e, dst[1] & 0x7f, dst[2], dst[3]}
	}
	ip := &layers.IPv4{Version: 4, TTL: 255, Protocol: a.proto, SrcIP: net.ParseIP(a.src).To4(), DstIP: dst}
	stack := []gopacket.SerializableLayer{&layers.Ethernet{SrcMAC: mac, DstMAC: to, EthernetType: layers.EthernetTypeIPv4}, ip}
	payload := gopacket.Payload{0x21, 1, 100, 1, 0, 1, 0, 0, 10, 77, 0, 254, 0, 0, 0, 0, 0, 0, 0, 0}
	if a.port != 0 {
		udp := &layers.UDP{SrcPort: layers.UDPPort(a.port), DstPort: layers.UDPPort(a.port)}
		if err := udp.SetNetworkLayerForChecksum(ip); err != nil {
			t.Fatal(err)
		}
		stack = append(stack, udp)
	}
	out := gopacket.NewSerializeBuffer()
	if err := gopacket.SerializeLayers(out, gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true}, append(stack, payload)...); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// is reports whether a frame is the announcement.
func (a announcement) is(frame []byte) bool {
	src, dst := netip.MustParseAddr(a.src).As4(), netip.MustParseAddr(a.dst).As4()
	return len(frame) > 38 && frame[23] == byte(a.proto) && [4]byte(frame[26:30]) == src && [4]byte(frame[30:34]) == dst &&
		(a.port == 0 || binary.BigEndian.Uint16(frame[36:]) == a.port)
}

// send puts announcements on the wire of their nodes.
func send(t *testing.T, lab *runner.Lab, all ...announcement) {
	t.Helper()
	for _, a := range all {
		s, err := agent.In(lab, a.from)
		if err != nil {
			t.Fatal(err)
		}
		frame := a.frame(t, s.MAC)
		if err := s.Do(func() error {
			fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
			if err != nil {
				return err
			}
			defer unix.Close(fd)
			return unix.Sendto(fd, frame, 0, &unix.SockaddrLinklayer{Ifindex: s.Index})
		}); err != nil {
			t.Fatal(err)
		}
	}
}

// TestRecommendedMulticastInTheLab learns who says what to whole groups from
// what a switch exports, and enforces it there: they go on, and nobody else
// says it.
func TestRecommendedMulticastInTheLab(t *testing.T) {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	const topology = "../../../lab/first.clab.yml"
	env := labtest.New(ctx, t, topology)
	lab := env.Up(ctx, t)
	r := &exportRecorder{t: t, dir: t.TempDir()}
	r.listen(ctx, env, lab)

	const vrrp, ospf, udp = layers.IPProtocolVRRP, layers.IPProtocolOSPF, layers.IPProtocolUDP
	honest := []announcement{
		{"gw", "10.77.0.1", "224.0.0.18", vrrp, 0}, {"gw", "10.77.0.1", "224.0.0.5", ospf, 0}, {"gw", "10.77.0.1", "224.0.0.2", udp, 1985},
		{"h3", "10.77.0.13", "224.0.0.251", udp, 5353}, {"h4", "10.77.0.14", "224.0.0.251", udp, 5353},
		{"h3", "10.77.0.13", "10.77.0.255", udp, 138}, {"h4", "10.77.0.14", "239.255.255.250", udp, 1900},
	}
	records := r.record("announced", func() {
		for range 3 {
			send(t, lab, honest...)
		}
	})
	set, raw := r.recommended(records, topology)
	program(ctx, t, env, lab, set)

	at, err := agent.In(lab, "h1")
	if err != nil {
		t.Fatal(err)
	}
	in, err := wire.NewReceiver(at, unix.ETH_P_IP)
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	forged := []announcement{{"h3", "10.77.0.13", "224.0.0.18", vrrp, 0}, {"h4", "10.77.0.14", "224.0.0.5", ospf, 0}, {"gw", "10.77.0.1", "224.0.0.251", udp, 5353}}
	waiting := map[announcement]bool{}
	for _, a := range honest {
		waiting[a] = true
	}
	// A port's packets keep their order: what is forged would come before.
	send(t, lab, append(forged, honest...)...)
	for len(waiting) > 0 {
		if _, err := in.Next(ctx, func(frame []byte) bool {
			for _, a := range forged {
				if a.is(frame) {
					t.Errorf("%+v came through", a)
				}
			}
			for a := range waiting {
				if a.is(frame) {
					delete(waiting, a)
					return true
				}
			}
			return false
		}); err != nil {
			t.Fatalf("%v: %+v never came\n%s", err, waiting, raw)
		}
	}
}

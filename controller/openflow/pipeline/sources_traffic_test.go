package pipeline_test

import (
	"bytes"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
	"golang.org/x/sys/unix"

	"github.com/platelet-sdn/platelet/flowcollector/flow"
	"github.com/platelet-sdn/platelet/lab/wire"
	"github.com/platelet-sdn/platelet/segmentation/sourceguard"
)

// ear hears all frames that come to a host.
type ear struct {
	mu     sync.Mutex
	frames [][]byte
}

func (l *lab) listen(host int) *ear {
	l.t.Helper()
	var file *os.File
	l.inHost(host, func() error {
		iface, err := net.InterfaceByName("eth0")
		if err != nil {
			return err
		}
		fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return err
		}
		file = os.NewFile(uintptr(fd), "packets")
		if err := unix.SetsockoptInt(fd, unix.SOL_PACKET, unix.PACKET_IGNORE_OUTGOING, 1); err != nil {
			return err
		}
		all := uint16(unix.ETH_P_ALL)
		return unix.Bind(fd, &unix.SockaddrLinklayer{Ifindex: iface.Index, Protocol: all<<8 | all>>8})
	})
	e := &ear{}
	var wg sync.WaitGroup
	l.t.Cleanup(func() { file.Close(); wg.Wait() })
	wg.Go(func() {
		buf := make([]byte, 1<<16)
		for {
			n, err := file.Read(buf)
			if err != nil {
				return
			}
			e.mu.Lock()
			e.frames = append(e.frames, bytes.Clone(buf[:n]))
			e.mu.Unlock()
		}
	})
	return e
}

// count is how many frames were heard that are wanted.
func (e *ear) count(want func([]byte) bool) (n int) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, f := range e.frames {
		if want(f) {
			n++
		}
	}
	return n
}

func same(frame []byte) func([]byte) bool {
	return func(f []byte) bool { return bytes.HasPrefix(f, frame) }
}

// give gives a host its IPv6 address.
func (l *lab) give6(host int) {
	l.t.Helper()
	l.inside(host, "ip", "addr", "add", l.addr6(host).String()+"/64", "dev", "eth0", "nodad")
}

// guarded is the guard of a host's port.
func (l *lab) guarded(host int, enforce bool) sourceguard.Port {
	return sourceguard.Port{Switch: l.bridge, Port: l.hosts[host], Workload: "w", Guard: "own", Enforce: enforce,
		MACs: []flow.MAC{flow.MAC(l.hardware(host))}, Addrs: []netip.Addr{l.addr(host), l.addr6(host)}}
}

func (l *lab) guard(b *running, ports ...sourceguard.Port) {
	l.t.Helper()
	if r, err := b.SetSources(l.ctx, ports); err != nil || !r.ReadBack || r.Installed != len(ports) {
		l.t.Fatal(r, err)
	}
}

// dropped is what a port's guard has counted.
func (l *lab) dropped(b *running, host int) uint64 {
	l.t.Helper()
	h, err := b.PolicyHits(l.ctx)
	if err != nil {
		l.t.Fatal(err)
	}
	return h.Sources[l.hosts[host]].Packets
}

// advert is a neighbour advertisement.
func advert(t testing.TB, from net.HardwareAddr, to net.HardwareAddr, src, dst, target netip.Addr, says net.HardwareAddr) []byte {
	t.Helper()
	ip := &layers.IPv6{Version: 6, HopLimit: 255, NextHeader: layers.IPProtocolICMPv6, SrcIP: src.AsSlice(), DstIP: dst.AsSlice()}
	icmp := &layers.ICMPv6{TypeCode: layers.CreateICMPv6TypeCode(layers.ICMPv6TypeNeighborAdvertisement, 0)}
	if err := icmp.SetNetworkLayerForChecksum(ip); err != nil {
		t.Fatal(err)
	}
	buf := gopacket.NewSerializeBuffer()
	err := gopacket.SerializeLayers(buf, gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true},
		&layers.Ethernet{SrcMAC: from, DstMAC: to, EthernetType: layers.EthernetTypeIPv6}, ip, icmp,
		&layers.ICMPv6NeighborAdvertisement{Flags: 0x20, TargetAddress: target.AsSlice(),
			Options: layers.ICMPv6Options{{Type: layers.ICMPv6OptTargetAddress, Data: says}}})
	if err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

// attempted is a forged frame, by what it forges.
type attempted struct {
	what  string
	frame []byte
}

// forgeries are frames of host 0 to host 1 in the name of host 2, or of a
// station that does not exist.
func (l *lab) forgeries() []attempted {
	own, peer, ghost := l.hardware(0), l.hardware(1), net.HardwareAddr{2, 0xba, 0xd, 0, 0, 1}
	to := wire.Neighbour{MAC: peer, Addr: l.addr(1)}
	path := func(mac net.HardwareAddr, src, dst netip.Addr) wire.Path {
		return wire.Path{SrcMAC: mac, DstMAC: peer, Src: src, Dst: dst}
	}
	made := func(f []byte, err error) []byte { return l.frame(f, err) }
	return []attempted{
		{"IPv4 source", made(path(own, l.addr(2), l.addr(1)).UDP(1000, 2000, []byte("forged")))},
		{"IPv6 source", made(path(own, l.addr6(2), l.addr6(1)).UDP(1000, 2000, []byte("forged")))},
		{"link-local source", made(path(own, netip.MustParseAddr("fe80::1"), l.addr6(1)).UDP(1000, 2000, []byte("forged")))},
		{"Ethernet source", made(path(ghost, l.addr(0), l.addr(1)).UDP(1000, 2000, []byte("ghost")))},
		{"ARP sender", made(wire.ARPReply(wire.Neighbour{MAC: own, Addr: l.addr(2)}, to, own))},
		{"ARP hardware sender", made(wire.ARPReply(wire.Neighbour{MAC: ghost, Addr: l.addr(0)}, to, own))},
		{"target of an advertisement", advert(l.t, own, peer, l.addr6(0), l.addr6(1), l.addr6(2), own)},
		{"link-layer address of an advertisement", advert(l.t, own, peer, l.addr6(0), l.addr6(1), l.addr6(0), ghost)},
		{"source of a solicitation", made(path(own, l.addr6(2), l.addr6(1)).Solicit(l.addr6(1)))},
		{"link-layer address of a solicitation", solicit(made(path(ghost, l.addr6(0), l.addr6(1)).Solicit(l.addr6(1))), own)},
		{"address that another one takes", made(path(own, netip.IPv6Unspecified(), l.addr6(1)).Solicit(l.addr6(2)))},
	}
}

// solicit has a frame sent by another station than it says.
func solicit(frame []byte, by net.HardwareAddr) []byte {
	copy(frame[6:12], by)
	return frame
}

// Forged packets of every kind, really sent: without a guard they arrive, with
// a staged one they do and are counted, with one that is enforced none does,
// and honest traffic of both families goes on; also by what a host does to get
// its addresses.
func TestForgedPacketsAreDropped(t *testing.T) {
	l := newLab(t, "fg", 3)
	for i := range l.hosts {
		l.give6(i)
	}
	heard := l.listen(1)
	b := l.start()
	frames := l.forgeries()
	arrive := func(more int) {
		for _, f := range frames {
			before := heard.count(same(f.frame))
			l.transmit(0, f.frame, more)
			l.eventually(f.what+" to arrive", func() bool { return heard.count(same(f.frame)) >= before+more })
		}
	}
	arrive(3)

	l.guard(b, l.guarded(0, false))
	l.settle()
	// What the datapath has not reported yet of packets before the change is
	// put down to the flows behind it.
	begin := l.dropped(b, 0)
	arrive(5)
	want := begin + uint64(5*len(frames))
	l.eventually("staged forgeries to be counted", func() bool { return l.dropped(b, 0) >= want })
	if n := l.dropped(b, 0); n != want {
		t.Errorf("%d counted of %d staged, after %d", n, want, begin)
	}

	l.guard(b, l.guarded(0, true))
	l.settle()
	was := make([]int, len(frames))
	for i, f := range frames {
		was[i] = heard.count(same(f.frame))
		l.transmit(0, f.frame, 20)
		l.eventually(f.what+" to be dropped", func() bool { return l.dropped(b, 0) >= uint64(20*(i+1)) })
	}
	l.hping(0, 2, 1, 50)
	l.eventually("hping3's packets to be dropped", func() bool { return l.dropped(b, 0) >= uint64(20*len(frames)+50) })
	if !l.resolves(0, 1) || !l.resolves(1, 0) {
		t.Error("the guarded host is cut off")
	}
	l.inside(0, "ping", "-n", "-q", "-c", "3", "-i", "0.05", "-w", "20", l.addr(1).String())
	l.inside(0, "ip", "-6", "neigh", "flush", "all")
	l.inside(0, "ping", "-6", "-n", "-q", "-c", "3", "-i", "0.05", "-w", "20", l.addr6(1).String())
	l.inside(1, "ping", "-6", "-n", "-q", "-c", "3", "-i", "0.05", "-w", "20", l.addr6(0).String())
	for i, f := range frames {
		if n := heard.count(same(f.frame)); n != was[i] {
			t.Errorf("%s: %d of 20 arrived", f.what, n-was[i])
		}
	}
	if n := heard.count(func(f []byte) bool {
		return len(f) > 38 && f[12] == 8 && f[13] == 0 && bytes.Equal(f[26:30], l.addr(2).AsSlice()) && f[23] == 6
	}); n != 0 {
		t.Errorf("%d of hping3's packets arrived", n)
	}
	if n := l.dropped(b, 0); n != uint64(20*len(frames)+50) {
		t.Errorf("%d dropped, %d were forged", n, 20*len(frames)+50)
	}
	l.comes(heard, 0)
}

// hping sends SYNs from a host in the name of another one.
func (l *lab) hping(from, as, to, n int) {
	l.t.Helper()
	if _, err := exec.LookPath("hping3"); err != nil {
		l.t.Fatal(err)
	}
	// It ends with an error where nobody answers, and nobody can.
	_, _ = exec.CommandContext(l.ctx, "ip", "netns", "exec", l.hosts[from], "hping3", "--spoof", l.addr(as).String(), "-S", "-p", "7777", "-c", fmt.Sprint(n),
		"-i", "u2000", "-q", l.addr(to).String()).CombinedOutput()
}

// comes plays what a host without an address sends, at whose port others are
// guarded, and expects every frame at another one.
func (l *lab) comes(heard *ear, host int) {
	l.t.Helper()
	own := l.hardware(host)
	link := sourceguard.LinkLocal(flow.MAC(own))
	everybody := wire.Path{SrcMAC: own, DstMAC: wire.Broadcast(), Src: netip.IPv4Unspecified(), Dst: netip.AddrFrom4([4]byte{255, 255, 255, 255})}
	nobody := wire.Path{SrcMAC: own, DstMAC: wire.Broadcast(), Src: netip.IPv6Unspecified(), Dst: l.addr6(1)}
	tells := wire.Path{SrcMAC: own, DstMAC: wire.Broadcast(), Src: link, Dst: netip.MustParseAddr("ff02::1:2")}
	probe := l.frame(wire.ARPRequest(wire.Neighbour{MAC: own, Addr: netip.IPv4Unspecified()}, l.addr(host)))
	for what, frame := range map[string][]byte{
		"DHCP discovery":        l.frame(everybody.UDP(68, 67, []byte("discover"))),
		"DHCPv6 solicitation":   l.frame(tells.UDP(546, 547, []byte("solicit"))),
		"ARP probe":             probe,
		"is my address free":    l.frame(nobody.Solicit(l.addr6(host))),
		"is my link-local free": l.frame(nobody.Solicit(link)),
		"listener report":       report(l.t, own),
	} {
		l.transmit(host, frame, 1)
		l.eventually(what+" to arrive", func() bool { return heard.count(same(frame)) > 0 })
	}
}

// report is a multicast listener report of a host without an address.
func report(t testing.TB, from net.HardwareAddr) []byte {
	t.Helper()
	group := netip.MustParseAddr("ff02::16")
	ip := &layers.IPv6{Version: 6, HopLimit: 1, NextHeader: layers.IPProtocolIPv6HopByHop, SrcIP: netip.IPv6Unspecified().AsSlice(), DstIP: group.AsSlice()}
	// Hop-by-hop options: router alert, and padding (RFC 2711).
	body := []byte{58, 0, 5, 2, 0, 0, 1, 0, 143, 0, 0, 0, 0, 0, 0, 0}
	buf := gopacket.NewSerializeBuffer()
	err := gopacket.SerializeLayers(buf, gopacket.SerializeOptions{FixLengths: true},
		&layers.Ethernet{SrcMAC: from, DstMAC: net.HardwareAddr{0x33, 0x33, 0, 0, 0, 0x16}, EthernetType: layers.EthernetTypeIPv6}, ip, gopacket.Payload(body))
	if err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

// An address that is declared, moves or goes is right at once, on one switch
// transaction, and costs an honest address nothing: no datagram is lost while
// guards come, change and go.
func TestGuardChangesSpareHonestSources(t *testing.T) {
	l := newLab(t, "gh", 2)
	b := l.start()
	l.guard(b, l.guarded(0, true), l.guarded(1, true))
	up, down := l.stream(0, 1, 9000, time.Millisecond), l.stream(1, 0, 9001, time.Millisecond)
	up.flows(l)
	down.flows(l)
	begin := l.overrun(0) + l.overrun(1)
	changes := 0
	for step := range 200 {
		a, z := l.guarded(0, step%3 != 0), l.guarded(1, step%5 != 0)
		if step%2 == 0 {
			a.Addrs = append(a.Addrs, netip.AddrFrom4([4]byte{10, 77, 9, byte(step)}))
			slices.SortFunc(a.Addrs, netip.Addr.Compare)
		}
		if step%4 == 0 {
			z.MACs = nil
		}
		if step%10 == 9 {
			l.guard(b)
		} else {
			l.guard(b, a, z)
		}
		changes++
		next := up.sent.Load() + 5
		l.eventually("datagrams to be sent", func() bool { return up.sent.Load() >= next })
	}
	for what, x := range map[string]*stream{"up": up, "down": down} {
		x.halted.Store(true)
		sent := x.sent.Load()
		l.eventually(fmt.Sprintf("all of %d datagrams %s, under %d changes", sent, what, changes), func() bool {
			return x.received.Load()+l.overrun(0)+l.overrun(1)-begin >= sent
		})
	}
	t.Logf("%d changes under %d datagrams", changes, up.sent.Load()+down.sent.Load())
}

// A second address that is declared passes from then on, one that is not any
// more does not; the port counts on over both.
func TestGuardFollowsItsAddresses(t *testing.T) {
	l := newLab(t, "ga", 2)
	second := netip.AddrFrom4([4]byte{10, 77, 0, 77})
	l.inside(0, "ip", "addr", "add", second.String()+"/24", "dev", "eth0")
	heard := l.listen(1)
	b := l.start()
	g := l.guarded(0, true)
	l.guard(b, g)
	l.settle()
	frame := l.frame(wire.Path{SrcMAC: l.hardware(0), DstMAC: l.hardware(1), Src: second, Dst: l.addr(1)}.UDP(1000, 2000, []byte("second")))
	l.transmit(0, frame, 10)
	l.eventually("the second address to be refused", func() bool { return l.dropped(b, 0) == 10 })
	more := g
	more.Addrs = append(slices.Clone(g.Addrs), second)
	l.guard(b, more)
	l.eventually("the second address to pass", func() bool { l.transmit(0, frame, 1); return heard.count(same(frame)) > 0 })
	l.guard(b, g)
	before := l.dropped(b, 0)
	l.eventually("the second address to be refused again", func() bool { l.transmit(0, frame, 1); return l.dropped(b, 0) > before })
	if before < 10 {
		t.Errorf("%d are counted, there were 10", before)
	}
}

// What somebody takes away is healed, a switch that restarts gets its guards
// again, and so does a port that comes back under another number.
func TestGuardsAreHealed(t *testing.T) {
	l := newLab(t, "gr", 2)
	b := l.start()
	l.guard(b, l.guarded(0, true))
	forged := l.frame(wire.Path{SrcMAC: l.hardware(0), DstMAC: l.hardware(1), Src: l.addr(9), Dst: l.addr(1)}.UDP(1000, 2000, []byte("forged")))
	refuses := func(what string) {
		before := l.dropped(b, 0)
		l.eventually("forged packets to be refused "+what, func() bool { l.transmit(0, forged, 1); return l.dropped(b, 0) > before })
	}
	refuses("to begin with")
	full := l.ours()
	l.ofctl("del-flows", "table=222")
	l.eventually("the flows to be back", func() bool { return l.ours() == full })
	refuses("after they were deleted")
	if _, err := l.sw.Restart(l.ctx); err != nil {
		t.Fatal(err)
	}
	l.eventually("the flows to be back after the restart", func() bool { return b.Connected() && l.ours() == full })
	refuses("after the restart")
	l.ctl("del-port", l.bridge, l.hosts[0])
	l.eventually("the guard to wait", func() bool { return b.Status().Waiting == 1 })
	l.ctl("add-port", l.bridge, l.hosts[0], "--", "set", "interface", l.hosts[0], "ofport_request=77")
	l.eventually("the guard at the new number", func() bool { return b.Status().Waiting == 0 && l.ours() == full })
	refuses("at the new number")
	l.guard(b)
	if out := l.ofctl("dump-flows", "--no-stats", "table=222"); bytes.Contains([]byte(out), []byte("cookie=")) {
		t.Errorf("still there: %s", out)
	}
}

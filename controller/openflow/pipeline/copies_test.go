package pipeline_test

import (
	"net"
	"net/netip"
	"os/exec"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/platelet-sdn/platelet/controller/openflow/pipeline"
	"github.com/platelet-sdn/platelet/lab/wire"
)

// copies collects what the switch copies.
type copies struct {
	mu   sync.Mutex
	list []pipeline.Copy
}

func (c *copies) take(x pipeline.Copy) {
	c.mu.Lock()
	defer c.mu.Unlock()
	x.Frame = slices.Clone(x.Frame)
	c.list = append(c.list, x)
}

// count counts the copies of frames that came in by a port.
func (c *copies) count(port string, want func(frame []byte) bool) (n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, x := range c.list {
		if x.Port == port && want(x.Frame) {
			n++
		}
	}
	return n
}

// hardware returns the Ethernet address of a host.
func (l *lab) hardware(host int) net.HardwareAddr {
	l.t.Helper()
	m, err := net.ParseMAC(strings.TrimSpace(l.inside(host, "cat", "/sys/class/net/eth0/address")))
	if err != nil {
		l.t.Fatal(err)
	}
	return m
}

func (l *lab) inside(host int, command ...string) string {
	l.t.Helper()
	out, err := exec.CommandContext(l.ctx, "ip", append([]string{"netns", "exec", l.hosts[host]}, command...)...).CombinedOutput()
	if err != nil {
		l.t.Fatalf("%v: %v: %s", command, err, out)
	}
	return string(out)
}

// received is how many packets have come to a host.
func (l *lab) received(host int) int {
	n, err := strconv.Atoi(strings.TrimSpace(l.inside(host, "cat", "/sys/class/net/eth0/statistics/rx_packets")))
	if err != nil {
		l.t.Fatal(err)
	}
	return n
}

// transmit sends a frame from a host, n times.
func (l *lab) transmit(host int, frame []byte, n int) {
	l.t.Helper()
	l.transmitEach(host, n, func(int, net.HardwareAddr) ([]byte, error) { return frame, nil })
}

// transmitEach sends n frames from a host, which are made of their number and
// the host's address.
func (l *lab) transmitEach(host, n int, frame func(i int, from net.HardwareAddr) ([]byte, error)) {
	l.t.Helper()
	l.inHost(host, func() error {
		iface, err := net.InterfaceByName("eth0")
		if err != nil {
			return err
		}
		fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW, 0)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		for i := range n {
			raw, err := frame(i, iface.HardwareAddr)
			if err != nil {
				return err
			}
			if err := unix.Sendto(fd, raw, 0, &unix.SockaddrLinklayer{Ifindex: iface.Index}); err != nil {
				return err
			}
		}
		return nil
	})
}

func isARP(op byte) func([]byte) bool {
	return func(f []byte) bool { return f[12] == 8 && f[13] == 6 && f[21] == op }
}

func isUDPFrom(port byte) func([]byte) bool {
	return func(f []byte) bool { return f[12] == 8 && f[13] == 0 && f[23] == 17 && f[35] == port }
}

// frame makes one of the lab's packages' frames.
func (l *lab) frame(f []byte, err error) []byte {
	l.t.Helper()
	if err != nil {
		l.t.Fatal(err)
	}
	return f
}

// copying starts a bridge whose tap is on and that collects copies.
func (l *lab) copying(more ...func(*pipeline.Config)) (*running, *copies) {
	l.t.Helper()
	c := &copies{}
	b := l.start(append(more, func(cfg *pipeline.Config) { cfg.Copied = c.take })...)
	if err := b.SetTap(l.ctx, tap()); err != nil {
		l.t.Fatal(err)
	}
	return b, c
}

// What hosts say to find each other, and what configures them, comes to us
// whole, from where it came in; everything goes on as before.
func TestCopiesOfRarePackets(t *testing.T) {
	l := newLab(t, "cp", 2)
	_, c := l.copying()
	if !l.resolves(0, 1) {
		t.Fatal("hosts do not find each other")
	}
	l.eventually("a question and an answer", func() bool {
		return c.count(l.hosts[0], isARP(1)) > 0 && c.count(l.hosts[1], isARP(2)) > 0
	})
	path := wire.Path{SrcMAC: l.hardware(0), DstMAC: wire.Broadcast(), Src: l.addr(0), Dst: netip.MustParseAddr("255.255.255.255")}
	before := l.received(1)
	for _, ports := range [][2]uint16{{67, 68}, {68, 67}, {69, 70}} {
		l.transmit(0, l.frame(path.UDP(ports[0], ports[1], make([]byte, 300))), 1)
	}
	l.eventually("DHCP of both sides", func() bool {
		return c.count(l.hosts[0], isUDPFrom(67)) == 1 && c.count(l.hosts[0], isUDPFrom(68)) == 1
	})
	l.eventually("the packets themselves", func() bool { return l.received(1) >= before+3 })
	if n := c.count(l.hosts[0], isUDPFrom(69)); n != 0 {
		t.Errorf("%d other datagrams were copied", n)
	}
	advert := wire.Path{SrcMAC: l.hardware(0), DstMAC: net.HardwareAddr{0x33, 0x33, 0, 0, 0, 1},
		Src: netip.MustParseAddr("fe80::9"), Dst: netip.MustParseAddr("ff02::1")}
	solicit := l.frame(advert.Solicit(netip.MustParseAddr("fe80::1")))
	solicit[54] = 134 // the checksum does not matter to the switch
	l.transmit(0, solicit, 1)
	l.eventually("a router advertisement", func() bool {
		return c.count(l.hosts[0], func(f []byte) bool { return f[12] == 0x86 && f[20] == 58 && f[54] == 134 }) == 1
	})
}

// A storm costs copies, and nobody a packet.
func TestStormOfARPLosesCopiesOnly(t *testing.T) {
	const bursts, burst, limit = 100, 100, 200
	l := newLab(t, "st", 3)
	_, c := l.copying()
	claim := wire.Neighbour{MAC: l.hardware(2), Addr: netip.MustParseAddr("10.77.0.99")}
	to := wire.Neighbour{MAC: l.hardware(1), Addr: l.addr(1)}
	frame := l.frame(wire.ARPReply(claim, to, claim.MAC))
	l.transmit(1, l.frame(wire.ARPReply(to, claim, to.MAC)), 1) // NORMAL learns where host 1 is
	before, began := l.received(1), time.Now()
	for n := range bursts { // more at once would not fit into a socket
		l.transmit(2, frame, burst)
		l.eventually("the storm to arrive", func() bool { return l.received(1) >= before+(n+1)*burst })
	}
	took := time.Since(began)
	if !l.resolves(0, 1) {
		t.Error("hosts do not find each other any more")
	}
	l.eventually("the question to be copied", func() bool { return c.count(l.hosts[0], isARP(1)) > 0 })
	// The bucket holds a second's worth, and gets one each second.
	if n, most := c.count(l.hosts[2], isARP(2)), limit*(2+int(took/time.Second)); n < limit/2 || n > most {
		t.Errorf("%d copies of %d packets within %v, want %d to %d", n, bursts*burst, took, limit/2, most)
	}
}

// Whoever takes our meters must not get us all packets of a storm.
func TestCopiesKeepTheirMeter(t *testing.T) {
	l := newLab(t, "cm", 2)
	b, c := l.copying(func(cfg *pipeline.Config) { cfg.Check = 20 * time.Millisecond })
	named := func() []string {
		var ids []string
		for _, m := range regexp.MustCompile(`meter_id=(\d+)`).FindAllStringSubmatch(l.ofctl("dump-flows", "--no-stats"), -1) {
			if !slices.Contains(ids, m[1]) {
				ids = append(ids, m[1])
			}
		}
		return ids
	}
	there := func(ids []string) bool {
		meters := l.ofctl("dump-meters")
		return len(ids) == 2 && !slices.ContainsFunc(ids, func(id string) bool { return !strings.Contains(meters, "meter="+id+" ") })
	}
	first := named()
	if !there(first) {
		t.Fatalf("flows name meters %v of\n%s", first, l.ofctl("dump-meters"))
	}
	if drift, err := b.Drift(l.ctx); err != nil || len(drift) > 0 {
		t.Errorf("differs by %v, %v", drift, err)
	}
	l.ofctl("del-meters")
	l.eventually("other meters", func() bool {
		ids := named()
		return there(ids) && !slices.Contains(ids, first[0]) && !slices.Contains(ids, first[1])
	})
	if !l.resolves(0, 1) {
		t.Fatal("hosts do not find each other")
	}
	l.eventually("a copy", func() bool { return c.count(l.hosts[0], isARP(1)) > 0 })
	if err := b.RemoveAll(l.ctx); err != nil {
		t.Fatal(err)
	}
	if meters := l.ofctl("dump-meters"); strings.Contains(meters, "meter=") {
		t.Errorf("left behind:\n%s", meters)
	}
}

package telemetry

import (
	"encoding/binary"
	"net"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/platelet-sdn/platelet/controller/ovsdb/internal/ovstest"
)

// collector listens for IPFIX and tells template sets from data.
type collector struct {
	net.PacketConn
}

func listen(t *testing.T) *collector {
	t.Helper()
	c, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return &collector{c}
}

// receive reads datagrams until it has seen data, and counts the template sets
// before it. Next is called until something arrives.
func (c *collector) receive(t *testing.T, next func()) (templates int) {
	t.Helper()
	buf := make([]byte, 65536)
	for deadline := time.Now().Add(ovstest.Deadline); time.Now().Before(deadline); {
		c.SetReadDeadline(time.Now().Add(100 * time.Millisecond))
		n, _, err := c.ReadFrom(buf)
		if err != nil {
			next()
			continue
		}
		msg := buf[:n]
		if n < 16 || binary.BigEndian.Uint16(msg) != 10 {
			t.Fatalf("not IPFIX: % x", msg)
		}
		data := false
		for msg = msg[16:]; len(msg) >= 4; {
			id, size := binary.BigEndian.Uint16(msg), int(binary.BigEndian.Uint16(msg[2:]))
			if size < 4 || size > len(msg) {
				t.Fatalf("set %d of %d bytes, %d left", id, size, len(msg))
			}
			switch {
			case id == 2:
				templates++
			case id >= 256 && id != 462: // 462 describes the exporter
				data = true
			}
			msg = msg[size:]
		}
		if data {
			return templates
		}
	}
	t.Fatalf("no data within %v (%d template sets)", ovstest.Deadline, templates)
	return 0
}

// sender writes Ethernet frames to an interface.
func sender(t *testing.T, name string) func() {
	t.Helper()
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(fd) })
	to := &unix.SockaddrLinklayer{Ifindex: int(ovstest.Index(t, name))}
	return func() {
		if err := unix.Sendto(fd, synFrame(), 0, to); err != nil {
			t.Fatalf("send on %s: %v", name, err)
		}
	}
}

// synFrame is a TCP SYN from 10.9.0.1 to 10.9.0.2.
func synFrame() []byte {
	frame := make([]byte, 60)
	copy(frame, []byte{2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 8, 0})
	ip := frame[14:]
	copy(ip, []byte{0x45, 0, 0, 40, 0, 1, 0, 0, 64, 6, 0, 0, 10, 9, 0, 1, 10, 9, 0, 2})
	var sum uint32
	for k := 0; k < 20; k += 2 {
		sum += uint32(binary.BigEndian.Uint16(ip[k:]))
	}
	binary.BigEndian.PutUint16(ip[10:], ^uint16(sum+sum>>16))
	tcp := ip[20:]
	copy(tcp, []byte{0x30, 0x39, 0, 80, 0, 0, 0, 1, 0, 0, 0, 0, 0x50, 2, 0xff, 0xff})
	return frame
}

// tapped is a site whose bridge samples what enters at a veth.
func tapped(t *testing.T) (s *site, c *collector, send func(), want Settings) {
	s, c = newSite(t), listen(t)
	veth := ovstest.Veth(t, "v0")
	s.ctl(t, "add-port", s.bridge, veth)
	if _, err := s.Ofctl(ovstest.Context(t), "add-flow", s.Mgmt(s.bridge),
		"priority=10,tcp,tcp_flags=+syn-ack,actions=sample(probability=65535,collector_set_id=77,obs_domain_id=1,obs_point_id=2),NORMAL"); err != nil {
		t.Fatal(err)
	}
	want = settings()
	want.IPFIXTarget = c.LocalAddr().String()
	return s, c, sender(t, veth+"x"), want
}

// A collector that starts later has missed the templates: without Refresh it
// would wait for ten minutes.
func TestRefreshBringsTemplatesAgain(t *testing.T) {
	s, c, send, want := tapped(t)
	s.ensure(t, want)
	send()
	if n := c.receive(t, send); n == 0 {
		t.Fatal("no templates with the first record")
	}
	send()
	if n := c.receive(t, send); n != 0 {
		t.Fatalf("%d template sets without having asked", n)
	}
	began := time.Now()
	if err := s.driver.Refresh(ovstest.Context(t), s.bridge); err != nil {
		t.Fatal(err)
	}
	t.Logf("Refresh took %v", time.Since(began))
	send()
	if n := c.receive(t, send); n == 0 {
		t.Fatal("no templates after Refresh")
	}
	if a := s.ensure(t, want); a.Changed || a.CollectorSetID != 77 {
		t.Errorf("Refresh left something to do: %+v", a)
	}
}

// Restore by one process and Ensure by the next, as fast as can be.
func TestNextProcessGetsTemplates(t *testing.T) {
	s, c, send, want := tapped(t)
	s.ensure(t, want)
	send()
	c.receive(t, send)
	s.restore(t)
	s.newProcess(t)
	s.ensure(t, want)
	send()
	if n := c.receive(t, send); n == 0 {
		t.Fatal("no templates for the next process")
	}
}

package benign

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/platelet-sdn/platelet/lab/agent"
	"golang.org/x/sys/unix"
)

const (
	videoPort = 5004 // RTP's
	// A stream: frames per second, octets per packet, bits per second of a
	// camera and of a film.
	frameRate  = 25
	videoSize  = 1200
	cameraRate = 2e6
	filmRate   = 4e6
	// streamLimit bounds the streams at once.
	streamLimit = 8
	// glitch is the share of lost packets from which a second of a stream
	// counts as harmed: a decoder conceals less.
	glitch = 0.01
	// videoBuffer is the receiver's socket buffer in octets: what waits there
	// while the machine is busy is not lost in the network.
	videoBuffer = 4 << 20
	// rtpHeader is the header's length in octets (RFC 3550, 5.1); the number
	// of the second follows it.
	rtpHeader = 12
)

// furnishVideo lets cameras (app=camera) stream to the recorder (app=nvr,
// function=nvr or app=web), or where there are none the web server to two
// clients. Streams are RTP in shape and go on for ever.
func furnishVideo(t *Traffic, pace float64) error {
	type stream struct {
		from, to string
		rate     float64
	}
	var streams []stream
	if cameras, err := t.nodes("app=camera"); err == nil {
		recorders, err := t.nodes("app=nvr", "function=nvr", "app=web")
		if err != nil {
			return err
		}
		for _, c := range cameras[:min(len(cameras), streamLimit)] {
			streams = append(streams, stream{c, recorders[0], cameraRate})
		}
	} else {
		servers, err := t.nodes("app=video", "app=web")
		if err != nil {
			return err
		}
		viewers, err := t.nodes("role=client")
		if err != nil {
			return err
		}
		for _, v := range viewers[:min(len(viewers), 2)] {
			streams = append(streams, stream{servers[0], v, filmRate})
		}
	}
	for i, s := range streams {
		if err := t.stream(uint32(i+1), s.from, s.to, s.rate*pace); err != nil {
			return err
		}
	}
	return nil
}

// film is one stream.
type film struct {
	*actor
	to     peer
	source uint32 // RTP's SSRC
	conn   net.Conn
	rate   float64

	mu      sync.Mutex
	next    uint32  // number of the next second
	seconds []*take // whose fate is not yet known, in order
}

// take is one second of a stream.
type take struct {
	number     uint32
	start      time.Time
	entry      *entry
	sent, came int
}

// stream puts both ends of a stream in place.
func (t *Traffic) stream(source uint32, from, to string, rate float64) error {
	a, err := t.actor("video", from)
	if err != nil {
		return err
	}
	at, err := t.peer(to, "udp", videoPort+2*uint16(source-1)) // RTP takes even ports
	if err != nil {
		return err
	}
	f := &film{actor: a, to: at, source: source, rate: rate}
	receiver, err := t.stations[to].ListenUDP(at.addr)
	if err != nil {
		return fmt.Errorf("video receiver: %w", err)
	}
	t.closers = append(t.closers, receiver)
	if err := widen(receiver); err != nil {
		return err
	}
	if f.conn, err = a.Dial(context.Background(), "udp", netip.AddrPort{}, at.addr); err != nil { // UDP: nothing to wait for
		return fmt.Errorf("video sender: %w", err)
	}
	t.closers = append(t.closers, f.conn)
	t.group.Go(func() error { f.receive(receiver); return nil })
	t.run(f.send)
	return nil
}

// send sends frames until the context ends.
func (f *film) send(ctx context.Context) {
	packet := make([]byte, videoSize)
	packet[0], packet[1] = 2<<6, 96 // version 2, a dynamic payload type
	binary.BigEndian.PutUint32(packet[8:], f.source)
	perFrame := f.rate / 8 / videoSize / frameRate
	tick := time.NewTicker(time.Second / frameRate)
	defer tick.Stop()
	due, sequence := f.rand.Float64(), uint16(0)
	for frame := uint32(0); ; frame++ {
		select {
		case <-ctx.Done():
			f.settle(time.Now(), true)
			return
		case <-tick.C:
		}
		n := 0
		for due += perFrame; due >= 1; due-- {
			n++
		}
		now := time.Now()
		number := f.shoot(now, n)
		binary.BigEndian.PutUint32(packet[4:], frame*(90_000/frameRate)) // RTP's video clock
		binary.BigEndian.PutUint32(packet[rtpHeader:], number)
		for range n {
			sequence++
			binary.BigEndian.PutUint16(packet[2:], sequence)
			_, _ = f.conn.Write(packet) // never sent is lost, too
		}
		f.settle(now, false)
	}
}

// shoot counts packets that are about to be sent to the second that a moment
// belongs to, and returns its number.
func (f *film) shoot(now time.Time, packets int) uint32 {
	f.mu.Lock()
	defer f.mu.Unlock()
	n := len(f.seconds)
	if n == 0 || now.Sub(f.seconds[n-1].start) >= time.Second {
		f.seconds = append(f.seconds, &take{number: f.next, start: now, entry: f.ledger.begin(now)})
		f.next++
	}
	last := f.seconds[len(f.seconds)-1]
	last.sent += packets
	return last.number
}

// receive counts what arrives until the socket is closed.
func (f *film) receive(c *agent.UDPConn) {
	buf := make([]byte, 2048)
	for {
		n, _, err := c.ReadFrom(buf)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil || n != videoSize || binary.BigEndian.Uint32(buf[8:]) != f.source {
			continue
		}
		f.came(binary.BigEndian.Uint32(buf[rtpHeader:]))
	}
}

func (f *film) came(number uint32) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, s := range f.seconds {
		if s.number == number {
			s.came++
			return
		}
	}
}

// settle makes flows of the seconds that are over, and whose last packets are
// or are lost: a player would not wait longer. At the end of the stream what
// is not known yet is dropped.
func (f *film) settle(now time.Time, end bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for len(f.seconds) > 0 {
		s := f.seconds[0]
		over := s.start.Add(time.Second)
		switch {
		case end:
			f.ledger.drop(s.entry, false)
		case now.Before(over), s.came < s.sent && now.Before(over.Add(patience)):
			return
		default:
			f.close(s, over)
		}
		f.seconds = f.seconds[1:]
	}
}

// close keeps what came of a second.
func (f *film) close(s *take, over time.Time) {
	lost := max(0, s.sent-s.came)
	f.ledger.end(s.entry, Flow{
		Behaviour: f.behaviour, Client: f.Node, Server: f.to.node, Start: s.start, End: over,
		Harmed: float64(lost) > glitch*float64(s.sent), Lost: lost,
	})
	f.options.Truth.Record(agent.Action{
		Time: s.start, Agent: f.Node, Role: agent.Benign, Behaviour: f.behaviour, Action: "stream", From: f.Addr(), To: f.to.addr.Addr(),
		Proto: f.to.proto, Port: f.to.addr.Port(), Packets: uint64(s.sent), Bytes: uint64(s.sent) * videoSize, Seconds: 1,
	})
}

// widen gives a receiver a large buffer, also where the machine's limit is
// lower, which root may pass.
func widen(c *agent.UDPConn) error {
	raw, err := c.SyscallConn()
	if err != nil {
		return fmt.Errorf("video receiver: %w", err)
	}
	var failed error
	err = raw.Control(func(fd uintptr) {
		failed = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, videoBuffer)
		if failed != nil {
			failed = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUF, videoBuffer)
		}
	})
	if err := errors.Join(err, failed); err != nil {
		return fmt.Errorf("video receiver: buffer: %w", err)
	}
	return nil
}

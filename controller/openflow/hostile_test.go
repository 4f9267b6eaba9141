package openflow

import (
	"bufio"
	"context"
	"errors"
	"math/rand/v2"
	"net"
	"path/filepath"
	"runtime"
	"testing"
	"time"
)

// The switches here are attackers, not stand-ins for Open vSwitch: they say
// what no switch says. What they must not get is a crash, a caller that waits
// beyond its deadline, a goroutine that stays, or memory without bound.

// peer is the other end of a connection that behaves as a test says.
type peer struct {
	net.Conn
	r *bufio.Reader
}

func newPeer(nc net.Conn) *peer { return &peer{nc, bufio.NewReader(nc)} }

// send reports whether we still take what it sends.
func (p *peer) send(t Type, xid uint32, body []byte) bool {
	_, err := p.Write(appendMessage(nil, t, xid, body))
	return err == nil
}

// next is the next request of a type; ok is false when we hung up.
func (p *peer) next(t Type) (m Message, ok bool) {
	for {
		m, err := readMessage(p.r, 0)
		if err != nil || m.Type == t {
			return m, err == nil
		}
	}
}

// ignore reads until we hang up.
func (p *peer) ignore() { _, _ = p.r.WriteTo(discard{}) }

type discard struct{}

func (discard) Write(b []byte) (int, error) { return len(b), nil }

// shakeHands does what a switch does first, and reports whether we took part.
func (p *peer) shakeHands(datapathID byte) bool {
	if _, err := readMessage(p.r, 0); err != nil {
		return false
	}
	_, _ = p.Write(appendHello(nil, 1))
	m, err := readMessage(p.r, 0)
	if err != nil {
		return false
	}
	return p.send(TypeFeaturesReply, m.XID, append(make([]byte, 7), append([]byte{datapathID}, make([]byte, 16)...)...))
}

// attacker listens on a socket and does what it likes with one connection.
func attacker(t *testing.T, behave func(*peer)) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		nc, err := l.Accept()
		if err != nil {
			return
		}
		defer nc.Close()
		behave(newPeer(nc))
	}()
	t.Cleanup(func() { l.Close(); <-done })
	return "unix:" + path
}

// badSwitch shakes hands, and then misbehaves.
func badSwitch(t *testing.T, behave func(*peer)) string {
	t.Helper()
	return attacker(t, func(p *peer) {
		if p.shakeHands(0) {
			behave(p)
		}
	})
}

// lean fails a test when what is live after it is much more than before.
func lean(t *testing.T) func() {
	t.Helper()
	live := func() uint64 {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	before := live()
	return func() {
		t.Helper()
		now := live()
		for range 50 { // what arrived since the collection is no leak
			if now <= before+48<<20 {
				return
			}
			now = live()
		}
		t.Errorf("%d MiB are held", (now-before)>>20)
	}
}

// spew sends random bytes for as long as we take them.
func spew(p *peer) {
	r, b := rand.NewChaCha8([32]byte{1}), make([]byte, 4096)
	for {
		_, _ = r.Read(b)
		if _, err := p.Write(b); err != nil {
			return
		}
	}
}

// What is no handshake ends it with a reason, at the latest when the time for
// it is over.
func TestHandshakeWithAttacker(t *testing.T) {
	settles(t)
	hello := func(body []byte) func(*peer) {
		return func(p *peer) { p.send(TypeHello, 1, body); p.ignore() }
	}
	elements := make([]byte, maxMessage-headerLen)
	for i := 0; i+4 <= len(elements); i += 8 {
		elements[i+1], elements[i+3] = 77, 4 // unknown, and padded
	}
	for name, c := range map[string]struct {
		behave func(*peer)
		is     error
	}{
		"hangs up":                  {func(*peer) {}, nil},
		"silence":                   {(*peer).ignore, context.DeadlineExceeded},
		"half a header":             {func(p *peer) { _, _ = p.Write([]byte{5, 0, 0}); p.ignore() }, context.DeadlineExceeded},
		"a hello that never ends":   {func(p *peer) { _, _ = p.Write([]byte{5, 0, 0xff, 0xff, 0, 0, 0, 1, 0}); p.ignore() }, context.DeadlineExceeded},
		"64 KiB of elements":        {hello(elements), context.DeadlineExceeded}, // a hello, but no features
		"an element longer than it": {hello([]byte{0, 1, 0xff, 0xff, 0, 0, 0, 0}), ErrMalformed},
		"an element of length 0":    {hello([]byte{0, 1, 0, 0, 0, 0, 0, 0}), ErrMalformed},
		"only other versions":       {hello([]byte{0, 1, 0, 8, 0, 0, 0, 0x40}), nil},
		"another protocol":          {func(p *peer) { _, _ = p.Write([]byte("SSH-2.0-OpenSSH_9.2\r\n")); p.ignore() }, ErrMalformed},
		"no hello":                  {func(p *peer) { p.send(TypeBarrierReply, 1, nil); p.ignore() }, ErrMalformed},
		"an error":                  {func(p *peer) { p.send(TypeError, 1, []byte{0, 0, 0, 0}); p.ignore() }, &Error{}},
		"half an error":             {func(p *peer) { p.send(TypeError, 1, []byte{0}); p.ignore() }, ErrMalformed},
		"short features": {func(p *peer) {
			p.send(TypeHello, 1, nil)
			if m, ok := p.next(TypeFeaturesRequest); ok {
				p.send(TypeFeaturesReply, m.XID, make([]byte, 23))
			}
			p.ignore()
		}, ErrMalformed},
		"features of another type": {func(p *peer) {
			p.send(TypeHello, 1, nil)
			if m, ok := p.next(TypeFeaturesRequest); ok {
				p.send(TypeBarrierReply, m.XID, nil)
			}
			p.ignore()
		}, ErrMalformed},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			timeout := time.Minute
			if errors.Is(c.is, context.DeadlineExceeded) {
				timeout = 300 * time.Millisecond
			}
			conn, err := Dialer{Timeout: timeout}.Dial(t.Context(), attacker(t, c.behave))
			if err == nil {
				conn.Close()
			}
			var late net.Error
			if err == nil || c.is != nil && !errors.Is(err, c.is) && !(errors.As(err, &late) && late.Timeout()) {
				t.Errorf("got %v", err)
			}
		})
	}
}

// A caller that gives up while the switch says nothing does not wait for the
// deadline of the dialler.
func TestHandshakeIsCancelled(t *testing.T) {
	settles(t)
	ctx, cancel := context.WithCancel(context.Background())
	_, err := Dialer{Timeout: time.Hour}.Dial(ctx, attacker(t, func(p *peer) {
		_, _ = p.next(TypeHello)
		cancel()
		p.ignore()
	}))
	if !errors.Is(err, context.Canceled) {
		t.Fatalf("got %v", err)
	}
}

// After the handshake: what breaks the protocol ends the connection with a
// reason, and every call with it.
func TestMisbehavingSwitch(t *testing.T) {
	settles(t)
	for name, c := range map[string]struct {
		behave func(*peer)
		is     error
	}{
		"garbage":            {func(p *peer) { _, _ = p.Write([]byte("GET / HTTP/1.1\r\n\r\n")); p.ignore() }, ErrMalformed},
		"length 3":           {func(p *peer) { _, _ = p.Write([]byte{5, 2, 0, 3, 0, 0, 0, 0}); p.ignore() }, ErrMalformed},
		"another version":    {func(p *peer) { _, _ = p.Write([]byte{4, 2, 0, 8, 0, 0, 0, 0}); p.ignore() }, ErrMalformed},
		"half a message":     {func(p *peer) { _, _ = p.Write([]byte{5, 2, 0, 99, 0, 0, 0, 0, 1}) }, nil},
		"a length that lies": {func(p *peer) { _, _ = p.Write([]byte{5, 21, 0xff, 0xff, 0, 0, 0, 3}); p.ignore() }, ErrDead},
		"silence":            {(*peer).ignore, ErrDead},
		"random bytes":       {spew, ErrMalformed},
		"answers from nobody": {func(p *peer) {
			for i := uint32(1 << 20); i < 1<<20+1000; i++ {
				p.send(TypeBarrierReply, i, nil)
			}
		}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			keepalive := time.Minute
			if errors.Is(c.is, ErrDead) {
				keepalive = 100 * time.Millisecond
			}
			conn, err := Dialer{Keepalive: keepalive}.Dial(t.Context(), badSwitch(t, c.behave))
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			under := conn.Barrier(t.Context()) // no deadline of its own
			select {
			case <-conn.Done():
			case <-time.After(time.Minute):
				t.Fatal("the connection stays")
			}
			if c.is != nil && !errors.Is(conn.Err(), c.is) {
				t.Errorf("ended by %v", conn.Err())
			}
			if err := conn.Barrier(t.Context()); under == nil || err == nil {
				t.Errorf("a call under way: %v; one after the end: %v", under, err)
			}
		})
	}
}

// A switch that says much more than it was asked: what nobody waits for is
// counted and forgotten, what somebody could read is bounded, and calls are
// answered all the while.
func TestFloods(t *testing.T) {
	big := make([]byte, maxMessage-headerLen)
	part := func(n int) []byte {
		b := make([]byte, n)
		b[1], b[3] = byte(multipartFlow), multipartMore
		return b
	}
	for name, c := range map[string]struct {
		t    Type
		body []byte
		n    int
		lost func(c *Conn) uint64 // nil: nothing is counted
	}{
		"echo requests":    {TypeEchoRequest, big[:1000], 100_000, nil},
		"echo replies":     {TypeEchoReply, big[:1000], 100_000, nil},
		"small events":     {TypePortStatus, big[:8+portLen], 300_000, (*Conn).AsyncDropped},
		"large events":     {TypePacketIn, big, 5_000, (*Conn).AsyncDropped},
		"errors":           {TypeError, big[:64], 300_000, (*Conn).AsyncDropped},
		"foreign replies":  {TypeBarrierReply, nil, 300_000, (*Conn).Stale},
		"foreign parts":    {TypeMultipartReply, part(60_000), 5_000, (*Conn).Stale},
		"repeated hellos":  {TypeHello, big[:8], 100_000, (*Conn).Stale},
		"unknown messages": {99, big[:1000], 100_000, (*Conn).Stale},
	} {
		t.Run(name, func(t *testing.T) {
			settles(t)
			held := lean(t)
			conn, err := Dial(t.Context(), badSwitch(t, func(p *peer) {
				go func() {
					for range c.n {
						if !p.send(c.t, 1<<30, c.body) {
							return
						}
					}
				}()
				for {
					m, ok := p.next(TypeBarrierRequest)
					if !ok || !p.send(TypeBarrierReply, m.XID, nil) {
						return
					}
				}
			}))
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			for i := 0; i < 100 || c.lost != nil && c.lost(conn) < uint64(c.n)/2; i++ {
				if err := conn.Barrier(t.Context()); err != nil {
					t.Fatal(err)
				}
			}
			held()
		})
	}
}

// A reply that never ends is bounded by its size and by the caller's deadline,
// and the connection goes on.
func TestEndlessReply(t *testing.T) {
	for name, c := range map[string]struct {
		part int
		rest bool // go on sending
		want error
	}{
		"large parts":          {60_000, true, ErrTooLarge},
		"empty parts":          {multipartHeaderLen, true, ErrTooLarge},
		"the last never comes": {multipartHeaderLen, false, context.DeadlineExceeded},
	} {
		t.Run(name, func(t *testing.T) {
			settles(t)
			held := lean(t)
			body := make([]byte, c.part)
			body[1], body[3] = byte(multipartFlow), multipartMore
			conn, err := Dialer{MaxReply: 4 << 20}.Dial(t.Context(), badSwitch(t, func(p *peer) {
				m, ok := p.next(TypeMultipartRequest)
				if !ok {
					return
				}
				for i := 0; p.send(TypeMultipartReply, m.XID, body) && (c.rest && i*c.part < 16<<20 && i < 200_000 || i < 20); i++ {
				}
				for {
					m, ok := p.next(TypeBarrierRequest)
					if !ok || !p.send(TypeBarrierReply, m.XID, nil) {
						return
					}
				}
			}))
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			ctx, timeout := t.Context(), 100*time.Millisecond
			if c.rest {
				timeout = time.Minute
			}
			ctx, cancel := context.WithTimeout(ctx, timeout)
			defer cancel()
			if _, err := conn.Flows(ctx, FlowFilter{}); !errors.Is(err, c.want) {
				t.Fatalf("got %v", err)
			}
			if err := conn.Barrier(t.Context()); err != nil {
				t.Fatal(err)
			}
			held()
			conn.mu.Lock()
			defer conn.mu.Unlock()
			if len(conn.pending) != 0 || conn.held != 0 {
				t.Errorf("%d calls and %d bytes are remembered", len(conn.pending), conn.held)
			}
		})
	}
}

// A switch that stops reading holds a caller up until its deadline and no
// longer, and not the others beyond theirs; then it is given up.
func TestSwitchThatStopsReading(t *testing.T) {
	settles(t)
	held := lean(t)
	stop := make(chan struct{})
	conn, err := Dialer{Timeout: 3 * time.Second, Keepalive: time.Hour}.Dial(t.Context(), badSwitch(t, func(p *peer) {
		for { // as if it lived
			select {
			case <-stop:
				return
			case <-time.After(time.Millisecond):
				p.send(TypeEchoRequest, 1, nil)
			}
		}
	}))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	defer close(stop)
	short, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	large := manyFlows(100_000) // 9 MB: more than all buffers take
	err = conn.write(short, func(w *messageWriter) {
		for i := range large {
			w.try(func(b []byte) ([]byte, error) { return large[i].append(b, uint32(i)) })
		}
	})
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("got %v", err)
	}
	if err := conn.Barrier(short); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("a caller behind it: %v", err)
	}
	if err := conn.Err(); err != nil {
		t.Fatalf("one caller's deadline ended the connection: %v", err)
	}
	patient, cancel := context.WithTimeout(t.Context(), time.Minute) // the switch may have taken a piece a moment ago
	defer cancel()
	if err := conn.Barrier(patient); !errors.Is(err, ErrDead) {
		t.Fatalf("got %v", err)
	}
	held()
}

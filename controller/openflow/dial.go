package openflow

import (
	"bufio"
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"syscall"
	"time"
)

const (
	defaultTimeout    = 10 * time.Second
	defaultKeepalive  = 5 * time.Second
	defaultAsyncQueue = 4096
	// defaultMaxReply has room for about a million flows.
	defaultMaxReply = 256 << 20
	// bufferSize is that of the reader, and of a piece of output.
	bufferSize = 64 << 10
)

// Dialer holds a connection's settings; the zero value is ready.
type Dialer struct {
	// Timeout bounds dialling, the handshake, and every call whose context
	// has no deadline of its own. A switch that takes nothing of what we
	// write for this long is given up. Default 10 s.
	Timeout time.Duration
	// Keepalive is how long the switch may be silent before it is probed
	// with an echo request, and how long the answer may then take. A switch
	// that hangs is noticed after twice this time. Default 5 s.
	Keepalive time.Duration
	// AsyncQueue bounds the queue of asynchronous messages; what does not
	// fit is dropped and counted. Default 4096, and 16 MiB in any case.
	AsyncQueue int
	// MaxReply bounds the bytes that replies still under way may hold, of
	// all calls together; the call that goes beyond fails with ErrTooLarge.
	// Default 256 MiB.
	MaxReply int
	// TLS is needed for ssl: and pssl: targets alone.
	TLS TLS
}

// Dial connects with default settings; see Dialer.Dial.
func Dial(ctx context.Context, target string) (*Conn, error) { return Dialer{}.Dial(ctx, target) }

// Dial connects to a switch and agrees on OpenFlow 1.4. The target is
// unix:PATH (a bridge's management socket), tcp:HOST[:PORT] or ssl:HOST[:PORT]
// (a bridge's ptcp: or pssl: controller target).
//
// None of them disturbs the bridge: its management socket always exists, and
// adding a passive target (`ovs-vsctl set-controller BRIDGE pssl:`) changes no
// flow. It is otherwise with active targets; see Listen.
func (d Dialer) Dial(ctx context.Context, target string) (*Conn, error) {
	t, err := ParseTarget(target)
	if err != nil {
		return nil, err
	}
	if t.Passive() {
		return nil, fmt.Errorf("OpenFlow target %q awaits switches; it cannot be dialled", target)
	}
	d = d.withDefaults()
	ctx, cancel := withDeadline(ctx, d.Timeout)
	defer cancel()
	network, address := t.address()
	nc, err := (&net.Dialer{}).DialContext(ctx, network, address)
	if err != nil {
		return nil, fmt.Errorf("connect to switch: %w", err)
	}
	if t.Secure() {
		nc = tls.Client(nc, d.TLS.Client(t.Host))
	}
	c, err := d.handshake(ctx, nc)
	if err != nil {
		return nil, fmt.Errorf("handshake with %s: %w", t, err)
	}
	return c, nil
}

func (d Dialer) withDefaults() Dialer {
	if d.Timeout <= 0 {
		d.Timeout = defaultTimeout
	}
	if d.Keepalive <= 0 {
		d.Keepalive = defaultKeepalive
	}
	if d.AsyncQueue <= 0 {
		d.AsyncQueue = defaultAsyncQueue
	}
	if d.MaxReply <= 0 {
		d.MaxReply = defaultMaxReply
	}
	return d
}

// handshake makes a connection of a socket, which it closes where it fails.
// The context has a deadline.
func (d Dialer) handshake(ctx context.Context, nc net.Conn) (*Conn, error) {
	c := newConn(nc, d)
	r := bufio.NewReaderSize(nc, bufferSize)
	if err := c.hello(ctx, r); err != nil {
		c.fail(err)
		return nil, err
	}
	c.run(r)
	if err := c.askFeatures(ctx); err != nil {
		c.Close()
		return nil, err
	}
	return c, nil
}

// hello agrees on TLS and on the version (section 6.3.1).
func (c *Conn) hello(ctx context.Context, r *bufio.Reader) error {
	deadline, _ := ctx.Deadline()
	if err := c.nc.SetDeadline(deadline); err != nil {
		return err
	}
	// A context that is cancelled before its deadline ends the wait too.
	stop := context.AfterFunc(ctx, func() { _ = c.nc.SetDeadline(time.Unix(1, 0)) })
	m, err := c.exchangeHello(ctx, r)
	if !stop() { // the deadline may be the one of the past
		return fmt.Errorf("wait for the switch: %w", ctx.Err())
	}
	if err == nil {
		err = checkFirst(m)
	}
	if err != nil {
		return err
	}
	return c.nc.SetDeadline(time.Time{})
}

func (c *Conn) exchangeHello(ctx context.Context, r *bufio.Reader) (Message, error) {
	if secure, ok := c.nc.(*tls.Conn); ok {
		if err := secure.HandshakeContext(ctx); err != nil {
			return Message{}, explain(err, c.nc)
		}
	}
	_, unsent := c.nc.Write(appendHello(nil, c.xids(1)))
	// With TLS 1.3 a switch that refuses our certificate says so after the
	// handshake, and has hung up perhaps before our hello.
	m, err := readFirst(r)
	if err = cmp.Or(err, unsent); err != nil {
		return m, explain(err, c.nc)
	}
	return m, nil
}

// readFirst reads a hello, or the error of a switch that cannot agree. It
// looks at the type first: another protocol's greeting announces a length that
// never comes.
func readFirst(r io.Reader) (Message, error) {
	m, n, err := readHeader(r)
	if err != nil {
		return m, err
	}
	if m.Type != TypeHello && m.Type != TypeError {
		return m, malformed("type %d before hello", m.Type)
	}
	return readBody(r, m, n)
}

// checkFirst checks what readFirst read.
func checkFirst(m Message) error {
	if m.Type == TypeHello {
		return checkHello(m)
	}
	e, err := decodeError(m)
	if err != nil {
		return err
	}
	return e
}

func (c *Conn) askFeatures(ctx context.Context) error {
	reply, err := c.callOne(ctx, TypeFeaturesReply, func(b []byte, xid uint32) []byte {
		return appendMessage(b, TypeFeaturesRequest, xid, nil)
	})
	if err != nil {
		return err
	}
	c.features, err = decodeFeatures(reply)
	return err
}

// closedEarly reports whether the peer hung up.
func closedEarly(err error) bool {
	return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) ||
		errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE)
}

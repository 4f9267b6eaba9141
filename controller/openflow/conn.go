package openflow

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// Errors of a connection.
var (
	// ErrClosed is wrapped by every error after Close.
	ErrClosed = errors.New("OpenFlow connection closed")
	// ErrDead says that the switch stopped answering.
	ErrDead = errors.New("switch does not answer")
	// ErrTooLarge says that a multipart reply outgrew what we accept.
	ErrTooLarge = errors.New("multipart reply too large")
)

const (
	defaultTimeout    = 10 * time.Second
	defaultKeepalive  = 5 * time.Second
	defaultAsyncQueue = 4096
	// maxReply bounds a multipart reply: about a million flows.
	maxReply = 256 << 20
	// bufferSize is that of the reader and of the writer.
	bufferSize = 64 << 10
)

// Dialer holds a connection's settings; the zero value is ready.
type Dialer struct {
	// Timeout bounds dialling, the handshake, and every call and write whose
	// context has no deadline of its own. Default 10 s.
	Timeout time.Duration
	// Keepalive is how long the switch may be silent before it is probed
	// with an echo request, and how long the answer may take. Default 5 s.
	Keepalive time.Duration
	// AsyncQueue bounds the queue of asynchronous messages; what does not
	// fit is dropped and counted. Default 4096.
	AsyncQueue int
}

// Conn is an OpenFlow 1.4 connection. Its methods are safe for concurrent
// use. It ends with Close, when the peer goes or breaks the protocol, or when
// the peer stops answering; see Done.
type Conn struct {
	timeout   time.Duration
	keepalive time.Duration
	features  Features
	nc        net.Conn
	xid       atomic.Uint32
	lastRead  atomic.Int64 // Unix nanoseconds
	dropped   atomic.Uint64
	async     chan Message
	echoes    chan Message // requests from the switch waiting for an answer
	done      chan struct{}
	running   sync.WaitGroup
	tx        chan struct{} // holds a token while a transaction runs

	wmu sync.Mutex
	w   *bufio.Writer

	mu      sync.Mutex
	err     error // why the connection ended
	pending map[uint32]*call
	spans   []*span
}

// Dial connects with default settings; see Dialer.Dial.
func Dial(ctx context.Context, target string) (*Conn, error) { return Dialer{}.Dial(ctx, target) }

// Dial connects to "unix:PATH" (a bridge's management socket) or
// "tcp:HOST:PORT" (a bridge's ptcp: target) and agrees on OpenFlow 1.4.
func (d Dialer) Dial(ctx context.Context, target string) (*Conn, error) {
	if d.Timeout <= 0 {
		d.Timeout = defaultTimeout
	}
	if d.Keepalive <= 0 {
		d.Keepalive = defaultKeepalive
	}
	if d.AsyncQueue <= 0 {
		d.AsyncQueue = defaultAsyncQueue
	}
	network, address, ok := strings.Cut(target, ":")
	if !ok || network != "unix" && network != "tcp" || address == "" {
		return nil, fmt.Errorf("OpenFlow target %q: want unix:PATH or tcp:HOST:PORT", target)
	}
	ctx, cancel := withDeadline(ctx, d.Timeout)
	defer cancel()
	nc, err := (&net.Dialer{}).DialContext(ctx, network, address)
	if err != nil {
		return nil, fmt.Errorf("connect to switch: %w", err)
	}
	c, err := d.handshake(ctx, nc)
	if err != nil {
		nc.Close()
		return nil, fmt.Errorf("handshake with %s: %w", target, err)
	}
	return c, nil
}

// handshake exchanges hello and features (section 6.3.1).
func (d Dialer) handshake(ctx context.Context, nc net.Conn) (*Conn, error) {
	c := &Conn{
		timeout: d.Timeout, keepalive: d.Keepalive, nc: nc,
		async: make(chan Message, d.AsyncQueue), echoes: make(chan Message, 4),
		done: make(chan struct{}), tx: make(chan struct{}, 1),
		w: bufio.NewWriterSize(nc, bufferSize), pending: map[uint32]*call{},
	}
	deadline, _ := ctx.Deadline()
	if err := nc.SetDeadline(deadline); err != nil {
		return nil, err
	}
	if _, err := nc.Write(appendHello(nil, c.xids(1))); err != nil {
		return nil, err
	}
	r := bufio.NewReaderSize(nc, bufferSize)
	m, err := readMessage(r, 0)
	if err != nil {
		return nil, err
	}
	if err := checkFirst(m); err != nil {
		return nil, err
	}
	if err := nc.SetDeadline(time.Time{}); err != nil {
		return nil, err
	}
	c.lastRead.Store(time.Now().UnixNano())
	c.running.Add(2)
	go c.read(r)
	go c.keepAlive()
	reply, err := c.callOne(ctx, TypeFeaturesReply, func(b []byte, xid uint32) []byte {
		return appendMessage(b, TypeFeaturesRequest, xid, nil)
	})
	if err == nil {
		c.features, err = decodeFeatures(reply)
	}
	if err != nil {
		c.Close()
		return nil, err
	}
	return c, nil
}

// checkFirst expects a hello; a switch that cannot agree may send an error.
func checkFirst(m Message) error {
	switch m.Type {
	case TypeHello:
		return checkHello(m)
	case TypeError:
		e, err := decodeError(m)
		if err != nil {
			return err
		}
		return e
	}
	return malformed("type %d before hello", m.Type)
}

// Features returns what the switch said of itself.
func (c *Conn) Features() Features { return c.features }

// Async returns the asynchronous messages: TypeFlowRemoved, TypePortStatus,
// flow monitor updates (TypeMultipartReply), errors that answer nothing we
// wait for. It is never closed; watch Done as well.
func (c *Conn) Async() <-chan Message { return c.async }

// AsyncDropped counts asynchronous messages lost because nobody read Async.
func (c *Conn) AsyncDropped() uint64 { return c.dropped.Load() }

// Done is closed when the connection has ended; Err then says why.
func (c *Conn) Done() <-chan struct{} { return c.done }

// Err returns why the connection ended, nil while it lives.
func (c *Conn) Err() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.err
}

// Close ends the connection and waits for its goroutines. The switch discards
// bundles that were not committed.
func (c *Conn) Close() error {
	c.fail(ErrClosed)
	c.running.Wait()
	return nil
}

// fail ends the connection once; the first reason stays.
func (c *Conn) fail(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err != nil {
		return
	}
	c.err = err
	c.nc.Close() // an error would tell us nothing more
	for xid, k := range c.pending {
		k.finish(err)
		delete(c.pending, xid)
	}
	close(c.done)
}

// xids reserves n consecutive transaction IDs, none of them 0, which the
// switch uses for messages that answer nothing.
func (c *Conn) xids(n int) uint32 {
	for {
		last := c.xid.Add(uint32(n))
		first := last - uint32(n) + 1
		if first != 0 && first <= last {
			return first
		}
	}
}

// readMessage reads one message of the given version, of any version for 0:
// only the hello may have another than the agreed one.
func readMessage(r io.Reader, version uint8) (Message, error) {
	var h [headerLen]byte
	if _, err := io.ReadFull(r, h[:]); err != nil {
		return Message{}, err
	}
	m, n, err := parseHeader(h[:])
	if err != nil {
		return m, err
	}
	if version != 0 && m.Version != version {
		return m, malformed("version 0x%02x after agreeing on 0x%02x", m.Version, version)
	}
	m.Body = make([]byte, n-headerLen)
	if _, err := io.ReadFull(r, m.Body); err != nil {
		return m, fmt.Errorf("message type %d cut short: %w", m.Type, err)
	}
	return m, nil
}

func (c *Conn) read(r io.Reader) {
	defer c.running.Done()
	for {
		m, err := readMessage(r, Version)
		if err != nil {
			c.fail(fmt.Errorf("read from switch: %w", err))
			return
		}
		c.lastRead.Store(time.Now().UnixNano())
		c.dispatch(m)
	}
}

// dispatch hands a message to who waits for it. It never blocks: a reader
// that waits for a writer can deadlock with a switch that does the same.
func (c *Conn) dispatch(m Message) {
	if m.Type == TypeEchoRequest {
		select {
		case c.echoes <- m:
		default: // the switch asks faster than the network takes answers
		}
		return
	}
	if c.deliver(m) {
		return
	}
	select {
	case c.async <- m:
	default:
		c.dropped.Add(1)
	}
}

// keepAlive answers the switch's echo requests and probes a silent switch
// (section 7.5.2).
func (c *Conn) keepAlive() {
	defer c.running.Done()
	tick := time.NewTicker(c.keepalive / 2)
	defer tick.Stop()
	for {
		select {
		case <-c.done:
			return
		case m := <-c.echoes:
			// A failed write has ended the connection already.
			_ = c.write(context.Background(), func(w *messageWriter) {
				w.add(func(b []byte) []byte { return appendMessage(b, TypeEchoReply, m.XID, m.Body) })
			})
		case <-tick.C:
			if time.Since(time.Unix(0, c.lastRead.Load())) < c.keepalive {
				continue
			}
			if err := c.Echo(context.Background()); err != nil {
				c.fail(fmt.Errorf("%w: %w", ErrDead, err))
				return
			}
		}
	}
}

// Echo sends an echo request and waits for its answer (section 7.5.2), at
// most as long as the keepalive setting.
func (c *Conn) Echo(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, c.keepalive)
	defer cancel()
	_, err := c.callOne(ctx, TypeEchoReply, func(b []byte, xid uint32) []byte {
		return appendMessage(b, TypeEchoRequest, xid, nil)
	})
	return err
}

// withDeadline gives a context a deadline if it has none.
func withDeadline(ctx context.Context, d time.Duration) (context.Context, context.CancelFunc) {
	if _, ok := ctx.Deadline(); ok {
		return context.WithCancel(ctx)
	}
	return context.WithTimeout(ctx, d)
}

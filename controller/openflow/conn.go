package openflow

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// Errors of a connection.
var (
	// ErrClosed is wrapped by every error after Close.
	ErrClosed = errors.New("OpenFlow connection closed")
	// ErrDead says that the switch stopped answering, or taking what we
	// write.
	ErrDead = errors.New("switch does not answer")
	// ErrTooLarge says that a reply outgrew Dialer.MaxReply.
	ErrTooLarge = errors.New("reply too large")
)

const (
	// controlQueue is how many echo requests and replies may wait to be
	// written; a switch that asks for more echoes than it takes has to wait.
	controlQueue = 4
	// closeGrace is how long the farewell of TLS may take.
	closeGrace = 100 * time.Millisecond
)

// Conn is an OpenFlow 1.4 connection. Its methods are safe for concurrent
// use. It ends with Close, when the peer goes or breaks the protocol, or when
// the peer stops answering; see Done.
//
// Messages of one call reach the switch in order and without those of another
// in between. What the switch sends is taken in its order: an asynchronous
// message that it sent before a reply is in Async when the call returns. Open
// vSwitch reports a change to flow monitors before it answers the barrier
// behind that change, but sends the flow-removed often after it.
type Conn struct {
	timeout   time.Duration
	keepalive time.Duration
	maxReply  int
	features  Features
	nc        net.Conn
	began     time.Time
	xid       atomic.Uint32
	lastRead  atomic.Int64 // since began, in nanoseconds
	async     asyncQueue
	stale     atomic.Uint64
	writing   chan struct{} // holds a token while somebody adds to out
	out       chan []byte   // whole messages, for the goroutine that writes
	control   chan []byte   // echo requests and replies, likewise
	done      chan struct{}
	running   sync.WaitGroup
	tx        chan struct{} // holds a token while a transaction runs

	mu      sync.Mutex
	err     error // why the connection ended
	pending map[uint32]*call
	held    int // bytes of the replies in pending
	spans   []*span
}

// newConn makes a connection that does nothing until run.
func newConn(nc net.Conn, d Dialer) *Conn {
	return &Conn{
		timeout: d.Timeout, keepalive: d.Keepalive, maxReply: d.MaxReply, nc: nc, began: time.Now(), async: newAsyncQueue(d.AsyncQueue),
		writing: make(chan struct{}, 1), out: make(chan []byte, writeQueue), control: make(chan []byte, controlQueue),
		done: make(chan struct{}), tx: make(chan struct{}, 1), pending: map[uint32]*call{},
	}
}

// run starts the connection's goroutines.
func (c *Conn) run(r io.Reader) {
	c.heard()
	c.running.Add(3)
	go c.read(r)
	go c.writeOut()
	go c.keepAlive()
}

// Features returns what the switch said of itself.
func (c *Conn) Features() Features { return c.features }

// RemoteAddr is the switch's address.
func (c *Conn) RemoteAddr() net.Addr { return c.nc.RemoteAddr() }

// Async returns the messages that answer nothing: TypeFlowRemoved,
// TypePortStatus, TypeRoleStatus, TypePacketIn, flow monitor updates
// (TypeMultipartReply) and errors that no call waits for, in the switch's
// order. It is never closed; watch Done as well.
func (c *Conn) Async() <-chan Message { return c.async.ch }

// AsyncDropped counts asynchronous messages lost because nobody read Async.
func (c *Conn) AsyncDropped() uint64 { return c.async.dropped.Load() }

// Stale counts replies that nobody waited for (any more): those that came
// after their call's deadline, twice, or to nothing that was asked.
func (c *Conn) Stale() uint64 { return c.stale.Load() }

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
	if c.err != nil {
		c.mu.Unlock()
		return
	}
	c.err = err
	for _, k := range c.pending {
		k.finish(err)
	}
	c.pending, c.held = map[uint32]*call{}, 0
	close(c.done)
	c.mu.Unlock()
	// TLS says farewell, for which it takes up to 5 s where the peer does
	// not read; a deadline set meanwhile would be overwritten.
	if secure, ok := c.nc.(interface{ NetConn() net.Conn }); ok {
		defer time.AfterFunc(closeGrace, func() { secure.NetConn().Close() }).Stop()
	}
	c.nc.Close() // an error would tell us nothing more
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
	m, n, err := readHeader(r)
	if err != nil {
		return m, err
	}
	if version != 0 && m.Version != version {
		return m, malformed("version 0x%02x after agreeing on 0x%02x", m.Version, version)
	}
	return readBody(r, m, n)
}

// readHeader reads a message's header; n is the whole message's length.
func readHeader(r io.Reader) (m Message, n int, err error) {
	var h [headerLen]byte
	if _, err := io.ReadFull(r, h[:]); err != nil {
		return m, 0, err
	}
	return parseHeader(h[:])
}

func readBody(r io.Reader, m Message, n int) (Message, error) {
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
		c.heard()
		c.dispatch(m)
	}
}

// dispatch hands a message to who waits for it. It never blocks: a reader
// that waits for a writer can deadlock with a switch that does the same.
func (c *Conn) dispatch(m Message) {
	switch {
	case m.Type == TypeEchoRequest:
		c.say(appendMessage(nil, TypeEchoReply, m.XID, m.Body))
	case c.deliver(m):
	case asynchronous(m):
		c.async.add(m)
	case m.Type != TypeEchoReply: // those answer keepAlive
		c.stale.Add(1)
	}
}

// say writes an echo when there is room; else the switch asks faster than it
// takes answers, or takes nothing at all.
func (c *Conn) say(b []byte) {
	select {
	case c.control <- b:
	default:
	}
}

// heard notes that the switch sent something.
func (c *Conn) heard() { c.lastRead.Store(int64(time.Since(c.began))) }

// silence is how long the switch has said nothing.
func (c *Conn) silence() time.Duration { return time.Since(c.began) - time.Duration(c.lastRead.Load()) }

// keepAlive probes a silent switch (section 7.5.2). Any message counts as an
// answer: the one to the probe may wait behind a long multipart reply.
func (c *Conn) keepAlive() {
	defer c.running.Done()
	limit := c.keepalive
	tick := time.NewTicker(max(limit/4, time.Millisecond))
	defer tick.Stop()
	var probed time.Time // zero while no probe is under way
	for {
		select {
		case <-c.done:
			return
		case <-tick.C:
		}
		switch silence := c.silence(); {
		case silence < limit:
			probed = time.Time{}
		case probed.IsZero():
			// Its clock starts now, not with the silence: we may be the
			// ones who were suspended.
			probed = time.Now()
			c.say(appendMessage(nil, TypeEchoRequest, c.xids(1), nil))
		case time.Since(probed) >= limit:
			c.fail(fmt.Errorf("%w: nothing came for %v", ErrDead, silence.Round(time.Millisecond)))
			return
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

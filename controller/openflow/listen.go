package openflow

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"time"
)

// Bounds of a Listener.
const (
	// maxSwitches is how many connections may stand at once, those that
	// nobody has claimed included.
	maxSwitches = 1024
	// maxFrom is how many of them one address may have, so that nobody takes
	// the places of all others.
	maxFrom = 64
	// maxHandshakes is how many handshakes may be under way.
	maxHandshakes = 256
	// acceptRetry is the pause when the system has no more sockets for us.
	acceptRetry = 100 * time.Millisecond
)

// errBusy refuses a connection beyond the bounds.
var errBusy = errors.New("too many connections")

// Listener awaits switches that dial us, and hands out their connections by
// datapath ID. Its methods are safe for concurrent use.
type Listener struct {
	dialer  Dialer
	nl      net.Listener
	target  Target
	refused func(from net.Addr, err error)
	ctx     context.Context
	cancel  context.CancelFunc
	running sync.WaitGroup

	mu         sync.Mutex
	changed    chan struct{}      // closed and replaced when a switch arrives
	waiting    map[uint64]*Conn   // by datapath ID, claimed by nobody yet
	open       int                // connections, from accept to end
	from       map[netip.Addr]int // of those, by address
	handshakes int                // under way
}

// Listen awaits switches at ptcp:[PORT][:HOST] or pssl:[PORT][:HOST]. Whoever
// is turned away is reported to refused, which may be nil, with the reason;
// it is called from many goroutines.
//
// The operator who points a switch at us must know what Open vSwitch does:
// the first active controller of a bridge (`ovs-vsctl set-controller BRIDGE
// tcp:... or ssl:...`), and the removal of the last one, flush every flow of
// the bridge, everybody's, with groups and meters. With fail mode standalone,
// the default, the bridge flushes them again when the controller is away for
// three probe intervals. In-band control adds hidden flows above all others
// unless other-config:disable-in-band is true. Where the switch can be dialled
// instead, nothing of this happens; see Dial.
func (d Dialer) Listen(ctx context.Context, target string, refused func(from net.Addr, err error)) (*Listener, error) {
	t, err := ParseTarget(target)
	if err != nil {
		return nil, err
	}
	if !t.Passive() {
		return nil, fmt.Errorf("OpenFlow target %q is dialled; it cannot be listened on", target)
	}
	network, address := t.address()
	nl, err := (&net.ListenConfig{}).Listen(ctx, network, address)
	if err != nil {
		return nil, fmt.Errorf("listen for switches: %w", err)
	}
	if refused == nil {
		refused = func(net.Addr, error) {}
	}
	l := &Listener{
		dialer: d.withDefaults(), nl: nl, target: t, refused: refused,
		changed: make(chan struct{}), waiting: map[uint64]*Conn{}, from: map[netip.Addr]int{},
	}
	l.ctx, l.cancel = context.WithCancel(context.Background())
	l.running.Go(l.accept)
	return l, nil
}

// Addr is where the listener listens.
func (l *Listener) Addr() net.Addr { return l.nl.Addr() }

// Close stops listening and ends the connections that nobody claimed. Those
// that were claimed stay.
func (l *Listener) Close() error {
	l.cancel()
	l.nl.Close()
	l.running.Wait()
	l.mu.Lock()
	unclaimed := l.waiting
	l.waiting = map[uint64]*Conn{}
	l.mu.Unlock()
	for _, c := range unclaimed {
		c.Close()
	}
	return nil
}

// Dial waits until the switch with a datapath ID has connected, or takes the
// connection that is waiting, the newest if there were several. The caller
// owns it. The context alone bounds the wait.
func (l *Listener) Dial(ctx context.Context, datapathID uint64) (*Conn, error) {
	for {
		l.mu.Lock()
		c, changed := l.waiting[datapathID], l.changed
		delete(l.waiting, datapathID)
		l.mu.Unlock()
		if c != nil && c.Err() == nil {
			return c, nil
		}
		select {
		case <-changed:
		case <-l.ctx.Done():
			return nil, fmt.Errorf("wait at %s for switch %016x: %w", l.target, datapathID, net.ErrClosed)
		case <-ctx.Done():
			return nil, fmt.Errorf("wait at %s for switch %016x: %w", l.target, datapathID, ctx.Err())
		}
	}
}

func (l *Listener) accept() {
	for {
		nc, err := l.nl.Accept()
		if err != nil {
			if l.ctx.Err() != nil {
				return
			}
			l.refused(l.nl.Addr(), fmt.Errorf("accept: %w", err))
			select {
			case <-l.ctx.Done():
				return
			case <-time.After(acceptRetry):
			}
			continue
		}
		from := source(nc)
		if !l.admit(from) {
			l.refused(nc.RemoteAddr(), errBusy)
			nc.Close()
			continue
		}
		l.running.Go(func() { l.greet(nc, from) })
	}
}

// source is the address that dials us, without its port.
func source(nc net.Conn) netip.Addr {
	if a, ok := nc.RemoteAddr().(*net.TCPAddr); ok {
		return a.AddrPort().Addr().Unmap()
	}
	return netip.Addr{}
}

// admit counts a new connection if there is room for it.
func (l *Listener) admit(from netip.Addr) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.open >= maxSwitches || l.handshakes >= maxHandshakes || l.from[from] >= maxFrom {
		return false
	}
	l.open++
	l.from[from]++
	l.handshakes++
	return true
}

// left counts the end of a connection.
func (l *Listener) left(from netip.Addr) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.open--
	if l.from[from]--; l.from[from] == 0 {
		delete(l.from, from)
	}
}

// greet shakes hands with a switch and offers the connection.
func (l *Listener) greet(nc net.Conn, from netip.Addr) {
	ctx, cancel := context.WithTimeout(l.ctx, l.dialer.Timeout)
	defer cancel()
	remote := nc.RemoteAddr()
	if l.target.Secure() {
		nc = tls.Server(nc, l.dialer.TLS.Server())
	}
	c, err := l.dialer.handshake(ctx, nc)
	l.mu.Lock()
	l.handshakes--
	l.mu.Unlock()
	if err != nil {
		l.left(from)
		if l.ctx.Err() == nil {
			l.refused(remote, fmt.Errorf("handshake: %w", err))
		}
		return
	}
	old := l.offer(c)
	go func() { // not in running: a claimed connection outlives the listener
		<-c.Done()
		l.withdraw(c)
		l.left(from)
	}()
	if old != nil {
		old.Close()
	}
}

// offer puts a connection where Dial finds it, and returns the one that
// waited there before.
func (l *Listener) offer(c *Conn) (old *Conn) {
	id := c.Features().DatapathID
	l.mu.Lock()
	defer l.mu.Unlock()
	old = l.waiting[id]
	l.waiting[id] = c
	close(l.changed)
	l.changed = make(chan struct{})
	return old
}

// withdraw forgets a connection that ended before anybody claimed it.
func (l *Listener) withdraw(c *Conn) {
	id := c.Features().DatapathID
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.waiting[id] == c {
		delete(l.waiting, id)
	}
}

// Package cut stands between a controller and a switch in tests and breaks
// their OpenFlow connection at a chosen message. It serves tests alone.
package cut

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
)

// Direction is the way that a message takes.
type Direction int

// The two directions of a connection.
const (
	ToSwitch Direction = iota
	ToController
)

func (d Direction) String() string {
	return [...]string{"to the switch", "to the controller"}[d]
}

// Kind says what happens at a fault's message.
type Kind int

// Kinds of faults.
const (
	// Before ends the connection instead of passing the message on.
	Before Kind = iota
	// Inside passes half of the message on and then ends the connection.
	Inside
	// Stall passes nothing on any more, in either direction, until the
	// controller leaves.
	Stall
	// Pass does nothing by itself: everything is passed on.
	Pass
)

func (k Kind) String() string { return [...]string{"cut before", "cut inside", "stall at", "pass"}[k] }

// Fault is what happens, and where.
type Fault struct {
	Direction Direction
	// Message counts the messages of the direction from 1, from when the
	// fault was armed.
	Message int
	Kind    Kind
	// Do, if set, is called when the message has come, before Kind happens:
	// it may kill either side.
	Do func()
}

func (f Fault) String() string {
	return fmt.Sprintf("%s message %d %s", f.Kind, f.Message, f.Direction)
}

// Proxy passes OpenFlow messages on between a Unix socket and a switch's
// management socket, one connection at a time or several.
type Proxy struct {
	listener net.Listener
	target   string // path of the switch's socket
	serving  sync.WaitGroup
	stop     context.CancelFunc
	ctx      context.Context

	mu    sync.Mutex
	fault *Fault
	seen  [2]int        // messages since the fault was armed
	hit   chan struct{} // closed when the fault's message has come
	shut  bool          // no new connections: the controller is dead
	open  map[*link]struct{}
}

// Listen starts a proxy on the socket at path for the switch whose socket is
// at target.
func Listen(path, target string) (*Proxy, error) {
	l, err := net.Listen("unix", path)
	if err != nil {
		return nil, fmt.Errorf("listen for a controller: %w", err)
	}
	p := &Proxy{listener: l, target: target, hit: make(chan struct{}), open: map[*link]struct{}{}}
	p.ctx, p.stop = context.WithCancel(context.Background())
	p.serving.Go(p.accept)
	return p, nil
}

// Close ends all connections and waits for their end.
func (p *Proxy) Close() error {
	err := p.listener.Close()
	p.stop()
	p.serving.Wait()
	return err
}

// Target is where a controller connects to, as a dialling target.
func (p *Proxy) Target() string { return "unix:" + p.listener.Addr().String() }

// Arm sets the fault and begins to count; it takes the place of an earlier
// one. After a fault no controller is let in until the next is armed: it is
// meant to be dead.
func (p *Proxy) Arm(f Fault) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.fault, p.seen, p.hit, p.shut = &f, [2]int{}, make(chan struct{}), false
}

// Disarm takes the armed fault back, and reports whether its message had not come
// yet: it does not happen any more.
func (p *Proxy) Disarm() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	armed := p.fault != nil
	p.fault = nil
	return armed
}

// Hit is closed when the message of the armed fault has come; Settled waits
// for what follows.
func (p *Proxy) Hit() <-chan struct{} {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.hit
}

// Settled waits until no connection is open any more. The switch has then
// read all that it was sent, and discarded what was not committed.
func (p *Proxy) Settled(ctx context.Context) error {
	p.mu.Lock()
	var open []*link
	for l := range p.open {
		open = append(open, l)
	}
	p.mu.Unlock()
	for _, l := range open {
		select {
		case <-l.ended:
		case <-ctx.Done():
			return fmt.Errorf("wait for the switch to see the end of a connection: %w", ctx.Err())
		}
	}
	return nil
}

func (p *Proxy) accept() {
	for {
		c, err := p.listener.Accept()
		if err != nil {
			return // closed
		}
		p.serving.Go(func() { p.serve(c.(*net.UnixConn)) })
	}
}

// link is one controller's connection through the proxy.
type link struct {
	sides [2]*net.UnixConn // by the direction that leads to it
	stop  chan struct{}    // closed when nothing passes any more
	once  sync.Once
	ended chan struct{}
}

func (p *Proxy) serve(controller *net.UnixConn) {
	defer controller.Close()
	p.mu.Lock()
	shut := p.shut
	p.mu.Unlock()
	if shut {
		return
	}
	sw, err := (&net.Dialer{}).DialContext(p.ctx, "unix", p.target)
	if err != nil {
		return
	}
	defer sw.Close()
	l := &link{sides: [2]*net.UnixConn{ToSwitch: sw.(*net.UnixConn), ToController: controller}, stop: make(chan struct{}), ended: make(chan struct{})}
	p.mu.Lock()
	p.open[l] = struct{}{}
	p.mu.Unlock()
	defer func() {
		p.mu.Lock()
		delete(p.open, l)
		p.mu.Unlock()
		close(l.ended)
	}()
	unblock := context.AfterFunc(p.ctx, func() { sw.Close(); controller.Close() })
	defer unblock()
	var both sync.WaitGroup
	for _, d := range []Direction{ToSwitch, ToController} {
		both.Go(func() { p.pass(l, d) })
	}
	both.Wait()
}

// pass passes one direction on until its end. Then the receiver is told, and
// what it still sends goes the other way: a switch ends its side only when it
// has read everything.
func (p *Proxy) pass(l *link, d Direction) {
	from, to := l.sides[1-d], l.sides[d]
	defer func() {
		_ = to.CloseWrite() // gone already is as good
		if d == ToController {
			to.Close()
		}
	}()
	for {
		m, err := readMessage(from)
		if err != nil {
			return
		}
		if f := p.count(d); f != nil {
			f.happen(l, to, m)
		}
		if l.stopped() {
			discard(from)
			return
		}
		if _, err := to.Write(m); err != nil {
			discard(from)
			return
		}
	}
}

// count counts a message and returns the fault if it is the one.
func (p *Proxy) count(d Direction) *Fault {
	p.mu.Lock()
	defer p.mu.Unlock()
	f := p.fault
	p.seen[d]++
	if f == nil || f.Direction != d || p.seen[d] != f.Message {
		return nil
	}
	p.fault, p.shut = nil, f.Kind != Pass
	close(p.hit)
	return f
}

// happen makes a fault happen to a link; m has not been passed on yet.
func (f *Fault) happen(l *link, to *net.UnixConn, m []byte) {
	if f.Do != nil {
		f.Do()
	}
	if f.Kind == Pass {
		return
	}
	l.once.Do(func() { close(l.stop) })
	if f.Kind == Inside {
		_, _ = to.Write(m[:len(m)/2]) // the receiver may be dead
	}
	if f.Kind != Stall {
		_ = l.sides[ToSwitch].CloseWrite()
		_ = l.sides[ToController].Close()
	}
}

// stopped reports whether nothing passes any more.
func (l *link) stopped() bool {
	select {
	case <-l.stop:
		return true
	default:
		return false
	}
}

// discard reads to the end.
func discard(c *net.UnixConn) { _, _ = io.Copy(io.Discard, c) }

// errLength says that a header announces less than its own length.
var errLength = errors.New("length below the header's own")

// readMessage reads one whole message (OpenFlow 1.4, section 7.1.1).
func readMessage(r io.Reader) ([]byte, error) {
	m := make([]byte, 8, 128)
	if _, err := io.ReadFull(r, m); err != nil {
		return nil, err
	}
	n := int(binary.BigEndian.Uint16(m[2:]))
	if n < len(m) {
		return nil, errLength
	}
	m = append(m, make([]byte, n-len(m))...)
	_, err := io.ReadFull(r, m[8:])
	return m, err
}

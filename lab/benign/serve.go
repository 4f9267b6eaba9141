package benign

import (
	"errors"
	"fmt"
	"net"
	"sync"
	"time"
)

// callLimit bounds the callers that a server has at once.
const callLimit = 256

// listener is a TCP server whose Close also ends its conversations.
type listener struct {
	net.Listener

	mu     sync.Mutex
	open   map[net.Conn]bool
	closed bool
}

// serveTCP lets handle talk to every caller at a node's port, once per
// service. The connection is closed after handle.
func (t *Traffic) serveTCP(service, node string, port uint16, handle func(net.Conn)) (peer, error) {
	p, err := t.peer(node, "tcp", port)
	if err != nil || !t.once(service, node) {
		return p, err
	}
	plain, err := t.stations[node].Listen(p.addr)
	if err != nil {
		return peer{}, fmt.Errorf("%s server: %w", service, err)
	}
	l := &listener{Listener: plain, open: map[net.Conn]bool{}}
	t.closers = append(t.closers, l)
	t.group.Go(func() error {
		for {
			c, err := l.Accept()
			switch {
			case errors.Is(err, net.ErrClosed):
				return nil
			case err != nil:
				time.Sleep(time.Millisecond) // out of descriptors: let some go
				continue
			}
			if l.add(c) {
				t.group.Go(func() error {
					defer l.end(c)
					handle(c)
					return nil
				})
			}
		}
	})
	return p, nil
}

// add lets a caller in, or closes the connection.
func (l *listener) add(c net.Conn) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed || len(l.open) >= callLimit {
		_ = c.Close()
		return false
	}
	l.open[c] = true
	return true
}

func (l *listener) end(c net.Conn) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.open, c)
	_ = c.Close()
}

// Close ends the server and its conversations.
func (l *listener) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.closed = true
	for c := range l.open {
		_ = c.Close()
	}
	return l.Listener.Close()
}

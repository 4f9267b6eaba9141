package intrusion

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"sync"
	"syscall"
	"time"

	"github.com/platelet-sdn/platelet/lab/agent"
)

const (
	// callTime is how long a caller may stay with a server of ours.
	callTime = 10 * time.Second
	// callLimit bounds the callers that a server of ours listens to at once.
	callLimit = 512
)

// servers are what an attack set up for itself, to be closed at its end.
type servers struct {
	stop []func()
}

// close ends all servers, and returns when none of their goroutines is left.
func (s *servers) close() {
	for _, stop := range s.stop {
		stop()
	}
	s.stop = nil
}

// listen listens at a station's port. Where somebody listens there already,
// that service is what gets attacked: then there is no listener and no error.
func listen(st *agent.Station, port uint16) (net.Listener, error) {
	l, err := st.Listen(at(st, port))
	if errors.Is(err, syscall.EADDRINUSE) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("serve port %d: %w", port, err)
	}
	return l, nil
}

// accept lets handle talk to every caller at a station's port until close.
// The connection is closed after handle, and has a deadline.
func (s *servers) accept(st *agent.Station, port uint16, handle func(net.Conn)) error {
	l, err := listen(st, port)
	if err != nil || l == nil {
		return err
	}
	calls := newCalls()
	var all sync.WaitGroup
	all.Go(func() {
		for {
			c, err := l.Accept()
			if errors.Is(err, net.ErrClosed) {
				return
			}
			if err != nil {
				time.Sleep(time.Millisecond) // out of descriptors: let some go
				continue
			}
			if !calls.add(c) {
				c.Close()
				continue
			}
			all.Go(func() {
				defer calls.end(c)
				_ = c.SetDeadline(time.Now().Add(callTime))
				handle(c)
			})
		}
	})
	s.stop = append(s.stop, func() {
		_ = l.Close()
		calls.close()
		all.Wait()
	})
	return nil
}

// calls are the open connections of a server.
type calls struct {
	mu     sync.Mutex
	open   map[net.Conn]bool
	closed bool
}

func newCalls() *calls { return &calls{open: map[net.Conn]bool{}} }

// add reports whether a caller may come in.
func (c *calls) add(conn net.Conn) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed || len(c.open) >= callLimit {
		return false
	}
	c.open[conn] = true
	return true
}

func (c *calls) end(conn net.Conn) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.open, conn)
	_ = conn.Close()
}

func (c *calls) close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closed = true
	for conn := range c.open {
		_ = conn.Close()
	}
}

// web serves HTTP at a station's port until close, over the listener that
// wrap makes of the plain one when it is not nil.
func (s *servers) web(st *agent.Station, port uint16, wrap func(net.Listener) net.Listener, h http.Handler) error {
	l, err := listen(st, port)
	if err != nil || l == nil {
		return err
	}
	if wrap != nil {
		l = wrap(l)
	}
	server := &http.Server{
		Handler: h, ReadHeaderTimeout: callTime, IdleTimeout: callTime, MaxHeaderBytes: 16 << 10,
		ErrorLog: silent(),
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = server.Serve(l) // until close
	}()
	s.stop = append(s.stop, func() {
		_ = server.Close()
		<-done
	})
	return nil
}

// browser is an HTTP client at a station that makes a new connection for
// every request, as the tools of intruders do. It follows no redirects.
func browser(st *agent.Station) *http.Client {
	return &http.Client{
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		Transport: &http.Transport{
			DisableKeepAlives: true,
			TLSClientConfig:   trusting(),
			DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
				return dial(ctx, st, network, addr)
			},
		},
	}
}

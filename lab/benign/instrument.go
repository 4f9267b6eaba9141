package benign

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/platelet-sdn/platelet/lab/benign/resolver"
)

// Names of what the default profile is made of.
const (
	pageName  = "page"
	probeName = "probe"
)

const (
	// probeEvery and requestEvery pace each client.
	probeEvery   = 10 * time.Millisecond
	requestEvery = 100 * time.Millisecond
	// pageSize is the size of a web page.
	pageSize = 16 << 10
)

// furnishInstrument sets the measuring instrument up: clients (role=client)
// fetch a page from the web server (app=web) and exchange numbered probes
// with the resolver (app=dns), at a pace that never changes.
func furnishInstrument(t *Traffic, _ float64) error {
	web, err := t.nodes("app=web")
	if err != nil {
		return err
	}
	dns, err := t.nodes("app=dns")
	if err != nil {
		return err
	}
	clients, err := t.nodes("role=client")
	if err != nil {
		return err
	}
	page, err := t.serveWeb(web[0])
	if err != nil {
		return err
	}
	echo, err := t.serveDNS(dns[0])
	if err != nil {
		return err
	}
	for _, node := range clients {
		if err := t.probe(node, echo); err != nil {
			return err
		}
		a, err := t.actor(pageName, node)
		if err != nil {
			return err
		}
		t.run(func(ctx context.Context) { a.fetchSteadily(ctx, page) })
	}
	return nil
}

// fetchSteadily fetches the page again and again, each time on a new
// connection, whatever becomes of the ones before.
func (a *actor) fetchSteadily(ctx context.Context, page peer) {
	client := a.browser(false)
	tick := time.NewTicker(requestEvery)
	defer tick.Stop()
	var pending sync.WaitGroup
	defer pending.Wait()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		pending.Go(func() {
			a.exchange(ctx, "request", page, patience, func(ctx context.Context) (int, error) {
				return get(ctx, client, page, "/", pageSize)
			})
		})
	}
}

// probe starts a client's numbered probes. They begin at once, with the
// socket: the echo is there before.
func (t *Traffic) probe(node string, echo peer) error {
	a, err := t.actor(probeName, node)
	if err != nil {
		return err
	}
	c, err := a.Dial(context.Background(), echo.proto, netip.AddrPort{}, echo.addr) // UDP: nothing to wait for
	if err != nil {
		return fmt.Errorf("probes from %s: %w", node, err)
	}
	t.closers = append(t.closers, c)
	p := &probes{actor: a, to: echo, conn: c, open: map[uint64]sent{}}
	t.probes = append(t.probes, p)
	t.run(p.send)
	t.run(func(context.Context) { p.receive() })
	return nil
}

// serveDNS starts the resolver at a node, which also sends every numbered
// probe back.
func (t *Traffic) serveDNS(node string) (peer, error) {
	return t.serveUDP("dns", node, resolver.Port, func(message []byte) []byte {
		if len(message) == probeSize {
			return message
		}
		reply, err := resolver.Answer(message)
		if err != nil {
			return nil
		}
		return reply
	})
}

// serveUDP answers datagrams at a node's port, once per service.
func (t *Traffic) serveUDP(service, node string, port uint16, answer func(message []byte) []byte) (peer, error) {
	p, err := t.peer(node, "udp", port)
	if err != nil || !t.once(service, node) {
		return p, err
	}
	c, err := t.stations[node].ListenUDP(p.addr)
	if err != nil {
		return peer{}, fmt.Errorf("%s server: %w", service, err)
	}
	t.closers = append(t.closers, c)
	t.group.Go(func() error {
		buf := make([]byte, 2048)
		for {
			n, from, err := c.ReadFrom(buf)
			switch {
			case errors.Is(err, net.ErrClosed):
				return nil
			case err != nil:
				continue
			}
			if reply := answer(buf[:n]); reply != nil {
				_, _ = c.WriteTo(reply, from) // lost, if it fails, and counted as lost
			}
		}
	})
	return p, nil
}

// ask sends a datagram and waits for one that is its answer.
func (a *actor) ask(ctx context.Context, to peer, question []byte, isAnswer func([]byte) bool) (int, error) {
	c, err := a.dial(ctx, to)
	if err != nil {
		return 0, err
	}
	defer c.Close()
	if _, err := c.Write(question); err != nil {
		return 0, err
	}
	buf := make([]byte, 2048)
	for {
		n, err := c.Read(buf)
		if err != nil {
			return 0, err
		}
		if isAnswer(buf[:n]) {
			return n, nil
		}
	}
}

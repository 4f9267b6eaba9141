// Package benign makes the lab's honest traffic: web requests and numbered
// probes, paced, between hosts that have nothing to do with an attack. What
// of it is lost is what containment, or the attack, cost the innocent.
package benign

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/platelet-sdn/platelet/lab/agent"
	"github.com/platelet-sdn/platelet/lab/runner"
	"golang.org/x/sync/errgroup"
)

const (
	// probeEvery and requestEvery pace each client.
	probeEvery   = 10 * time.Millisecond
	requestEvery = 100 * time.Millisecond
	// patience is how late an echo or a page may come and still count. It
	// is TCP's first timeout: a later page lost a packet.
	patience = time.Second
	// pageSize is the size of a web page.
	pageSize = 16 << 10
	// port is where probes are echoed; DNS's, so that they are plausible.
	port = "53"
)

// Traffic is honest traffic under way.
type Traffic struct {
	lab      *runner.Lab
	flows    []*probes
	requests atomic.Int64
	failed   atomic.Int64
	server   *http.Server
	group    *errgroup.Group
	cancel   context.CancelFunc
	closers  []io.Closer
}

// Loss is what got lost.
type Loss struct {
	ProbesSent, ProbesLost       int64
	RequestsSent, RequestsFailed int64
}

// Packets is the loss in packets: a failed request lost at least one.
func (l Loss) Packets() int64 { return l.ProbesLost + l.RequestsFailed }

// Sub is the loss since an earlier moment.
func (l Loss) Sub(before Loss) Loss {
	return Loss{
		ProbesSent: l.ProbesSent - before.ProbesSent, ProbesLost: l.ProbesLost - before.ProbesLost,
		RequestsSent: l.RequestsSent - before.RequestsSent, RequestsFailed: l.RequestsFailed - before.RequestsFailed,
	}
}

// Options say which honest traffic to make. The zero value is good.
type Options struct {
	// Profile is the mix of behaviours.
	Profile string
	// Seed makes what clients choose at random the same every time.
	Seed uint64
	// Truth gets a line per action; nil keeps none.
	Truth *agent.Truth
}

// Start starts honest traffic: clients (role=client) fetch pages from the
// web server (app=web) and exchange probes with the resolver (app=dns). It
// goes on until Stop.
func Start(ctx context.Context, lab *runner.Lab, _ Options) (*Traffic, error) {
	web, dns, clients := lab.Select("app", "web"), lab.Select("app", "dns"), lab.Select("role", "client")
	if len(web) == 0 || len(dns) == 0 || len(clients) == 0 {
		return nil, fmt.Errorf("lab %s: honest traffic needs nodes labelled app=web, app=dns and role=client", lab.Name())
	}
	ctx, cancel := context.WithCancel(ctx)
	t := &Traffic{lab: lab, cancel: cancel}
	t.group, ctx = errgroup.WithContext(ctx)
	page, err := t.serve(web[0])
	if err == nil {
		err = t.echo(dns[0])
	}
	for _, client := range clients {
		if err == nil {
			err = t.client(ctx, client, dns[0], page)
		}
	}
	if err != nil {
		return nil, errors.Join(err, t.Stop())
	}
	return t, nil
}

// serve starts the web server, and returns where its page is.
func (t *Traffic) serve(node string) (url string, err error) {
	addr, err := t.addr(node)
	if err != nil {
		return "", err
	}
	var l net.Listener
	if err := t.lab.Do(node, func() (err error) {
		l, err = net.Listen("tcp", net.JoinHostPort(addr, "80"))
		return err
	}); err != nil {
		return "", fmt.Errorf("web server: %w", err)
	}
	body := strings.Repeat("x", pageSize)
	t.server = &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, body) })}
	t.group.Go(func() error {
		if err := t.server.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			return fmt.Errorf("web server: %w", err)
		}
		return nil
	})
	return "http://" + addr + "/", nil
}

// echo starts the resolver's part: it sends every probe back.
func (t *Traffic) echo(node string) error {
	addr, err := t.addr(node)
	if err != nil {
		return err
	}
	var c net.PacketConn
	if err := t.lab.Do(node, func() (err error) {
		c, err = net.ListenPacket("udp", net.JoinHostPort(addr, port))
		return err
	}); err != nil {
		return fmt.Errorf("echo: %w", err)
	}
	t.closers = append(t.closers, c)
	t.group.Go(func() error {
		buf := make([]byte, 2048)
		for {
			n, from, err := c.ReadFrom(buf)
			if errors.Is(err, net.ErrClosed) {
				return nil
			}
			if err == nil {
				_, _ = c.WriteTo(buf[:n], from) // lost, if it fails, and counted as lost
			}
		}
	})
	return nil
}

// client starts one client's probes and requests.
func (t *Traffic) client(ctx context.Context, node, dns, page string) error {
	to, err := t.addr(dns)
	if err != nil {
		return err
	}
	var c net.Conn
	if err := t.lab.Do(node, func() (err error) {
		c, err = net.Dial("udp", net.JoinHostPort(to, port))
		return err
	}); err != nil {
		return fmt.Errorf("probes from %s: %w", node, err)
	}
	t.closers = append(t.closers, c)
	p := &probes{conn: c, open: map[uint64]time.Time{}}
	t.flows = append(t.flows, p)
	t.group.Go(func() error { p.send(ctx); return nil })
	t.group.Go(func() error { p.receive(); return nil })
	t.group.Go(func() error { t.fetch(ctx, node, page); return nil })
	return nil
}

// fetch fetches the page again and again, each time on a new connection.
func (t *Traffic) fetch(ctx context.Context, node, page string) {
	client := &http.Client{
		Timeout: patience,
		Transport: &http.Transport{
			DisableKeepAlives: true,
			DialContext: func(ctx context.Context, network, addr string) (c net.Conn, err error) {
				err = t.lab.Do(node, func() (err error) {
					c, err = (&net.Dialer{}).DialContext(ctx, network, addr)
					return err
				})
				return c, err
			},
		},
	}
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
		t.requests.Add(1)
		pending.Go(func() {
			if err := get(ctx, client, page); err != nil && ctx.Err() == nil {
				t.failed.Add(1)
			}
		})
	}
}

func get(ctx context.Context, client *http.Client, page string) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, page, nil)
	if err != nil {
		return err
	}
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	n, err := io.Copy(io.Discard, resp.Body)
	if err == nil && n != pageSize {
		err = io.ErrUnexpectedEOF
	}
	return err
}

// Loss waits until the fate of everything sent so far is known, and sums up
// what was lost since the start.
func (t *Traffic) Loss(ctx context.Context) (Loss, error) {
	select {
	case <-ctx.Done():
		return Loss{}, fmt.Errorf("honest traffic: %w", ctx.Err())
	case <-time.After(patience + patience/10):
	}
	l := Loss{RequestsSent: t.requests.Load(), RequestsFailed: t.failed.Load()}
	for _, p := range t.flows {
		sent, lost := p.count()
		l.ProbesSent += sent
		l.ProbesLost += lost
	}
	return l, nil
}

// Stop ends the traffic.
func (t *Traffic) Stop() error {
	t.cancel()
	var errs []error
	for _, c := range t.closers {
		errs = append(errs, c.Close())
	}
	if t.server != nil {
		errs = append(errs, t.server.Close())
	}
	errs = append(errs, t.group.Wait())
	return errors.Join(errs...)
}

func (t *Traffic) addr(node string) (string, error) {
	iface, err := t.lab.Interface(node)
	if err != nil {
		return "", err
	}
	p, err := t.lab.Addr(node, iface)
	if err != nil {
		return "", err
	}
	return p.Addr().String(), nil
}

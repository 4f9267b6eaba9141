package controller_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"
)

// Nobody who merely works may be contained. Each of these is real traffic
// through the real switch, under a controller that may act.

// load is honest traffic for as long as it takes to be taken for an attack.
const loadTime = 6 * time.Second

// unharmed runs traffic and fails when anything was contained.
func unharmed(t *testing.T, name string, traffic func(ctx context.Context, r *rig) string) {
	t.Helper()
	r := newRig(t, name)
	r.start(quick)
	ctx, cancel := context.WithTimeout(t.Context(), loadTime)
	defer cancel()
	t.Log(traffic(ctx, r))
	var status struct {
		Detector struct {
			Records uint64 `json:"records"`
		} `json:"detector"`
	}
	if err := r.get("status", &status); err != nil {
		t.Fatal(err)
	}
	if status.Detector.Records < 100 {
		t.Errorf("the detectors saw %d records only", status.Detector.Records)
	}
	for _, d := range r.decisions() {
		t.Errorf("contained: %s", pretty(d))
	}
	for _, f := range r.findings() {
		if f.State == "firing" {
			t.Errorf("a finding: %+v", f)
		}
	}
}

// denied is after how long a connection that nobody answers is given up where that
// is what is expected; served is so where an answer is, however busy the machine.
const (
	denied = time.Second
	served = 10 * time.Second
)

// dial connects from inside a node.
func (r *rig) dial(node, network, to string, within time.Duration) (c net.Conn, err error) {
	err = r.lab.Do(node, func() error {
		d := net.Dialer{Timeout: within}
		c, err = d.Dial(network, to)
		return err
	})
	return c, err
}

// serve answers on TCP inside a node: one page to a connection.
func (r *rig) serve(node string, port int) {
	r.t.Helper()
	var l net.Listener
	if err := r.lab.Do(node, func() (err error) {
		l, err = net.Listen("tcp", net.JoinHostPort(r.addr(node).String(), fmt.Sprint(port)))
		return err
	}); err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { l.Close() })
	page := make([]byte, 4096)
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				_ = c.SetDeadline(time.Now().Add(served))
				if _, err := c.Read(make([]byte, 512)); err == nil {
					_, _ = c.Write(page)
				}
			}()
		}
	}()
}

func TestBusyWebServerIsNotContained(t *testing.T) {
	unharmed(t, "plt-web", func(ctx context.Context, r *rig) string {
		r.serve("h1", 80)
		to := netip.AddrPortFrom(r.addr("h1"), 80).String()
		var done, failed atomic.Int64
		var clients sync.WaitGroup
		for _, node := range []string{"h3", "h4", "h5", "h6"} {
			for range 8 {
				clients.Go(func() {
					for ctx.Err() == nil {
						if err := r.fetch(node, to, served); err != nil {
							failed.Add(1)
							continue
						}
						done.Add(1)
					}
				})
			}
		}
		clients.Wait()
		if failed.Load() > done.Load()/100 {
			r.t.Errorf("%d of %d requests failed", failed.Load(), done.Load())
		}
		return fmt.Sprintf("%.0f connections/s", float64(done.Load())/loadTime.Seconds())
	})
}

// fetch gets a page, from a server that is to answer within a time.
func (r *rig) fetch(node, to string, within time.Duration) error {
	c, err := r.dial(node, "tcp", to, within)
	if err != nil {
		return err
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(served))
	if _, err := c.Write([]byte("GET / HTTP/1.0\r\n\r\n")); err != nil {
		return err
	}
	_, err = io.Copy(io.Discard, c)
	return err
}

func TestResolverIsNotContained(t *testing.T) {
	unharmed(t, "plt-dns", func(ctx context.Context, r *rig) string {
		var server net.PacketConn
		to := netip.AddrPortFrom(r.addr("h2"), 53).String()
		if err := r.lab.Do("h2", func() (err error) {
			server, err = net.ListenPacket("udp", to)
			return err
		}); err != nil {
			r.t.Fatal(err)
		}
		defer server.Close()
		go func() {
			buf := make([]byte, 2048)
			for {
				n, from, err := server.ReadFrom(buf)
				if err != nil {
					return
				}
				_, _ = server.WriteTo(buf[:n], from)
			}
		}()
		var answered atomic.Int64
		clients, cctx := errgroup.WithContext(ctx)
		for _, node := range []string{"h1", "h3", "h4", "h5", "h6"} {
			for range 8 {
				clients.Go(func() error { return r.query(cctx, node, to, &answered) })
			}
		}
		if err := clients.Wait(); err != nil {
			r.t.Error(err)
		}
		return fmt.Sprintf("%.0f queries/s", float64(answered.Load())/loadTime.Seconds())
	})
}

// query asks as fast as it is answered.
func (r *rig) query(ctx context.Context, node, to string, answered *atomic.Int64) error {
	c, err := r.dial(node, "udp", to, served)
	if err != nil {
		return err
	}
	defer c.Close()
	buf := make([]byte, 60)
	for ctx.Err() == nil {
		if _, err := c.Write(buf); err != nil {
			return err
		}
		_ = c.SetReadDeadline(time.Now().Add(time.Second))
		if _, err := c.Read(buf[:cap(buf)]); err == nil {
			answered.Add(1)
		}
	}
	return nil
}

// A monitor asks every host of the lab over and over: some services are there,
// some are not, one host does not exist.
func TestMonitorIsNotContained(t *testing.T) {
	unharmed(t, "plt-mon", func(ctx context.Context, r *rig) string {
		hosts := []string{"h1", "h2", "h4", "h5", "h6"}
		for _, h := range hosts {
			r.serve(h, 80)
			r.serve(h, 9100)
		}
		rounds, asked := 0, 0
		for ctx.Err() == nil {
			rounds++
			var all sync.WaitGroup
			for _, h := range hosts {
				for _, port := range []uint16{80, 9100} {
					asked++
					to := netip.AddrPortFrom(r.addr(h), port).String()
					all.Go(func() {
						if err := r.fetch("h3", to, served); err != nil {
							r.t.Errorf("poll of %s: %v", to, err)
						}
					})
				}
				if rounds%4 == 0 {
					all.Go(func() { r.reaches("h3", r.addr(h)) })
				}
			}
			// A service that is down, and a host that is.
			all.Go(func() { _ = r.fetch("h3", netip.AddrPortFrom(r.addr("h1"), 443).String(), denied) })
			all.Go(func() { _ = r.fetch("h3", "10.77.0.99:9100", denied) })
			all.Wait()
		}
		return fmt.Sprintf("%d rounds, %d polls", rounds, asked)
	})
}

func TestFileTransferIsNotContained(t *testing.T) {
	unharmed(t, "plt-file", func(ctx context.Context, r *rig) string {
		stop := r.background("h1", "iperf3", "-s", "-1", "-B", r.addr("h1").String())
		defer stop()
		var out string
		var err error
		r.await("the server", func() bool {
			out, err = r.in("h3", "iperf3", "-c", r.addr("h1").String(), "-t", "5", "-f", "m")
			return err == nil
		})
		return out
	})
}

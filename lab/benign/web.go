package benign

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strconv"
	"time"

	"github.com/platelet-sdn/platelet/lab/agent"
)

const (
	webPort = 80
	// Sizes of what people fetch, in octets, and how long they think.
	pageMedian, objectMedian = 20 << 10, 8 << 10
	objectMost               = 256 << 10
	objectsMost              = 4
	thinkMedian              = 0.8 // seconds
	thinkLeast, thinkMost    = 0.05, 5
	// downloadMost bounds what the server gives at once, in octets.
	downloadMost = 16 << 20
	// serverTime bounds how long a caller may stay.
	serverTime = 30 * time.Second
	// chunk is the step in which transfers are paced, in octets.
	chunk = 16 << 10
)

// serveWeb starts the web server at a node, once. It has a page at /, and at
// /get any number of octets (n), at a rate in bits per second (rate) when
// that is asked for.
func (t *Traffic) serveWeb(node string) (peer, error) {
	p, err := t.peer(node, "tcp", webPort)
	if err != nil || !t.once("web", node) {
		return p, err
	}
	l, err := t.stations[node].Listen(p.addr)
	if err != nil {
		return peer{}, fmt.Errorf("web server: %w", err)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, r *http.Request) { give(w, r, pageSize, 0) })
	mux.HandleFunc("GET /get", func(w http.ResponseWriter, r *http.Request) {
		n, err := strconv.Atoi(r.FormValue("n"))
		if err != nil || n < 0 || n > downloadMost {
			http.Error(w, "how many octets?", http.StatusBadRequest)
			return
		}
		rate, _ := strconv.ParseFloat(r.FormValue("rate"), 64) // as fast as it can where it says none
		give(w, r, n, rate)
	})
	server := &http.Server{Handler: mux, ReadHeaderTimeout: serverTime, WriteTimeout: serverTime, IdleTimeout: serverTime}
	t.closers = append(t.closers, server)
	t.group.Go(func() error {
		if err := server.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			return fmt.Errorf("web server: %w", err)
		}
		return nil
	})
	return p, nil
}

// give writes so many octets.
func give(w http.ResponseWriter, r *http.Request, n int, rate float64) {
	w.Header().Set("Content-Length", strconv.Itoa(n))
	w.Header().Set("Content-Type", "application/octet-stream")
	_ = pour(r.Context(), w, n, rate) // the caller sees what is missing
}

// pour writes so many octets, at a rate in bits per second when it is
// positive.
func pour(ctx context.Context, w io.Writer, n int, rate float64) error {
	buf := make([]byte, min(n, chunk))
	start, done := time.Now(), 0
	for done < n {
		if rate > 0 {
			due := start.Add(time.Duration(float64(done) * 8 / rate * float64(time.Second)))
			if err := agent.Wait(ctx, time.Until(due)); err != nil {
				return err
			}
		}
		k, err := w.Write(buf[:min(len(buf), n-done)])
		if done += k; err != nil {
			return err
		}
	}
	return nil
}

// browser is an HTTP client at a node, which may keep connections.
func (a *actor) browser(keep bool) *http.Client {
	return &http.Client{Transport: &http.Transport{
		DisableKeepAlives: !keep, IdleConnTimeout: 2 * time.Second, MaxIdleConnsPerHost: 2,
		DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
			to, err := netip.ParseAddrPort(addr)
			if err != nil {
				return nil, err
			}
			return a.Dial(ctx, network, netip.AddrPort{}, to)
		},
	}}
}

// get fetches what must have so many octets.
func get(ctx context.Context, client *http.Client, from peer, path string, size int) (int, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+from.addr.String()+path, nil)
	if err != nil {
		return 0, err
	}
	resp, err := client.Do(req)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	n, err := io.Copy(io.Discard, resp.Body)
	if err == nil && n != int64(size) {
		err = io.ErrUnexpectedEOF
	}
	return int(n), err
}

// furnishWeb lets clients (role=client) visit the web servers (app=web) as
// people do: a page, what belongs to it over the same connection, and then
// they think.
func furnishWeb(t *Traffic, pace float64) error {
	servers, err := t.nodes("app=web")
	if err != nil {
		return err
	}
	clients, err := t.nodes("role=client")
	if err != nil {
		return err
	}
	var pages []peer
	for _, node := range servers {
		p, err := t.serveWeb(node)
		if err != nil {
			return err
		}
		pages = append(pages, p)
	}
	for _, node := range clients {
		a, err := t.actor("web", node)
		if err != nil {
			return err
		}
		client := a.browser(true)
		think := func() time.Duration {
			return time.Duration(a.logNormal(thinkMedian, 0.8, thinkLeast, thinkMost) / pace * float64(time.Second))
		}
		t.run(func(ctx context.Context) {
			defer client.CloseIdleConnections()
			a.every(ctx, think, func() { a.visit(ctx, client, pages[a.rand.IntN(len(pages))]) })
		})
	}
	return nil
}

// visit fetches a page and what belongs to it.
func (a *actor) visit(ctx context.Context, client *http.Client, page peer) {
	sizes := []int{int(a.logNormal(pageMedian, 0.8, 1<<10, objectMost))}
	for range a.rand.IntN(objectsMost + 1) {
		sizes = append(sizes, int(a.logNormal(objectMedian, 1, 256, objectMost)))
	}
	a.exchange(ctx, "visit", page, patience, func(ctx context.Context) (total int, err error) {
		for _, size := range sizes {
			n, err := get(ctx, client, page, "/get?n="+strconv.Itoa(size), size)
			if total += n; err != nil {
				return total, err
			}
		}
		return total, nil
	})
}

const (
	// An update: so many octets for everybody, at so many bits per second
	// each, about so often.
	updateSize    = 768 << 10
	updateRate    = 6e6
	updateEvery   = 8 * time.Second
	updateClients = 8
)

// furnishUpdate lets up to eight clients (role=client) download the same
// update at once from app=update, or the web server, every few seconds.
func furnishUpdate(t *Traffic, pace float64) error {
	servers, err := t.nodes("app=update", "app=web")
	if err != nil {
		return err
	}
	clients, err := t.nodes("role=client")
	if err != nil {
		return err
	}
	from, err := t.serveWeb(servers[0])
	if err != nil {
		return err
	}
	path := fmt.Sprintf("/get?n=%d&rate=%.0f", updateSize, updateRate)
	took := time.Duration(updateSize * 8 / updateRate * float64(time.Second))
	period := time.Duration(float64(updateEvery) / pace)
	for _, node := range clients[:min(len(clients), updateClients)] {
		a, err := t.actor("update", node)
		if err != nil {
			return err
		}
		client := a.browser(false)
		t.run(func(ctx context.Context) {
			// All at once: by the clock, not by chance.
			for at := time.Now().Add(period / 4); agent.Wait(ctx, time.Until(at)) == nil; at = at.Add(period) {
				a.exchange(ctx, "download", from, took+patience, func(ctx context.Context) (int, error) {
					return get(ctx, client, from, path, updateSize)
				})
			}
		})
	}
	return nil
}

package benign

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/platelet-sdn/platelet/lab/agent"
	"golang.org/x/net/icmp"
	"golang.org/x/net/ipv4"
)

const (
	metricsPort = 9100 // Prometheus node exporter's
	snmpPort    = 161
	// monitorRound is how long a round over all hosts takes; each is polled
	// in one way per round.
	monitorRound = 3 * time.Second
	monitorHosts = 32
	metricsSize  = 4 << 10
	pingSize     = 56
)

// furnishMonitor lets app=monitor, or the gateway, poll up to 32 hosts: by
// ping, by fetching metrics over TCP, and by SNMP, in turns.
func furnishMonitor(t *Traffic, pace float64) error {
	monitors, err := t.nodes("app=monitor", "role=gateway")
	if err != nil {
		return err
	}
	all, err := t.hosts()
	if err != nil {
		return err
	}
	a, err := t.actor("monitor", monitors[0])
	if err != nil {
		return err
	}
	ping, err := newPinger(a.Station)
	if err != nil {
		return err
	}
	t.closers = append(t.closers, ping)
	t.group.Go(func() error { ping.receive(); return nil })
	var polls []func(ctx context.Context, round int)
	for _, node := range all {
		if node == a.Node || len(polls) == monitorHosts {
			continue
		}
		poll, err := a.poller(ping, node)
		if err != nil {
			return err
		}
		polls = append(polls, poll)
	}
	if len(polls) == 0 {
		return &lackError{[]string{"anything besides the monitor"}}
	}
	gap := time.Duration(float64(monitorRound) / pace / float64(len(polls)))
	t.run(func(ctx context.Context) {
		var open sync.WaitGroup
		defer open.Wait()
		for n := 0; agent.Wait(ctx, gap) == nil; n++ {
			open.Go(func() { polls[n%len(polls)](ctx, n/len(polls)+n%len(polls)) })
		}
	})
	return nil
}

// poller puts what is polled on a host, and returns how to poll it; the round
// says in which way.
func (a *actor) poller(ping *pinger, node string) (func(ctx context.Context, round int), error) {
	metrics, err := a.serveTCP("metrics", node, metricsPort, tellMetrics)
	if err != nil {
		return nil, err
	}
	snmp, err := a.serveUDP("snmp", node, snmpPort, tellUptime)
	if err != nil {
		return nil, err
	}
	echo := peer{node, netip.AddrPortFrom(metrics.addr.Addr(), 0), "icmp"}
	return func(ctx context.Context, round int) {
		switch round % 3 {
		case 0:
			a.exchange(ctx, "ping", echo, patience, func(ctx context.Context) (int, error) { return pingSize, ping.ping(ctx, echo.addr.Addr()) })
		case 1:
			a.exchange(ctx, "poll", metrics, patience, func(ctx context.Context) (int, error) { return a.fetchMetrics(ctx, metrics) })
		case 2:
			a.exchange(ctx, "poll", snmp, patience, func(ctx context.Context) (int, error) {
				return a.ask(ctx, snmp, askUptime(uint16(round)), func(b []byte) bool { return isUptime(b, uint16(round)) })
			})
		}
	}, nil
}

// fetchMetrics reads what a host tells of itself over TCP.
func (a *actor) fetchMetrics(ctx context.Context, from peer) (int, error) {
	c, err := a.dial(ctx, from)
	if err != nil {
		return 0, err
	}
	defer c.Close()
	if _, err := io.WriteString(c, "GET /metrics HTTP/1.0\r\n\r\n"); err != nil {
		return 0, err
	}
	n, err := io.Copy(io.Discard, c)
	if err == nil && n < metricsSize {
		err = io.ErrUnexpectedEOF
	}
	return int(n), err
}

// tellMetrics answers one request.
func tellMetrics(c net.Conn) {
	_ = c.SetDeadline(time.Now().Add(patience))
	buf := make([]byte, 512)
	if _, err := c.Read(buf); err != nil {
		return
	}
	_, _ = fmt.Fprintf(c, "HTTP/1.0 200 OK\r\nContent-Length: %d\r\n\r\n", metricsSize)
	_, _ = c.Write(make([]byte, metricsSize))
}

// askUptime is an SNMPv2c get of sysUpTime.0 (RFC 3416) with a request
// number, and tellUptime answers it. Both are BER of fixed form.
func askUptime(number uint16) []byte { return snmpMessage(0xa0, number, []byte{0x05, 0x00}) }

func tellUptime(q []byte) []byte {
	if len(q) < snmpNumberAt+2 || q[0] != 0x30 || q[snmpKindAt] != 0xa0 {
		return nil
	}
	ticks := []byte{0x43, 0x04, 0x00, 0x01, 0x02, 0x03}
	return snmpMessage(0xa2, uint16(q[snmpNumberAt])<<8|uint16(q[snmpNumberAt+1]), ticks)
}

func isUptime(b []byte, number uint16) bool {
	return len(b) >= snmpNumberAt+2 && b[snmpKindAt] == 0xa2 && b[snmpNumberAt] == byte(number>>8) && b[snmpNumberAt+1] == byte(number)
}

const (
	// Where the kind of message and the request number are.
	snmpKindAt   = 13
	snmpNumberAt = 18
)

// snmpMessage makes a message of SNMPv2c, community public, about
// sysUpTime.0 with a value.
func snmpMessage(kind byte, number uint16, value []byte) []byte {
	nest := func(tag byte, content ...byte) []byte { return append([]byte{tag, byte(len(content))}, content...) }
	name := nest(0x06, 0x2b, 6, 1, 2, 1, 1, 3, 0)
	bindings := nest(0x30, nest(0x30, append(name, value...)...)...)
	request := []byte{0x02, 0x03, 0x01, byte(number >> 8), byte(number), 0x02, 0x01, 0x00, 0x02, 0x01, 0x00}
	message := append([]byte{0x02, 0x01, 0x01, 0x04, 0x06}, "public"...)
	return nest(0x30, append(message, nest(kind, append(request, bindings...)...)...)...)
}

// pinger sends echo requests from a node, and tells who answered.
type pinger struct {
	conn  net.PacketConn
	fence *agent.Fence

	mu   sync.Mutex
	next uint16
	open map[uint16]chan struct{}
}

// pingID tells our echoes from others.
const pingID = 0x5eed

func newPinger(st *agent.Station) (*pinger, error) {
	p := &pinger{fence: st.Fence, open: map[uint16]chan struct{}{}}
	err := st.Do(func() (err error) {
		p.conn, err = net.ListenPacket("ip4:icmp", st.Addr().String())
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("ping: %w", err)
	}
	return p, nil
}

// ping sends one request and waits for its answer.
func (p *pinger) ping(ctx context.Context, to netip.Addr) error {
	if err := p.fence.Check(to); err != nil {
		return err
	}
	back := make(chan struct{})
	p.mu.Lock()
	p.next++
	n := p.next
	p.open[n] = back
	p.mu.Unlock()
	defer func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		delete(p.open, n)
	}()
	m := icmp.Message{Type: ipv4.ICMPTypeEcho, Body: &icmp.Echo{ID: pingID, Seq: int(n), Data: make([]byte, pingSize)}}
	b, err := m.Marshal(nil)
	if err != nil {
		return fmt.Errorf("ping: %w", err)
	}
	if _, err := p.conn.WriteTo(b, &net.IPAddr{IP: to.AsSlice()}); err != nil {
		return err
	}
	select {
	case <-back:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// receive takes answers until the socket is closed.
func (p *pinger) receive() {
	buf := make([]byte, 1500)
	for {
		n, _, err := p.conn.ReadFrom(buf)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			continue
		}
		m, err := icmp.ParseMessage(ipv4.ICMPTypeEcho.Protocol(), buf[:n])
		if err != nil || m.Type != ipv4.ICMPTypeEchoReply {
			continue
		}
		if e, ok := m.Body.(*icmp.Echo); ok && e.ID == pingID {
			p.answered(uint16(e.Seq))
		}
	}
}

// answered wakes who waits for an answer; one that comes twice wakes nobody.
func (p *pinger) answered(n uint16) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if back := p.open[n]; back != nil {
		close(back)
		delete(p.open, n)
	}
}

// Close closes the socket.
func (p *pinger) Close() error { return p.conn.Close() }

package benign

import (
	"context"
	"encoding/binary"
	"errors"
	"net"
	"sync"
	"time"

	"github.com/platelet-sdn/platelet/lab/agent"
)

// probeSize is the size of a numbered probe in octets; no DNS message is that
// short.
const probeSize = 16

// probes is a paced flow of numbered datagrams that come back.
type probes struct {
	*actor
	to   peer
	conn net.Conn

	mu      sync.Mutex
	next    uint64
	open    map[uint64]sent // not yet back
	lost    int64           // given up
	seconds []*second       // whose fate is not yet known, in order
}

// sent is a probe that is under way.
type sent struct {
	at time.Time
	in *second
}

// second is what was sent in one second, or in less where it was cut short.
type second struct {
	start, end time.Time
	entry      *entry
	sent       int
	open       int
	lost       int
}

// send sends until the context ends.
func (p *probes) send(ctx context.Context) {
	tick := time.NewTicker(probeEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		var b [probeSize]byte
		now := time.Now()
		p.mu.Lock()
		p.next++
		binary.BigEndian.PutUint64(b[:], p.next)
		s := p.second(now)
		s.sent++
		s.open++
		p.open[p.next] = sent{now, s}
		p.giveUp(now)
		p.settle(now)
		p.mu.Unlock()
		_, _ = p.conn.Write(b[:]) // never sent is lost, too
	}
}

// second is the one that a moment belongs to. The caller holds the lock.
func (p *probes) second(now time.Time) *second {
	if n := len(p.seconds); n > 0 && now.Before(p.seconds[n-1].end) {
		return p.seconds[n-1]
	}
	s := &second{start: now, end: now.Add(time.Second), entry: p.ledger.begin(now)}
	p.seconds = append(p.seconds, s)
	return s
}

// receive takes the echoes until the socket is closed.
func (p *probes) receive() {
	var b [64]byte
	for {
		n, err := p.conn.Read(b[:])
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil || n < 8 {
			continue // such as a port unreachable before the resolver is up
		}
		p.mu.Lock()
		number := binary.BigEndian.Uint64(b[:])
		if s, ok := p.open[number]; ok {
			delete(p.open, number)
			s.in.open--
		}
		p.mu.Unlock()
	}
}

// giveUp counts as lost what has waited too long. The caller holds the lock.
func (p *probes) giveUp(now time.Time) {
	for n, s := range p.open {
		if now.Sub(s.at) > patience {
			delete(p.open, n)
			p.lost++
			s.in.lost++
			s.in.open--
		}
	}
}

// settle makes flows of the seconds that are over and whose probes all have
// met their fate. The caller holds the lock.
func (p *probes) settle(now time.Time) {
	for len(p.seconds) > 0 {
		s := p.seconds[0]
		if now.Before(s.end) || s.open > 0 {
			return
		}
		p.seconds = p.seconds[1:]
		p.ledger.end(s.entry, Flow{
			Behaviour: p.behaviour, Client: p.Node, Server: p.to.node, Start: s.start, End: s.end, Harmed: s.lost > 0, Lost: s.lost,
		})
		p.options.Truth.Record(agent.Action{
			Time: s.start, Agent: p.Node, Role: agent.Benign, Behaviour: p.behaviour, Action: "probes", From: p.Addr(), To: p.to.addr.Addr(),
			Proto: p.to.proto, Port: p.to.addr.Port(), Packets: uint64(s.sent), Bytes: uint64(s.sent) * probeSize, Seconds: s.end.Sub(s.start).Seconds(),
		})
	}
}

// cut ends the second that is under way, so that its fate is known sooner.
func (p *probes) cut(now time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if n := len(p.seconds); n > 0 && now.Before(p.seconds[n-1].end) {
		p.seconds[n-1].end = now
	}
}

// count tells how many probes were sent and lost.
func (p *probes) count() (sent, lost int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.giveUp(time.Now())
	return int64(p.next), p.lost
}

package benign

import (
	"context"
	"encoding/binary"
	"errors"
	"net"
	"sync"
	"time"
)

// probes is a paced flow of numbered datagrams that come back.
type probes struct {
	conn net.Conn

	mu   sync.Mutex
	next uint64
	open map[uint64]time.Time // sent, not yet back
	lost int64                // given up
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
		var b [16]byte
		p.mu.Lock()
		p.next++
		binary.BigEndian.PutUint64(b[:], p.next)
		p.open[p.next] = time.Now()
		p.giveUp()
		p.mu.Unlock()
		_, _ = p.conn.Write(b[:]) // never sent is lost, too
	}
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
		delete(p.open, binary.BigEndian.Uint64(b[:]))
		p.mu.Unlock()
	}
}

// giveUp counts as lost what has waited too long. The caller holds the lock.
func (p *probes) giveUp() {
	for n, sent := range p.open {
		if time.Since(sent) > patience {
			delete(p.open, n)
			p.lost++
		}
	}
}

// count tells how many probes were sent and lost.
func (p *probes) count() (sent, lost int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.giveUp()
	return int64(p.next), p.lost
}

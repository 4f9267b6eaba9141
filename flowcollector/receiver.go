package flowcollector

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"runtime"
	"time"

	"golang.org/x/sys/unix"

	"github.com/platelet-sdn/platelet/flowcollector/flow"
	"github.com/platelet-sdn/platelet/flowcollector/netflow"
	"github.com/platelet-sdn/platelet/flowcollector/sflow"
)

const (
	// tickInterval is shorter than what Config.Tick promises by what it takes
	// to wake up on a busy machine.
	tickInterval = 1500 * time.Microsecond
	// flushRecords is when records are handed on in the middle of a batch
	// of datagrams: it keeps them within the processor's caches.
	flushRecords = 512
	// busyRate, in datagrams per second over at least busySample of them, is
	// from when the thread sleeps for pause instead of being woken by each
	// datagram. The sender of a datagram pays for the wake-up, and on a switch
	// that sends one for every packet of a flood that is a third of its time.
	busyRate   = 8_000
	busySample = 16
	pause      = 300 * time.Microsecond
)

// decodeFunc appends the records of a datagram.
type decodeFunc func(dst []flow.Record, datagram []byte, at int64, from netip.AddrPort) ([]flow.Record, error)

// receiver is the thread of one socket.
type receiver struct {
	listener *listener
	batch    *batch
	peers    peers
	handle   func([]flow.Record)
	tick     func(int64) // nil for all but one receiver
	counters *counters
	decode   decodeFunc
	// publish adds to counters what the decoder has counted since the last
	// call.
	publish func()

	records  []flow.Record
	drops    uint32 // the socket's counter, which wraps
	nextTick int64  // Unix nanoseconds
	emptied  int64  // when the socket was last empty, Unix nanoseconds
	since    int    // datagrams since then
}

// newReceiver returns the receiver of a listener. The first one ticks.
func (c *Collector) newReceiver(l *listener, first bool) *receiver {
	r := &receiver{
		listener: l,
		batch:    newBatch(),
		peers:    c.peers,
		handle:   c.cfg.Handle,
		records:  make([]flow.Record, 0, 2*flushRecords),
	}
	if first {
		r.tick = c.cfg.Tick
	}
	if l.protocol == ProtocolSFlow {
		r.counters = &c.sflow
		c.decodeSFlow(r)
	} else {
		r.counters = &c.ipfix
		c.decodeIPFIX(r)
	}
	return r
}

func (c *Collector) decodeSFlow(r *receiver) {
	d := sflow.NewDecoder(sflow.Config{Counters: c.cfg.Counters})
	r.decode = func(dst []flow.Record, b []byte, at int64, from netip.AddrPort) ([]flow.Record, error) {
		return d.Decode(dst, b, at, from.Addr())
	}
	var last sflow.Counts
	r.publish = func() {
		now := d.Counts()
		r.counters.lost.Add(now.Lost - last.Lost)
		r.counters.headerless.Add(now.Headerless - last.Headerless)
		r.counters.unparsed.Add(now.Unparsed - last.Unparsed)
		last = now
	}
}

func (c *Collector) decodeIPFIX(r *receiver) {
	d := netflow.NewDecoder(netflow.Config{
		Templates:  c.templates,
		SkipEgress: c.cfg.SkipEgress,
		Interface:  c.cfg.Interface,
		Unknown: func(e flow.Exporter, set uint16) {
			r.counters.unknown.Add(1)
			r.counters.unknownBy.add(unknownKey{exporter: e, set: set})
		},
	})
	r.decode = d.Decode
	var last netflow.Counts
	r.publish = func() {
		now := d.Counts()
		r.counters.lost.Add(now.Lost - last.Lost)
		r.counters.egress.Add(now.Egress - last.Egress)
		last = now
	}
}

// run receives until the listener is woken.
func (r *receiver) run(ctx context.Context) error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	for ctx.Err() == nil {
		n, err := r.batch.receive(r.listener.fd)
		now := time.Now().UnixNano()
		switch {
		case err == nil:
			r.datagrams(n, now)
			r.since += n
		case errors.Is(err, unix.EAGAIN):
			stop, err := r.idle(now)
			if err != nil {
				return fmt.Errorf("wait for %s on %v: %w", r.listener.protocol, r.listener.address, err)
			}
			if stop {
				return nil
			}
			now = time.Now().UnixNano()
		case errors.Is(err, unix.EINTR):
		default:
			return fmt.Errorf("receive %s on %v: %w", r.listener.protocol, r.listener.address, err)
		}
		r.tickIfDue(now)
	}
	return nil
}

// idle waits for more, with the socket empty: for the next datagram, or while
// they come fast for a fixed moment.
func (r *receiver) idle(now int64) (stop bool, err error) {
	busy := r.since >= busySample && int64(r.since)*int64(time.Second) > busyRate*(now-r.emptied)
	r.emptied, r.since = now, 0
	if busy {
		return r.listener.pause(pause)
	}
	return r.listener.wait(r.timeout(now))
}

func (r *receiver) tickIfDue(now int64) {
	// Wall-clock time may be set back; the tick must not wait for it.
	if r.tick == nil || now < r.nextTick && r.nextTick-now <= int64(tickInterval) {
		return
	}
	r.nextTick = now + int64(tickInterval)
	r.tick(now)
}

// timeout is how long to wait for datagrams: until the next tick, if any.
func (r *receiver) timeout(now int64) time.Duration {
	if r.tick == nil {
		return -1
	}
	return min(max(time.Duration(r.nextTick-now), 0), tickInterval)
}

// datagrams decodes the first n datagrams of the batch.
func (r *receiver) datagrams(n int, now int64) {
	var bytes, refused uint64
	for i := range n {
		data, from, whole := r.batch.datagram(i)
		bytes += uint64(len(data))
		if !r.peers.allow(from.Addr()) {
			refused++
			continue
		}
		if !whole {
			r.malformed(from.Addr(), KindTruncated)
			continue
		}
		var err error
		if r.records, err = r.decode(r.records, data, now, from); err != nil {
			r.malformed(from.Addr(), kind(err))
		}
		if len(r.records) >= flushRecords {
			r.flush()
		}
	}
	r.flush()
	r.counters.datagrams.Add(uint64(n))
	r.counters.bytes.Add(bytes)
	if refused > 0 {
		r.counters.refused.Add(refused)
	}
	r.publish()
	if drops, ok := r.batch.overflow(n - 1); ok && drops != r.drops {
		more := uint64(drops - r.drops)
		r.drops = drops
		r.listener.drops.Add(more)
		r.counters.kernelDrops.Add(more)
	}
}

func (r *receiver) malformed(from netip.Addr, kind string) {
	r.counters.malformed.Add(1)
	r.counters.malformedBy.add(malformedKey{exporter: from, kind: kind})
}

// kind returns the label of a decoder's error.
func kind(err error) string {
	if e := (*netflow.Error)(nil); errors.As(err, &e) {
		return e.Kind
	}
	if e := (*sflow.Error)(nil); errors.As(err, &e) {
		return e.Kind
	}
	return "other"
}

func (r *receiver) flush() {
	if len(r.records) == 0 {
		return
	}
	r.counters.records.Add(uint64(len(r.records)))
	r.handle(r.records)
	r.records = r.records[:0]
}

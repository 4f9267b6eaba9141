package replay

import (
	"container/heap"
	"errors"
	"io"
	"math"

	"github.com/platelet-sdn/platelet/flowcollector/flow"
)

// decoder turns one input into records, in the order of the input.
type decoder interface {
	// next appends the records of the next line or packet to batch; there
	// may be none. A *Fault means that this one could not be read but more
	// may follow; io.EOF ends the input, any other error breaks it.
	next(batch []flow.Record) ([]flow.Record, error)
}

// orderer brings the records of one input into order by time. Monitors log a
// connection when it ends, hours after it began, so a log is sorted by neither.
// As long as its records fit in the window they are sorted exactly.
type orderer struct {
	src    decoder
	window int

	pending pending
	batch   []flow.Record
	eof     bool
	last    int64
	late    int64
}

func newOrderer(src decoder, window int) *orderer {
	return &orderer{src: src, window: window, last: math.MinInt64}
}

// read sets rec to the next record in order of time; records of equal time keep
// the order of the input.
func (o *orderer) read(rec *flow.Record, fault func(*Fault)) error {
	if err := o.fill(fault); err != nil {
		return err
	}
	if len(o.pending.keys) == 0 {
		return io.EOF
	}
	o.pending.pop(rec)
	if rec.Time < o.last {
		rec.Time = o.last
		o.late++
	}
	o.last = rec.Time
	return nil
}

// fill reads until the window is full or the input ends.
func (o *orderer) fill(fault func(*Fault)) error {
	for !o.eof && len(o.pending.keys) < o.window {
		var err error
		o.batch, err = o.src.next(o.batch[:0])
		for i := range o.batch {
			o.pending.push(&o.batch[i])
		}
		var f *Fault
		switch {
		case err == nil:
		case errors.Is(err, io.EOF):
			o.eof = true
		case errors.As(err, &f):
			fault(f)
		default:
			return err
		}
	}
	return nil
}

// pending is a heap of records by time. The records stay where they are, since
// they are ten times the size of what the heap has to move.
type pending struct {
	keys []pendingKey
	slab []flow.Record
	free []uint32
	seq  uint64
}

type pendingKey struct {
	time int64
	seq  uint64
	slot uint32
}

func (p *pending) push(rec *flow.Record) {
	var slot uint32
	if n := len(p.free); n > 0 {
		slot, p.free = p.free[n-1], p.free[:n-1]
		p.slab[slot] = *rec
	} else {
		slot = uint32(len(p.slab))
		p.slab = append(p.slab, *rec)
	}
	p.seq++
	heap.Push((*keyHeap)(&p.keys), pendingKey{rec.Time, p.seq, slot})
}

func (p *pending) pop(rec *flow.Record) {
	k := heap.Pop((*keyHeap)(&p.keys)).(pendingKey)
	*rec = p.slab[k.slot]
	p.free = append(p.free, k.slot)
}

// keyHeap implements heap.Interface.
type keyHeap []pendingKey

func (h keyHeap) Len() int      { return len(h) }
func (h keyHeap) Swap(i, j int) { h[i], h[j] = h[j], h[i] }
func (h keyHeap) Less(i, j int) bool {
	if h[i].time != h[j].time {
		return h[i].time < h[j].time
	}
	return h[i].seq < h[j].seq
}

// Push appends a key, as heap.Push asks.
func (h *keyHeap) Push(k any) { *h = append(*h, k.(pendingKey)) }

// Pop removes the last key, as heap.Pop asks.
func (h *keyHeap) Pop() any {
	last := len(*h) - 1
	k := (*h)[last]
	*h = (*h)[:last]
	return k
}

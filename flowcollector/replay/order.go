package replay

import (
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

// pending is a heap of records by time. The records stay where they are in
// blocks, since they are ten times the size of what the heap has to move and a
// slice of them would be copied as it grows.
type pending struct {
	keys   []pendingKey
	blocks [][]flow.Record
	free   []uint32
	seq    uint64
}

type pendingKey struct {
	time int64
	seq  uint64
	slot uint32
}

const blockLen = 1 << 10

func (k *pendingKey) before(l *pendingKey) bool {
	if k.time != l.time {
		return k.time < l.time
	}
	return k.seq < l.seq
}

func (p *pending) record(slot uint32) *flow.Record {
	return &p.blocks[slot/blockLen][slot%blockLen]
}

func (p *pending) push(rec *flow.Record) {
	if len(p.free) == 0 {
		first := uint32(len(p.blocks) * blockLen)
		p.blocks = append(p.blocks, make([]flow.Record, blockLen))
		for slot := first + blockLen; slot > first; slot-- {
			p.free = append(p.free, slot-1)
		}
	}
	last := len(p.free) - 1
	slot := p.free[last]
	p.free = p.free[:last]
	*p.record(slot) = *rec
	p.seq++
	p.keys = append(p.keys, pendingKey{rec.Time, p.seq, slot})
	p.up(len(p.keys) - 1)
}

// pop removes the first record.
func (p *pending) pop(rec *flow.Record) {
	slot := p.keys[0].slot
	*rec = *p.record(slot)
	p.free = append(p.free, slot)
	last := len(p.keys) - 1
	p.keys[0] = p.keys[last]
	p.keys = p.keys[:last]
	p.down()
}

// up and down are those of container/heap without its allocation per element.
func (p *pending) up(i int) {
	for i > 0 {
		parent := (i - 1) / 2
		if !p.keys[i].before(&p.keys[parent]) {
			return
		}
		p.keys[i], p.keys[parent] = p.keys[parent], p.keys[i]
		i = parent
	}
}

func (p *pending) down() {
	for i := 0; ; {
		child := 2*i + 1
		if child >= len(p.keys) {
			return
		}
		if right := child + 1; right < len(p.keys) && p.keys[right].before(&p.keys[child]) {
			child = right
		}
		if !p.keys[child].before(&p.keys[i]) {
			return
		}
		p.keys[i], p.keys[child] = p.keys[child], p.keys[i]
		i = child
	}
}

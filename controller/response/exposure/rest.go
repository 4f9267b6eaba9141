package exposure

import (
	"encoding/binary"
	"math/bits"
	"math/rand/v2"

	"github.com/platelet-sdn/platelet/flowcollector/flow"
)

const (
	restRows  = 2
	restCells = 4096
	// restSpan is how many minutes a generation lasts; there are two, so that
	// what is told is of the last 30 to 60 minutes.
	restSpan = Minutes / 2
)

// rest counts, by host, what there was no room for.
type rest struct {
	keys  [restRows]uint64
	since [2]uint32 // begin of each generation
	cells *[2][restRows][restCells]amount
}

// generation returns the present one.
func (x *rest) generation(minute uint32) *[restRows][restCells]amount {
	if x.cells == nil {
		x.cells = &[2][restRows][restCells]amount{}
		for i := range x.keys {
			x.keys[i] = rand.Uint64() | 1
		}
	}
	i := minute / restSpan % 2
	if begin := minute / restSpan; x.since[i] != begin {
		x.since[i], x.cells[i] = begin, [restRows][restCells]amount{}
	}
	return &x.cells[i]
}

func (x *rest) slot(row int, a [16]byte) int {
	hi, lo := bits.Mul64(binary.BigEndian.Uint64(a[:8])^x.keys[row], binary.BigEndian.Uint64(a[8:])^bits.RotateLeft64(x.keys[row], 32))
	return int((hi ^ lo) * 0x9e3779b97f4a7c15 >> 52)
}

func (x *rest) add(minute uint32, r *flow.Record, v amount) {
	if v != (amount{}) {
		x.put(minute, r.Src.As16(), r.Dst.As16(), v)
	}
}

// keep takes what is in the hour of one that is displaced.
func (x *rest) keep(l *Ledger, c entry) {
	client, server := c.Ends()
	x.put(l.minute, client, server, l.sum(c, l.first(), l.minute+1))
}

func (x *rest) put(minute uint32, one, other [16]byte, a amount) {
	g := x.generation(minute)
	for row := range g {
		g[row][x.slot(row, one)].add(a)
		g[row][x.slot(row, other)].add(a)
	}
}

// of is the most that a host can have had of it.
func (x *rest) of(minute uint32, host [16]byte) (a amount) {
	if x.cells == nil {
		return a
	}
	x.generation(minute)
	for row := range restRows {
		var b amount
		for i := range x.cells {
			if x.since[i]+1 >= minute/restSpan {
				b.add(x.cells[i][row][x.slot(row, host)])
			}
		}
		if row == 0 || b.packets < a.packets {
			a = b
		}
	}
	return a
}

package prove

import (
	"encoding/binary"
	"slices"

	"github.com/platelet-sdn/platelet/segmentation/bitset"
)

// Where every workload is a class of its own, pairs of classes are many
// millions, and each has to be looked at. So they are looked at as bits: what
// one side says is a matrix of classes by classes for each service, a word has
// 64 of its pairs, and the other side's matrix is turned round, in blocks of
// 64 by 64, to be met by it. Rows that come out alike become one region.

// half is what one side says, as symbols: what matters to a question.
type half struct {
	blocks []block // disjoint in members
	of     []int   // block by class; -1 for classes that are not asked for
}

// block is what is said to the same members.
type block struct{ parts []part }

// part is a symbol for some services and some others.
type part struct {
	services, others bitset.Set
	symbol           int
}

// nothing is the answer to pairs of symbols that nobody asks for.
const nothing = -1

// crossing is one question about the connections of a space.
type crossing struct {
	space           *space
	egress, ingress half
	// ask gives pairs of symbols a number, or nothing.
	ask [][]int

	symbols []int // of ingress, that are asked for with some other
	place   []int // of a symbol among them, or nothing
	words   int   // of a set of addresses
	found   []region
	answers []int // of the regions
	at      map[string]int
	key     []byte
	to      bitset.Set // of the row
}

// regions calls emit with each answer and the connections that have it, until
// emit has seen enough: they are disjoint, and together all that are asked for.
func (c *crossing) regions(emit func(answer int, r region) (more bool)) {
	c.at, c.to = map[string]int{}, bitset.New(len(c.space.addresses))
	c.words = len(c.to)
	for b := range c.ask[0] {
		n := nothing
		if slices.ContainsFunc(c.ask, func(row []int) bool { return row[b] != nothing }) {
			n = len(c.symbols)
			c.symbols = append(c.symbols, b)
		}
		c.place = append(c.place, n)
	}
	if len(c.symbols) == 0 {
		return
	}
	turned := newPlanes(len(c.space.services)*len(c.symbols), c.words)
	for word := range c.words {
		if !slices.ContainsFunc(c.egress.of[word*64:min(len(c.egress.of), word*64+64)], func(n int) bool { return n >= 0 }) {
			continue
		}
		c.turn(turned, word)
		for i := range min(64, len(c.egress.of)-word*64) {
			if n := c.egress.of[word*64+i]; n >= 0 {
				c.row(&c.egress.blocks[n], word*64+i, turned, i)
			}
		}
	}
	for i, r := range c.found {
		if !emit(c.answers[i], r) {
			return
		}
	}
}

// plane of a service and a symbol: of 64 classes, to whom it is said.
func (c *crossing) plane(service, place int) int { return service*len(c.symbols) + place }

// turn fills planes with what ingress says to the 64 classes of a word.
func (c *crossing) turn(turned *planes, word int) {
	var tile tile
	tiles := make([]tileOf, turned.count)
	var used []int
	for to := range c.words {
		for i := range min(64, len(c.ingress.of)-to*64) {
			n := c.ingress.of[to*64+i]
			if n < 0 {
				continue
			}
			for _, p := range c.ingress.blocks[n].parts {
				place := c.place[p.symbol]
				if place == nothing || p.others[word] == 0 {
					continue
				}
				for s := range p.services.All() {
					t := &tiles[c.plane(s, place)]
					if !t.used {
						t.used, used = true, append(used, c.plane(s, place))
					}
					t.tile[i] |= p.others[word]
				}
			}
		}
		for _, n := range used {
			tile = tiles[n].tile
			tile.turn()
			turned.put(n, to, &tile)
			tiles[n] = tileOf{}
		}
		turned.clear(to, used)
		used = used[:0]
	}
}

// row meets what egress says for one class with the planes.
func (c *crossing) row(b *block, from int, turned *planes, i int) {
	for _, p := range b.parts {
		asked := c.ask[p.symbol]
		for place, symbol := range c.symbols {
			if asked[symbol] == nothing {
				continue
			}
			for s := range p.services.All() {
				if meet(c.to, p.others, turned.row(c.plane(s, place), i)) {
					c.add(asked[symbol], from, s)
				}
			}
		}
	}
}

// meet makes the intersection, and reports whether there is one.
func meet(into, a, b bitset.Set) bool {
	some := uint64(0)
	for i := range into {
		into[i] = a[i] & b[i]
		some |= into[i]
	}
	return some != 0
}

// add joins rows that are alike.
func (c *crossing) add(answer, from, service int) {
	c.key = binary.LittleEndian.AppendUint32(c.key[:0], uint32(answer))
	c.key = binary.LittleEndian.AppendUint32(c.key, uint32(service))
	for _, w := range c.to {
		c.key = binary.LittleEndian.AppendUint64(c.key, w)
	}
	n, known := c.at[string(c.key)]
	if !known {
		n = len(c.found)
		c.at[string(c.key)] = n
		services := bitset.New(len(c.space.services))
		services.Add(service)
		c.found = append(c.found, region{space: c.space, from: bitset.New(len(c.space.addresses)), to: c.to.Clone(), services: services})
		c.answers = append(c.answers, answer)
	}
	c.found[n].from.Add(from)
}

// planes are rows of 64 classes each.
type planes struct {
	count, words int
	bits         []uint64
	filled       [][]bool // by words, planes: others are 0
}

func newPlanes(count, words int) *planes {
	p := &planes{count: count, words: words, bits: make([]uint64, count*words*64), filled: make([][]bool, words)}
	for i := range p.filled {
		p.filled[i] = make([]bool, count)
	}
	return p
}

func (p *planes) row(n, i int) bitset.Set { return p.bits[(n*64+i)*p.words : (n*64+i+1)*p.words] }

func (p *planes) put(n, word int, t *tile) {
	p.filled[word][n] = true
	for i := range t {
		p.bits[(n*64+i)*p.words+word] = t[i]
	}
}

// clear empties the planes that were filled before, and are not again.
func (p *planes) clear(word int, used []int) {
	again := make([]bool, p.count)
	for _, n := range used {
		again[n] = true
	}
	for n, filled := range p.filled[word] {
		if filled && !again[n] {
			p.put(n, word, &tile{})
			p.filled[word][n] = false
		}
	}
}

// tile is 64 by 64 bits.
type tile [64]uint64

type tileOf struct {
	tile
	used bool
}

// turn makes columns of rows (Warren, Hacker's Delight, 7-3).
func (t *tile) turn() {
	for width, mask := 32, uint64(0x00000000ffffffff); width != 0; width, mask = width/2, mask^mask<<(width/2) {
		for i := 0; i < 64; i = (i + width + 1) &^ width {
			swap := (t[i]>>width ^ t[i+width]) & mask
			t[i] ^= swap << width
			t[i+width] ^= swap
		}
	}
}

package detector

import "time"

// A clock that is behind by more than clockStep for clockPatience ticks in a
// row was set back and is followed; less than that is disorder.
const (
	clockStep     = int64(time.Minute)
	clockPatience = 64
)

// clock is time that never runs backwards, made from times that may.
type clock struct {
	now   int64 // internal, monotone
	start int64 // of the first record or tick
	// behind is what internal time is ahead of the outside, after the
	// outside was set back.
	behind int64
	late   int // ticks in a row that lay far in the past
	steps  uint64
}

// record moves to the time of a record, if that is later.
func (c *clock) record(t int64) {
	t += c.behind
	if c.start == 0 {
		c.start, c.now = t, t
	}
	if t > c.now {
		c.now = t
	}
}

// tick moves to the time that the driver says it is.
func (c *clock) tick(t int64) {
	before := c.now
	c.record(t)
	if t+c.behind >= before-clockStep {
		c.late = 0
		return
	}
	if c.late++; c.late >= clockPatience {
		c.behind = c.now - t
		c.late = 0
		c.steps++
	}
}

// outside returns internal time as the outside tells it.
func (c *clock) outside(t int64) int64 { return t - c.behind }

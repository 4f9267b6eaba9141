package measure

import (
	"math"
	"time"
)

const (
	// zoomSteps and wholeSteps are into how many steps the beginning and the
	// whole of an attack are divided, at most.
	zoomSteps, wholeSteps = 100, 150
	// countedStep is the finest step for a flood, whose packets are counted
	// where they leave, every 5 ms, and not captured.
	countedStep = 5.0
)

// packets counts what left and what arrived in steps over the first so many
// milliseconds.
func (t trace) packets(span float64, steps int) *Packets {
	step := niceStep(span / float64(steps))
	if len(t.counted) > 0 && len(t.left) == 0 {
		step = max(step, countedStep)
	}
	n := max(1, int(math.Ceil(span/step)))
	p := &Packets{Step: step, Sent: make([]int, n), Delivered: make([]int, n)}
	add := func(to []int, at time.Time, count int) {
		if i := int(math.Floor(at.Sub(t.first).Seconds() * 1e3 / step)); i >= 0 && i < n {
			to[i] += count
		}
	}
	for _, at := range t.delivered {
		add(p.Delivered, at, 1)
	}
	for _, at := range t.left {
		add(p.Sent, at, 1)
	}
	if len(t.left) == 0 {
		for i := 1; i < len(t.counted); i++ {
			add(p.Sent, t.counted[i].at, int(t.counted[i].sent-t.counted[i-1].sent))
		}
	}
	return p
}

// niceStep rounds milliseconds up to 1, 2 or 5 times a power of ten, at least
// a tenth.
func niceStep(ms float64) float64 {
	for step := 0.1; ; step *= 10 {
		for _, f := range []float64{1, 2, 5} {
			if s := math.Round(step*f*10) / 10; s >= ms {
				return s
			}
		}
	}
}

// show adds what people look at: the packets at the beginning, up to twice
// the time that the controller took, and of the whole attack.
func (o *Outcome) show(t trace) {
	last := 0.0
	for _, s := range []Span{o.TTD, o.Named, o.TTC} {
		last = max(last, s.Millis())
	}
	whole := o.Ended.Millis()
	zoom := niceStep(max(1, min(2*last, whole)))
	if last == 0 {
		zoom = whole
	}
	o.Zoom, o.Whole = t.packets(zoom, zoomSteps), t.packets(whole, wholeSteps)
}

package detector

import (
	"time"

	"github.com/platelet-sdn/platelet/flowcollector/flow"
)

// playbackTick is how often, in recorded time, an engine is told the time
// between records: about as often as live.
const playbackTick = int64(10 * time.Millisecond)

// playbackGap is how long a recording may be silent before its time is no longer
// walked through tick by tick: every deadline has passed by then either way.
const playbackGap = int64(time.Second)

// Playback gives an engine recorded records, with the time in between. Records
// must come in the order of their time.
type Playback struct {
	engine *Engine
	next   int64 // when the next tick is due; 0 before the first record
	batch  [1]flow.Record
}

// NewPlayback returns a playback for a new engine.
func NewPlayback(e *Engine) *Playback { return &Playback{engine: e} }

// Observe lets the time until the record pass, and gives the record.
func (p *Playback) Observe(r *flow.Record) {
	for r.Time >= p.next && p.next != 0 && r.Time-p.next < playbackGap {
		p.engine.Advance(p.next)
		p.next += playbackTick
	}
	if r.Time >= p.next {
		p.engine.Advance(r.Time)
		p.next = r.Time + playbackTick
	}
	p.batch[0] = *r
	p.engine.Observe(p.batch[:])
}

// Finish lets the engine's longest reply timeout pass: what was still open when
// the recording ended may yet have failed.
func (p *Playback) Finish() {
	p.engine.Advance(p.next + int64(p.engine.cfg.Scan.FlowTimeout))
}

package audit

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/platelet-sdn/platelet/controller/response"
)

// Config of a log.
type Config struct {
	// Dir is the log's directory.
	Dir string
	// Key is the file of the signing key; it is made where it is missing.
	Key string
	// FileSize is how large a file may become, in bytes.
	FileSize int64
	// Checkpoint is the longest time between an entry and the checkpoint over
	// it.
	Checkpoint time.Duration
	// Log says what goes wrong, and once a minute the latest checkpoint.
	Log logrus.FieldLogger
}

const (
	// queueSize is how many events wait for the disk at most.
	queueSize = 4096
	// Findings, and decisions that come to nothing, an attacker can make at
	// will. They do not get more than half of the queue, and over time no more
	// than cheapRate a second, after a burst: nobody fills the disk, or crowds
	// out what was done. That is at most 2 GB a day.
	cheapQueue = queueSize / 2
	cheapRate  = 20.0
	cheapBurst = 5000.0
	// batchSize is how many entries are written and flushed at once.
	batchSize = 256
	// checkpointEntries is after how many entries a checkpoint is due.
	checkpointEntries = 1024
	// logEvery is the least time between two checkpoints in the log.
	logEvery = time.Minute
	// retryEvery is how often a disk that failed is tried again.
	retryEvery = time.Second
)

// Log is the writing end. Record never waits: what does not fit into its queue
// is counted, and the number is written into the chain as soon as the disk
// takes something again.
type Log struct {
	cfg     Config
	run     string
	started time.Time
	queue   chan pending
	lost    atomic.Uint64 // no room in the queue
	thinned atomic.Uint64 // cheap ones beyond their budget

	// Of the goroutine in Run.
	store       *store
	waiting     []pending // could not be written yet
	toldLost    uint64    // that are in the chain
	toldThinned uint64
	toldAt      time.Time // of the latter

	mu     sync.Mutex
	status Status

	budgetMu sync.Mutex
	budget   float64       // of cheap events
	spent    time.Duration // when it was last reckoned
}

// pending is an event and when it happened.
type pending struct {
	event  Event
	time   time.Time
	uptime time.Duration
}

// Status is what `platelet status` shows of the log.
type Status struct {
	Dir     string `json:"dir"`
	Entries int64  `json:"entries"`
	File    string `json:"file,omitempty"`
	// Proven is how many entries the last checkpoint is over.
	Proven int64  `json:"proven"`
	Key    string `json:"key,omitempty"` // public
	Queued int    `json:"queued"`
	// Lost counts events that did not fit into the queue, Thinned findings and
	// refusals that came faster than is written down.
	Lost    uint64 `json:"lost"`
	Thinned uint64 `json:"thinned,omitempty"`
	// Error says why nothing is written at the moment.
	Error string `json:"error,omitempty"`
}

// New returns a log. Nothing is read or written before Run.
func New(cfg Config) *Log {
	var id [6]byte
	_, _ = rand.Read(id[:]) // never fails
	return &Log{
		cfg: cfg, run: hex.EncodeToString(id[:]), started: time.Now(),
		queue: make(chan pending, queueSize), store: newStore(cfg), status: Status{Dir: cfg.Dir}, budget: cheapBurst,
	}
}

// Record takes an event; it does not wait, and what the caller does with the
// event's lists afterwards does not matter.
func (l *Log) Record(e Event) {
	now := time.Now()
	if e.cheap() && !l.afford(now.Sub(l.started)) {
		l.thinned.Add(1)
		return
	}
	select {
	case l.queue <- pending{e.bounded(), now.UTC().Round(0), now.Sub(l.started)}:
	default:
		l.lost.Add(1)
	}
}

// cheap reports whether an attacker can have as many of these as he likes.
func (e *Event) cheap() bool {
	return strings.HasPrefix(e.What, FindingPrefix) || strings.HasPrefix(e.What, DecisionPrefix) && e.Before == "" && e.After == string(response.StateRefused)
}

// afford takes one cheap event from their budget.
func (l *Log) afford(now time.Duration) bool {
	l.budgetMu.Lock()
	defer l.budgetMu.Unlock()
	l.budget = min(cheapBurst, l.budget+cheapRate*max(0, now-l.spent).Seconds())
	l.spent = max(now, l.spent)
	if l.budget < 1 || len(l.queue) >= cheapQueue {
		return false
	}
	l.budget--
	return true
}

// Status returns how the log does.
func (l *Log) Status() Status {
	l.mu.Lock()
	s := l.status
	l.mu.Unlock()
	s.Queued, s.Lost, s.Thinned = len(l.queue), l.lost.Load(), l.thinned.Load()
	return s
}

// Run writes until ctx ends, and then what is left, with a last checkpoint. A
// disk that fails ends nothing: it is said, and tried again.
func (l *Log) Run(ctx context.Context) error {
	tick := time.NewTicker(retryEvery)
	defer tick.Stop()
	l.flush()
	for {
		if len(l.waiting) > 0 { // the disk failed: what comes waits in the queue
			select {
			case <-ctx.Done():
				return l.close()
			case <-tick.C:
				l.flush()
			}
			continue
		}
		select {
		case <-ctx.Done():
			return l.close()
		case p := <-l.queue:
			l.waiting = append(l.waiting, p)
			l.gather()
			l.flush()
		case <-tick.C:
			l.flush()
		}
	}
}

// gather adds to what waits what is there already.
func (l *Log) gather() {
	for len(l.waiting) < batchSize {
		select {
		case p := <-l.queue:
			l.waiting = append(l.waiting, p)
		default:
			return
		}
	}
}

// flush writes what waits, and a checkpoint when one is due.
func (l *Log) flush() {
	err := l.write()
	if err == nil {
		err = l.store.checkpoint(l.cfg.Checkpoint)
	}
	l.report(err)
}

func (l *Log) write() error {
	lost, thinned := l.lost.Load(), l.thinned.Load()
	list := l.waiting[:len(l.waiting):len(l.waiting)]
	if lost > l.toldLost {
		list = append(list, missing(lost-l.toldLost, "the queue was full: the disk did not keep up"))
	}
	if thinned > l.toldThinned && time.Since(l.toldAt) >= retryEvery { // a flood of these must not be one as well
		list = append(list, missing(thinned-l.toldThinned, "findings and refusals came faster than is written down"))
		l.toldAt = time.Now()
	} else {
		thinned = l.toldThinned
	}
	if err := l.store.open(l.stamp); err != nil {
		return err
	}
	if len(list) == 0 {
		return nil
	}
	if err := l.store.append(list, l.stamp); err != nil {
		return err
	}
	l.waiting, l.toldLost, l.toldThinned = l.waiting[:0], lost, thinned
	return nil
}

func missing(n uint64, why string) pending {
	return pending{event: Event{What: EventLost, Who: "platelet", Why: why, Detail: map[string]string{"events": strconv.FormatUint(n, 10)}}}
}

// stamp makes an entry of an event.
func (l *Log) stamp(p pending) Entry {
	if p.time.IsZero() { // of the log itself
		now := time.Now()
		p.time, p.uptime = now.UTC().Round(0), now.Sub(l.started)
	}
	return Entry{Time: p.time, Run: l.run, Uptime: p.uptime.Microseconds(), Event: p.event}
}

// report shows how it went, and logs an error once.
func (l *Log) report(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	old := l.status.Error
	l.status = Status{Dir: l.cfg.Dir, Entries: l.store.next, File: l.store.name, Proven: l.store.proven, Key: l.store.key.public}
	if err != nil {
		l.status.Error = err.Error()
	}
	switch {
	case l.status.Error == old:
	case err != nil:
		l.cfg.Log.WithError(err).Error("the audit log is not written; containment goes on, and losses are counted")
	default:
		l.cfg.Log.Info("the audit log is written again")
	}
}

// close writes what is left.
func (l *Log) close() error {
	for {
		l.toldAt = time.Time{} // what is missing is told now or never
		l.gather()
		if err := l.write(); err != nil {
			left := len(l.waiting) + len(l.queue)
			l.report(err)
			_ = l.store.close()
			return fmt.Errorf("audit log: %d entries could not be written at the end: %w", left, err)
		}
		if len(l.queue) == 0 {
			break
		}
	}
	err := l.store.checkpoint(0)
	if cerr := l.store.close(); err == nil {
		err = cerr
	}
	if err != nil {
		return fmt.Errorf("audit log: %w", err)
	}
	return nil
}

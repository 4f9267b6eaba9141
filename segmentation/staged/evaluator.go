// Package staged holds policies against the connections that telemetry shows,
// and says whom they deny, and whom they would deny if what is staged were
// enforced.
//
// Two programs are compiled, one of the policies as they are and one with the
// staged ones enforced. A connection is judged once by both, by the classes of
// its ends and its service (compile.Evaluator), and again only when the
// policies, the inventory or what is in force by the clock change. After that
// its records cost a look at the connection's mark. Package oracle says what
// the verdicts have to be, and the tests ask it.
package staged

import (
	"fmt"
	"math"
	"slices"
	"sync"
	"time"

	"github.com/platelet-sdn/platelet/detector/bounded"
	"github.com/platelet-sdn/platelet/flowcollector/flow"
	"github.com/platelet-sdn/platelet/segmentation/compile"
	"github.com/platelet-sdn/platelet/segmentation/connection"
	"github.com/platelet-sdn/platelet/segmentation/policy"
)

const (
	// DefaultDetails is how many denied connections are kept one by one:
	// about 9 MB. Beyond it, those that were not answered are only counted.
	DefaultDetails = 1 << 16
	// maxOutcomes bounds the distinct pairs of verdicts. What would be beyond
	// is only counted as not judged.
	maxOutcomes = 1 << 14
)

// Config says what to hold against what.
type Config struct {
	// Set must come from policy.Read, and is not changed.
	Set       *policy.Set
	Inventory policy.Inventory
	// Connections bounds the table of connections, Details those that are
	// kept because they are or would be denied; DefaultDetails if 0.
	Connections connection.Config
	Details     int
	// Live says that Update is called at least once a minute: Observe then takes
	// what is in force from there, and compiles nothing itself.
	Live bool
}

// Evaluator judges connections. It is safe for concurrent use.
type Evaluator struct {
	live bool

	work      sync.Mutex  // held while something is compiled; before mu
	enforced  *policy.Set // the set with staged policies enforced; guarded by work
	now, next *compile.Compiler

	mu    sync.Mutex
	table *connection.Table
	set   *policy.Set
	inv   policy.Inventory
	judge [2]judge // by the policies as they are, and with the staged ones enforced
	// due is when what is in force is looked at again, Unix nanoseconds.
	due      int64
	epoch    uint32
	outcomes []*outcome
	index    map[verdicts]uint32
	details  *bounded.Table[detailKey, detail]
	err      error
}

// judge is one program, and what says what it means.
type judge struct {
	program *compile.Program
	eval    *compile.Evaluator
}

// verdicts is what both programs say of a connection, the egress side first.
type verdicts struct {
	now, staged [2]compile.Side
}

// sum adds up what is told of connections.
type sum struct {
	records              uint64
	opens                float64
	packets, bytes       float64
	first, last          int64
	connections, guessed uint64 // fresh ones, and records of guessed ones
}

type outcome struct {
	verdicts
	sum
}

type detailKey struct {
	id      connection.ID
	outcome uint32
}

type detail struct {
	sum
	answered bool
	opening  connection.Opening
}

// worth lets those that were answered stay.
func (d *detail) worth() int64 {
	v := d.last >> 2
	if d.answered {
		v += 1 << 61
	}
	return v
}

// New compiles the policies for a time.
func New(cfg Config, now time.Time) (*Evaluator, error) {
	if cfg.Details <= 0 {
		cfg.Details = DefaultDetails
	}
	e := &Evaluator{live: cfg.Live, table: connection.New(cfg.Connections), index: map[verdicts]uint32{}, outcomes: []*outcome{{}},
		details: bounded.New[detailKey](cfg.Details, (*detail).worth), now: compile.New(), next: compile.New()}
	if err := e.Update(cfg.Set, cfg.Inventory, now); err != nil {
		return nil, err
	}
	return e, nil
}

// enforceAll is the set with the staged policies enforced.
func enforceAll(set *policy.Set) *policy.Set {
	with := *set
	with.Policies = slices.Clone(set.Policies)
	for i := range with.Policies {
		with.Policies[i].Mode = policy.ModeEnforce
	}
	return &with
}

// Update takes other policies, or another inventory, or what is in force at
// another time, from now on. What was counted stays; an error leaves the
// evaluator as it was. While it compiles, Observe goes on by what was before.
func (e *Evaluator) Update(set *policy.Set, inv policy.Inventory, now time.Time) error {
	e.work.Lock()
	defer e.work.Unlock()
	with := e.enforced
	if set != e.set { // which nobody else writes
		with = enforceAll(set)
	}
	programs, err := e.compile(set, with, inv, now)
	if err != nil {
		return err
	}
	e.enforced = with
	e.adopt(set, inv, programs, now)
	return nil
}

// advance compiles for another time, with mu held, which it lets go meanwhile.
func (e *Evaluator) advance(now time.Time) {
	e.mu.Unlock()
	e.work.Lock()
	defer e.work.Unlock()
	programs, err := e.compile(e.set, e.enforced, e.inv, now)
	if err == nil {
		e.adopt(e.set, e.inv, programs, now)
	}
	e.mu.Lock()
	if err != nil { // what compiled before compiles again: only the time is another
		e.due = nextMinute(now)
	}
	e.err = err
}

func nextMinute(now time.Time) int64 {
	return now.Truncate(time.Minute).Add(time.Minute).UnixNano()
}

// compile makes both programs for a time, with work held.
func (e *Evaluator) compile(set, with *policy.Set, inv policy.Inventory, now time.Time) (out [2]*compile.Program, err error) {
	if out[0], err = e.now.Compile(set, inv, now); err == nil {
		out[1], err = e.next.Compile(with, inv, now)
	}
	if err != nil {
		return out, fmt.Errorf("staged policies: %w", err)
	}
	return out, nil
}

// adopt judges by programs from now on, with work held. Connections are judged
// anew if one is another.
func (e *Evaluator) adopt(set *policy.Set, inv policy.Inventory, programs [2]*compile.Program, now time.Time) {
	next := e.judge // which only who holds work changes
	for i, p := range programs {
		if p != next[i].program {
			next[i] = judge{p, compile.NewEvaluator(p)}
		}
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.due = nextMinute(now)
	if e.live {
		e.due = math.MaxInt64
	}
	e.set, e.inv = set, inv
	if next != e.judge {
		e.judge = next
		e.epoch++
	}
}

// Program is what would be enforced if everything that is staged were.
func (e *Evaluator) Program() *compile.Program {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.judge[1].program
}

// Observe judges the connections of a batch.
func (e *Evaluator) Observe(batch []flow.Record) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for i := range batch {
		r := &batch[i]
		if r.Time >= e.due {
			e.advance(time.Unix(0, r.Time))
		}
		if ev, ok := e.table.Observe(r); ok {
			e.count(r, &ev)
		}
	}
}

// count adds a record to what its connection's verdicts are.
func (e *Evaluator) count(r *flow.Record, ev *connection.Event) {
	c := ev.Connection
	if uint32(c.Mark>>32) != e.epoch {
		c.Mark = uint64(e.epoch)<<32 | uint64(e.verdict(ev.ID.Key()))
	}
	n := uint32(c.Mark)
	o := e.outcomes[n]
	o.add(r, ev)
	if !o.refuses() {
		return
	}
	k := detailKey{ev.ID, n}
	_, d, _ := e.details.Put(k, r.Time>>2)
	if d == nil {
		return
	}
	d.add(r, ev)
	d.answered, d.opening = c.Answered(), c.Opening
}

func (s *sum) add(r *flow.Record, ev *connection.Event) {
	if s.records == 0 {
		s.first = r.Time
	}
	s.records++
	s.last = max(s.last, r.Time)
	s.packets += ev.Packets
	s.bytes += ev.Bytes
	if ev.Fresh {
		s.connections++
	}
	if ev.Connection.Opening == connection.Guessed {
		s.guessed++
	}
	s.opens += ev.Opens
}

// verdict asks both programs, and returns the number of the outcome.
func (e *Evaluator) verdict(k connection.Key) uint32 {
	c := compile.Connection{Src: k.Opener, Dst: k.Responder, Proto: policy.Proto(k.Proto), DstPort: k.Port, Type: k.Type, Code: k.Code}
	var v verdicts
	v.now[0], v.now[1] = e.judge[0].eval.Verdict(c)
	v.staged[0], v.staged[1] = e.judge[1].eval.Verdict(c)
	n, ok := e.index[v]
	if !ok {
		if len(e.outcomes) >= maxOutcomes {
			return 0
		}
		n = uint32(len(e.outcomes))
		e.index[v] = n
		e.outcomes = append(e.outcomes, &outcome{verdicts: v})
	}
	return n
}

// denies returns the side that refuses, the egress side first.
func denies(sides [2]compile.Side) (compile.Side, bool) {
	for _, s := range sides {
		if !s.Consents() {
			return s, true
		}
	}
	return compile.Side{}, false
}

// refuses reports whether one of the programs does.
func (o *outcome) refuses() bool {
	_, now := denies(o.now)
	_, staged := denies(o.staged)
	return now || staged
}

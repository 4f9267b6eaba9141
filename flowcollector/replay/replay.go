// Package replay reads recorded telemetry: packet captures and the logs of
// other monitors become the flow records that live telemetry would have made,
// in the order of their recorded time.
package replay

import (
	"errors"
	"fmt"
	"io"

	"github.com/platelet-sdn/platelet/flowcollector/flow"
)

// Stdin is the input name that stands for Options.Stdin.
const Stdin = "-"

const (
	// DefaultWindow is how many records are held back to bring them into
	// order when Options.Window is 0: about 300 MB when it is full. Logs
	// with fewer records come out perfectly sorted.
	DefaultWindow = 1 << 20

	// captureWindow is the window of captures, which hold packets in the
	// order of their arrival but for the queues of one network card.
	captureWindow = 1 << 12

	// minWindow keeps many small inputs from starving one another.
	minWindow = 1 << 12

	// maxFaults is how many faults Stats describes; all are counted.
	maxFaults = 10
)

// Options are optional.
type Options struct {
	// Stdin is read for the input named Stdin.
	Stdin io.Reader
	// Window is how many records may be held back to bring them into order
	// (shared by all inputs); 0 means DefaultWindow.
	Window int
	// SkipEgress leaves out egress records of IPFIX; see netflow.Config.
	SkipEgress bool
	// Label is called for each labelled row of a log, in the order of the
	// file and before the row's records are read. Labels are the ground
	// truth that evaluations compare findings with. They travel outside
	// flow.Record so that no detector can see them.
	Label func(Label)
}

// Fault is a line, packet or datagram that could not be read.
type Fault struct {
	Input string
	// Position is the number of the line or packet, from 1.
	Position int64
	Err      error
}

// Error implements the error interface as input:position: reason.
func (f *Fault) Error() string { return fmt.Sprintf("%s:%d: %v", f.Input, f.Position, f.Err) }

// Unwrap returns the reason.
func (f *Fault) Unwrap() error { return f.Err }

// Stats says what has been read so far.
type Stats struct {
	// Records counts the records handed out.
	Records int64
	// Malformed counts the lines, packets and datagrams that could not be
	// read, and Faults describes the first few of them.
	Malformed int64
	Faults    []*Fault
	// Late counts records that came so far out of order that the window
	// could not mend it. They are handed out with the time of the record
	// before them, so that time never runs backwards.
	Late int64
	// Untemplated counts the sets of IPFIX and NetFlow records that could
	// not be read because the capture had not shown their template.
	Untemplated int64
	// First and Last are the times of the first and the last record handed
	// out, in Unix nanoseconds.
	First, Last int64
}

// Reader hands out the records of all its inputs, merged by time. It is not safe
// for concurrent use.
type Reader struct {
	inputs []*input
	// heads[i] is the next record of inputs[i].
	heads []flow.Record
	stats Stats
	err   error
}

// Open opens files, or Options.Stdin for the name Stdin, and finds out by their
// content what they are. They may be compressed with gzip.
func Open(names []string, opts Options) (*Reader, error) {
	if len(names) == 0 {
		return nil, errors.New("replay: no input")
	}
	window := opts.Window
	if window <= 0 {
		window = DefaultWindow
	}
	window = max(window/len(names), min(window, minWindow))

	r := &Reader{}
	for _, name := range names {
		in, err := openInput(name, opts, window)
		if err != nil {
			return nil, errors.Join(fmt.Errorf("replay %s: %w", name, err), r.Close())
		}
		r.inputs = append(r.inputs, in)
	}
	for i := 0; i < len(r.inputs); {
		r.heads = append(r.heads[:i], flow.Record{})
		ok, err := r.advance(i)
		if err != nil {
			return nil, errors.Join(err, r.Close())
		}
		if ok {
			i++
		}
	}
	return r, nil
}

// Read sets rec to the next record. It returns io.EOF after the last one.
func (r *Reader) Read(rec *flow.Record) error {
	if r.err != nil {
		return r.err
	}
	if len(r.inputs) == 0 {
		return io.EOF
	}
	// Inputs are few: a scan beats a heap until there are dozens.
	first := 0
	for i := range r.heads {
		if r.heads[i].Time < r.heads[first].Time {
			first = i
		}
	}
	*rec = r.heads[first]
	if r.stats.Records == 0 {
		r.stats.First = rec.Time
	}
	r.stats.Records++
	r.stats.Last = rec.Time
	_, r.err = r.advance(first) // rec is good; the error is for the next call
	return nil
}

// advance reads the next record of inputs[i], or drops that input at its end
// and returns false.
func (r *Reader) advance(i int) (bool, error) {
	in := r.inputs[i]
	err := in.order.read(&r.heads[i], r.fault)
	if err == nil {
		return true, nil
	}
	r.stats.Late += in.order.late
	r.stats.Untemplated += in.untemplated
	r.inputs = append(r.inputs[:i], r.inputs[i+1:]...)
	r.heads = append(r.heads[:i], r.heads[i+1:]...)
	if errors.Is(err, io.EOF) {
		err = nil
	}
	if err = errors.Join(err, in.close()); err != nil {
		return false, fmt.Errorf("replay %s: %w", in.name, err)
	}
	return false, nil
}

func (r *Reader) fault(f *Fault) {
	r.stats.Malformed++
	if len(r.stats.Faults) < maxFaults {
		r.stats.Faults = append(r.stats.Faults, f)
	}
}

// Stats returns what has been read so far. Faults are counted as the inputs are
// read, which is ahead of the records by up to the window.
func (r *Reader) Stats() Stats {
	s := r.stats
	s.Faults = append([]*Fault(nil), s.Faults...)
	for _, in := range r.inputs {
		s.Late += in.order.late
		s.Untemplated += in.untemplated
	}
	return s
}

// Close closes the inputs that have not been read to their end.
func (r *Reader) Close() error {
	var errs []error
	for _, in := range r.inputs {
		errs = append(errs, in.close())
	}
	r.inputs, r.heads = nil, nil
	return errors.Join(errs...)
}

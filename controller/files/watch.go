package files

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"syscall"
	"time"
)

// Settle is how long files must have stayed as they are before a change is
// taken: whoever writes one is done. Half a file of policies can be a valid one.
const Settle = 200 * time.Millisecond

const (
	// lookEvery is how often files are looked at, and rest how long they are left
	// alone after a look, in times of what it took: on a slow disk, less often.
	lookEvery = 50 * time.Millisecond
	rest      = 10
	// retryEvery is how often what could not be read is tried again, though
	// nothing about it has changed.
	retryEvery = 5 * time.Second
	// attempts at reading files that change while they are read.
	attempts = 3
	// restless is how long files change all the time before that is told.
	restless = 10 * time.Second
)

// ErrChanging says that files changed whenever they were read.
var ErrChanging = errors.New("the files change while they are read; they are read when they have settled")

// Watch tells when files have changed. Follow and what it calls are one
// goroutine; others use Ask alone.
type Watch struct {
	list  func() ([]string, error)
	asked chan func()

	taken, last []version
	since       time.Time // when they became as they are
	again       time.Time // when they are read again though nothing has changed
	unrest      time.Time // since when they differ from what was taken
	told        bool      // of the unrest
}

// version tells one state of a file from another.
type version struct {
	name        string
	size, time  int64
	meta        syscall.Timespec // when its mode, or what is at its name, changed
	device, ino uint64
	fault       string // why it cannot be looked at
}

// NewWatch watches the files that list lists, each time anew: Glob finds those
// that come. An error of list is a state like others.
func NewWatch(list func() ([]string, error)) *Watch {
	return &Watch{list: list, asked: make(chan func())}
}

// look notes how the files are.
func (w *Watch) look() []version {
	names, err := w.list()
	if err != nil {
		return []version{{fault: err.Error()}}
	}
	out := make([]version, len(names))
	for i, name := range names {
		out[i].name = name
		info, err := os.Stat(name) // of what links lead to
		if err != nil {
			out[i].fault = err.Error()
			continue
		}
		out[i].size, out[i].time = info.Size(), info.ModTime().UnixNano()
		if s, ok := info.Sys().(*syscall.Stat_t); ok {
			out[i].meta, out[i].device, out[i].ino = s.Ctim, s.Dev, s.Ino
		}
	}
	return out
}

// Changed looks at the files, and reports whether they are to be read: they are
// other ones than were taken last and have stayed so for a while, or it is time
// to read them again.
func (w *Watch) Changed(now time.Time) bool {
	seen := w.look()
	if !slices.Equal(seen, w.last) {
		w.last, w.since = seen, now
	}
	if slices.Equal(seen, w.taken) {
		w.unrest, w.told = time.Time{}, false
		return !w.again.IsZero() && !now.Before(w.again)
	}
	if w.unrest.IsZero() {
		w.unrest = now
	}
	return now.Sub(w.since) >= Settle
}

// Restless reports, once, that files have been changing for so long without
// settling that somebody should know.
func (w *Watch) Restless(now time.Time) bool {
	if w.told || w.unrest.IsZero() || now.Sub(w.unrest) < restless {
		return false
	}
	w.told = true
	return true
}

// Take reads files, whether they have settled or not. What is read while they
// change is thrown away; when that happens again and again, the error is
// ErrChanging. An error of read is kept like a value, for the same files would
// give it again, unless it is the disk's: then they count as changed after a
// while.
func Take[T any](w *Watch, read func() (T, error)) (T, error) {
	for range attempts {
		before := w.look()
		got, err := read()
		if !slices.Equal(before, w.look()) {
			continue
		}
		w.taken, w.again = before, time.Time{}
		var disk *fs.PathError
		if errors.As(err, &disk) && !errors.Is(err, fs.ErrNotExist) {
			w.again = time.Now().Add(retryEvery)
		}
		return got, err
	}
	var none T
	return none, ErrChanging
}

// Again has the files that were taken read again at a time, though nothing about
// them has changed: what they say may depend on it. Zero is never.
func (w *Watch) Again(at time.Time) { w.again = at }

// Follow calls changed when files have changed and settled, restless when they
// do not settle, and what Ask brings, until ctx ends. Without changed it does
// not look at them. A disk that does not answer keeps it from returning.
func (w *Watch) Follow(ctx context.Context, changed, restless func()) {
	timer := time.NewTimer(lookEvery)
	defer timer.Stop()
	if changed == nil {
		timer.Stop()
	}
	for {
		select {
		case <-ctx.Done():
			return
		case do := <-w.asked:
			do()
			continue
		case <-timer.C:
		}
		now := time.Now()
		again := w.Changed(now)
		took := time.Since(now)
		switch {
		case again:
			changed()
		case w.Restless(now):
			restless()
		}
		timer.Reset(max(lookEvery, rest*took))
	}
}

// Ask has Follow call a function, and waits for what it returns.
func (w *Watch) Ask(ctx context.Context, do func() error) error {
	done := make(chan error, 1)
	select {
	case w.asked <- func() { done <- do() }:
	case <-ctx.Done():
		return fmt.Errorf("files are still being read since they were asked for last: %w", ctx.Err())
	}
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return fmt.Errorf("files are still being read: %w", ctx.Err())
	}
}

package bus

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/nats-io/nats.go/jetstream"
)

// ErrTaken says that somebody else has written a value since we did, or before.
var ErrTaken = errors.New("somebody else has written it")

// Ledger is a bucket that several controllers share, and in which each value has
// one writer at a time: a write is taken only on top of what this ledger has
// claimed or written itself. Whoever is cut off and comes back finds that its values have
// been taken, and by the very write that would have done harm.
type Ledger struct {
	bucket *Bucket

	mu   sync.Mutex
	last map[string]version
}

// version is what is known of a value: the revision, and hashes of what we tried to
// write on top of it without learning what became of that. One of those at most
// was taken, sooner or later.
type version struct {
	revision uint64
	tried    [][sha256.Size]byte
}

// maxTried bounds what is remembered while no answer comes; beyond it the oldest
// is forgotten, and if that was taken the value is given up.
const maxTried = 4096

// Ledger opens a bucket as a ledger and creates it where missing.
func (b *Bus) Ledger(ctx context.Context, name string) (*Ledger, error) {
	k, err := b.Bucket(ctx, name)
	if err != nil {
		return nil, err
	}
	return &Ledger{bucket: k, last: map[string]version{}}, nil
}

// Claim reads every value and makes those this ledger's own that f wants. What f
// returns beside is written in place of the value, nil leaves it as it is; where
// somebody else writes it at the same time it stays theirs. It returns what is
// ours by it.
func (l *Ledger) Claim(ctx context.Context, f func(key string, value []byte) (next []byte, want bool)) (map[string][]byte, error) {
	type candidate struct {
		value    []byte
		revision uint64
		write    bool
	}
	found := map[string]candidate{}
	if err := l.bucket.each(ctx, func(key string, e jetstream.KeyValueEntry) {
		if next, want := f(key, e.Value()); want && next == nil {
			found[key] = candidate{e.Value(), e.Revision(), false}
		} else if want {
			found[key] = candidate{next, e.Revision(), true}
		}
	}); err != nil {
		return nil, err
	}
	mine := map[string][]byte{}
	for key, c := range found {
		if c.write {
			var err error
			c.revision, err = l.write(ctx, key, c.value, c.revision)
			if stale(err) {
				continue
			}
			if err != nil {
				return mine, fmt.Errorf("claim %s: %w", key, err)
			}
		}
		l.keep(key, version{revision: c.revision})
		mine[key] = c.value
	}
	return mine, nil
}

func (l *Ledger) keep(key string, v version) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.last[key] = v
}

// Put stores a value durably before it returns. It fails with ErrTaken where what
// is stored is neither what this ledger has claimed nor what it has written.
func (l *Ledger) Put(ctx context.Context, key string, value []byte) error {
	l.mu.Lock()
	v := l.last[key]
	l.mu.Unlock()
	revision, err := l.write(ctx, key, value, v.revision)
	if stale(err) && len(v.tried) > 0 { // a write of ours whose answer was lost
		e, gerr := l.bucket.kv.Get(ctx, l.bucket.key(key))
		switch {
		case gerr != nil && !errors.Is(gerr, jetstream.ErrKeyNotFound):
			err = gerr
		case gerr == nil && slices.Contains(v.tried, sha256.Sum256(e.Value())):
			v = version{revision: e.Revision()}
			revision, err = l.write(ctx, key, value, v.revision)
		}
	}
	switch {
	case err == nil:
		l.keep(key, version{revision: revision})
		return nil
	case stale(err):
		l.mu.Lock()
		delete(l.last, key)
		l.mu.Unlock()
		return fmt.Errorf("store %s: %w", key, ErrTaken)
	}
	v.tried = append(v.tried, sha256.Sum256(value))
	v.tried = v.tried[max(0, len(v.tried)-maxTried):]
	l.keep(key, v)
	return fmt.Errorf("store %s: %w", key, err)
}

func (l *Ledger) write(ctx context.Context, key string, value []byte, on uint64) (uint64, error) {
	if on == 0 {
		return l.bucket.kv.Create(ctx, l.bucket.key(key), value)
	}
	return l.bucket.kv.Update(ctx, l.bucket.key(key), value, on)
}

// stale reports whether the server refused a write because of another one.
func stale(err error) bool {
	var api *jetstream.APIError
	return errors.Is(err, jetstream.ErrKeyExists) || errors.As(err, &api) && api.ErrorCode == jetstream.JSErrCodeStreamWrongLastSequence
}

// Delete removes a key that is this ledger's to write; one that somebody else has
// taken is left alone, and a missing one is no error.
func (l *Ledger) Delete(ctx context.Context, key string) error {
	l.mu.Lock()
	v, known := l.last[key]
	delete(l.last, key)
	l.mu.Unlock()
	if !known {
		return nil
	}
	if err := l.bucket.kv.Purge(ctx, l.bucket.key(key), jetstream.LastRevision(v.revision)); err != nil && !stale(err) {
		return fmt.Errorf("delete %s: %w", key, err)
	}
	return nil
}

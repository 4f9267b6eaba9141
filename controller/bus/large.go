package bus

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
)

// ErrDamaged says that what is stored is not what was written.
var ErrDamaged = errors.New("stored value is damaged")

// Large is one value of any size, in a bucket of its own. It is replaced as a
// whole: whenever a Save is cut short, the value before is still there.
type Large struct{ bucket *Bucket }

// chunkSize is the most that one key of a large value holds.
const chunkSize = 512 << 10

// largePointer says where the value is: in one of two sets of keys, of which the
// next Save fills the other.
type largePointer struct {
	Half   int               `json:"half"` // 0 or 1
	Chunks int               `json:"chunks"`
	Sum    [sha256.Size]byte `json:"sum"`
}

const pointerKey = "current"

func chunkKey(half, i int) string { return fmt.Sprintf("%d/%03d", half, i) }

// Large opens a bucket for one large value and creates it where missing.
func (b *Bus) Large(ctx context.Context, name string) (*Large, error) {
	k, err := b.Bucket(ctx, name)
	if err != nil {
		return nil, err
	}
	return &Large{k}, nil
}

// Load returns what was saved, nil if nothing was, or ErrDamaged.
func (l *Large) Load(ctx context.Context) ([]byte, error) {
	all, err := l.bucket.All(ctx)
	if err != nil || all[pointerKey] == nil {
		return nil, err
	}
	p, err := parsePointer(all[pointerKey])
	if err != nil {
		return nil, err
	}
	var value []byte
	for i := range p.Chunks {
		value = append(value, all[chunkKey(p.Half, i)]...)
	}
	if sha256.Sum256(value) != p.Sum {
		return nil, fmt.Errorf("%w: wrong checksum", ErrDamaged)
	}
	return value, nil
}

func parsePointer(raw []byte) (p largePointer, err error) {
	if err := json.Unmarshal(raw, &p); err != nil {
		return p, fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	return p, nil
}

// Save replaces the value durably: the new one is complete before anything says
// that it is to be read, and only then does the old one go.
func (l *Large) Save(ctx context.Context, value []byte) error {
	all, err := l.bucket.All(ctx)
	if err != nil {
		return err
	}
	p := largePointer{Sum: sha256.Sum256(value)}
	if old, err := parsePointer(all[pointerKey]); err == nil && old.Half == 0 {
		p.Half = 1
	}
	for ; len(value) > 0; p.Chunks++ {
		size := min(len(value), chunkSize)
		if err := l.bucket.Put(ctx, chunkKey(p.Half, p.Chunks), value[:size]); err != nil {
			return err
		}
		value = value[size:]
	}
	raw, err := json.Marshal(p)
	if err != nil {
		return fmt.Errorf("describe a large value: %w", err)
	}
	if err := l.bucket.Put(ctx, pointerKey, raw); err != nil {
		return err
	}
	return l.drop(ctx, all, p)
}

// drop deletes what was there before a save and does not belong to it.
func (l *Large) drop(ctx context.Context, before map[string][]byte, p largePointer) error {
	delete(before, pointerKey)
	for i := range p.Chunks {
		delete(before, chunkKey(p.Half, i))
	}
	for key := range before {
		if err := l.bucket.Delete(ctx, key); err != nil {
			return err
		}
	}
	return nil
}

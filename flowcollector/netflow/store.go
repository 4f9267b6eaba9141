package netflow

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"net/netip"
	"slices"
)

// TemplateStore keeps templates across restarts. Open vSwitch repeats them
// only every 600 s, during which a collector that forgot them is blind.
//
// Keys match [0-9a-z.]+. To save an empty value is to remove the key: exporters
// that come and go must not make the store grow.
type TemplateStore interface {
	// Load returns everything that was saved.
	Load(ctx context.Context) (map[string][]byte, error)
	// Save replaces the value of key, or removes it. It must return when ctx is done.
	Save(ctx context.Context, key string, val []byte) error
}

// Changed returns a channel that receives after templates have changed. One
// reader is expected, which then calls Save.
func (t *Templates) Changed() <-chan struct{} { return t.changed }

// Load adds what the store holds, received as of time at (Unix nanoseconds).
// Values that are not valid are skipped, and named in the error.
func (t *Templates) Load(ctx context.Context, store TemplateStore, at int64) error {
	saved, err := store.Load(ctx)
	if err != nil {
		return fmt.Errorf("load templates: %w", err)
	}
	var errs []error
	for key, val := range saved {
		if err := t.restore(key, val, at); err != nil {
			errs = append(errs, fmt.Errorf("stored templates %q: %w", key, err))
		}
	}
	return errors.Join(errs...)
}

func (t *Templates) restore(key string, val []byte, at int64) error {
	s, err := parseKey(key)
	if err != nil {
		return err
	}
	p := templateParser{templates: t, scope: s, at: at}
	for len(val) > 0 {
		id, body, rest, err := splitSet(val, 0)
		if err != nil {
			return err
		}
		l, ok := templateSet(s.version, id)
		if !ok {
			return malformed(KindSet, 0)
		}
		if err := p.parse(l, body, 0); err != nil {
			return err
		}
		val = rest
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.dirty, s)
	if d := t.domains[s]; d != nil {
		d.stored = true
	}
	return nil
}

// Save writes what has changed since it was last saved. What cannot be written
// counts as changed still. It does not hold up decoders while it writes.
func (t *Templates) Save(ctx context.Context, store TemplateStore) error {
	var errs []error
	for _, s := range t.takeDirty() {
		if err := store.Save(ctx, s.key(), t.marshal(s)); err != nil {
			errs = append(errs, fmt.Errorf("save templates of %v: %w", s.addr, err))
			t.mu.Lock()
			t.dirty[s] = struct{}{}
			t.mu.Unlock()
		}
	}
	return errors.Join(errs...)
}

func (t *Templates) takeDirty() []scope {
	t.mu.Lock()
	defer t.mu.Unlock()
	scopes := make([]scope, 0, len(t.dirty))
	for s := range t.dirty {
		scopes = append(scopes, s)
		if d := t.domains[s]; d != nil {
			d.stored = true
		}
	}
	clear(t.dirty)
	return scopes
}

// marshal returns the templates of a scope as template sets: the very bytes
// that were received, so that they come back through the same parser.
func (t *Templates) marshal(s scope) []byte {
	t.mu.RLock()
	defer t.mu.RUnlock()
	d := t.domains[s]
	if d == nil {
		return nil
	}
	ids := make([]uint16, 0, len(d.templates))
	for id := range d.templates {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	var b []byte
	for _, id := range ids {
		tpl := d.templates[id]
		if len(tpl.raw) > math.MaxUint16-setHeaderLen {
			continue // cannot come out of one datagram
		}
		b = binary.BigEndian.AppendUint16(b, setOf(s.version, tpl.options))
		b = binary.BigEndian.AppendUint16(b, uint16(setHeaderLen+len(tpl.raw)))
		b = append(b, tpl.raw...)
	}
	return b
}

// key names a scope in a TemplateStore.
func (s scope) key() string {
	return fmt.Sprintf("templates.v%d.%x.%08x", s.version, s.addr.AsSlice(), s.domain)
}

func parseKey(key string) (scope, error) {
	var s scope
	var raw []byte
	if _, err := fmt.Sscanf(key, "templates.v%d.%x.%x", &s.version, &raw, &s.domain); err != nil {
		return scope{}, fmt.Errorf("template key: %w", err)
	}
	addr, ok := netip.AddrFromSlice(raw)
	if !ok || s.version != version9 && s.version != versionIP {
		return scope{}, errors.New("template key: no exporter")
	}
	s.addr = addr
	if s.key() != key {
		return scope{}, errors.New("template key: not canonical")
	}
	return s, nil
}

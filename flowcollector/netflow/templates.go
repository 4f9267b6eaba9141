package netflow

import (
	"bytes"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"
)

// Limits bounds what exporters can make us remember. Zero fields take the
// value of DefaultLimits.
type Limits struct {
	// Exporters is the number of exporter addresses.
	Exporters int
	// Templates is the number of templates of one exporter.
	Templates int
	// Fields is the number of fields of one template.
	Fields int
	// ExporterBytes and Bytes bound the memory, in bytes, that the templates
	// of one exporter, and those of all, may take.
	ExporterBytes, Bytes int
	// Idle is how long a template is kept that is neither sent again nor
	// needed. RFC 7011, section 8.4 asks for at least three times the
	// interval of repetition, which is 10 minutes for Open vSwitch.
	Idle time.Duration
}

// DefaultLimits returns limits that a large site does not reach.
func DefaultLimits() Limits {
	return Limits{
		Exporters:     1024,
		Templates:     4096,
		Fields:        512,
		ExporterBytes: 4 << 20,
		Bytes:         64 << 20,
		Idle:          time.Hour,
	}
}

func (l Limits) withDefaults() Limits {
	d := DefaultLimits()
	for _, f := range []struct{ v, d *int }{
		{&l.Exporters, &d.Exporters}, {&l.Templates, &d.Templates}, {&l.Fields, &d.Fields},
		{&l.ExporterBytes, &d.ExporterBytes}, {&l.Bytes, &d.Bytes},
	} {
		if *f.v <= 0 {
			*f.v = *f.d
		}
	}
	if l.Idle <= 0 {
		l.Idle = d.Idle
	}
	return l
}

// scope is where a template ID means something (RFC 7011, section 3.4.1). The
// source port is no part of it: an exporter that restarts gets another one
// and may not repeat its templates for minutes.
type scope struct {
	addr    netip.Addr
	domain  uint32
	version uint16
}

// domain holds the templates of one scope.
type domain struct {
	templates map[uint16]*template
	// stored says that a TemplateStore may hold a copy.
	stored bool
}

// usage is what the templates of one exporter take.
type usage struct{ templates, bytes int }

// Templates is a bounded set of the templates of all exporters. Decoders share
// it, so that it does not matter which of them an exporter's datagrams reach.
// It is safe for concurrent use.
type Templates struct {
	limits  Limits
	changed chan struct{}
	// epoch grows with every change that makes a looked-up template, or the
	// lack of one, obsolete.
	epoch atomic.Uint64

	mu      sync.RWMutex
	domains map[scope]*domain
	usage   map[netip.Addr]*usage
	bytes   int
	sweepAt int64 // Unix nanoseconds
	// dirty are the scopes that differ from what is stored.
	dirty map[scope]struct{}
}

// NewTemplates returns an empty set.
func NewTemplates(l Limits) *Templates {
	return &Templates{
		limits:  l.withDefaults(),
		changed: make(chan struct{}, 1),
		domains: make(map[scope]*domain),
		usage:   make(map[netip.Addr]*usage),
		dirty:   make(map[scope]struct{}),
	}
}

// Len returns the number of templates.
func (t *Templates) Len() int {
	t.mu.RLock()
	defer t.mu.RUnlock()
	n := 0
	for _, u := range t.usage {
		n += u.templates
	}
	return n
}

// lookup returns nil when the template is not known.
func (t *Templates) lookup(s scope, id uint16) *template {
	t.mu.RLock()
	defer t.mu.RUnlock()
	d := t.domains[s]
	if d == nil {
		return nil
	}
	return d.templates[id]
}

// put adds or replaces a template; it reports false when a limit forbids it.
func (t *Templates) put(s scope, tpl *template, at int64) bool {
	tpl.used.Store(at)
	t.mu.Lock()
	defer t.mu.Unlock()
	if at >= t.sweepAt {
		t.sweep(at)
	}
	d := t.domains[s]
	var old *template
	if d != nil {
		old = d.templates[tpl.id]
	}
	if old != nil && old.options == tpl.options && bytes.Equal(old.raw, tpl.raw) {
		old.used.Store(at)
		return true
	}
	if old != nil {
		t.account(s.addr, -1, -old.cost())
	}
	if !t.room(s.addr, tpl.cost()) {
		if old != nil { // what it meant is no longer true
			t.forget(s, d, old.id)
		}
		return false
	}
	if d == nil {
		d = &domain{templates: make(map[uint16]*template)}
		t.domains[s] = d
	}
	d.templates[tpl.id] = tpl
	t.account(s.addr, 1, tpl.cost())
	t.touch(s)
	return true
}

// room reports whether a template of this cost may be added.
func (t *Templates) room(a netip.Addr, cost int) bool {
	if t.bytes+cost > t.limits.Bytes {
		return false
	}
	u := t.usage[a]
	if u == nil {
		return len(t.usage) < t.limits.Exporters && cost <= t.limits.ExporterBytes
	}
	return u.templates < t.limits.Templates && u.bytes+cost <= t.limits.ExporterBytes
}

func (t *Templates) account(a netip.Addr, templates, size int) {
	u := t.usage[a]
	if u == nil {
		u = &usage{}
		t.usage[a] = u
	}
	u.templates += templates
	u.bytes += size
	t.bytes += size
	if u.templates == 0 {
		delete(t.usage, a)
	}
}

// withdraw removes a template (RFC 7011, section 8.1), or all templates or all
// options templates when id is that of their set. It reports whether there
// was any.
func (t *Templates) withdraw(s scope, id uint16) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	d := t.domains[s]
	if d == nil {
		return false
	}
	found := false
	for i, tpl := range d.templates {
		all := id == setTemplate && !tpl.options || id == setOptions && tpl.options
		if i == id || all {
			t.account(s.addr, -1, -tpl.cost())
			t.forget(s, d, i)
			found = true
		}
	}
	return found
}

// forget removes a template that is no longer accounted for.
func (t *Templates) forget(s scope, d *domain, id uint16) {
	delete(d.templates, id)
	t.touch(s)
	if len(d.templates) > 0 {
		return
	}
	delete(t.domains, s)
	if !d.stored {
		// Nothing to overwrite in the store, and nothing that an exporter
		// could use to make dirty grow.
		delete(t.dirty, s)
	}
}

// touch notes that a scope has changed.
func (t *Templates) touch(s scope) {
	t.epoch.Add(1)
	t.dirty[s] = struct{}{}
	select {
	case t.changed <- struct{}{}:
	default:
	}
}

// precision is how far the time of last use may lag behind, in nanoseconds.
func (t *Templates) precision() int64 { return int64(t.limits.Idle) / 8 }

// sweep removes templates that are idle for too long.
func (t *Templates) sweep(at int64) {
	t.sweepAt = at + t.precision()
	oldest := at - int64(t.limits.Idle)
	for s, d := range t.domains {
		for id, tpl := range d.templates {
			if tpl.used.Load() < oldest {
				t.account(s.addr, -1, -tpl.cost())
				t.forget(s, d, id)
			}
		}
	}
}

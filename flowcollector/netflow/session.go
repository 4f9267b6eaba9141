package netflow

import (
	"net/netip"
	"time"

	"github.com/platelet-sdn/platelet/flowcollector/flow"
)

const (
	maxStreams   = 4096
	streamIdle   = int64(time.Hour)
	cachedStream = 16 // templates remembered per stream
)

// streamKey identifies what one sequence of datagrams belongs to.
type streamKey struct {
	from    netip.AddrPort
	domain  uint32
	version uint16
}

func (k streamKey) scope() scope {
	return scope{addr: k.from.Addr(), domain: k.domain, version: k.version}
}

// session is one source port of an exporter.
type session struct {
	sequence sequence
	totals   totals
}

// stream is one observation domain within a session.
type stream struct {
	key      streamKey
	session  *session
	sequence sequence
	tap      bool
	// rate is the sampling rate that an options record or a version 5 header
	// told for the whole stream, 0 if none did.
	rate float64
	seen int64 // Unix nanoseconds

	// cache holds the templates used last, by the low bits of their ID, as
	// of epoch. nil templates are known to be missing.
	epoch uint64
	cache [cachedStream]struct {
		id uint16
		t  *template
	}
}

func (s *stream) exporter() flow.Exporter {
	return flow.Exporter{Addr: s.key.from.Addr(), Domain: s.key.domain}
}

// template looks a template up without a lock as long as none has changed.
func (s *stream) template(t *Templates, id uint16) *template {
	if epoch := t.epoch.Load(); epoch != s.epoch {
		clear(s.cache[:])
		s.epoch = epoch
	}
	c := &s.cache[id%cachedStream]
	if c.id != id {
		c.id, c.t = id, t.lookup(s.key.scope(), id)
	}
	return c.t
}

// sessions is the bounded set of streams that a decoder knows.
type sessions struct {
	last    *stream
	streams map[streamKey]*stream
	ports   map[netip.AddrPort]*session
	// sweepAt is when to look for idle streams at the earliest.
	sweepAt int64
	// spare serves streams beyond the bound: their records are decoded, but
	// nothing is remembered of them.
	spare *stream
}

func newSessions() sessions {
	return sessions{
		streams: make(map[streamKey]*stream),
		ports:   make(map[netip.AddrPort]*session),
		spare:   &stream{session: &session{}},
	}
}

func (s *sessions) stream(k streamKey, at int64) *stream {
	if s.last != nil && s.last.key == k {
		s.last.seen = at
		return s.last
	}
	st := s.streams[k]
	if st == nil {
		if st = s.add(k, at); st == nil {
			*s.spare.session = session{}
			*s.spare = newStream(k, s.spare.session)
			return s.spare
		}
	}
	st.seen = at
	s.last = st
	return st
}

// add returns nil when there are too many streams.
func (s *sessions) add(k streamKey, at int64) *stream {
	if len(s.streams) >= maxStreams {
		if at < s.sweepAt {
			return nil
		}
		s.sweep(at)
		if len(s.streams) >= maxStreams {
			return nil
		}
	}
	p := s.ports[k.from]
	if p == nil {
		p = &session{}
		s.ports[k.from] = p
	}
	st := newStream(k, p)
	s.streams[k] = &st
	return &st
}

func newStream(k streamKey, p *session) stream {
	return stream{key: k, session: p, tap: k.version == versionIP && flow.IsTapDomain(k.domain)}
}

// sweep drops idle streams, at most once a second so that a flood of senders
// cannot make it the main occupation.
func (s *sessions) sweep(at int64) {
	s.sweepAt = at + int64(time.Second)
	s.last = nil
	clear(s.ports)
	for k, st := range s.streams {
		if at-st.seen > streamIdle {
			delete(s.streams, k)
			continue
		}
		s.ports[k.from] = st.session
	}
}

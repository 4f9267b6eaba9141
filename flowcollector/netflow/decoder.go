// Package netflow decodes IPFIX (RFC 7011), NetFlow version 9 (RFC 3954) and
// version 5 into flow records.
//
// It stands between the network and everything else, so it believes nothing: a
// datagram costs time in proportion to its length, templates are bounded in
// number and size (Limits), and what is wrong ends in an Error that says where.
// Decoding data allocates nothing.
package netflow

import (
	"encoding/binary"
	"net/netip"

	"github.com/platelet-sdn/platelet/flowcollector/flow"
)

// Config configures a Decoder. The zero value is useful.
type Config struct {
	// Templates may serve several decoders; nil stands for a set of
	// the decoder's own.
	Templates *Templates
	// SkipEgress leaves out records whose flowDirection is egress. Open
	// vSwitch's bridge-level export has every packet twice, on its way in
	// and on its way out; the former says nothing of the output port, the
	// latter nothing of packets that are dropped.
	SkipEgress bool
	// Unknown, if set, is told of every data set without a template.
	Unknown func(exporter flow.Exporter, set uint16)
	// Interface, if set, is told of every interface name (IE 82) that stands
	// beside an interface index. The name is valid during the call.
	Interface func(exporter flow.Exporter, index uint32, name []byte)
}

// Counts are totals since a decoder was made.
type Counts struct {
	// Lost is the number of data records (IPFIX, version 5) or datagrams
	// (version 9) that sequence numbers show to be missing; one that comes late, too.
	Lost uint64
	// Egress is the number of records left out because of SkipEgress.
	Egress uint64
}

// Decoder turns datagrams into records. It is not safe for concurrent use.
type Decoder struct {
	cfg       Config
	templates *Templates
	sessions  sessions
	counts    Counts
	x         extra
}

// NewDecoder returns a decoder.
func NewDecoder(cfg Config) *Decoder {
	if cfg.Templates == nil {
		cfg.Templates = NewTemplates(Limits{})
	}
	return &Decoder{cfg: cfg, templates: cfg.Templates, sessions: newSessions()}
}

// Counts returns the totals so far.
func (d *Decoder) Counts() Counts { return d.counts }

// Set IDs (RFC 7011, section 3.3.2; RFC 3954, sections 5.2 and 6.1).
const (
	setTemplate   = 2
	setOptions    = 3
	setTemplateV9 = 0
	setOptionsV9  = 1
)

const (
	headerLenIP  = 16
	headerLenV9  = 20
	setHeaderLen = 4
)

// Decode appends the records of a datagram to dst. at is the time of
// reception in Unix nanoseconds, from is the sender. After an error, which is
// of type *Error, the records decoded before or beside the broken part are
// valid; the rest of the datagram is not read unless the parts in front of it
// have a trustworthy length.
func (d *Decoder) Decode(dst []flow.Record, datagram []byte, at int64, from netip.AddrPort) ([]flow.Record, error) {
	if len(datagram) < 2 {
		return dst, malformed(KindHeader, 0)
	}
	from = netip.AddrPortFrom(from.Addr().Unmap().WithZone(""), from.Port())
	switch version := binary.BigEndian.Uint16(datagram); version {
	case versionIP:
		return d.decodeIPFIX(dst, datagram, at, from)
	case version9:
		return d.decodeV9(dst, datagram, at, from)
	case version5:
		return d.decodeV5(dst, datagram, at, from)
	}
	return dst, malformed(KindVersion, 0)
}

// message is the datagram being decoded.
type message struct {
	dst    []flow.Record
	at     int64
	stream *stream
	// units is the number of data records found, options included; it is
	// not known when a template was missing.
	units uint32
	known bool
	err   error
}

// fail keeps the first error.
func (m *message) fail(err error) {
	if m.err == nil {
		m.err = err
	}
}

func (d *Decoder) decodeIPFIX(dst []flow.Record, b []byte, at int64, from netip.AddrPort) ([]flow.Record, error) {
	if len(b) < headerLenIP {
		return dst, malformed(KindHeader, 0)
	}
	length := int(binary.BigEndian.Uint16(b[2:]))
	if length < headerLenIP || length > len(b) {
		return dst, malformed(KindLength, 2)
	}
	seq, domain := binary.BigEndian.Uint32(b[8:]), binary.BigEndian.Uint32(b[12:])
	s := d.sessions.stream(streamKey{from: from, domain: domain, version: versionIP}, at)
	d.counts.Lost += lost(s.sequence, s.session.sequence, seq)
	m := message{dst: dst, at: at, stream: s, known: true}
	d.sets(&m, b[:length], headerLenIP)
	s.sequence.advance(seq, m.units, m.known)
	s.session.sequence.advance(seq, m.units, m.known)
	return m.dst, m.err
}

func (d *Decoder) decodeV9(dst []flow.Record, b []byte, at int64, from netip.AddrPort) ([]flow.Record, error) {
	if len(b) < headerLenV9 {
		return dst, malformed(KindHeader, 0)
	}
	seq, source := binary.BigEndian.Uint32(b[12:]), binary.BigEndian.Uint32(b[16:])
	s := d.sessions.stream(streamKey{from: from, domain: source, version: version9}, at)
	d.counts.Lost += lost(s.sequence, s.session.sequence, seq)
	m := message{dst: dst, at: at, stream: s}
	d.sets(&m, b, headerLenV9)
	s.sequence.advance(seq, 1, true)
	s.session.sequence.advance(seq, 1, true)
	return m.dst, m.err
}

// splitSet splits the set at the start of b, which starts at offset in the
// datagram, into its ID, its content and what follows.
func splitSet(b []byte, offset int) (id uint16, body, rest []byte, err error) {
	if len(b) < setHeaderLen {
		return 0, nil, nil, malformed(KindSet, offset)
	}
	length := int(binary.BigEndian.Uint16(b[2:]))
	if length < setHeaderLen || length > len(b) {
		return 0, nil, nil, malformed(KindSet, offset)
	}
	return binary.BigEndian.Uint16(b), b[setHeaderLen:length], b[length:], nil
}

// templateSet returns the layout of a template set; ok is false for others.
func templateSet(version, id uint16) (l layout, ok bool) {
	for _, options := range [2]bool{false, true} {
		if id == setOf(version, options) {
			return layout{version: version, options: options}, true
		}
	}
	return layout{}, false
}

// setOf returns the ID of template sets.
func setOf(version uint16, options bool) uint16 {
	switch {
	case version == version9 && options:
		return setOptionsV9
	case version == version9:
		return setTemplateV9
	case options:
		return setOptions
	}
	return setTemplate
}

// sets decodes the sets of b from offset on.
func (d *Decoder) sets(m *message, b []byte, offset int) {
	key := m.stream.key
	for offset < len(b) {
		id, body, rest, err := splitSet(b[offset:], offset)
		if err != nil {
			m.fail(err)
			return
		}
		if id >= firstDataSet {
			d.data(m, id, body, offset+setHeaderLen)
		} else if l, ok := templateSet(key.version, id); ok {
			p := templateParser{templates: d.templates, scope: key.scope(), at: m.at}
			if err := p.parse(l, body, offset+setHeaderLen); err != nil {
				m.fail(err)
			}
		} // else reserved: "MUST be ignored" (RFC 7011, section 3.3.2)
		offset = len(b) - len(rest)
	}
}

// templateParser puts the templates of sets into place.
type templateParser struct {
	templates *Templates
	scope     scope
	at        int64
}

// parse reads the template records of a set whose content starts at offset.
func (p templateParser) parse(l layout, b []byte, offset int) error {
	end := offset + len(b)
	for len(b) >= 4 && binary.BigEndian.Uint16(b) != 0 { // else padding
		at := end - len(b)
		id, t, n, err := l.parseTemplate(b, at, p.templates.limits.Fields)
		switch {
		case err != nil:
			return err
		case t == nil:
			if !p.templates.withdraw(p.scope, id) {
				return malformed(KindTemplate, at)
			}
		case !p.templates.put(p.scope, t, p.at):
			return malformed(KindTemplateLimit, at)
		}
		b = b[n:]
	}
	return nil
}

// data decodes a data set whose content starts at offset.
func (d *Decoder) data(m *message, id uint16, b []byte, offset int) {
	t := m.stream.template(d.templates, id)
	if t == nil {
		m.known = false
		if d.cfg.Unknown != nil {
			d.cfg.Unknown(m.stream.exporter(), id)
		}
		return
	}
	// Other threads read this word all the time: leave it alone while it is
	// precise enough.
	if m.at-t.used.Load() > d.templates.precision() {
		t.used.Store(m.at)
	}
	end := offset + len(b)
	for len(b) >= t.minSize {
		at := end - len(b)
		var ok bool
		if t.options {
			b, ok = d.option(m, t, b)
		} else {
			b, ok = d.record(m, t, b)
		}
		if !ok {
			m.known = false
			m.fail(malformed(KindRecord, at))
			return
		}
		m.units++
	}
}

// option reads an options record, of which only a sampling rate that holds for
// the whole observation domain matters here.
func (d *Decoder) option(m *message, t *template, b []byte) (rest []byte, ok bool) {
	d.x = extra{}
	var r flow.Record
	rest, ok = t.read(b, &r, &d.x)
	if rate := d.x.rate(); ok && rate > 0 && !t.has.has(opSelector) {
		m.stream.rate = rate
	}
	return rest, ok
}

// record appends one data record to m.dst.
func (d *Decoder) record(m *message, t *template, b []byte) (rest []byte, ok bool) {
	n := len(m.dst)
	m.dst = grow(m.dst)
	r, x := &m.dst[n], &d.x
	*x = extra{}
	if rest, ok = t.read(b, r, x); !ok {
		m.dst = m.dst[:n]
		return nil, false
	}
	if x.egress && d.cfg.SkipEgress {
		// The counters go on even so; see tcpFlags.
		m.stream.session.tcpFlags(t.has, r.Packets, x)
		d.counts.Egress++
		m.dst = m.dst[:n]
		return rest, true
	}
	r.Time = m.at
	r.Exporter = m.stream.exporter()
	m.stream.complete(t, r, x)
	if d.cfg.Interface != nil {
		d.names(r, x)
	}
	return rest, true
}

func (d *Decoder) names(r *flow.Record, x *extra) {
	if len(x.inName) > 0 && r.InPort != 0 {
		d.cfg.Interface(r.Exporter, r.InPort, x.inName)
	}
	if len(x.outName) > 0 && r.OutPort != 0 {
		d.cfg.Interface(r.Exporter, r.OutPort, x.outName)
	}
}

// grow appends a zero record without building it elsewhere first.
func grow(dst []flow.Record) []flow.Record {
	if len(dst) == cap(dst) {
		return append(dst, flow.Record{})
	}
	dst = dst[:len(dst)+1]
	dst[len(dst)-1] = flow.Record{}
	return dst
}

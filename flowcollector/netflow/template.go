package netflow

import (
	"encoding/binary"
	"math"
	"sync/atomic"
)

const (
	version5  = 5
	version9  = 9
	versionIP = 10

	firstDataSet   = 256
	variableLength = 0xffff
	enterpriseBit  = 0x8000
)

// field reads one field at a fixed distance from the start of its segment.
type field struct {
	op     opcode
	length uint8
	offset uint16
}

// segment is a run of fields of fixed length, and the field of variable length
// that ends it, if any. Template positions that a variable field shifts are
// therefore still read at offsets known in advance.
type segment struct {
	size     int
	fields   []field
	variable bool
	// name is opInPort or opOutPort when the variable field is the name of
	// that interface, otherwise opNone.
	name opcode
}

// template is a (options) template record, compiled. It is immutable but for
// used.
type template struct {
	id       uint16
	options  bool
	minSize  int // octets of the shortest possible record, at least 1
	segments []segment
	has      opset
	// raw is the template record as received, to recognise a repetition and
	// to be stored.
	raw []byte
	// used is when the template was last received or needed, in Unix
	// nanoseconds.
	used atomic.Int64
}

// cost is about how many bytes the template occupies.
func (t *template) cost() int {
	const fixed, perSegment, perField = 256, 64, 4
	n := fixed + len(t.raw)
	for i := range t.segments {
		n += perSegment + perField*cap(t.segments[i].fields)
	}
	return n
}

// layout is the shape of a template record in front of its field specifiers.
type layout struct {
	version uint16
	options bool
}

// parseTemplate parses the template record at the start of b. It returns the
// octets used. A nil template without an error is a withdrawal of id (RFC
// 7011, section 8.1). offset says where b lies in the datagram.
func (l layout) parseTemplate(b []byte, offset, maxFields int) (id uint16, t *template, n int, err error) {
	if len(b) < 4 {
		return 0, nil, 0, malformed(KindTemplate, offset)
	}
	id, count := binary.BigEndian.Uint16(b), int(binary.BigEndian.Uint16(b[2:]))
	if l.version == versionIP && count == 0 {
		return id, nil, 4, nil
	}
	n = 4
	if l.options {
		if len(b) < 6 {
			return 0, nil, 0, malformed(KindTemplate, offset)
		}
		if l.version == version9 {
			// RFC 3954, section 6.1: octets of scopes, octets of options.
			count = (count + int(binary.BigEndian.Uint16(b[4:]))) / 4
		}
		n = 6
	}
	if id < firstDataSet {
		return 0, nil, 0, malformed(KindTemplate, offset)
	}
	if count > maxFields {
		return 0, nil, 0, malformed(KindTemplateLimit, offset)
	}
	c := compiler{t: &template{id: id, options: l.options}}
	for range count {
		used, ok := c.field(b[n:], l.version)
		if !ok {
			return 0, nil, 0, malformed(KindTemplate, offset+n)
		}
		n += used
	}
	if !c.finish() {
		return 0, nil, 0, malformed(KindEmptyTemplate, offset)
	}
	c.t.raw = append([]byte(nil), b[:n]...)
	return id, c.t, n, nil
}

// compiler collects the field specifiers of one template.
type compiler struct {
	t   *template
	cur segment
	// port is the interface field seen last: the one whose name follows.
	port opcode
}

// field takes the specifier at the start of b and returns its length.
func (c *compiler) field(b []byte, version uint16) (n int, ok bool) {
	if len(b) < 4 {
		return 0, false
	}
	ie, length := binary.BigEndian.Uint16(b), int(binary.BigEndian.Uint16(b[2:]))
	op, n := element(ie), 4
	if version == versionIP && ie&enterpriseBit != 0 {
		if len(b) < 8 {
			return 0, false
		}
		op, n = opNone, 8
	}
	if op == opInPort || op == opOutPort {
		c.port = op
	}
	if version == versionIP && length == variableLength {
		if ie == ieIfName {
			c.cur.name = c.port
		}
		c.cur.variable = true
		c.flush()
		return n, true
	}
	if op.fits(length) {
		c.cur.fields = append(c.cur.fields, field{op: op, length: uint8(length), offset: uint16(c.cur.size)})
		c.t.has |= 1 << op
	}
	c.cur.size += length
	// No record fits into a datagram beyond this, and offsets stay in range.
	return n, c.cur.size <= math.MaxUint16
}

func (c *compiler) flush() {
	c.t.minSize += c.cur.size
	if c.cur.variable {
		c.t.minSize++
	}
	c.t.segments = append(c.t.segments, c.cur)
	c.cur = segment{}
}

// finish reports whether the records of the template have any octets at all;
// otherwise a set would hold endlessly many of them.
func (c *compiler) finish() bool {
	if c.cur.size > 0 {
		c.flush()
	}
	if c.t.options {
		c.keep(1<<opInterval | 1<<opSpace | 1<<opSelector)
	} else {
		c.keep(^c.otherClocks())
	}
	return c.t.minSize > 0
}

// otherClocks returns the opcodes of all clocks but the best complete one.
func (c *compiler) otherClocks() opset {
	var drop opset
	found := false
	for _, start := range clocks() {
		pair := opset(3) << start
		if !found && c.t.has&pair == pair {
			found = true
			continue
		}
		drop |= pair
	}
	return drop
}

// keep drops the fields whose opcode is not in s.
func (c *compiler) keep(s opset) {
	c.t.has &= s
	for i := range c.t.segments {
		fields := c.t.segments[i].fields[:0]
		for _, f := range c.t.segments[i].fields {
			if s.has(f.op) {
				fields = append(fields, f)
			}
		}
		c.t.segments[i].fields = fields
	}
}

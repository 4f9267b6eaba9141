package sflow

import "encoding/binary"

// cursor reads XDR (RFC 4506) front to back and remembers where it is in the
// datagram.
type cursor struct {
	b      []byte
	offset int
}

// need returns an error of this kind when fewer than n bytes are left.
func (c *cursor) need(n int, kind string) error {
	if len(c.b) < n {
		return &Error{Kind: kind, Offset: c.offset}
	}
	return nil
}

// uint32 reads an integer; the caller has checked that it is there.
func (c *cursor) uint32() uint32 {
	v := binary.BigEndian.Uint32(c.b)
	c.skip(4)
	return v
}

// uint64 reads a hyper integer; the caller has checked that it is there.
func (c *cursor) uint64() uint64 {
	v := binary.BigEndian.Uint64(c.b)
	c.skip(8)
	return v
}

// skip moves on; the caller has checked that n bytes are there.
func (c *cursor) skip(n int) { c.b, c.offset = c.b[n:], c.offset+n }

// count reads a number of structures, each of which takes at least a format
// and a length, and refuses one that what is left cannot hold.
func (c *cursor) count(kind string) (int, error) {
	at := c.offset
	n := c.uint32()
	if uint64(n) > uint64(len(c.b)/structHeaderLen) {
		return 0, &Error{Kind: kind, Offset: at}
	}
	return int(n), nil
}

// structure splits off the next structure: its format and its content.
func (c *cursor) structure(kind string) (format uint32, body cursor, err error) {
	if err := c.need(structHeaderLen, kind); err != nil {
		return 0, cursor{}, err
	}
	at := c.offset
	format = c.uint32()
	length := c.uint32()
	if uint64(length) > uint64(len(c.b)) {
		return 0, cursor{}, &Error{Kind: kind, Offset: at}
	}
	body = cursor{b: c.b[:length], offset: c.offset}
	c.skip(int(length))
	return format, body, nil
}

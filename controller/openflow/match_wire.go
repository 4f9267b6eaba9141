package openflow

import (
	"encoding/binary"
)

// matchTypeOXM is OFPMT_OXM (section 7.2.3.1).
const matchTypeOXM = 1

// oxmHeaderLen is the length of an OXM TLV's header (section 7.2.3.2).
const oxmHeaderLen = 4

func (o OXM) append(b []byte) []byte {
	if o.field == fieldUnknown {
		return append(b, o.raw...)
	}
	info := &fields[o.field]
	h := info.headers[0]
	n := info.size
	code := h.field << 1
	if o.masked {
		code |= 1
		n *= 2
	}
	b = append(b, byte(h.class>>8), byte(h.class), code, n)
	b = append(b, o.value[:info.size]...)
	if o.masked {
		b = append(b, o.mask[:info.size]...)
	}
	return b
}

func (m Match) appendOXMs(b []byte) []byte {
	for i := range m {
		b = m[i].append(b)
	}
	return b
}

// append encodes struct ofp_match with its padding (section 7.2.3.1).
func (m Match) append(b []byte) []byte {
	start := len(b)
	b = append(b, 0, matchTypeOXM, 0, 0)
	b = m.Canonical().appendOXMs(b)
	binary.BigEndian.PutUint16(b[start+2:], uint16(len(b)-start))
	return padTo8(b, start)
}

// decodeMatch reads struct ofp_match at the start of b and returns what
// follows its padding.
func decodeMatch(b []byte) (Match, []byte, error) {
	if len(b) < 8 {
		return nil, nil, malformed("match of %d bytes", len(b))
	}
	if t := binary.BigEndian.Uint16(b); t != matchTypeOXM {
		return nil, nil, malformed("match type %d", t)
	}
	n := int(binary.BigEndian.Uint16(b[2:]))
	if n < 4 || roundUp8(n) > len(b) {
		return nil, nil, malformed("match length %d of %d bytes", n, len(b))
	}
	m, err := decodeOXMs(b[4:n])
	return m, b[roundUp8(n):], err
}

func decodeOXMs(b []byte) (Match, error) {
	var m Match
	if len(b) > 0 {
		m = make(Match, 0, min(len(b)/6, 16)) // a field takes 6 bytes or more, as a rule
	}
	for len(b) > 0 {
		if len(b) < oxmHeaderLen || len(b) < oxmHeaderLen+int(b[3]) {
			return nil, malformed("match field cut short after %d fields", len(m))
		}
		n := oxmHeaderLen + int(b[3])
		o, err := decodeOXM(b[:n])
		if err != nil {
			return nil, err
		}
		m = append(m, o)
		b = b[n:]
	}
	return m.settle(), nil
}

// decodeOXM reads one TLV; b holds exactly it.
func decodeOXM(b []byte) (OXM, error) {
	h := oxmHeader{class: binary.BigEndian.Uint16(b), field: b[2] >> 1}
	masked, body := b[2]&1 != 0, b[oxmHeaderLen:]
	if h.class == classExperimenter {
		if len(body) < 4 {
			return OXM{}, malformed("experimenter match field of %d bytes", len(body))
		}
		h.experimenter = binary.BigEndian.Uint32(body)
		body = body[4:]
	}
	f := h.lookup()
	if f == fieldUnknown {
		return OXM{raw: string(b)}, nil
	}
	size := int(fields[f].size)
	want := size
	if masked {
		want *= 2
	}
	if len(body) != want {
		return OXM{}, malformed("%s of %d bytes, not %d", f, len(body), want)
	}
	if masked {
		return oxmMasked(f, body[:size], body[size:]), nil
	}
	return oxm(f, body), nil
}

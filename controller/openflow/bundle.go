package openflow

import "encoding/binary"

// bundleControl is a step of a bundle (section 7.3.9.2, enum
// ofp_bundle_ctrl_type).
type bundleControl uint16

const (
	bundleOpen    bundleControl = 0
	bundleClose   bundleControl = 2
	bundleCommit  bundleControl = 4
	bundleDiscard bundleControl = 6
)

// bundleFlags asks for all or nothing, and in the order of the members
// (section 7.3.9.3, OFPBF_ATOMIC and OFPBF_ORDERED).
const bundleFlags uint16 = 1<<0 | 1<<1

func appendBundleControl(b []byte, xid, id uint32, c bundleControl) []byte {
	var body [8]byte
	binary.BigEndian.PutUint32(body[:], id)
	binary.BigEndian.PutUint16(body[4:], uint16(c))
	binary.BigEndian.PutUint16(body[6:], bundleFlags)
	return appendMessage(b, TypeBundleControl, xid, body[:])
}

// appendBundleAdd appends a bundle-add with a message in it, which member
// appends (section 7.3.9.6); both carry the same transaction ID, as the
// section demands.
func appendBundleAdd(b []byte, xid, id uint32, member func(b []byte, xid uint32) ([]byte, error)) ([]byte, error) {
	start := len(b)
	b = appendHeader(b, TypeBundleAdd, xid)
	b = binary.BigEndian.AppendUint32(b, id)
	b = append(b, 0, 0)
	b = binary.BigEndian.AppendUint16(b, bundleFlags)
	b, err := member(b, xid)
	if err != nil {
		return b[:start], err
	}
	return finishMessage(b, start)
}

// decodeBundleControl reads the reply's step.
func decodeBundleControl(b []byte) (id uint32, c bundleControl, err error) {
	if len(b) < 8 {
		return 0, 0, malformed("bundle control of %d bytes", len(b))
	}
	return binary.BigEndian.Uint32(b), bundleControl(binary.BigEndian.Uint16(b[4:])), nil
}

package netflow

// maxGap is the largest jump of a sequence number that is taken for loss, and
// not for a restarted exporter.
const maxGap = 1 << 20

// sequence is the next expected sequence number.
type sequence struct {
	next  uint32
	known bool
}

// gap returns how far seq is ahead; ok is false when that cannot be told.
func (s sequence) gap(seq uint32) (n int32, ok bool) {
	if !s.known {
		return 0, false
	}
	n = int32(seq - s.next)
	return n, n > -maxGap && n < maxGap
}

// lost returns how many units are missing in front of seq. IPFIX numbers the
// data records of each observation domain (RFC 7011, section 3.1), but Open
// vSwitch those of the whole session, so either sequence may be the one that
// continues. Where a domain is new, nothing can be told.
func lost(domain, session sequence, seq uint32) uint64 {
	d, dok := domain.gap(seq)
	s, sok := session.gap(seq)
	switch {
	case dok && d == 0 || sok && s == 0:
		return 0
	case dok && sok && d > 0 && s > 0:
		return uint64(min(d, s))
	case dok && d > 0:
		return uint64(d)
	}
	return 0
}

// advance moves s past the units from seq on. A late datagram does not move it
// back, or the next one would seem to follow a gap.
func (s *sequence) advance(seq, units uint32, known bool) {
	if n, ok := s.gap(seq); ok && n < 0 {
		const late = 1 << 10
		if n > -late {
			return
		}
	}
	*s = sequence{next: seq + units, known: known}
}

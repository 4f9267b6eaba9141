package oftest

import "time"

// tcpState is the state of one end of a TCP connection, in the order in
// which Open vSwitch compares them.
type tcpState uint8

const (
	tcpClosed tcpState = iota
	tcpListen
	tcpSynSent
	tcpSynReceived
	tcpEstablished
	tcpCloseWait
	tcpFinWait1
	tcpClosing
	tcpLastAck
	tcpFinWait2
	tcpTimeWait
)

// tcpPeer is what is known of one end: the window that Guido van Rooij
// describes in "Real Stateful TCP Packet Filtering in IP Filter", as pf and
// Open vSwitch keep it.
type tcpPeer struct {
	state  tcpState
	low    uint32 // the highest sequence number that it sent
	high   uint32 // the highest that the other end allows
	window uint32 // the largest that it offered
}

const (
	// ackSlack is how far acknowledgements may be off: a window and a
	// segment.
	ackSlack = 65535 + 1500
	// unknownScale is what windows are scaled by when nobody saw the
	// handshake: as far as TCP allows.
	unknownScale = 14
	// noHigh stands in high before the other end has said anything.
	noHigh = 1
)

// notBefore compares sequence numbers, which wrap around.
func notBefore(a, b uint32) bool { return int32(a-b) >= 0 }

// invalidFlags reports combinations of control bits that no stack sends.
func invalidFlags(f uint16) bool {
	switch {
	case f&SYN != 0 && f&(RST|FIN) != 0, f&SYN == 0 && f&(ACK|RST) == 0:
		return true
	}
	return f&ACK == 0 && f&(FIN|PSH|URG) != 0
}

// beginTCP takes a connection's first segment.
func (c *conn) beginTCP(p *Packet) {
	end := p.Seq + uint32(p.Payload) + 1
	if p.TCPFlags&SYN != 0 {
		end++
	}
	if p.TCPFlags&FIN != 0 {
		end++
	}
	c.scaled = p.TCPFlags&SYN == 0
	c.peers[0] = tcpPeer{state: tcpSynSent, low: p.Seq, high: end, window: max(1, uint32(p.Window))}
	c.peers[1] = tcpPeer{high: noHigh, window: 1}
}

// updateTCP takes a segment of a connection.
func (c *conn) updateTCP(now time.Time, p *Packet, reply bool) verdict {
	from, to := &c.peers[0], &c.peers[1]
	if reply {
		from, to = to, from
	}
	if invalidFlags(p.TCPFlags) {
		return isNotOfThis
	}
	if p.TCPFlags&(SYN|ACK) == SYN {
		switch {
		case from.state >= tcpFinWait2 && to.state >= tcpFinWait2:
			return startsAnew
		case from.state <= tcpSynSent:
			from.state = tcpSynSent
			c.expires = now.Add(timeoutTCPFirst)
			return belongsNew
		}
	}
	scale := 0
	if c.scaled && p.TCPFlags&SYN == 0 {
		scale = unknownScale
	}
	s := segment{Packet: p, from: from, to: to, scale: scale}
	s.measure()
	switch {
	case s.fits():
		s.slide()
		s.advance()
		c.expires = now.Add(c.timeoutTCP())
	case s.nearlyFits():
		s.slide()
		s.end()
	default:
		return isNotOfThis
	}
	return belongs
}

// segment is a TCP segment between two ends.
type segment struct {
	*Packet
	from, to       *tcpPeer
	scale          int
	seq, last, ack uint32 // last is behind its last byte
	skewed         bool   // whether the acknowledgement counts
}

// measure works out where the segment begins and ends and what it
// acknowledges; the first of an end tells where that stands.
func (s *segment) measure() {
	s.seq, s.ack, s.skewed = s.Seq, s.Ack, true
	s.last = s.Seq + uint32(s.Payload)
	for _, flag := range []uint16{SYN, FIN} {
		if s.TCPFlags&flag != 0 {
			s.last++
		}
	}
	if s.from.state < tcpSynSent {
		s.from.state, s.from.low = tcpSynSent, s.seq
		if high := s.last + max(1, s.to.window<<s.scale); s.from.high == noHigh || notBefore(high, s.from.high) {
			s.from.high, s.skewed = high, false
		}
		s.from.window = max(s.from.window, uint32(s.Window))
	}
	if s.TCPFlags&ACK == 0 || s.ack == 0 && s.TCPFlags&RST != 0 {
		s.ack = s.to.low
	}
	if s.seq == s.last { // without data, where it stands does not matter
		s.seq, s.last = s.from.low, s.from.low
	}
}

// fits reports whether the segment is within the window, and a reset exactly
// where it must be.
func (s *segment) fits() bool {
	var skew int32
	if s.skewed {
		skew = int32(s.to.low - s.ack)
	}
	return notBefore(s.from.high, s.last) &&
		notBefore(s.seq, s.from.low-s.to.window<<s.scale) &&
		skew >= -ackSlack && skew <= ackSlack<<s.scale &&
		(s.TCPFlags&RST == 0 || s.Seq-s.from.low+1 <= 2)
}

// nearlyFits is laxer while one end has said nothing, and after the end.
func (s *segment) nearlyFits() bool {
	return (s.to.state < tcpSynSent || s.to.state >= tcpFinWait2 || s.from.state >= tcpFinWait2) &&
		notBefore(s.from.high+ackSlack, s.last) && notBefore(s.seq, s.from.low-ackSlack)
}

// slide moves the windows on.
func (s *segment) slide() {
	s.from.window = max(s.from.window, uint32(s.Window))
	if notBefore(s.last, s.from.low) {
		s.from.low = s.last
	}
	if offered := uint32(s.Window) << s.scale; notBefore(s.ack+offered, s.to.high) {
		s.to.high = s.ack + max(1, offered)
	}
}

// advance moves the states on.
func (s *segment) advance() {
	if s.TCPFlags&FIN != 0 && s.from.state < tcpClosing {
		s.from.state = tcpClosing
	}
	if s.TCPFlags&ACK != 0 {
		switch s.to.state {
		case tcpSynSent:
			s.to.state = tcpEstablished
		case tcpClosing:
			s.to.state = tcpFinWait2
		}
	}
	s.end()
}

// end moves the states on that end a connection.
func (s *segment) end() {
	if s.TCPFlags&FIN != 0 && s.from.state < tcpClosing {
		s.from.state = tcpClosing
	}
	if s.TCPFlags&RST != 0 {
		s.from.state, s.to.state = tcpTimeWait, tcpTimeWait
	}
}

func (c *conn) timeoutTCP() time.Duration {
	a, b := c.peers[0].state, c.peers[1].state
	switch {
	case min(a, b) >= tcpFinWait2:
		return timeoutTCPClosed
	case min(a, b) >= tcpClosing:
		return timeoutTCPFinWait
	case min(a, b) < tcpEstablished:
		return timeoutTCPOpening
	case max(a, b) >= tcpClosing:
		return timeoutTCPClosing
	}
	return timeoutTCPEstablished
}

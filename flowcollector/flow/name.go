package flow

import "strconv"

// String names a kind of telemetry as documents do.
func (s Source) String() string {
	switch s {
	case SourcePacket:
		return "packet"
	case SourceSFlow:
		return "sflow"
	case SourceTap:
		return "tap"
	case SourceIPFIX:
		return "ipfix"
	case SourceLog:
		return "log"
	}
	return "source-" + strconv.Itoa(int(s))
}

// String names a signal.
func (s Signal) String() string {
	names := [...]string{"traffic", "attempt", "accept", "refuse", "unreachable", "udp", "arp-request", "arp-reply", "dropped", "finish", "icmp", "silence", "probe", "logged", "forged"}
	if int(s) < len(names) {
		return names[s]
	}
	return "signal-" + strconv.Itoa(int(s))
}

// ProtoName names an IP protocol number, or writes it.
func ProtoName(proto uint8) string {
	switch proto {
	case ProtoICMP:
		return "icmp"
	case ProtoTCP:
		return "tcp"
	case ProtoUDP:
		return "udp"
	case ProtoICMPv6:
		return "icmp6"
	case ProtoSCTP:
		return "sctp"
	}
	return strconv.Itoa(int(proto))
}

// FlagNames writes TCP control bits as tcpdump does: S, F, R, P, "." for ACK.
func FlagNames(flags uint8) string {
	out := make([]byte, 0, 8)
	for _, f := range []struct {
		bit  uint8
		name byte
	}{{SYN, 'S'}, {FIN, 'F'}, {RST, 'R'}, {PSH, 'P'}, {ACK, '.'}, {URG, 'U'}, {ECE, 'E'}, {CWR, 'W'}} {
		if flags&f.bit != 0 {
			out = append(out, f.name)
		}
	}
	return string(out)
}

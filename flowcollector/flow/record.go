// Package flow defines the record that every telemetry source of Platelet is
// turned into. It is a leaf: decoders produce records, detectors consume them.
package flow

import (
	"fmt"
	"net"
	"net/netip"
)

// TCP control bits as they stand in the header (RFC 9293, section 3.1).
const (
	FIN uint8 = 1 << iota
	SYN
	RST
	PSH
	ACK
	URG
	ECE
	CWR
)

// IP protocol numbers (IANA) that the project tells apart.
const (
	ProtoICMP   uint8 = 1
	ProtoTCP    uint8 = 6
	ProtoUDP    uint8 = 17
	ProtoICMPv6 uint8 = 58
	ProtoSCTP   uint8 = 132
)

// EtherTypes (IANA) that the project tells apart.
const (
	EtherIPv4 uint16 = 0x0800
	EtherARP  uint16 = 0x0806
	EtherVLAN uint16 = 0x8100
	EtherIPv6 uint16 = 0x86dd
)

// Source says which kind of telemetry a record came from, and so what it can
// and cannot prove.
type Source uint8

const (
	// SourcePacket is an unsampled packet (a pcap of plain traffic).
	SourcePacket Source = iota + 1
	// SourceSFlow is a sampled packet header: Rate packets stand behind it.
	SourceSFlow
	// SourceTap is a sampled packet of the connection tap: one packet chosen
	// by the switch because of what it is; see Signal. Rate is exact.
	SourceTap
	// SourceIPFIX is an aggregated unidirectional flow (IPFIX, NetFlow).
	SourceIPFIX
	// SourceLog is one direction of a connection read from a log (Zeek,
	// Argus, goflow2).
	SourceLog
	// SourceCopy is a copy of a whole packet that the switch sent us because
	// of what it is: ARP, neighbour discovery or DHCP. Other telemetry may tell
	// of the same packet. Copies are limited in rate, so that what did not come
	// proves nothing.
	SourceCopy
)

// Signal says what a record tells about a connection. Every decoder sets it,
// so that detectors do not have to guess from aggregated TCP flags.
//
// The values 1 to 15 also travel in the observation point ID of tap records
// (see TapPoint) and must not be renumbered.
type Signal uint8

const (
	// SignalNone is traffic that neither opens nor refuses anything.
	SignalNone Signal = 0
	// SignalAttempt is a first packet towards a service: TCP SYN without
	// ACK; in logs, the originator's direction of a connection.
	SignalAttempt Signal = 1
	// SignalAccept answers an attempt: SYN+ACK; in logs, the responder's
	// direction of a connection that was established or answered.
	SignalAccept Signal = 2
	// SignalRefuse answers an attempt by TCP RST.
	SignalRefuse Signal = 3
	// SignalUnreachable is an ICMP or ICMPv6 destination unreachable.
	SignalUnreachable Signal = 4
	// SignalUDP is a UDP datagram.
	SignalUDP Signal = 5
	// SignalARPRequest is an ARP request or IPv6 neighbour solicitation.
	SignalARPRequest Signal = 6
	// SignalARPReply is an ARP reply or IPv6 neighbour advertisement.
	SignalARPReply Signal = 7
	// SignalDropped is a packet that one of our own rules dropped, of the
	// emergency tier or, where Rule is set, of a policy: the thin sample that
	// keeps a contained attack visible.
	SignalDropped Signal = 8
	// SignalFinish is a TCP FIN: evidence of a completed connection.
	SignalFinish Signal = 9
	// SignalICMP is an ICMP or ICMPv6 message other than unreachable and
	// neighbour discovery; the tap samples echo requests alone.
	SignalICMP Signal = 10
	// SignalSilence is a log's own statement that nobody answered (Zeek S0,
	// Argus INT and the like): the attempt failed, no reply will follow.
	SignalSilence Signal = 11
	// SignalProbe is a TCP segment that no honest stack sends: without ACK,
	// SYN and RST, whatever else is set (the NULL, FIN and Xmas scans of
	// nmap), with SYN and FIN together, or cut by fragmentation before its
	// control bits (RFC 1858, section 3). Ports are 0 where a switch reports
	// the last of these.
	SignalProbe Signal = 12
	// SignalLogged is a packet that opens a connection and that a policy's rule
	// reports because it is to be logged; Rule says which. It was let pass as far
	// as that rule goes. Other telemetry tells of the same packet.
	SignalLogged Signal = 13
	// SignalForged is one of the packets that came in by a port whose addresses
	// are known and do not include the one that it claims to come from. Rule says
	// which port that is on its bridge. Nothing of its source is to be believed.
	SignalForged Signal = 14
)

// Verdict says what the switch did with the packets of a record.
type Verdict uint8

// What a switch may have done with packets.
const (
	VerdictUnknown Verdict = iota
	VerdictForwarded
	VerdictDropped
)

// Exporter identifies who made an observation.
type Exporter struct {
	// Addr is the sFlow agent address, or the sender's address for IPFIX.
	Addr netip.Addr
	// Domain is the sFlow sub-agent ID or the IPFIX observation domain ID.
	Domain uint32
}

// MAC is an Ethernet address; the zero value means unknown.
type MAC [6]byte

// IsZero reports whether the address is unknown.
func (m MAC) IsZero() bool { return m == MAC{} }

// String is the usual form, "02:00:00:00:00:09".
func (m MAC) String() string { return net.HardwareAddr(m[:]).String() }

// MarshalText is String; the zero MAC is empty.
func (m MAC) MarshalText() ([]byte, error) {
	if m == (MAC{}) {
		return nil, nil
	}
	return []byte(m.String()), nil
}

// UnmarshalText reads what MarshalText wrote.
func (m *MAC) UnmarshalText(text []byte) error {
	if len(text) == 0 {
		*m = MAC{}
		return nil
	}
	a, err := net.ParseMAC(string(text))
	if err != nil || len(a) != len(m) {
		return fmt.Errorf("%q is not an Ethernet address", text)
	}
	copy(m[:], a)
	return nil
}

// Record is one observation of unidirectional traffic. It is a plain value
// without owned memory, so that it can be copied and reused in batches.
type Record struct {
	// Time is when the observation was made, in Unix nanoseconds: the time
	// of reception for live telemetry, recorded time in replay.
	Time int64
	// Duration is how long the flow had lasted, in nanoseconds; 0 for a
	// single packet. The flow began at Time-Duration for SourceIPFIX, and
	// at Time for SourceLog.
	Duration int64

	Exporter Exporter
	Source   Source
	Signal   Signal
	Verdict  Verdict

	// Rule is the number of the policy's rule on its bridge that a packet of
	// SignalDropped or SignalLogged has met, or that of the guarded port of
	// SignalForged; 0 for none.
	Rule uint32

	// InPort and OutPort are kernel interface indices at the exporter (not
	// OpenFlow ports); 0 means unknown, and for OutPort also "several".
	InPort, OutPort uint32

	// Rate is the number of packets that each counted packet stands for
	// (1 when unsampled). Packets and Bytes are as exported, not scaled.
	Rate           float64
	Packets, Bytes uint64

	SrcMAC, DstMAC MAC
	EtherType      uint16
	VLAN           uint16

	// Src and Dst are valid for IPv4, IPv6 and, where the exporter shows
	// them, ARP (sender and target protocol address) and neighbour
	// discovery (source and target).
	Src, Dst         netip.Addr
	Proto            uint8
	SrcPort, DstPort uint16 // valid for TCP, UDP and SCTP
	// TCPFlags is the union of control bits seen, valid for TCP.
	TCPFlags uint8
	// Seq and Ack are those of a TCP segment, where its header was captured:
	// two samples of a connection tell how much was sent between them, however
	// thin the sampling.
	Seq, Ack uint32
	// ICMPType and ICMPCode are valid for ICMP and ICMPv6.
	ICMPType, ICMPCode uint8
	TTL                uint8

	// Inner is the packet that an ICMP unreachable quotes, from the view of
	// its original sender; valid for SignalUnreachable where the exporter
	// carries enough of the packet.
	Inner Tuple

	// DNS is what the payload of a datagram says, where it was captured.
	DNS DNS

	// Claim is what ARP, neighbour discovery and DHCP say besides addresses.
	Claim Claim

	// Login is what the payload of a segment says about a login, where it
	// was captured.
	Login Login
}

// Tuple names one direction of a conversation.
type Tuple struct {
	Src, Dst         netip.Addr
	SrcPort, DstPort uint16
	Proto            uint8
}

// Valid reports whether the tuple names two addresses.
func (t Tuple) Valid() bool { return t.Src.IsValid() && t.Dst.IsValid() }

// ScaledPackets is the estimated number of packets behind the record.
func (r *Record) ScaledPackets() float64 { return float64(r.Packets) * r.Rate }

// ScaledBytes is the estimated number of bytes behind the record.
func (r *Record) ScaledBytes() float64 { return float64(r.Bytes) * r.Rate }

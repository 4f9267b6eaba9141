package netflow

// opcode says what a field of a record means to us. Codes up to opLastDirect
// go straight into the flow.Record, the others into extra because they only
// make sense together.
type opcode uint8

const (
	opNone opcode = iota
	opOctets
	opPackets
	opProto
	opFlags
	opSrcPort
	opDstPort
	opInPort
	opOutPort
	opSrc4
	opDst4
	opSrc6
	opDst6
	opSrcMAC
	opDstMAC
	opVLAN
	opEtherType
	opTTL
	opICMPTypeCode
	opICMPType
	opICMPCode
	opForwarding
	opLastDirect = opForwarding
)

const (
	opFrameOctets opcode = iota + opLastDirect + 1
	opPostOctets
	opPostPackets
	opPacketTotal
	opPoint
	opDirection
	opInterval
	opSpace
	opSelector
	// The order of the next six is that of flow.FIN to flow.URG.
	opFIN
	opSYN
	opRST
	opPSH
	opACK
	opURG
	// Times come in pairs, start before end; see clocks.
	opStartSec
	opEndSec
	opStartMilli
	opEndMilli
	opStartNTP
	opEndNTP
	opStartUptime
	opEndUptime
	opStartDelta
	opEndDelta
	opCount
)

// The opcodes of a template are kept as bits of one word.
const _ = uint(64 - opCount)

// clocks lists the start opcodes of the ways to tell when a flow began and
// ended, the best first. Each is followed by its end opcode. Only one pair is
// read, because the zero points of the pairs differ.
func clocks() [5]opcode {
	return [5]opcode{opStartNTP, opStartMilli, opStartDelta, opStartUptime, opStartSec}
}

// opset is a set of opcodes.
type opset uint64

func (s opset) has(o opcode) bool { return s>>o&1 == 1 }

// The information elements (IANA "IPFIX Information Elements") that we read;
// up to 127 they are also the field types of NetFlow version 9.
const (
	ieIfName = 82
	ieInPort = 10
)

// element maps an information element to an opcode, opNone when it carries
// nothing that a flow.Record has a place for.
func element(ie uint16) opcode {
	switch ie {
	case 1: // octetDeltaCount
		return opOctets
	case 2: // packetDeltaCount
		return opPackets
	case 4: // protocolIdentifier
		return opProto
	case 6: // tcpControlBits
		return opFlags
	case 7: // sourceTransportPort
		return opSrcPort
	case 11: // destinationTransportPort
		return opDstPort
	case ieInPort: // ingressInterface
		return opInPort
	case 14: // egressInterface
		return opOutPort
	case 52, 192: // minimumTTL, ipTTL
		return opTTL
	case 56: // sourceMacAddress
		return opSrcMAC
	case 80: // destinationMacAddress
		return opDstMAC
	case 58, 243: // vlanId, dot1qVlanId
		return opVLAN
	case 89: // forwardingStatus
		return opForwarding
	case 256: // ethernetType
		return opEtherType
	}
	if o := address(ie); o != opNone {
		return o
	}
	if o := clock(ie); o != opNone {
		return o
	}
	return accounting(ie)
}

func address(ie uint16) opcode {
	switch ie {
	case 8: // sourceIPv4Address
		return opSrc4
	case 12: // destinationIPv4Address
		return opDst4
	case 27: // sourceIPv6Address
		return opSrc6
	case 28: // destinationIPv6Address
		return opDst6
	case 32, 139: // icmpTypeCodeIPv4, icmpTypeCodeIPv6
		return opICMPTypeCode
	case 176, 178: // icmpTypeIPv4, icmpTypeIPv6
		return opICMPType
	case 177, 179: // icmpCodeIPv4, icmpCodeIPv6
		return opICMPCode
	}
	return opNone
}

func clock(ie uint16) opcode {
	switch ie {
	case 21: // flowEndSysUpTime
		return opEndUptime
	case 22: // flowStartSysUpTime
		return opStartUptime
	case 150: // flowStartSeconds
		return opStartSec
	case 151: // flowEndSeconds
		return opEndSec
	case 152: // flowStartMilliseconds
		return opStartMilli
	case 153: // flowEndMilliseconds
		return opEndMilli
	case 154, 156: // flowStartMicroseconds, flowStartNanoseconds
		return opStartNTP
	case 155, 157: // flowEndMicroseconds, flowEndNanoseconds
		return opEndNTP
	case 158: // flowStartDeltaMicroseconds
		return opStartDelta
	case 159: // flowEndDeltaMicroseconds
		return opEndDelta
	}
	return opNone
}

func accounting(ie uint16) opcode {
	switch ie {
	case 23: // postOctetDeltaCount
		return opPostOctets
	case 24: // postPacketDeltaCount
		return opPostPackets
	case 34, 305: // samplingInterval, samplingPacketInterval
		return opInterval
	case 306: // samplingPacketSpace
		return opSpace
	case 48, 302: // samplerId, selectorId
		return opSelector
	case 61: // flowDirection
		return opDirection
	case 86: // packetTotalCount
		return opPacketTotal
	case 138: // observationPointId
		return opPoint
	case 218: // tcpSynTotalCount
		return opSYN
	case 219: // tcpFinTotalCount
		return opFIN
	case 220: // tcpRstTotalCount
		return opRST
	case 221: // tcpPshTotalCount
		return opPSH
	case 222: // tcpAckTotalCount
		return opACK
	case 223: // tcpUrgTotalCount
		return opURG
	case 352: // layer2OctetDeltaCount
		return opFrameOctets
	}
	return opNone
}

// fits reports whether a field of this length can carry the element. Integers
// may be exported in fewer octets than their type has (RFC 7011, section 6.2).
func (o opcode) fits(length int) bool {
	switch o {
	case opNone:
		return false
	case opSrc4, opDst4:
		return length == 4
	case opSrc6, opDst6:
		return length == 16
	case opSrcMAC, opDstMAC:
		return length == 6
	}
	return length >= 1 && length <= 8
}

package replay

import (
	"github.com/platelet-sdn/platelet/flowcollector/flow"
)

// zeekRow is a conn.log row as text; both forms of the log are read into it.
type zeekRow struct {
	ts, duration             string
	origHost, origPort       string
	respHost, respPort       string
	proto, state, history    string
	origPackets, respPackets string
	origBytes, respBytes     string // IP bytes
	origPayload, respPayload string // payload, where IP bytes are missing
	origMAC, respMAC         string
	label, detail            string
}

// conversation parses and judges a row.
func (z *zeekRow) conversation() (*conversation, error) {
	c := &conversation{}
	p := rowReader{}
	c.start = p.time("ts", z.ts)
	c.duration = p.seconds("duration", z.duration)
	c.src = p.endpoint("id.orig_h", z.origHost)
	c.dst = p.endpoint("id.resp_h", z.respHost)
	c.srcPort = p.port("id.orig_p", z.origPort)
	c.dstPort = p.port("id.resp_p", z.respPort)
	c.sent.packets = p.count("orig_pkts", z.origPackets)
	c.answered.packets = p.count("resp_pkts", z.respPackets)
	c.sent.bytes = p.count("orig_ip_bytes", firstSet(z.origBytes, z.origPayload))
	c.answered.bytes = p.count("resp_ip_bytes", firstSet(z.respBytes, z.respPayload))
	if p.err != nil {
		return nil, p.err
	}
	// Zeek adds Ethernet addresses where its policy asks for them.
	if mac, ok := parseMAC(z.origMAC); ok {
		c.src.mac = mac
	}
	if mac, ok := parseMAC(z.respMAC); ok {
		c.dst.mac = mac
	}
	history := z.history
	if unset(history) {
		history = ""
	}
	c.setProto(z.proto)
	c.judge(z.state, history)
	return c, nil
}

// judge sets the judgement of a row in Zeek's terms. In ICMP rows, the ports are
// the message type and its code, or the type of the expected reply.
func (c *conversation) judge(state, history string) {
	switch {
	case c.etherType == flow.EtherARP:
		c.judgement = judgeARP(c)
	case c.proto == flow.ProtoICMP || c.proto == flow.ProtoICMPv6:
		c.icmpType = uint8(c.srcPort)
		if !icmpPaired(c.proto, c.icmpType) {
			c.icmpCode = uint8(c.dstPort)
		}
		c.srcPort, c.dstPort = 0, 0
		c.judgement = judgeICMP(c.proto, c.icmpType, c.answered.packets)
	default:
		c.judgement = judgeZeek(c.proto, state, history, c.sent.packets, c.answered.packets)
	}
}

func (c *conversation) setProto(name string) {
	c.proto, c.etherType = parseProto(name, c.src.addr.Is6())
	if !c.src.addr.IsValid() && (c.etherType == flow.EtherIPv4 || c.etherType == flow.EtherIPv6) {
		c.etherType = 0
	}
}

func firstSet(a, b string) string {
	if unset(a) {
		return b
	}
	return a
}

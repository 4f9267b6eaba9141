package replay

import (
	"fmt"
	"strings"

	"github.com/platelet-sdn/platelet/flowcollector/flow"
)

// argusRequired are the columns that make a CSV a binetflow.
var argusRequired = []string{"starttime", "proto", "srcaddr", "dstaddr", "state"}

// argus reads the CSV that ra(1) of Argus prints and that the CTU sets call
// binetflow; columns are found by the header. It is a rowParser.
type argus struct {
	label  labeller
	header columns
}

func (a *argus) row(line []byte, batch []flow.Record) ([]flow.Record, error) {
	text := string(line)
	if a.header.count == 0 || strings.HasPrefix(strings.ToLower(text), "starttime,") {
		header, err := parseHeader(text)
		a.header = header
		return batch, err
	}
	// The last column is the label and may hold commas.
	fields := strings.SplitN(text, ",", a.header.count)
	if len(fields) != a.header.count {
		return batch, fmt.Errorf("%d fields where the header has %d", len(fields), a.header.count)
	}
	c, err := a.conversation(fields)
	if err != nil {
		return batch, err
	}
	return a.label.finish(c, a.header.pick(fields, "label"), "", batch), nil
}

func (a *argus) conversation(fields []string) (*conversation, error) {
	get := func(name string) string { return a.header.pick(fields, name) }
	c := &conversation{}
	p := rowReader{}
	c.start = p.time("StartTime", get("starttime"))
	c.duration = p.seconds("Dur", get("dur"))
	c.src = p.endpoint("SrcAddr", get("srcaddr"))
	c.dst = p.endpoint("DstAddr", get("dstaddr"))
	c.setProto(get("proto"))
	icmp := c.proto == flow.ProtoICMP || c.proto == flow.ProtoICMPv6
	if c.proto == flow.ProtoTCP || c.proto == flow.ProtoUDP || c.proto == flow.ProtoSCTP || icmp {
		c.srcPort = p.port("Sport", get("sport"))
		c.dstPort = p.port("Dport", get("dport"))
	}
	argusVolumes(c, &p, get)
	if p.err != nil {
		return nil, p.err
	}
	state, dir := get("state"), get("dir")
	switch {
	case c.etherType == flow.EtherARP:
		c.judgement = judgeARP(c)
	case icmp:
		c.argusICMP(state, get("sport"))
	case isZeekState(state):
		// Converters put Zeek's states into Argus's columns, beside counts
		// that contradict them; the state is what they vouch for.
		c.judgement = judgeZeek(c.proto, state, "", 0, 0)
	default:
		if dir == "<-" {
			state = c.turn(state)
		}
		c.judgement = judgeArgus(c, state, dir)
	}
	return c, nil
}

// argusVolumes splits the totals between the directions.
func argusVolumes(c *conversation, p *rowReader, get func(string) string) {
	total := volume{p.count("TotPkts", get("totpkts")), p.count("TotBytes", get("totbytes"))}
	c.sent.bytes = min(p.count("SrcBytes", get("srcbytes")), total.bytes)
	c.answered.bytes = total.bytes - c.sent.bytes
	switch {
	case get("srcpkts") != "":
		c.sent.packets = min(p.count("SrcPkts", get("srcpkts")), total.packets)
	case c.answered.bytes == 0:
		c.sent.packets = total.packets
	case c.sent.bytes > 0:
		// CTU-13 has no SrcPkts. A conversation has about as many packets
		// each way.
		c.sent.packets = (total.packets + 1) / 2
	}
	c.answered.packets = total.packets - c.sent.packets
}

// turn swaps the sides and returns the state from the new originator's view.
func (c *conversation) turn(state string) string {
	c.src, c.dst = c.dst, c.src
	c.srcPort, c.dstPort = c.dstPort, c.srcPort
	c.sent, c.answered = c.answered, c.sent
	if src, dst, ok := strings.Cut(state, "_"); ok {
		return dst + "_" + src
	}
	return state
}

// argusICMP sets type and code. Argus prints them as one hexadecimal number in
// the place of the source port, the code above the type, and some exports leave
// only the state.
func (c *conversation) argusICMP(state, sport string) {
	c.icmpType, c.icmpCode = uint8(c.srcPort), uint8(c.srcPort>>8)
	if unset(sport) && c.proto == flow.ProtoICMP {
		c.icmpType, c.icmpCode = argusICMPType(state)
	}
	c.srcPort, c.dstPort = 0, 0
	c.judgement = judgeICMP(c.proto, c.icmpType, c.answered.packets)
}

// argusICMPType returns type and code (RFC 792) of an ICMP state.
func argusICMPType(state string) (typ, code uint8) {
	switch state {
	case "ECR":
		return icmpEchoReply, 0
	case "TXD":
		return icmpTimeExceeded, 0
	case "RED":
		return icmpRedirect, 0
	}
	if code, ok := argusUnreachable(state); ok {
		return icmpUnreachable, code
	}
	return icmpEcho, 0
}

// argusUnreachable returns the code (RFC 792, page 4) of a state that says that
// the destination is unreachable: network, host, protocol, port, fragmentation.
func argusUnreachable(state string) (code uint8, ok bool) {
	switch state {
	case "UR", "URN":
		return 0, true
	case "URH":
		return 1, true
	case "URO":
		return 2, true
	case "URP":
		return 3, true
	case "URF":
		return 4, true
	case "URFIL":
		return 13, true
	}
	return 0, false
}

// judgeArgus returns what an Argus row proves about a TCP or UDP connection.
func judgeArgus(c *conversation, state, dir string) judgement {
	if c.proto != flow.ProtoTCP && c.proto != flow.ProtoUDP {
		return judgement{}
	}
	if code, ok := argusUnreachable(state); ok {
		c.icmpCode = code
		return judgement{forward: flow.SignalAttempt, reverse: flow.SignalUnreachable}
	}
	if c.proto == flow.ProtoUDP {
		replied := c.answered.packets > 0 || state == "CON" || state == "RSP" || dir == "<->"
		return judgeUDP(true, replied)
	}
	if src, dst, ok := strings.Cut(state, "_"); ok {
		sent := c.sent.packets
		if src == "" && dir != "->" {
			sent = 0 // rather not seen than sent without control bits
		}
		return judgeArgusFlags(argusFlags(src), argusFlags(dst), sent)
	}
	if strings.Contains(dir, "?") {
		return judgement{} // Argus did not see who began
	}
	return judgeArgusState(c, state)
}

// argusFlags reads control bits from their letters (F, S, R, P, A, U, E, C).
func argusFlags(letters string) uint8 {
	var flags uint8
	for i := range len(letters) {
		if bit := strings.IndexByte("FSRPAUEC", letters[i]); bit >= 0 {
			flags |= 1 << bit
		}
	}
	return flags
}

// judgeArgusFlags judges by the control bits each side sent. Argus writes several
// rows for a long connection; only the one with the SYN is its begin.
func judgeArgusFlags(src, dst uint8, sent uint64) judgement {
	j := judgement{forwardFlags: src, reverseFlags: dst}
	if dst&flow.SYN != 0 {
		j.reverse = flow.SignalAccept
	}
	if sent > 0 && dst&^(flow.RST|flow.ACK) == 0 && (src&(flow.SYN|flow.ACK|flow.RST) == 0 || src == flow.SYN|flow.FIN) {
		j.forward = flow.SignalProbe // no packet that a connection has
		if dst&flow.RST != 0 {
			j.reverse = flow.SignalRefuse
		}
		return j
	}
	if src&flow.SYN == 0 {
		return j
	}
	switch {
	case dst&flow.SYN != 0:
	case dst == 0 && src&flow.ACK != 0:
		// It acknowledges what was not seen: one direction only.
		return j
	case dst == 0:
		j.reverse = flow.SignalSilence
	case dst&(flow.PSH|flow.FIN) != 0 || src&(flow.PSH|flow.FIN) != 0:
		j.reverse = flow.SignalAccept
	case dst&flow.RST != 0:
		j.reverse = flow.SignalRefuse
	}
	j.forward = flow.SignalAttempt
	return j
}

// smallSegment is the mean size of a frame below which a connection carried no
// data, in bytes: Ethernet, IP and TCP headers with options.
const smallSegment = 80

// judgeArgusState judges by the summary that Argus gives where it was not asked
// for the control bits.
func judgeArgusState(c *conversation, state string) judgement {
	switch state {
	case "REQ", "INT":
		if c.answered.packets == 0 {
			return silent()
		}
	case "ACC", "EST", "CON", "CLO", "FIN":
		return accepted()
	case "RST":
		// Refused or, if there was data, aborted later.
		if c.sent.bytes > c.sent.packets*smallSegment {
			return accepted()
		}
		return refused()
	}
	return judgement{}
}

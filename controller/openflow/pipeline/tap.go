package pipeline

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"

	"github.com/platelet-sdn/platelet/controller/openflow"
	"github.com/platelet-sdn/platelet/flowcollector/flow"
)

// TapConfig says what the connection tap samples.
type TapConfig struct {
	// CollectorSet is the Flow_Sample_Collector_Set that reports go to; 0
	// means no tap, and no samples of dropped packets.
	CollectorSet uint32
	// Domain is the observation domain ID, from flow.TapDomain.
	Domain uint32
	// Probability, of 65535, per signal; a signal without one is not
	// sampled.
	Probability map[flow.Signal]uint16
}

// TapOverride samples part of a signal's packets with another probability:
// what goes from one port to one victim, so that a flood does not drown the
// tap and the rest stays fully visible.
type TapOverride struct {
	Signal flow.Signal
	InPort string       // interface name; empty is any
	Dst    netip.Prefix // not valid is any
	// Probability, of 65535; 0 samples nothing.
	Probability uint16
}

// tapMatch is one kind of packet that means a signal.
type tapMatch struct {
	signal    flow.Signal
	priority  uint16
	etherType uint16
	match     openflow.Match
	copied    copyClass
}

// Priorities of tap rules: a packet meets one of them only, so that it is
// reported once. RST before what nothing honest sends before FIN before SYN,
// whatever else is set; overrides before all.
const (
	tapOverridePriority = 1000
	tapRST              = 110
	tapProbe            = 107
	tapFIN              = 105
	tapDHCP             = 102
	tapOther            = 100
)

// tapMatches lists the kinds of packets of every signal that a tap can tell.
func tapMatches() []tapMatch {
	const syn, ack, rst, fin = uint16(flow.SYN), uint16(flow.ACK), uint16(flow.RST), uint16(flow.FIN)
	out := []tapMatch{
		arpTap(flow.SignalARPRequest, 1, copyQuestions), arpTap(flow.SignalARPReply, 2, copyAnswers),
		icmpTap(flow.SignalUnreachable, 3, 1), icmpTap(flow.SignalUnreachable, 1, 0),
		icmpTap(flow.SignalICMP, 8, 1), icmpTap(flow.SignalICMP, 128, 0),
		ndTap(flow.SignalARPRequest, flow.ICMPv6Solicitation, copyQuestions), ndTap(flow.SignalARPReply, flow.ICMPv6Advertisement, copyAnswers),
	}
	for _, ether := range []uint16{flow.EtherIPv4, flow.EtherIPv6} {
		tcp := func(s flow.Signal, priority, value, mask uint16) tapMatch {
			return tapMatch{s, priority, ether, openflow.Match{openflow.EthType(ether), openflow.IPProto(flow.ProtoTCP), openflow.TCPFlags(value, mask)}, notCopied}
		}
		// Open vSwitch shows later fragments as TCP without flags and ports, and
		// first ones that end before the flags too: only those are odd.
		bare := tcp(flow.SignalProbe, tapProbe, 0, syn|ack|rst)
		bare.match = append(bare.match, openflow.IPFrag(openflow.FragNotLater))
		out = append(out, bare, tcp(flow.SignalProbe, tapProbe, syn|fin, syn|fin|rst),
			tcp(flow.SignalAttempt, tapOther, syn, syn|ack),
			tcp(flow.SignalAccept, tapOther, syn|ack, syn|ack),
			tcp(flow.SignalRefuse, tapRST, rst, rst),
			tcp(flow.SignalFinish, tapFIN, fin, fin|rst),
			tapMatch{flow.SignalUDP, tapOther, ether, openflow.Match{openflow.EthType(ether), openflow.IPProto(flow.ProtoUDP)}, notCopied},
		)
	}
	return append(out, copiedTaps()...)
}

func arpTap(s flow.Signal, op uint16, c copyClass) tapMatch {
	return tapMatch{s, tapOther, flow.EtherARP, openflow.Match{openflow.EthType(flow.EtherARP), openflow.ARPOp(op)}, c}
}

// ndTap is a message of neighbour discovery.
func ndTap(s flow.Signal, icmpType uint8, c copyClass) tapMatch {
	m := icmpTap(s, icmpType, 0)
	m.copied = c
	return m
}

// icmpTap is an ICMPv4 type, or an ICMPv6 type where v4 is 0.
func icmpTap(s flow.Signal, icmpType, v4 uint8) tapMatch {
	if v4 != 0 {
		return tapMatch{s, tapOther, flow.EtherIPv4, openflow.Match{openflow.EthType(flow.EtherIPv4), openflow.IPProto(flow.ProtoICMP), openflow.ICMPType(icmpType)}, notCopied}
	}
	return tapMatch{s, tapOther, flow.EtherIPv6, openflow.Match{openflow.EthType(flow.EtherIPv6), openflow.IPProto(flow.ProtoICMPv6), openflow.ICMPv6Type(icmpType)}, notCopied}
}

// Validate reports a tap that cannot work.
func (t TapConfig) Validate() error {
	known := map[flow.Signal]bool{}
	for _, m := range tapMatches() {
		known[m.signal] = m.signal != flow.SignalNone
	}
	for s, p := range t.Probability {
		if p != 0 && !known[s] {
			return fmt.Errorf("tap: signal %d cannot be sampled", s)
		}
	}
	if t.CollectorSet == 0 && len(t.Probability) > 0 {
		return fmt.Errorf("tap: signals without a collector set")
	}
	return nil
}

// sample returns the sampling action, none for probability 0.
func (t TapConfig) sample(s flow.Signal, probability uint16) []openflow.Action {
	if t.CollectorSet == 0 || probability == 0 {
		return nil
	}
	return []openflow.Action{openflow.Sample{
		Probability: probability, CollectorSet: t.CollectorSet, Domain: t.Domain, Point: flow.TapPoint(s, probability),
	}}
}

// flows compiles the tap. Every rule samples and goes on; copies are the
// actions that also copy packets of a class.
func (t TapConfig) flows(l Layout, overrides []TapOverride, copies func(copyClass) []openflow.Action, port func(string) (uint32, bool)) []openflow.Flow {
	if t.CollectorSet == 0 {
		return nil
	}
	var out []openflow.Flow
	rule := func(priority uint16, m *tapMatch, match openflow.Match, probability uint16) {
		actions := append(t.sample(m.signal, probability), copies(m.copied)...)
		out = append(out, openflow.Flow{
			Table: l.table(tableTap), Priority: priority, Cookie: cookie(CategoryTap, flow.TapPoint(m.signal, probability)), Match: match,
			Instructions: openflow.Instructions{Actions: append(actions, openflow.Resubmit{Table: l.table(tableAdmit)})},
		})
	}
	matches := tapMatches()
	for i := range matches {
		m := &matches[i]
		if p := t.Probability[m.signal]; p != 0 && !m.rare() || len(copies(m.copied)) > 0 {
			rule(m.priority, m, m.match, p)
		}
	}
	for _, o := range sortedOverrides(overrides) {
		for i := range matches {
			m := &matches[i]
			if match, ok := o.match(*m, port); ok && (!m.rare() || len(copies(m.copied)) > 0) {
				rule(tapOverridePriority+m.priority+o.specificity(), m, match, o.Probability)
			}
		}
	}
	return out
}

// rare reports whether a kind of packet is told apart from others of its signal
// only to be copied.
func (m *tapMatch) rare() bool { return m.priority == tapDHCP || m.signal == flow.SignalNone }

// match narrows a kind of packet to the override's; ok is false when the
// override says nothing of that kind or its port is not there.
func (o TapOverride) match(m tapMatch, port func(string) (uint32, bool)) (openflow.Match, bool) {
	if m.signal != o.Signal {
		return nil, false
	}
	match := slices.Clone(m.match)
	if o.InPort != "" {
		n, ok := port(o.InPort)
		if !ok {
			return nil, false
		}
		match = append(match, openflow.InPort(n))
	}
	if !o.Dst.IsValid() {
		return match, true
	}
	switch v4 := o.Dst.Addr().Is4(); {
	case m.etherType == flow.EtherARP && v4:
		return append(match, openflow.ARPTPA(o.Dst)), true
	case m.etherType == flow.EtherIPv4 && v4, m.etherType == flow.EtherIPv6 && !v4:
		return append(match, openflow.IPDst(o.Dst)), true
	}
	return nil, false
}

// specificity puts narrower overrides first: port and prefix before one of
// them, longer prefixes before shorter ones.
func (o TapOverride) specificity() uint16 {
	var s uint16
	if o.Dst.IsValid() {
		s += uint16(o.Dst.Bits()) * 128
	}
	if o.InPort != "" {
		s += 20000
	}
	return s
}

func sortedOverrides(in []TapOverride) []TapOverride {
	out := slices.Clone(in)
	slices.SortFunc(out, func(a, b TapOverride) int {
		return cmp.Or(cmp.Compare(a.Signal, b.Signal), cmp.Compare(a.InPort, b.InPort), cmp.Compare(a.Dst.String(), b.Dst.String()))
	})
	return out
}

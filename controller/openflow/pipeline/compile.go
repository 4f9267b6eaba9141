package pipeline

import (
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/platelet-sdn/platelet/controller/openflow"
	"github.com/platelet-sdn/platelet/flowcollector/flow"
	"github.com/platelet-sdn/platelet/segmentation"
)

// Placement is what compiling an intent needs to know of the switch.
type Placement struct {
	Layout Layout
	Tap    TapConfig // for the sample inside a drop
	Object uint32    // of the cookie
	// Slot tells apart rules of several owners that are otherwise equal; the
	// switch holds only one flow for each priority and match. Below 8.
	Slot   uint8
	InPort uint32 // of Match.InPort; not used when that is empty
	Meter  uint32 // for ActionRateLimit
}

// maxTTL is the longest hard timeout that fits the message.
const maxTTL = math.MaxUint16 * time.Second

// Compile turns an intent into its flow. It is pure: equal arguments give
// equal flows.
func Compile(in segmentation.Intent, p Placement) (openflow.Flow, error) {
	f, err := compile(in, p)
	if err != nil {
		return openflow.Flow{}, fmt.Errorf("intent %q: %w", in.ID, err)
	}
	return f, nil
}

func compile(in segmentation.Intent, p Placement) (openflow.Flow, error) {
	f := openflow.Flow{}
	if err := checkIntent(in); err != nil {
		return f, err
	}
	switch in.Tier {
	case segmentation.TierGuard:
		f.Table, f.Cookie = p.Layout.table(tableGuard), cookie(CategoryGuard, p.Object)
	case segmentation.TierEmergency:
		f.Table, f.Cookie = p.Layout.table(tableEmergency), cookie(CategoryEmergency, p.Object)
		f.Flags = openflow.FlagSendFlowRemoved
	}
	f.HardTimeout = uint16(in.TTL / time.Second)
	f.Priority = priority(in, p.Slot)
	next := openflow.Resubmit{Table: p.Layout.table(tableTap)}
	switch in.Action {
	case segmentation.ActionDeny:
		f.Actions = p.Tap.sample(flow.SignalDropped, in.Sample)
	case segmentation.ActionAllow:
		f.Actions = []openflow.Action{next}
	case segmentation.ActionRateLimit:
		f.Meter, f.Actions = p.Meter, []openflow.Action{next}
	}
	var err error
	if f.Match, err = compileMatch(in.Match, p.InPort); err != nil {
		return f, err
	}
	return f, f.Validate()
}

// checkIntent reports what no placement can help.
func checkIntent(in segmentation.Intent) error {
	switch {
	case in.ID == "":
		return errors.New("no ID")
	case in.Tier > segmentation.TierEmergency:
		return fmt.Errorf("tier %d is not enforced on this bridge, only guard and emergency", in.Tier)
	case in.Rank > maxRank:
		return fmt.Errorf("rank %d above %d", in.Rank, maxRank)
	case in.TTL < 0 || in.TTL%time.Second != 0 || in.TTL > maxTTL:
		return fmt.Errorf("TTL %v is not whole seconds up to %v", in.TTL, maxTTL)
	case in.Tier == segmentation.TierEmergency && in.TTL == 0:
		return errors.New("emergency rules need a TTL")
	case in.Action < segmentation.ActionAllow || in.Action > segmentation.ActionRateLimit:
		return fmt.Errorf("unknown action %d", in.Action)
	case in.Action == segmentation.ActionRateLimit && in.Limit.PacketsPerSecond == 0:
		return errors.New("rate limit of 0 packets/s; deny instead")
	}
	return nil
}

// priority puts lower ranks first. Where two rules of one rank overlap, the
// stricter wins, whichever came first.
func priority(in segmentation.Intent, slot uint8) uint16 {
	strictness := map[segmentation.Action]uint16{
		segmentation.ActionDeny: 0, segmentation.ActionRateLimit: 1, segmentation.ActionAllow: 2,
	}
	return ruleTop - in.Rank*prioritiesRank - strictness[in.Action]*slots - uint16(slot)
}

func compileMatch(m segmentation.Match, inPort uint32) (openflow.Match, error) {
	var out openflow.Match
	if m.InPort != "" {
		out = append(out, openflow.InPort(inPort))
	}
	if m.SrcMAC != (flow.MAC{}) {
		out = append(out, openflow.EthSrc(m.SrcMAC))
	}
	if m.EtherType != 0 {
		out = append(out, openflow.EthType(m.EtherType))
	}
	if m.Proto != 0 {
		out = append(out, openflow.IPProto(m.Proto))
	}
	if m.ARPOp != 0 {
		out = append(out, openflow.ARPOp(m.ARPOp))
	}
	out, err := appendAddresses(out, m)
	if err != nil {
		return nil, err
	}
	return appendTransport(out, m)
}

func appendAddresses(out openflow.Match, m segmentation.Match) (openflow.Match, error) {
	arp := m.EtherType == flow.EtherARP
	if arp && (m.Src.IsValid() && !m.Src.Addr().Is4() || m.Dst.IsValid() && !m.Dst.Addr().Is4()) {
		return nil, errors.New("ARP carries IPv4 addresses only")
	}
	if m.Src.IsValid() {
		if arp {
			out = append(out, openflow.ARPSPA(m.Src))
		} else {
			out = append(out, openflow.IPSrc(m.Src))
		}
	}
	if m.Dst.IsValid() {
		if arp {
			out = append(out, openflow.ARPTPA(m.Dst))
		} else {
			out = append(out, openflow.IPDst(m.Dst))
		}
	}
	if m.NDTarget.IsValid() {
		out = append(out, openflow.NDTarget(m.NDTarget))
	}
	return out, nil
}

func appendTransport(out openflow.Match, m segmentation.Match) (openflow.Match, error) {
	var src, dst func(uint16) openflow.OXM
	switch m.Proto {
	case flow.ProtoTCP:
		src, dst = openflow.TCPSrc, openflow.TCPDst
	case flow.ProtoUDP:
		src, dst = openflow.UDPSrc, openflow.UDPDst
	case flow.ProtoSCTP:
		src, dst = openflow.SCTPSrc, openflow.SCTPDst
	}
	if (m.SrcPort != 0 || m.DstPort != 0) && src == nil {
		return nil, fmt.Errorf("match on ports needs ip_proto tcp, udp or sctp, not %d", m.Proto)
	}
	if m.SrcPort != 0 {
		out = append(out, src(m.SrcPort))
	}
	if m.DstPort != 0 {
		out = append(out, dst(m.DstPort))
	}
	if m.TCPFlagsMask != 0 {
		out = append(out, openflow.TCPFlags(uint16(m.TCPFlags), uint16(m.TCPFlagsMask)))
	}
	if m.HasICMPType && m.Proto == flow.ProtoICMPv6 {
		out = append(out, openflow.ICMPv6Type(m.ICMPType))
	} else if m.HasICMPType {
		out = append(out, openflow.ICMPType(m.ICMPType))
	}
	return out, nil
}

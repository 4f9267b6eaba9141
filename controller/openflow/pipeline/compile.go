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
	// ToPort is that of Intent.ToPort; not used when that is empty.
	ToPort uint32
	Meter  uint32 // for ActionRateLimit, and the copies of ActionMirror
	// Copies asks for the second flow of a mirror, the one that makes the copies.
	Copies bool
}

// maxTTL is the longest hard timeout that fits the message.
const maxTTL = math.MaxUint16 * time.Second

// HasCopies reports whether an intent has a second flow.
func HasCopies(in segmentation.Intent) bool { return in.Action == segmentation.ActionMirror }

// Compile turns an intent into its flow, one of two where the intent has copies
// made. It is pure: equal arguments give equal flows.
func Compile(in segmentation.Intent, p Placement) (openflow.Flow, error) {
	f, err := compileIntent(in, p)
	if err != nil {
		return openflow.Flow{}, fmt.Errorf("intent %q: %w", in.ID, err)
	}
	return f, nil
}

func compileIntent(in segmentation.Intent, p Placement) (openflow.Flow, error) {
	f := openflow.Flow{}
	if err := checkIntent(in); err != nil {
		return f, err
	}
	f.HardTimeout = uint16(in.TTL / time.Second)
	if in.TTL > 0 {
		f.Flags = openflow.FlagSendFlowRemoved
	}
	f.Priority = priority(in, p.Slot)
	// Whatever an emergency rule lets pass, policy has still to agree. What a
	// guard rule lets pass is exempt; it is tracked all the same, so that the
	// answers to it are known as such.
	next := []openflow.Action{openflow.Resubmit{Table: p.Layout.table(tableTap)}}
	if in.Tier == segmentation.TierGuard {
		next = append([]openflow.Action{mark(exemptBit, 1, 1)}, next...)
		f.Table, f.Cookie = p.Layout.table(tableGuard), cookie(CategoryGuard, p.Object)
	} else {
		f.Table, f.Cookie = p.Layout.table(tableEmergency), cookie(CategoryEmergency, p.Object)
	}
	switch in.Action {
	case segmentation.ActionDeny:
		f.Actions = p.Tap.sample(flow.SignalDropped, in.Sample)
	case segmentation.ActionAllow:
		f.Actions = next
	case segmentation.ActionRateLimit:
		f.Meter, f.Actions = p.Meter, next
	case segmentation.ActionReroute:
		f.Actions = append([]openflow.Action{openflow.SetField{Field: openflow.EthDst(in.To)}}, next...)
	case segmentation.ActionMirror:
		mirrored(&f, p, next)
	}
	var err error
	if f.Match, err = compileMatch(in.Match, p.InPort); err != nil {
		return f, err
	}
	return f, f.Validate()
}

// mirrored completes one of the two flows of a mirror. The copy is made last and
// in a table of its own: a meter that drops ends what the switch does with a
// packet, and the packet itself has been sent by then. It is copied as the
// pipeline behind ours leaves it, VLAN tags for example.
func mirrored(f *openflow.Flow, p Placement, next []openflow.Action) {
	if p.Copies {
		f.Table, f.Meter = p.Layout.table(tableCopy), p.Meter
		f.Actions = []openflow.Action{openflow.Output{Port: p.ToPort}}
		return
	}
	f.Actions = append(next, openflow.Resubmit{Table: p.Layout.table(tableCopy)})
}

// checkIntent reports what no placement can help.
func checkIntent(in segmentation.Intent) error {
	switch {
	case in.ID == "":
		return errors.New("no ID")
	case in.Tier > segmentation.TierEmergency:
		return fmt.Errorf("unknown tier %d", in.Tier)
	case in.Rank > maxRank:
		return fmt.Errorf("rank %d above %d", in.Rank, maxRank)
	case in.TTL < 0 || in.TTL%time.Second != 0 || in.TTL > maxTTL:
		return fmt.Errorf("TTL %v is not whole seconds up to %v", in.TTL, maxTTL)
	case in.Tier == segmentation.TierEmergency && in.TTL == 0:
		return errors.New("emergency rules need a TTL")
	case strictness()[in.Action] == 0:
		return fmt.Errorf("unknown action %d", in.Action)
	case in.Action == segmentation.ActionRateLimit && in.Limit.PacketsPerSecond == 0:
		return errors.New("rate limit of 0 packets/s; deny instead")
	case in.Limit.KilobitsPerSecond != 0:
		return errors.New("rules about packets are limited in packets/s")
	case in.Action == segmentation.ActionReroute && (in.Tier != segmentation.TierEmergency || in.To.IsZero()):
		return errors.New("reroute is for the emergency tier, and needs a station")
	case in.Action == segmentation.ActionMirror && (in.Tier != segmentation.TierEmergency || in.ToPort == "" || in.ToPort == in.Match.InPort || in.Limit.PacketsPerSecond == 0):
		return errors.New("mirror is for the emergency tier, and needs another port and a limit")
	}
	return nil
}

// strictness orders the actions that there are, the strictest first, from 1.
func strictness() map[segmentation.Action]uint16 {
	return map[segmentation.Action]uint16{
		segmentation.ActionDeny: 1, segmentation.ActionRateLimit: 2, segmentation.ActionAllow: 3,
		segmentation.ActionReroute: 4, segmentation.ActionMirror: 4,
	}
}

// priority puts lower ranks first. Where two rules of one rank overlap, the
// stricter wins, whichever came first.
func priority(in segmentation.Intent, slot uint8) uint16 {
	return ruleTop - in.Rank*prioritiesRank - (strictness()[in.Action]-1)*slots - uint16(slot)
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
	if m.SrcPort|m.DstPort != 0 && src == nil {
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

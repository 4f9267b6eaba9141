package pipeline

import (
	"errors"
	"fmt"

	"github.com/platelet-sdn/platelet/controller/openflow"
	"github.com/platelet-sdn/platelet/flowcollector/flow"
	"github.com/platelet-sdn/platelet/segmentation"
)

// checkPolicy reports what makes no rule about connections.
func checkPolicy(in segmentation.Intent) error {
	m := in.Match
	switch {
	case in.Rank >= segmentation.MaxPolicyRank:
		return fmt.Errorf("rank %d above %d", in.Rank, segmentation.MaxPolicyRank-1)
	case in.Direction != segmentation.DirectionIngress && in.Direction != segmentation.DirectionEgress:
		return fmt.Errorf("direction %d is neither ingress nor egress", in.Direction)
	case in.Established > segmentation.EstablishedKeep:
		return fmt.Errorf("unknown value %d of established", in.Established)
	case m.EtherType != 0 && m.EtherType != flow.EtherIPv4 && m.EtherType != flow.EtherIPv6:
		return fmt.Errorf("a rule about connections is about IPv4 or IPv6, not eth_type 0x%04x", m.EtherType)
	case m.InPort != "" || m.SrcMAC != (flow.MAC{}) || m.TCPFlagsMask != 0 || m.ARPOp != 0 || m.NDTarget.IsValid():
		return errors.New("a rule about connections matches addresses, protocol, ports and ICMP type alone")
	}
	return nil
}

// HasReply reports whether an intent has a second flow: a mirror makes copies,
// and a rule about connections decides what comes back as well. Replies to what it leaves to
// established connections are not its concern, and neither is ICMP that is
// no question.
func HasReply(in segmentation.Intent) bool {
	if in.Action == segmentation.ActionMirror {
		return true
	}
	if !in.Tier.Policy() || in.Established == segmentation.EstablishedKeep && in.Action == segmentation.ActionDeny {
		return false
	}
	_, ok := reply(in.Match)
	return ok
}

// reply turns a match on what opens a connection into one on what answers it.
func reply(m segmentation.Match) (segmentation.Match, bool) {
	m.Src, m.Dst = m.Dst, m.Src
	m.SrcPort, m.DstPort = m.DstPort, m.SrcPort
	m.SrcPortMask, m.DstPortMask = m.DstPortMask, m.SrcPortMask
	if !m.HasICMPType {
		return m, true
	}
	answers := map[[2]uint8]uint8{ // RFC 792, RFC 4443
		{flow.ProtoICMP, 8}: 0, {flow.ProtoICMP, 13}: 14, {flow.ProtoICMP, 15}: 16, {flow.ProtoICMPv6, 128}: 129,
	}
	var ok bool
	m.ICMPType, ok = answers[[2]uint8{m.Proto, m.ICMPType}]
	return m, ok
}

// compilePolicy completes the flow of a rule about connections.
func compilePolicy(in segmentation.Intent, p Placement, f openflow.Flow) (openflow.Flow, error) {
	tier := uint8(in.Tier - segmentation.TierAdmin)
	first, behind := tableEgress, tableIngress
	if in.Direction == segmentation.DirectionIngress {
		first, behind = tableIngress, tableCommit
	}
	f.Table, f.Cookie = p.Layout.table(first+tier), cookie(CategoryAdmin+Category(tier), p.Object)
	allowed := []openflow.Action{openflow.Resubmit{Table: p.Layout.table(behind)}}
	if !p.Reply && (in.Match.Proto == 0 || in.Match.Proto == flow.ProtoUDP) { // see commitTable
		allowed = append([]openflow.Action{mark(allowBit, 1, 1)}, allowed...)
	}
	switch in.Action {
	case segmentation.ActionDeny:
		f.Actions = p.Tap.sample(flow.SignalDropped, in.Sample)
	case segmentation.ActionAllow:
		f.Actions = allowed
	case segmentation.ActionRateLimit: // of what the opener sends
		if !p.Reply {
			f.Meter = p.Meter
		}
		f.Actions = allowed
	case segmentation.ActionPass:
		f.Actions = []openflow.Action{openflow.Resubmit{Table: p.Layout.table(first + tier + 1)}}
	}
	match, side := in.Match, openflow.Reg(markReg, 0, replyMask)
	if p.Reply {
		match, _ = reply(in.Match)
		side = openflow.Reg(markReg, replyMask, replyMask)
	}
	var err error
	if f.Match, err = compileMatch(match, 0); err != nil {
		return f, err
	}
	f.Match = append(f.Match, side)
	if in.Established == segmentation.EstablishedKeep && in.Action == segmentation.ActionDeny {
		f.Match = append(f.Match, openflow.CTState(openflow.CTNew, openflow.CTNew))
	}
	return f, f.Validate()
}

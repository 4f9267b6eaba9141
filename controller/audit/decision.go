package audit

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/platelet-sdn/platelet/controller/response"
	"github.com/platelet-sdn/platelet/detector"
	"github.com/platelet-sdn/platelet/flowcollector/flow"
	"github.com/platelet-sdn/platelet/segmentation"
)

// OfFinding is the event of a finding that reached a state.
func OfFinding(f *detector.Finding) Event {
	return Event{
		What: FindingPrefix + string(f.State), Who: "platelet", Finding: f.ID, After: string(f.State),
		About: &About{
			Kind: f.Kind, Severity: f.Severity, Technique: f.Technique, ICS: f.ICS, Host: f.Host, MAC: f.HostMAC, Spoofed: f.Spoofed,
			Victims: slices.Clone(f.Victims), Proto: f.Proto, Port: f.DstPort, Score: f.Score, Confidence: f.Confidence, Records: f.Records,
			FirstSeen: moment(time.Unix(0, f.FirstSeen)), Detected: moment(time.Unix(0, f.Time)),
		},
		Evidence: slices.Clone(f.Evidence),
	}
}

func moment(t time.Time) time.Time {
	if t.IsZero() {
		return t
	}
	return t.UTC().Round(0)
}

// OfDecision is the event of a decision that reached its state from another
// one; empty for one that is new.
func OfDecision(d *response.Decision, before response.State) Event {
	e := Event{
		What: DecisionPrefix + string(d.State), Who: d.Who, Why: d.Why, Decision: d.ID, Finding: d.Finding, Playbook: d.Playbook,
		Before: string(before), After: string(d.State), Action: d.Action, At: &d.Target, Guards: slices.Clone(d.Guards),
	}
	if d.Kind != "" {
		e.About = &About{Kind: d.Kind, Severity: d.Severity, Technique: d.Technique, Score: d.Score, Confidence: d.Confidence,
			FirstSeen: moment(d.FirstSeen), Detected: moment(d.Detected)}
	}
	detail := map[string]string{}
	if d.Stage != "" {
		detail["stage"] = string(d.Stage)
	}
	if len(d.Approvals) > 0 {
		detail["approvals"] = strings.Join(d.Approvals, ", ")
	}
	if c := d.Choice; c != nil && c.Mode != response.LearningOff && before == "" {
		detail["policy"], detail["learning"], detail["rule"] = c.Policy, string(c.Mode), string(c.Rule)
		detail["wanted"], detail["propensity"] = string(c.Wanted), fmt.Sprintf("%.4g", c.Propensity)
	}
	if d.Overruled != "" {
		detail["overruled_by"] = d.Overruled
	}
	if d.Relapse > 0 {
		detail["relapse"] = fmt.Sprint(d.Relapse)
	}
	if w := d.WhatIf; w != nil && (before == "" || d.State == response.StateApplied && before != d.State) {
		detail["what_if"] = w.String()
		if len(w.Peers) > 0 {
			detail["what_if_hosts"] = hosts(w)
		}
	}
	switch {
	case d.State == response.StateProposed && before == response.StateAwaitingApproval,
		d.State == response.StateAwaitingApproval && before == d.State && len(d.Approvals) > 0:
		e.What = DecisionPrefix + "approved"
	case d.State == response.StateApplied && before == d.State:
		e.What = DecisionPrefix + "retried"
	}
	if before == "" || d.State == response.StateProposed || d.State == response.StateProbation {
		e.Rules = rules(d.Intents)
	}
	if !d.Applied.IsZero() {
		proof := d.Proof
		e.Proof = &proof
	}
	if len(detail) > 0 {
		e.Detail = detail
	}
	return e
}

// hosts names those that have the most to lose.
func hosts(w *response.WhatIf) string {
	names := make([]string, len(w.Peers))
	for i, p := range w.Peers {
		names[i] = p.Host.String()
	}
	s := strings.Join(names, " ")
	if w.More > 0 {
		s += fmt.Sprintf(" and %d more", w.More)
	}
	return s
}

// OfJoin is the event of a finding that joined a decision that stands.
func OfJoin(d *response.Decision, j *response.Join) Event {
	return Event{
		What: DecisionPrefix + "joined", Who: "playbook", Why: j.Why, Decision: d.ID, Finding: j.Finding, Playbook: j.Playbook,
		Before: string(d.State), After: string(d.State), Action: d.Action, At: &d.Target, About: &About{Kind: j.Kind},
	}
}

// rules lists what was compiled.
func rules(intents []segmentation.Intent) []Rule {
	var list []Rule
	for _, in := range intents[:min(len(intents), maxList)] {
		r := Rule{Intent: in.ID, Switch: in.Switch, Action: actionText(&in), Match: matchText(&in.Match), TTL: int64(in.TTL / time.Second)}
		if in.Action == segmentation.ActionRateLimit || in.Action == segmentation.ActionMirror {
			r.Limit = in.Limit.PacketsPerSecond
		}
		list = append(list, r)
	}
	return list
}

func actionText(in *segmentation.Intent) string {
	switch in.Action {
	case segmentation.ActionAllow:
		return "allow"
	case segmentation.ActionDeny:
		return "deny"
	case segmentation.ActionRateLimit:
		return "rate-limit"
	case segmentation.ActionReroute:
		return "reroute to " + in.To.String()
	case segmentation.ActionMirror:
		return "mirror to " + in.ToPort
	}
	return fmt.Sprint(uint8(in.Action))
}

// matchText says which packets a rule is about, in the words of ovs-ofctl
// where it has any.
func matchText(m *segmentation.Match) string {
	var parts []string
	add := func(ok bool, name, value string) {
		if ok {
			parts = append(parts, name+"="+value)
		}
	}
	add(m.InPort != "", "in_port", m.InPort)
	add(m.EtherType != 0, "eth_type", fmt.Sprintf("0x%04x", m.EtherType))
	add(!m.SrcMAC.IsZero(), "eth_src", m.SrcMAC.String())
	add(m.Src.IsValid(), "src", m.Src.String())
	add(m.Dst.IsValid(), "dst", m.Dst.String())
	add(m.Proto != 0, "proto", protoText(m.Proto))
	add(m.SrcPort != 0, "src_port", fmt.Sprint(m.SrcPort))
	add(m.DstPort != 0, "dst_port", fmt.Sprint(m.DstPort))
	add(m.TCPFlagsMask != 0, "tcp_flags", fmt.Sprintf("0x%02x/0x%02x", m.TCPFlags, m.TCPFlagsMask))
	add(m.ARPOp != 0, "arp_op", fmt.Sprint(m.ARPOp))
	add(m.HasICMPType, "icmp_type", fmt.Sprint(m.ICMPType))
	add(m.NDTarget.IsValid(), "nd_target", m.NDTarget.String())
	return strings.Join(parts, ",")
}

func protoText(p uint8) string {
	switch p {
	case flow.ProtoTCP:
		return "tcp"
	case flow.ProtoUDP:
		return "udp"
	}
	return fmt.Sprint(p)
}

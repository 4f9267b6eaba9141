package flow

// The connection tap (OpenFlow sample actions) says in the observation point
// ID what it sampled and how thinly, because IPFIX carries no sampling rate.
// Its observation domain marks the exporter as a tap of ours. Where a policy's
// rule reports a packet, the point says which rule; it has no domain of its own,
// because Open vSwitch 3.1 sends templates for one domain of a collector set.

// tapDomain is the upper half of the observation domain ID of every tap.
const tapDomain = 0x504c // "PL"

// FullProbability is the probability of a sample action that samples every
// packet.
const FullProbability uint16 = 65535

// TapDomain returns the observation domain ID of a bridge's tap.
func TapDomain(bridge uint16) uint32 { return tapDomain<<16 | uint32(bridge) }

// IsTapDomain reports whether an observation domain ID belongs to a tap.
func IsTapDomain(domain uint32) bool { return domain>>16 == tapDomain }

// TapPoint packs a signal and its sampling probability (n of 65535) into an
// observation point ID.
func TapPoint(s Signal, probability uint16) uint32 {
	return uint32(s)<<16 | uint32(probability)
}

// ParseTapPoint unpacks an observation point ID. Rate is the number of
// packets behind each sample; ok is false when the ID is not of a tap.
func ParseTapPoint(point uint32) (s Signal, rate float64, ok bool) {
	s, p := Signal(point>>16), point&0xffff
	if s == SignalNone || s > 15 || point>>16 > 15 || p == 0 {
		return SignalNone, 0, false
	}
	return s, float64(FullProbability) / float64(p), true
}

// RuleReport says why a policy's rule reports a packet.
type RuleReport uint8

// Reports of rules.
const (
	// RuleDenied is one of DeniedProbability (of 65535) of the packets that
	// the rule drops.
	RuleDenied RuleReport = iota
	// RuleDeniedOpening is every packet that would open a connection, dropped
	// by a rule that logs.
	RuleDeniedOpening
	// RuleLogged is every packet that opens a connection and that a rule which
	// logs lets pass.
	RuleLogged
	// RuleForged is one of ForgedProbability (of 65535) of the packets that a
	// source guard drops, or would.
	RuleForged
)

// DeniedProbability is how many of 65535 packets that a policy drops are
// reported.
const DeniedProbability uint16 = 65

// ForgedProbability is how many of 65535 packets with a forged source are
// reported: enough to notice whoever sends a few, few enough for a flood.
const ForgedProbability uint16 = 4096

// MaxRule is the highest number of a rule that an observation point can hold.
const MaxRule = 1<<rulePointBits - 1

const (
	rulePoint     = 1 << 31 // of every point that names a rule
	rulePointBits = 29
)

// RulePoint packs a report and the number of a rule, from 1 to MaxRule, into an
// observation point ID.
func RulePoint(r RuleReport, rule uint32) uint32 {
	return rulePoint | uint32(r)<<rulePointBits | rule&MaxRule
}

// ParseRulePoint unpacks an observation point ID that names a rule. Rate is the
// number of packets behind each report; ok is false when the ID is another.
func ParseRulePoint(point uint32) (s Signal, rule uint32, rate float64, ok bool) {
	rule = point & MaxRule
	if point&rulePoint == 0 || rule == 0 {
		return SignalNone, 0, 0, false
	}
	switch RuleReport(point &^ rulePoint >> rulePointBits) {
	case RuleDenied:
		return SignalDropped, rule, float64(FullProbability) / float64(DeniedProbability), true
	case RuleDeniedOpening:
		return SignalDropped, rule, 1, true
	case RuleLogged:
		return SignalLogged, rule, 1, true
	case RuleForged:
		return SignalForged, rule, float64(FullProbability) / float64(ForgedProbability), true
	}
	return SignalNone, 0, 0, false
}

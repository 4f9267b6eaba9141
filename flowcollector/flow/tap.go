package flow

// The connection tap (OpenFlow sample actions) says in the observation point
// ID what it sampled and how thinly, because IPFIX carries no sampling rate.
// Its observation domain marks the exporter as a tap of ours.

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

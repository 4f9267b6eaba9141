// Package segmentation holds rule intents, the switch-neutral form of every
// rule that Platelet enforces, and compiles containment into them. Protected
// assets are refused here, where rules are made, whoever asked for them.
package segmentation

import (
	"net/netip"
	"time"

	"github.com/platelet-sdn/platelet/flowcollector/flow"
)

// Tier orders rules: a rule of an earlier tier wins over all later ones. The
// rules of TierGuard and TierEmergency are about packets. Those of the policy
// tiers behind them are about connections: they say who may open one to whom,
// and what belongs to a connection shares its fate. A connection that no rule
// of a policy tier decides is allowed.
type Tier uint8

// The tiers, in falling precedence.
const (
	TierGuard     Tier = iota // protected assets, before everything, and exempt from policy
	TierEmergency             // written by the healer; always expires; what it lets pass, policy decides
	TierAdmin
	TierApplication
	TierBaseline
)

// Policy reports whether the tier is one of the policy tiers, whose rules are
// about connections.
func (t Tier) Policy() bool { return t >= TierAdmin && t <= TierBaseline }

// Action is what a rule does with a matching packet.
type Action uint8

const (
	// ActionAllow lets the packet go on behind the tier's other rules.
	ActionAllow Action = iota + 1
	// ActionDeny drops the packet.
	ActionDeny
	// ActionRateLimit lets up to Limit pass and drops the rest.
	ActionRateLimit
	// ActionPass leaves the decision to the next tier, past all further rules
	// of its own. Only in the policy tiers.
	ActionPass
	// ActionReroute hands the packet to the station To, and lets it go on as
	// ActionAllow does. Only in TierEmergency.
	ActionReroute
	// ActionMirror lets the packet go on as ActionAllow does, and sends up to
	// Limit of such packets also out of ToPort. Only in TierEmergency.
	ActionMirror
)

// Direction says from whose side a rule of the policy tiers looks at a
// connection. A connection needs the consent of both: the egress rules of
// the host that opens it, and the ingress rules of the one that it is opened
// to.
type Direction uint8

const (
	// DirectionIngress is towards the workload, which is Match.Dst.
	DirectionIngress Direction = iota + 1
	// DirectionEgress is from the workload, which is Match.Src.
	DirectionEgress
)

// Established says what a rule means to connections that exist when it comes.
type Established uint8

const (
	// EstablishedRecheck applies the rule to every packet: a connection that
	// it forbids stops at once, in both directions.
	EstablishedRecheck Established = iota
	// EstablishedKeep denies new connections alone. Of rules with another
	// action it changes nothing: a connection that one of them lets begin, a
	// stricter rule behind it must not end.
	EstablishedKeep
)

// Limit is a token bucket.
type Limit struct {
	PacketsPerSecond uint32 `json:"pktps"`
	Burst            uint32 `json:"burst"` // packets
}

// Match selects packets; zero fields match everything. A match on addresses
// or ports needs EtherType (and Proto), as on the switch. In the policy tiers
// it selects connections by their first packet, and by EtherType, Src, Dst,
// Proto, ports and ICMPType only.
type Match struct {
	InPort    string `json:"in_port,omitempty"` // interface name
	EtherType uint16 `json:"eth_type,omitempty"`
	SrcMAC    flow.MAC
	Src, Dst  netip.Prefix // IPv4, IPv6; for ARP the sender and target protocol address
	Proto     uint8
	SrcPort   uint16
	DstPort   uint16
	// SrcPortMask and DstPortMask say which bits of the port count, so that
	// 0x1000/0xf000 is 4096 to 8191; 0 is all of them.
	SrcPortMask, DstPortMask uint16
	// TCPFlags of those in TCPFlagsMask must stand exactly so.
	TCPFlags, TCPFlagsMask uint8
	ARPOp                  uint16 // 1 request, 2 reply
	// ICMPType is matched when HasICMPType is set.
	ICMPType    uint8
	HasICMPType bool
	NDTarget    netip.Addr // ICMPv6 types 135 and 136
}

// MaxPolicyRank is the number of ranks in each policy tier and direction.
const MaxPolicyRank = 7500

// Intent is one rule for one switch.
type Intent struct {
	// ID is unique among all intents and stable over re-compilation, for
	// example "d-81f2/0": the object that owns it and a running number.
	ID     string
	Owner  string // decision or policy that the rule comes from
	Switch string // bridge name
	Tier   Tier
	// Direction is set in the policy tiers, and only there.
	Direction Direction
	// Rank orders rules within a tier, lower first: below 1000 in TierGuard
	// and TierEmergency, below MaxPolicyRank in the policy tiers.
	Rank   uint16
	Match  Match
	Action Action
	// Limit is that of ActionRateLimit, and of the copies of ActionMirror.
	Limit Limit
	// To is the station that gets the packet in place of its destination,
	// for ActionReroute.
	To flow.MAC
	// ToPort is the interface by which copies leave, for ActionMirror.
	ToPort string `json:",omitempty"`
	// Established is for the policy tiers.
	Established Established
	// Sample is the probability, of 65535, with which packets that meet a
	// deny rule are still reported as flow.SignalDropped; 0 is never.
	Sample uint16
	// TTL is how long the switch keeps the rule without renewal, whole
	// seconds; mandatory in TierEmergency, 0 elsewhere means for ever.
	TTL time.Duration
	// Why is one sentence for people.
	Why string
}

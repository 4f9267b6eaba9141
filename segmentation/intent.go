// Package segmentation holds rule intents, the switch-neutral form of every
// rule that Platelet enforces, and compiles containment into them. Protected
// assets are refused here, where rules are made, whoever asked for them.
package segmentation

import (
	"net/netip"
	"time"

	"github.com/platelet-sdn/platelet/flowcollector/flow"
)

// Tier orders rules: a rule of an earlier tier wins over all later ones. They
// are about packets. What both let pass, policies (package policy), which are
// about connections, have still to agree to.
type Tier uint8

// The tiers, in falling precedence.
const (
	TierGuard     Tier = iota // protected assets, before everything, and exempt from policy
	TierEmergency             // written by the healer; always expires; what it lets pass, policy decides
)

// Action is what a rule does with a matching packet.
type Action uint8

const (
	// ActionAllow lets the packet go on behind the tier's other rules.
	ActionAllow Action = iota + 1
	// ActionDeny drops the packet.
	ActionDeny
	// ActionRateLimit lets up to Limit pass and drops the rest.
	ActionRateLimit
	_ // was for the policy tiers; decisions that were written down name the next one by its number
	// ActionReroute hands the packet to the station To, and lets it go on as
	// ActionAllow does. Only in TierEmergency.
	ActionReroute
	// ActionMirror lets the packet go on as ActionAllow does, and sends up to
	// Limit of such packets also out of ToPort. Only in TierEmergency.
	ActionMirror
)

// Limit is a token bucket: of packets or, where KilobitsPerSecond is set in
// the place of PacketsPerSecond, of kilobits. Intents are limited in packets.
type Limit struct {
	PacketsPerSecond  uint32 `json:"pktps"`
	KilobitsPerSecond uint32 `json:"kbps,omitempty"`
	Burst             uint32 `json:"burst"` // packets or kilobits
}

// Match selects packets; zero fields match everything. A match on addresses
// or ports needs EtherType (and Proto), as on the switch.
type Match struct {
	InPort    string `json:"in_port,omitempty"` // interface name
	EtherType uint16 `json:"eth_type,omitempty"`
	SrcMAC    flow.MAC
	Src, Dst  netip.Prefix // IPv4, IPv6; for ARP the sender and target protocol address
	Proto     uint8
	SrcPort   uint16
	DstPort   uint16
	// TCPFlags of those in TCPFlagsMask must stand exactly so.
	TCPFlags, TCPFlagsMask uint8
	ARPOp                  uint16 // 1 request, 2 reply
	// ICMPType is matched when HasICMPType is set.
	ICMPType    uint8
	HasICMPType bool
	NDTarget    netip.Addr // ICMPv6 types 135 and 136
}

// Intent is one rule for one switch.
type Intent struct {
	// ID is unique among all intents and stable over re-compilation, for
	// example "d-81f2/0": the object that owns it and a running number.
	ID     string
	Owner  string // decision or policy that the rule comes from
	Switch string // bridge name
	Tier   Tier
	// Rank orders rules within a tier, lower first; below 1000.
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
	// Sample is the probability, of 65535, with which packets that meet a
	// deny rule are still reported as flow.SignalDropped; 0 is never.
	Sample uint16
	// TTL is how long the switch keeps the rule without renewal, whole
	// seconds; mandatory in TierEmergency, 0 elsewhere means for ever.
	TTL time.Duration
	// Why is one sentence for people.
	Why string
}

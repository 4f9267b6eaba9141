// Package policy is the language of micro-segmentation: who may open which
// connection to whom, said in YAML by people and by the healer.
//
// A policy stands in a tier, has a priority in it, and applies to workloads.
// Its ingress rules are about connections that are opened to them, its egress
// rules about those that they open. The first rule that matches, in the order
// of tiers, priorities and lines, decides; pass goes on to the next tier; where
// no rule matches, the connection is allowed. A connection needs the consent
// of both sides. What belongs to an allowed connection shares its fate.
//
// This package holds the model and what a file must be to be understood. What
// a policy means for a connection is told by package oracle, slowly and
// obviously; package compile turns policies into the form that switches
// enforce, and is held against the oracle.
package policy

import (
	"fmt"
	"net/netip"
	"time"

	"github.com/platelet-sdn/platelet/flowcollector/flow"
)

// APIVersion is the first line of every policy file.
const APIVersion = "segmentation/v1"

// Any is the peer that stands for every address.
const Any = "any"

// File is one policy file.
type File struct {
	// APIVersion is segmentation/v1.
	APIVersion string `yaml:"apiVersion"`
	// Groups by name.
	Groups map[string]Group `yaml:"groups,omitempty"`
	// Services by name: a connection that fits one of the entries fits.
	Services map[string][]Service `yaml:"services,omitempty"`
	// Protected lists peers that no policy may restrict: groups, addresses, or
	// what the controller knows and protects anyway: dns, gateways,
	// controllers, collectors, management.
	Protected []Peer `yaml:"protected,omitempty"`
	// SourceGuards say at whose ports nobody may send from foreign addresses.
	SourceGuards []SourceGuard `yaml:"sourceGuards,omitempty"`
	// Policies in any order: tiers and priorities say which decides first.
	Policies []Policy `yaml:"policies,omitempty"`
	// Invariants are what must be true of the policies of all files together.
	Invariants []Invariant `yaml:"invariants,omitempty"`
}

// Set is what several files say together, and what is enforced at a time.
// Read makes one; its policies stand in the order in which they decide.
type Set struct {
	Groups   map[string]Group
	Services map[string][]Service
	// Protected peers are never restricted: policies do not apply to them,
	// whatever their appliesTo says.
	Protected []Peer
	// SourceGuards in any order: one that is enforced goes before one that is
	// staged.
	SourceGuards []SourceGuard
	Policies     []Policy
	// Invariants have no effect; "platelet policy verify" holds the policies
	// against them.
	Invariants []Invariant

	origins *origins // where it was read; nil if it was not
}

// AssetClasses are the words that stand in protected, beside groups, for what
// the controller knows and protects anyway.
func AssetClasses() []string {
	return []string{"dns", "gateways", "controllers", "collectors", "management"}
}

// Group is a set of addresses. Every key narrows it: a group by selector and
// CIDRs holds the workloads with these labels whose addresses lie in the
// CIDRs. One by CIDRs alone holds every address in them, whether a workload
// has it or not. Groups joins others, and stands alone but for Except.
type Group struct {
	// Selector holds labels that a workload must have, all of them; "*" is
	// any value, "a|b" one of several, and a leading "!" turns the sense: "!a"
	// is another value than a or none, "!*" no such label, "*!a|b" any value
	// but these.
	Selector map[string]string `yaml:"selector,omitempty"`
	// Ports are switch ports, "port" or "switch/port".
	Ports []string `yaml:"ports,omitempty"`
	// MACs of workloads.
	MACs []flow.MAC `yaml:"macs,omitempty"`
	// CIDRs, or single addresses, of either family.
	CIDRs []Prefix `yaml:"cidrs,omitempty"`
	// Except takes addresses out again.
	Except []Prefix `yaml:"except,omitempty"`
	// Risk holds workloads that findings stand against: at least of this
	// severity. Findings of what policies deny do not count.
	Risk Risk `yaml:"risk,omitempty"`
	// Intel holds the addresses of a threat feed, by the feed's name.
	Intel string `yaml:"intel,omitempty"`
	// During empties the group outside its times.
	During *Schedule `yaml:"during,omitempty"`
	// Groups are joined.
	Groups []string `yaml:"groups,omitempty"`
}

// Peer is one side of a rule, or what a policy applies to: a group by its
// name, Any, an address or a CIDR. In YAML it is one word, or a mapping with
// one of the keys group, ip and cidr.
type Peer struct {
	Group  string // Any, or a group's name; "" for a prefix
	Prefix netip.Prefix
}

// IsAny reports whether the peer is every address.
func (p Peer) IsAny() bool { return p.Group == Any }

// String is the form that stands in a file.
func (p Peer) String() string {
	switch {
	case p.Group != "":
		return p.Group
	case p.Prefix.IsSingleIP():
		return p.Prefix.Addr().String()
	}
	return p.Prefix.String()
}

// Prefix is a CIDR or an address; host bits are an error.
type Prefix struct{ netip.Prefix }

// Service is what a connection must fit. Keys that are absent fit everything.
type Service struct {
	// Proto is the protocol, which is never left out. Connections of protocols
	// other than tcp, udp, icmp, icmp6 and sctp are told apart by their addresses alone.
	Proto Proto `yaml:"proto"`
	// Ports are those of the side to which the connection is opened; for tcp,
	// udp and sctp.
	Ports []PortRange `yaml:"ports,omitempty"`
	// Type is for icmp and icmp6.
	Type *uint8 `yaml:"type,omitempty"`
	// Code needs a type.
	Code *uint8 `yaml:"code,omitempty"`
}

// Proto is an IP protocol: tcp, udp, sctp, icmp, icmp6, any, or a number from
// 1 to 255. The zero value is any.
type Proto uint8

// PortRange is "5432" or "8000-8100", both ends within.
type PortRange struct{ First, Last uint16 }

// SourceGuard keeps workloads from sending from addresses that are not theirs:
// at their switch ports, IPv4, IPv6, ARP and neighbour discovery must name
// addresses of the workload as those of the sender, and, where its Ethernet
// address is declared, that one. What a host needs to get an address (DHCP,
// duplicate address detection, multicast listener reports) is allowed. A
// workload whose addresses nobody has declared is not restricted, and neither
// is a port by which a protected address sends.
type SourceGuard struct {
	// Name is unique among the guards of all files.
	Name string `yaml:"name"`
	// Description is for people: one line.
	Description string `yaml:"description,omitempty"`
	// Mode says whether what is forged is dropped, or only counted and
	// reported.
	Mode Mode `yaml:"mode"`
	// AppliesTo are the workloads that are guarded: those of which one address
	// belongs to a peer.
	AppliesTo []Peer `yaml:"appliesTo"`
	// Learned guards workloads without declared addresses as well, by those
	// that two-way evidence binds to their port. Never of ports that lead to a
	// router: its addresses are those of everybody.
	Learned bool `yaml:"learned,omitempty"`
}

// Policy is a list of rules with what they apply to.
type Policy struct {
	// Name is unique among all files.
	Name string `yaml:"name"`
	// Description is for people: one line.
	Description string `yaml:"description,omitempty"`
	// Tier orders policies before priorities do.
	Tier Tier `yaml:"tier"`
	// Priority orders policies within the tier: the lower number decides
	// first, and is unique.
	Priority int `yaml:"priority,omitempty"`
	// Mode says whether the policy decides, or is only watched.
	Mode Mode `yaml:"mode"`
	// AppliesTo are the workloads whose connections the rules are about.
	AppliesTo []Peer `yaml:"appliesTo"`
	// Established says what a deny means to connections that exist when it
	// comes: recheck, the default, ends them, keep lets them go on.
	Established Established `yaml:"established,omitempty"`
	// Schedule says when the policy is in force; always if absent.
	Schedule *Schedule `yaml:"schedule,omitempty"`
	// ExpiresAt ends it; mandatory in the emergency tier. RFC 3339.
	ExpiresAt *time.Time `yaml:"expiresAt,omitempty"`
	// Origin says what wrote the policy if no person did.
	Origin *Origin `yaml:"origin,omitempty"`
	// Ingress rules are about connections that are opened to the workloads.
	Ingress []Rule `yaml:"ingress,omitempty"`
	// Egress rules are about connections that the workloads open.
	Egress []Rule `yaml:"egress,omitempty"`
}

// Origin joins a policy with the decision that it comes from.
type Origin struct {
	// Decision is the ID of a decision of the controller.
	Decision string `yaml:"decision"`
}

// Rule decides the connections that it matches.
type Rule struct {
	// Name is unique within the policy.
	Name string `yaml:"name"`
	// Action is what becomes of the connection: allow consents for this side,
	// deny drops silently, reject answers with a TCP reset or an ICMP error,
	// pass leaves it to the next tier, rate-limit consents up to a rate.
	Action Action `yaml:"action"`
	// From, in ingress rules, are those who open the connection: one has to fit.
	From []Peer `yaml:"from,omitempty"`
	// To, in egress rules, are those to whom it is opened: one has to fit.
	To []Peer `yaml:"to,omitempty"`
	// Services, one of which has to fit; none is every service.
	Services []ServiceRef `yaml:"services,omitempty"`
	// Rate is for rate-limit: what the opener of the connections may send,
	// all connections of the rule on one switch together.
	Rate *Rate `yaml:"rate,omitempty"`
	// Mirror copies the packets to a switch port, "port" or "switch/port".
	Mirror string `yaml:"mirror,omitempty"`
	// Log reports each connection that meets the rule.
	Log bool `yaml:"log,omitempty"`
}

// ServiceRef is a service by its name, or one that stands in its place.
type ServiceRef struct {
	Name   string
	Inline *Service
}

// Rate is a token bucket: one of pktps and kbps, and a burst in packets or
// kilobits.
type Rate struct {
	// Packets per second; without kbps.
	PacketsPerSecond uint32 `yaml:"pktps,omitempty"`
	// Kilobits per second, of the whole frames; without pktps.
	KilobitsPerSecond uint32 `yaml:"kbps,omitempty"`
	// Burst in packets or kilobits.
	Burst uint32 `yaml:"burst,omitempty"`
}

// Tier orders policies: all of an earlier tier decide before those of a later.
type Tier uint8

// The tiers, in falling precedence. The zero value is none.
const (
	TierEmergency Tier = iota + 1
	TierAdmin
	TierApplication
	TierBaseline
)

// Mode says whether a policy decides, or only is watched.
type Mode uint8

// The modes. The zero value is none.
const (
	ModeStaged Mode = iota + 1
	ModeEnforce
)

// Established says what a deny rule means to connections that exist when it
// comes.
type Established uint8

// Recheck, the default, ends them; keep lets them go on.
const (
	EstablishedRecheck Established = iota
	EstablishedKeep
)

// Action is what a rule does with a connection.
type Action uint8

// The actions. The zero value is none.
const (
	// ActionAllow consents for this side.
	ActionAllow Action = iota + 1
	// ActionDeny drops silently.
	ActionDeny
	// ActionReject answers with a TCP reset or an ICMP error.
	ActionReject
	// ActionPass leaves the decision to the next tier.
	ActionPass
	// ActionRateLimit consents up to a rate.
	ActionRateLimit
)

// Consents reports whether the action lets the connection be.
func (a Action) Consents() bool { return a == ActionAllow || a == ActionRateLimit }

// Risk is the severity of the findings against a workload.
type Risk uint8

// Risks, rising. The zero value is none.
const (
	RiskLow Risk = iota + 1
	RiskMedium
	RiskHigh
	RiskCritical
)

// Direction says on whose side a rule stands.
type Direction uint8

// Directions: towards the workload, and from it.
const (
	Ingress Direction = iota + 1
	Egress
)

// RuleID names a rule of a set.
type RuleID struct {
	Policy    string
	Direction Direction
	Rule      string
}

// String is "policy/ingress/rule".
func (id RuleID) String() string { return fmt.Sprintf("%s/%s/%s", id.Policy, id.Direction, id.Rule) }

// Rules returns the policy's rules of a direction.
func (p *Policy) Rules(d Direction) []Rule {
	if d == Egress {
		return p.Egress
	}
	return p.Ingress
}

// Peers returns the other side of a rule of the direction.
func (r *Rule) Peers(d Direction) []Peer {
	if d == Egress {
		return r.To
	}
	return r.From
}

// Active reports whether the policy is in force at a time, whatever its mode.
func (p *Policy) Active(now time.Time) bool {
	return (p.ExpiresAt == nil || now.Before(*p.ExpiresAt)) && (p.Schedule == nil || p.Schedule.Covers(now))
}

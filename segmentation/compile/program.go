// Package compile turns policies into what a switch can enforce in a few
// table lookups, however many workloads and rules there are.
//
// Addresses that every rule treats alike are one class, and so are services.
// A packet is classified once: who opens the connection, to whom, and which
// service. Rules speak of classes alone. So a workload costs a handful of
// flows and a rule a handful more, n + m rather than n x m; a label that
// changes moves one workload to another class and touches no rule; and
// exceptions and overlaps of prefixes are settled by the longest prefix, not
// by more rules.
package compile

import (
	"net/netip"
	"slices"

	"github.com/platelet-sdn/platelet/segmentation/policy"
)

// Class is a number for addresses, or services, that all rules treat alike. 0
// is that of whatever no rule names; a class is not reused for another meaning
// within a Compiler's life as long as anything has it.
type Class uint32

// Program is the switch-neutral form of a set of policies for an inventory at
// a time. It is not changed once made.
type Program struct {
	// Endpoints give addresses their class by the longest prefix.
	Endpoints map[netip.Prefix]Class
	// Services give a connection's service its class; the more specific match
	// wins: type and code before type, ports before the whole protocol.
	Services map[ServiceMatch]Class
	// Rules by ID. A rule that can match nothing, because a group is empty,
	// is not among them.
	Rules map[policy.RuleID]Rule
	// Tracked are the prefixes on whose side some rule stands: only their
	// connections need to be tracked at all.
	Tracked map[netip.Prefix]bool
}

// ServiceMatch selects connections by what a switch can match.
type ServiceMatch struct {
	Proto policy.Proto // never any
	// Port of the side to which the connection is opened, those of its bits
	// that stand in PortMask; a mask of 0 is every port.
	Port, PortMask uint16
	// Type and Code count where HasType and HasCode are set.
	Type, Code       uint8
	HasType, HasCode bool
}

// Rule is a compiled rule. A connection matches when its opener's class is
// among Opener, its responder's among Responder and its service's among
// Service; a nil list is everything. Lists are sorted.
type Rule struct {
	ID   policy.RuleID
	Tier policy.Tier
	// Rank orders the rules of a tier and a direction: the lower decides
	// first. It is unique among them, below MaxRank, and stays as it is while
	// other rules come and go, as long as there is room.
	Rank        uint16
	Opener      []Class
	Responder   []Class
	Service     []Class
	Action      policy.Action
	Established policy.Established
	Rate        policy.Rate // for rate-limit
	Mirror      string
	Log         bool
}

// MaxRank is the number of ranks in each tier and direction.
const MaxRank = 50000

// Same reports whether nothing of two rules differs.
func (r *Rule) Same(o *Rule) bool {
	same := func(x, y []Class) bool { return (x == nil) == (y == nil) && slices.Equal(x, y) }
	return r.ID == o.ID && r.Tier == o.Tier && r.Rank == o.Rank && r.Action == o.Action && r.Established == o.Established && r.Rate == o.Rate &&
		r.Mirror == o.Mirror && r.Log == o.Log && same(r.Opener, o.Opener) && same(r.Responder, o.Responder) && same(r.Service, o.Service)
}

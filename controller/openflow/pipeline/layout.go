// Package pipeline owns Platelet's tables on one Open vSwitch bridge and
// enforces rule intents in them.
//
// Nobody else's flow is changed. One hook in table 0, at a reserved priority,
// sends every packet that has not been through our tables to the first of
// them; the last one marks the packet (register 15, bit 31) and looks it up
// in table 0 again, where the hook no longer matches. So whatever pipeline
// was there, NORMAL or another controller's, runs unchanged on what we let
// pass.
//
// One Platelet at a time holds a bridge. A claim on the switch says which, and
// every transaction carries a token of it that the switch itself compares: what
// a former holder still sends is refused, whole, over every kind of connection,
// and no other controller's role is touched (see claim.go). A second one says
// who holds the bridge and waits, until the holder leaves, until a lease shows
// that it is gone, or until it is told to take over. Containments of the former
// holder stay for their TTL.
package pipeline

import (
	"fmt"
	"hash/fnv"

	"github.com/platelet-sdn/platelet/controller/openflow"
)

// DefaultBase is the first of our tables unless configured otherwise.
const DefaultBase uint8 = 200

// HookPriority is the reserved priority of the hook in table 0.
const HookPriority uint16 = 60000

// Our tables, as offsets from the base, in the order in which packets meet
// them. Those from conntrack to commit see only packets of hosts that are
// under policy (stateful.go).
const (
	tableGuard uint8 = iota
	tableEmergency
	tableTap // before policy: what that drops is tried all the same
	tableAdmit
	tableConntrack
	tableState
	tableSource // what a packet is to policy, in three steps (classify.go)
	tableDestination
	tableService
	tableEgress  // four: one per policy tier
	tableIngress = tableEgress + policyTiers
	tableCommit  = tableIngress + policyTiers
	tableReturn  = tableCommit + 1
	tableCopy    = tableReturn + 1 // of packets that go on by themselves
	// Where sources are guarded, packets meet these before all others: their
	// numbers are the last so that no table had to change its own.
	tableStation   = tableCopy + 1 // Ethernet addresses of senders (sources.go)
	tableNeighbour = tableStation + 1
	tableSender    = tableNeighbour + 1
	// Flows that packets teach (remembered.go): the last of all.
	tableRemembered = tableSender + 1
	tableCount      = tableRemembered + 1
	policyTiers     = 4
	lastBase        = 254 - tableCount
)

var tableNames = [tableCount]string{"guard", "emergency", "tap", "admit", "conntrack", "state", "source", "destination", "service",
	"egress-emergency", "egress-admin", "egress-application", "egress-baseline",
	"ingress-emergency", "ingress-admin", "ingress-application", "ingress-baseline",
	"commit", "return", "copy", "station", "neighbour", "sender", "remembered"}

// Layout places our tables on a bridge.
type Layout struct {
	Base uint8
	// Zone is where connections of hosts under policy are tracked. Bridges of
	// one switch share its conntrack, so each needs a zone of its own; 0 means
	// the one that ZoneOf chooses first.
	Zone uint16
}

// Validate reports whether the tables fit: 255 stands for all tables, and
// Open vSwitch keeps 254 for itself.
func (l Layout) Validate() error {
	if l.Base == 0 || l.Base > lastBase {
		return fmt.Errorf("base table %d: want 1 to %d", l.Base, lastBase)
	}
	return nil
}

func (l Layout) table(offset uint8) uint8 { return l.Base + offset }

// owns reports whether a table is one of ours.
func (l Layout) owns(table uint8) bool { return table >= l.Base && table < l.Base+tableCount }

// TableName names a table for people.
func (l Layout) TableName(table uint8) string {
	if l.owns(table) {
		return tableNames[table-l.Base]
	}
	return fmt.Sprintf("table %d", table)
}

// A cookie says whose flow it is and what it is for: owner (16 bits, "PL"),
// generation (8), category (8), object (32).
const (
	cookieOwner     uint64 = 0x504c << 48
	cookieOwnerMask uint64 = 0xffff << 48
	// generation is that of the layout: flows of an older one are ours, and
	// out of date.
	generation uint64 = 3
)

// Category says what a flow of ours is for.
type Category uint8

// Categories of flows. Rules of policies have a category for each direction and
// tier, which is named like their table.
const (
	CategoryHook      Category = 1
	CategoryGuard     Category = 2
	CategoryEmergency Category = 3
	CategoryTap       Category = 4
	CategoryMiss      Category = 5 // goes on to the next table
	CategoryReturn    Category = 6
	CategoryState     Category = 10 // the way of a tracked packet
	CategoryTracked   Category = 11 // sends the packets of a prefix under policy to conntrack
	CategoryClaim     Category = 12 // says which Platelet holds the bridge; no packet meets it
	CategoryEndpoint  Category = 13 // gives addresses their class
	CategoryService   Category = 14 // gives services their class
	CategorySource    Category = 15 // of the ports whose sources are guarded
	categoryPolicy    Category = 16 // the first of those of policies' rules
	// CategoryRemembered is of flows that packets teach, not we (remembered.go).
	CategoryRemembered Category = categoryPolicy + 2*policyTiers
)

// String returns the category's name.
func (c Category) String() string {
	if c.policy() {
		return tableNames[tableEgress+uint8(c-categoryPolicy)]
	}
	names := map[Category]string{CategoryHook: "hook", CategoryGuard: "guard", CategoryEmergency: "emergency",
		CategoryTap: "tap", CategoryMiss: "miss", CategoryReturn: "return", CategoryState: "state", CategoryTracked: "tracked",
		CategoryClaim: "claim", CategoryEndpoint: "endpoint", CategoryService: "service", CategorySource: "source",
		CategoryRemembered: "remembered"}
	if name, ok := names[c]; ok {
		return name
	}
	return fmt.Sprintf("category %d", uint8(c))
}

// policy reports whether flows of a category are those of policies' rules.
func (c Category) policy() bool { return c >= categoryPolicy && c < categoryPolicy+2*policyTiers }

func cookie(c Category, object uint32) uint64 {
	return cookieOwner | generation<<40 | uint64(c)<<32 | uint64(object)
}

// rememberedOwner is what the cookies of learned flows have in common, but for
// their object.
const rememberedOwner = cookieOwner | generation<<40 | uint64(CategoryRemembered)<<32

func isOurs(cookie uint64) bool { return cookie&cookieOwnerMask == cookieOwner }

func cookieCategory(c uint64) Category { return Category(c >> 32) }

func cookieObject(c uint64) uint32 { return uint32(c) }

// ObjectID derives a rule's object from its intent's ID, so that a restarted
// controller recognises its rules.
func ObjectID(intentID string) uint32 {
	h := fnv.New32a()
	h.Write([]byte(intentID)) // never fails
	return h.Sum32()
}

// Our marks on a packet: that it has been through our tables, and, while it
// is there, that a guard rule exempts it from policy, that it answers what the
// other end sent, that it opens a connection, that a rule allows it, not just
// the absence of one, which of two banks of policies' flows it meets, that its
// connection is known to go on, that it is for a service that too many ask, and
// that it has taught what it could.
const (
	markReg    = 15
	markBit    = 31
	markMask   = uint32(1) << markBit
	exemptBit  = 30
	exemptMask = uint32(1) << exemptBit
	replyBit   = 29
	replyMask  = uint32(1) << replyBit
	firstBit   = 28
	firstMask  = uint32(1) << firstBit
	allowBit   = 27
	allowMask  = uint32(1) << allowBit
	bankBit    = 26 // whose flows of policies it meets (bank.go)
	bankMask   = uint32(1) << bankBit
	// of connections that go on, and of packets that conntrack does not follow
	// (remembered.go)
	knownBit    = 25
	knownMask   = uint32(1) << knownBit
	crowdedBit  = 24
	crowdedMask = uint32(1) << crowdedBit
	taughtBit   = 23
	taughtMask  = uint32(1) << taughtBit
	markBits    = markBit - taughtBit + 1
)

// The registers that hold, while a packet is under policy, the classes of who
// opened its connection, of whom it was opened to, and of the service. They are
// zero again before any other pipeline sees the packet.
const (
	openerReg    = 14
	responderReg = 13
	serviceReg   = 12
)

// The priorities of rules: see priority.
const (
	missPriority   = uint16(0)
	claimPriority  = uint16(0) // of flows that no packet meets
	returnPriority = claimPriority + 1
	ruleTop        = uint16(60000)
	maxRank        = 999
	prioritiesRank = 32 // per rank: 4 actions, 8 slots each
	slots          = 8
)

// hookMatch selects packets that have not been through our tables.
func hookMatch() openflow.Match { return openflow.Match{openflow.Reg(markReg, 0, markMask)} }

// mark writes bits of the mark register.
func mark(offset, bits int, value uint64) openflow.Action {
	return openflow.Load{Dst: openflow.RegBits(markReg, offset, bits), Value: value}
}

// miss sends what no rule of a table decides to another one.
func (l Layout) miss(from, to uint8) openflow.Flow {
	return openflow.Flow{
		Table: l.table(from), Priority: missPriority, Cookie: cookie(CategoryMiss, uint32(from)),
		Instructions: openflow.Instructions{Actions: []openflow.Action{openflow.Resubmit{Table: l.table(to)}}},
	}
}

// baseFlows is the frame that the rules hang in: hook, misses, return.
func (l Layout) baseFlows() []openflow.Flow {
	return []openflow.Flow{
		{
			Table: l.table(tableReturn), Priority: returnPriority, Cookie: cookie(CategoryReturn, 0),
			Instructions: openflow.Instructions{Actions: []openflow.Action{
				mark(taughtBit, markBits, 1<<(markBit-taughtBit)), // the first mark alone
				openflow.Resubmit{Table: 0},
			}},
		},
		l.miss(tableTap, tableAdmit),
		l.miss(tableAdmit, tableReturn),
		l.miss(tableEmergency, tableTap),
		l.miss(tableGuard, tableEmergency),
		l.hook(),
	}
}

// hook is what leads into our tables.
func (l Layout) hook() openflow.Flow {
	return openflow.Flow{
		Table: 0, Priority: HookPriority, Cookie: cookie(CategoryHook, 0), Match: hookMatch(),
		Instructions: openflow.Instructions{Actions: []openflow.Action{openflow.Resubmit{Table: l.table(tableGuard)}}},
	}
}

// filters select every flow that can concern us: those in our tables, and in
// table 0 those that could be our hook; not those that packets teach.
func (l Layout) filters() []openflow.FlowFilter {
	out := []openflow.FlowFilter{{Table: 0, Match: hookMatch()}}
	for t := range tableRemembered {
		out = append(out, openflow.FlowFilter{Table: l.table(t)})
	}
	return out
}

// ownFilters select our flows, by their places and by their cookies: a foreign
// flow elsewhere may have a cookie like ours.
func (l Layout) ownFilters() []openflow.FlowFilter {
	out := l.filters()
	for i := range out {
		out[i].Cookie, out[i].CookieMask = cookieOwner, cookieOwnerMask
	}
	return out
}

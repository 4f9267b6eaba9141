// Package recommend learns a least-privilege policy from observed connections,
// for a person to review: what is not in it was not seen, or was left out and
// says why.
//
// # Roles
//
// Hosts that behave alike get one group. A host is described by what it offers
// and uses, and to and from which roles: sets of (direction, service, role of
// the peer), compared by a weighted Jaccard index in which what everybody does
// counts little (inverse document frequency; Spärck Jones, Journal of
// Documentation 1972). Groups are found by average linkage (UPGMA; Sokal and
// Michener 1958), then the roles of the peers are replaced by the groups found,
// until nothing changes. That hosts are grouped by what their peers are, rather
// than by who they are, is from Tan, Poletto, Guttag and Kaashoek, Role
// Classification of Hosts within Enterprise Networks Based on Connection
// Patterns (USENIX ATC 2003). Where the inventory has labels, they count as much
// as behaviour. Two copies of one application behave alike; where a label has
// told them apart in everything that was seen between two groups, the groups
// are split by it.
//
// # Rules
//
// A rule allows a service from one group to another, if hosts of both were seen
// to do so and were answered; of a group of which only few did, those alone. Its
// confidence is n/(n+1), where n counts pairs of hosts by the minutes in which
// they talked, times (1+s)/2, where s is the share of the opening group that was
// seen to: what happened once is a coincidence, what everybody does again and
// again is how the network works. What a suspect reached, and what goes on from
// there by the same service, is left out as well: a worm need not have been found
// out on each host.
//
// What is sent to a multicast group, or to everybody on a link, needs no answer:
// routers find each other so (VRRP, HSRP, OSPF), and hosts find services (mDNS,
// LLMNR, SSDP). Those who were seen to send it may go on, to this group, by this
// service; the rule is one of egress, for no policy applies to who listens.
//
// # Limits
//
// Who answers a question to a group from an address of his own opens a
// connection, of any port of the one who asked: no rule is made of that.
//
// What was not seen is not allowed. In planted networks, a quarter of an hour
// allows 98.7 % of the connections of the next one; of a real PC's day, whose
// first half is a night, the first half allows 48 % of the second
// (TestSplitHalf, TestSplitHalfOfARealDay). Whoever attacks slowly, is answered
// and is not found by the detectors, is learned: that is what the review is for.
//
// What was left out, and why, is in the Recommendation: what no host answered,
// whose opener is not known, what scanners and hosts with findings opened, what is
// too rare.
package recommend

import (
	"cmp"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"time"

	"github.com/platelet-sdn/platelet/segmentation/connection"
	"github.com/platelet-sdn/platelet/segmentation/policy"
)

// Suspect is a host that a finding stands against.
type Suspect struct {
	Host netip.Addr
	// Since is when the evidence begins, Unix nanoseconds. What the host
	// opened for the first time after that is left out.
	Since int64
	Why   string
}

// Input is what was seen.
type Input struct {
	Connections []connection.Entry
	Stats       connection.Stats
	Inventory   policy.Inventory
	Suspects    []Suspect
}

// Options are optional.
type Options struct {
	// Internal are the networks that the policy is for; whatever is outside
	// them and the inventory is the outside. Private and link-local networks
	// if there are none.
	Internal []netip.Prefix
	// MinConfidence is that of the least certain rule; DefaultConfidence if 0.
	MinConfidence float64
}

const (
	// DefaultConfidence leaves out what was seen of one pair of hosts within
	// one minute only.
	DefaultConfidence = 0.6
	// similar is how alike hosts must be to share a group, by the weight of
	// what they do. Planted roles are found as well by 0.25 and 0.4.
	similar = 0.3
	// partShare is the share of a group that must be seen to do something for
	// all of it to be allowed.
	partShare = 0.5
)

// Recommendation is a policy to be reviewed.
type Recommendation struct {
	File policy.File
	// Groups say whom the groups of the file hold, in its order.
	Groups []Group
	// Evidence says why a rule is there.
	Evidence map[policy.RuleID]Evidence
	// LeftOut is what there are no rules for, and why.
	LeftOut []LeftOut
	Stats   connection.Stats
	names   map[string]Group
}

// Group is a role.
type Group struct {
	Name string
	// Members are workloads and addresses that were seen.
	Members []string
	// ByLabels is set when a selector holds them, and so what else has these
	// labels.
	ByLabels bool
	// Quiet is the group of those who have no rules, Part is set for a part of
	// another group, which has more.
	Quiet, Part bool
}

// Evidence is what a rule was seen to be needed for.
type Evidence struct {
	// Openers and Responders were seen, of so many in the groups; 0 of the
	// outside and of everybody.
	Openers, OpenersOf       int
	Responders, RespondersOf int
	// Announced is set for what is sent to everybody, where nobody answers.
	Announced     bool
	Conversations float64
	// Minutes counts pairs of hosts by the minutes in which they talked, Days
	// is the most days of any pair.
	Minutes, Days uint32
	First, Last   time.Time
	Confidence    float64 // the least of the pairs of groups that the rule is for

	from, to       map[int]bool
	fromOf, intoOf map[*party]bool
}

// add joins the evidence of another pair of groups.
func (e *Evidence) add(o Evidence) {
	if e.Minutes == 0 {
		*e = o
		e.from, e.to, e.fromOf, e.intoOf = maps.Clone(o.from), maps.Clone(o.to), maps.Clone(o.fromOf), maps.Clone(o.intoOf)
		return
	}
	maps.Copy(e.from, o.from)
	maps.Copy(e.to, o.to)
	maps.Copy(e.fromOf, o.fromOf)
	maps.Copy(e.intoOf, o.intoOf)
	e.Conversations += o.Conversations
	e.Minutes += o.Minutes
	e.Days = max(e.Days, o.Days)
	if o.First.Before(e.First) {
		e.First = o.First
	}
	if o.Last.After(e.Last) {
		e.Last = o.Last
	}
	e.Confidence = min(e.Confidence, o.Confidence)
	e.count()
}

// count sums up both sides.
func (e *Evidence) count() {
	hosts := func(of map[*party]bool) int {
		all := map[int]bool{}
		for p := range of {
			for _, m := range p.members {
				all[m] = true
			}
		}
		return len(all)
	}
	e.Openers, e.OpenersOf = len(e.from), hosts(e.fromOf)
	e.Responders, e.RespondersOf = len(e.to), hosts(e.intoOf)
}

// LeftOut is a kind of connections without rules.
type LeftOut struct {
	Why         string
	Connections int
	// Examples are the ones with most conversations, at most three.
	Examples []string
}

// Recommend learns a policy. It is the same for the same input.
func Recommend(in Input, o Options) (*Recommendation, error) {
	if o.MinConfidence == 0 {
		o.MinConfidence = DefaultConfidence
	}
	if o.MinConfidence < 0 || o.MinConfidence >= 1 {
		return nil, fmt.Errorf("recommend: a confidence of %v is not within 0 and 1", o.MinConfidence)
	}
	if len(o.Internal) == 0 {
		o.Internal = private()
	}
	n := newNetwork(in, o)
	n.read(in)
	n.roles()
	n.split()
	n.blocks()
	return n.write(in, o), nil
}

// private are the networks of RFC 1918, 6598, 3927, 4193 and 4291 that are
// nobody's in particular.
func private() []netip.Prefix {
	var out []netip.Prefix
	for _, p := range []string{"10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "169.254.0.0/16", "fc00::/7", "fe80::/10"} {
		out = append(out, netip.MustParsePrefix(p))
	}
	return out
}

// Nodes, and groups, that are no hosts.
const (
	// outside is everybody else.
	outside = -1
	// everybody is who listens to a multicast group or a broadcast address.
	everybody = -2
)

// isHost reports whether a node is a host, or a group is one of hosts.
func isHost(node int) bool { return node >= 0 }

// network is what is known of hosts and who uses what of whom.
type network struct {
	options Options
	names   *connection.Names
	nodes   []node
	byAddr  map[netip.Addr]int
	edges   []edge
	left    map[string]*leftOut
	// services by their name, as they stand in the file.
	services map[string][]policy.Service
	// group of each node, outside for those without; members of each group.
	group   []int
	members [][]int
	rules   []block
	parties []*party
	// habits count the minutes in which hosts did something, doers the hosts;
	// regulars have done something that is no coincidence. See regular.
	habits   map[habit]uint32
	doers    map[string]int
	regulars map[int]bool
	// quiet nodes were seen, or are in the inventory, and have no rules.
	quiet []int
}

// node is a host: a workload of the inventory, or an address.
type node struct {
	name     string
	addrs    []netip.Addr
	workload *policy.Workload
	opened   bool // it sent something
}

// edge is what one host uses of another. One of both may be outside.
type edge struct {
	from, to int
	service  string
	conn     *connection.Entry
}

type leftOut struct {
	connections int
	examples    []*connection.Entry
}

func newNetwork(in Input, o Options) *network {
	n := &network{options: o, names: connection.NewNames(), byAddr: map[netip.Addr]int{}, left: map[string]*leftOut{}, services: map[string][]policy.Service{}}
	workloads := slices.Clone(in.Inventory.Workloads)
	slices.SortFunc(workloads, func(a, b policy.Workload) int { return cmp.Compare(a.Name, b.Name) })
	for i := range workloads {
		w := &workloads[i]
		if len(w.Addrs) == 0 {
			continue
		}
		addrs := slices.SortedFunc(slices.Values(w.Addrs), netip.Addr.Compare)
		for _, a := range addrs {
			if _, taken := n.byAddr[a]; !taken {
				n.byAddr[a] = len(n.nodes)
			}
		}
		n.nodes = append(n.nodes, node{name: w.Name, addrs: addrs, workload: w})
	}
	return n
}

// node finds or makes the node of an address; outside for one that is.
func (n *network) node(a netip.Addr) int {
	if i, ok := n.byAddr[a]; ok {
		return i
	}
	if !slices.ContainsFunc(n.options.Internal, func(p netip.Prefix) bool { return p.Contains(a) }) {
		return outside
	}
	n.byAddr[a] = len(n.nodes)
	n.nodes = append(n.nodes, node{name: a.String(), addrs: []netip.Addr{a}})
	return len(n.nodes) - 1
}

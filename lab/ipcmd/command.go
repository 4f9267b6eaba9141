// Package ipcmd is the part of iproute2's ip, and of sysctl, that topology
// files use, done by netlink and by writing to /proc/sys: an image built from
// scratch has neither program, and the exec lines of its nodes call both.
//
// The syntax is iproute2's; what is not supported is refused by name, never
// ignored. See ip-address(8), ip-link(8), ip-route(8), ip-neighbour(8).
package ipcmd

import (
	"net"
	"net/netip"
)

// Object is what a command is about.
type Object string

// The objects, under iproute2's long names.
const (
	ObjectAddress   Object = "address"
	ObjectLink      Object = "link"
	ObjectRoute     Object = "route"
	ObjectNeighbour Object = "neighbour"
)

// Verb is what is done with the object.
type Verb string

// The verbs, under iproute2's long names.
const (
	VerbAdd     Verb = "add"
	VerbReplace Verb = "replace"
	VerbDelete  Verb = "delete"
	VerbFlush   Verb = "flush"
	VerbSet     Verb = "set" // of links alone
	VerbShow    Verb = "show"
)

// Family restricts a command to one version of IP.
type Family int

// The families; FamilyAny is what a command has that names none.
const (
	FamilyAny Family = 0
	FamilyV4  Family = 4
	FamilyV6  Family = 6
)

// Command is one command as parsed. Of Address, Link, Route and Neighbour the
// one that Object names is set.
type Command struct {
	Object Object
	Verb   Verb
	// Family is that of the option -4 or -6.
	Family Family
	// OneLine is the option -o: each thing shown takes one line.
	OneLine bool
	// Dev is the interface, empty where none is named.
	Dev string

	Address   Address
	Link      Link
	Route     Route
	Neighbour Neighbour
}

// Address is the argument of "ip address".
type Address struct {
	// Prefix is the address with the length of its subnet's prefix; invalid
	// in show and flush.
	Prefix netip.Prefix
	// Peer is the other end's address; invalid where there is none.
	Peer netip.Prefix
	// Broadcast is invalid for none.
	Broadcast netip.Addr
	Label     string
	// Scope is a number of /etc/iproute2/rt_scopes; -1 is the default, by
	// the address.
	Scope                int
	NoDAD, NoPrefixRoute bool
	// ValidLft and PreferredLft are lifetimes in seconds; 0 is forever.
	ValidLft, PreferredLft int
}

// Link is the argument of "ip link set"; a nil or zero field is left alone.
type Link struct {
	Up *bool
	// MTU is in bytes.
	MTU          int
	HardwareAddr net.HardwareAddr
	// Rename is the new name.
	Rename       string
	Promisc, ARP *bool
	// TxQueueLen is in packets.
	TxQueueLen *int
}

// Route is the argument of "ip route".
type Route struct {
	// Dst is the destination; 0.0.0.0/0 or ::/0 by default, invalid in a
	// show or flush that names none.
	Dst netip.Prefix
	// Type is unicast, blackhole, unreachable or prohibit.
	Type string
	// Via is the next hop, Src the preferred source; invalid for none.
	Via, Src netip.Addr
	// Metric is the priority, Table the routing table's number, Protocol
	// and Scope numbers of /etc/iproute2; 0 (and -1 for the last two)
	// leaves them to the default.
	Metric, Table   int
	Protocol, Scope int
	// MTU is in bytes, 0 for none.
	MTU    int
	OnLink bool
}

// Neighbour is the argument of "ip neighbour".
type Neighbour struct {
	// Addr is invalid in show and flush.
	Addr         netip.Addr
	HardwareAddr net.HardwareAddr
	// State is a NUD_ value of the kernel; 0 is the default, permanent.
	State int
	Proxy bool
}

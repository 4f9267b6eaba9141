// Package oftest is a virtual switch for tests: OpenFlow tables, groups,
// meters and a connection tracker in memory, which take the same values of
// package openflow that a real switch is sent, and answer what happens to a
// packet and by which rule.
//
// It is an oracle, so it is written to be obviously right rather than fast:
// tables are searched one flow after the other. What it answers is held, in
// its own tests, against Open vSwitch: against ofproto/trace on random flows
// and packets, and against real packets through a real userspace datapath
// where connection tracking, meters and timeouts are concerned.
//
// Not modelled, and refused when a flow asks for it: address translation,
// application helpers of the connection tracker, MPLS, and actions that
// package openflow keeps as bytes. TCP options are not looked at, so windows
// are not scaled. Where flows set an ARP operation, both addresses or both
// ports of a packet to zero, Open vSwitch sends the packet unchanged, because
// zeros say there that the header is missing; this package does as told.
package oftest

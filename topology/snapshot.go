// Package topology describes switches, ports, hosts and links as immutable
// snapshots, and learns where hosts are from flow records.
package topology

import (
	"net/netip"
	"sync"

	"github.com/platelet-sdn/platelet/flowcollector/flow"
)

// PortType says what stands behind a switch port.
type PortType uint8

const (
	// PortEdge is a port that hosts may stand behind (veth, tap, NIC).
	PortEdge PortType = iota
	// PortLink leads to another switch (patch port, veth pair between
	// bridges, tunnel): nothing is contained there, only at the edge where
	// traffic enters.
	PortLink
	// PortLocal is the bridge's own LOCAL port.
	PortLocal
)

// PortID names a port in a way that survives renumbering.
type PortID struct {
	Switch string `json:"switch"` // bridge name
	Port   string `json:"port"`   // interface name
}

// Port is one interface of a switch.
type Port struct {
	ID      PortID
	Type    PortType
	OFPort  uint32 // OpenFlow port number; 0 while the switch has not assigned one
	IfIndex uint32 // kernel interface index; 0 when unknown
	MAC     flow.MAC
	Labels  map[string]string // Interface external_ids
	LinkUp  bool
	// Trunk is set where the port is set up for several VLANs.
	Trunk bool
	// Peer is the interface at the other end of a link to another switch of
	// this machine; empty for tunnels and other ports.
	Peer string
}

// Switch is one OVS bridge.
type Switch struct {
	Name       string
	DatapathID string // 16 hex digits
	Datapath   string // "system" or "netdev"
	OVN        bool   // owned by OVN: no OpenFlow is ever written there
	TapDomain  uint32 // observation domain of its tap
	Ports      map[string]Port
	// Controllers are the OpenFlow controllers configured by others, sorted.
	Controllers []string
}

// Host is an address seen behind a port.
type Host struct {
	Addr netip.Addr
	MAC  flow.MAC
	Port PortID
	// Bound is true when two-way evidence ties the address to the port: it
	// answered an attempt from there, or traffic to it was forwarded there.
	// A merely seen source address may be spoofed.
	Bound    bool
	LastSeen int64 // Unix nanoseconds
}

// Snapshot is an immutable view; readers keep it as long as they like.
type Snapshot struct {
	// Switches by bridge name.
	Switches map[string]Switch
	// Hosts by address, as far as they were learned.
	Hosts   map[netip.Addr]Host
	byIndex map[uint32]Port

	hostIndex sync.Once
	byPort    map[PortID][]Host
	byMAC     map[flow.MAC]Host
}

// NewSnapshot builds a snapshot and its indices. The maps must not be changed
// afterwards.
func NewSnapshot(switches map[string]Switch) *Snapshot {
	s := &Snapshot{Switches: switches, byIndex: map[uint32]Port{}}
	for _, sw := range switches {
		for _, p := range sw.Ports {
			if p.IfIndex != 0 {
				s.byIndex[p.IfIndex] = p
			}
		}
	}
	return s
}

// PortByIndex finds the port with a kernel interface index.
func (s *Snapshot) PortByIndex(ifIndex uint32) (Port, bool) {
	p, ok := s.byIndex[ifIndex]
	return p, ok
}

// Port finds a port by name.
func (s *Snapshot) Port(id PortID) (Port, bool) {
	p, ok := s.Switches[id.Switch].Ports[id.Port]
	return p, ok
}

// sameSwitches is a new snapshot of the same switches, without hosts.
func (s *Snapshot) sameSwitches() *Snapshot {
	return &Snapshot{Switches: s.Switches, byIndex: s.byIndex}
}

package ovsdb

import (
	"maps"
	"math"
	"net"
	"slices"
	"strings"

	"github.com/platelet-sdn/platelet/flowcollector/flow"
	"github.com/platelet-sdn/platelet/topology"
)

// build turns rows into switches. Whole is false when a row refers to another
// that is not there: the database forbids that, so the cache was read while a
// transaction was being applied to it.
func (c *Client) build(t *Tables) (switches map[string]topology.Switch, whole bool) {
	if t.Root != nil && len(t.Root.Bridges) != len(t.Bridges) {
		return nil, false
	}
	names := make([]string, 0, len(t.Bridges))
	for _, b := range t.Bridges {
		names = append(names, b.Name)
	}
	domains := c.domains.Assign(names)
	switches = make(map[string]topology.Switch, len(t.Bridges))
	for _, b := range t.Bridges {
		sw := topology.Switch{
			Name:      b.Name,
			Datapath:  datapath(b.DatapathType),
			OVN:       ownedByOVN(t.Root, b.Name),
			TapDomain: domains[b.Name],
			Ports:     map[string]topology.Port{},
		}
		if b.DatapathID != nil {
			sw.DatapathID = *b.DatapathID
		}
		for _, id := range b.Controller {
			row, ok := t.Controllers[id]
			if !ok {
				return nil, false
			}
			sw.Controllers = append(sw.Controllers, row.Target)
		}
		slices.Sort(sw.Controllers)
		if !addPorts(&sw, b, t) {
			return nil, false
		}
		switches[b.Name] = sw
	}
	return switches, true
}

func addPorts(sw *topology.Switch, b *Bridge, t *Tables) bool {
	for _, id := range b.Ports {
		row, ok := t.Ports[id]
		if !ok {
			return false
		}
		for _, id := range row.Interfaces {
			i, ok := t.Interfaces[id]
			if !ok {
				return false
			}
			p := port(b.Name, i)
			p.Trunk = trunk(row)
			sw.Ports[i.Name] = p
		}
	}
	return true
}

func port(bridge string, i *Interface) topology.Port {
	p := topology.Port{
		ID:      topology.PortID{Switch: bridge, Port: i.Name},
		Type:    portType(bridge, i),
		OFPort:  number(i.OFPort),
		IfIndex: number(i.IfIndex),
		Labels:  maps.Clone(i.ExternalIDs),
		LinkUp:  i.LinkState != nil && *i.LinkState == "up",
	}
	if i.MACInUse != nil {
		if mac, err := net.ParseMAC(*i.MACInUse); err == nil && len(mac) == len(p.MAC) {
			p.MAC = flow.MAC(mac)
		}
	}
	if i.Type == "patch" {
		p.Peer = i.Options["peer"]
	}
	return p
}

// trunk reports whether a port is set up for several VLANs. One of which nothing
// is said carries them all, and most that belong to one host say nothing.
func trunk(p *Port) bool {
	return len(p.Trunks) > 0 || p.VLANMode != nil && *p.VLANMode != "access"
}

// number reads an optional column; ofport is -1 when vswitchd could not add
// the port.
func number(column *int) uint32 {
	if column == nil || *column < 0 || *column > math.MaxUint32 {
		return 0
	}
	return uint32(*column)
}

// datapath spells out the default of column datapath_type.
func datapath(kind string) string {
	if kind == "" {
		return "system"
	}
	return kind
}

func portType(bridge string, i *Interface) topology.PortType {
	switch i.Type {
	case "patch", "vxlan", "geneve", "gre", "ip6gre", "erspan", "ip6erspan", "stt", "lisp", "gtpu", "bareudp", "srv6":
		return topology.PortLink
	}
	if i.Name == bridge {
		return topology.PortLocal
	}
	return topology.PortEdge
}

// ownedByOVN reports whether ovn-controller runs a bridge. Its settings may
// carry the chassis name as a suffix, for hosts with several chassis. In doubt
// the answer is yes: writing OpenFlow to OVN's bridge damages it.
func ownedByOVN(root *OpenvSwitch, bridge string) bool {
	if root == nil {
		return false
	}
	remote, bridges := false, map[string]bool{}
	for key, value := range root.ExternalIDs {
		switch {
		case key == "ovn-remote", strings.HasPrefix(key, "ovn-remote-") && key != "ovn-remote-probe-interval":
			remote = remote || value != ""
		case key == "ovn-bridge-mappings", key == "ovn-bridge-datapath-type":
		case key == "ovn-bridge", strings.HasPrefix(key, "ovn-bridge-"):
			bridges[value] = true
		}
	}
	if root.ExternalIDs["ovn-bridge"] == "" {
		bridges["br-int"] = true
	}
	return remote && bridges[bridge]
}

package runner

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"

	"github.com/platelet-sdn/platelet/lab/clab"
)

// exportName is the file that containerlab leaves for other programs.
const exportName = "topology-data.json"

// topologyData is the shape of that file.
type topologyData struct {
	Name string `json:"name"`
	Type string `json:"type"`
	Clab struct {
		Config struct {
			Prefix string   `json:"prefix"`
			Mgmt   mgmtData `json:"mgmt"`
		} `json:"config"`
	} `json:"clab"`
	SSHPubKeys []string            `json:"ssh-pub-keys"`
	Nodes      map[string]nodeData `json:"nodes"`
	Links      []linkData          `json:"links"`
}

type mgmtData struct {
	Network        string            `json:"network,omitempty"`
	Bridge         string            `json:"bridge,omitempty"`
	IPv4Subnet     string            `json:"ipv4-subnet,omitempty"`
	IPv4Gateway    string            `json:"ipv4-gw,omitempty"`
	IPv4Range      string            `json:"ipv4-range,omitempty"`
	IPv6Subnet     string            `json:"ipv6-subnet,omitempty"`
	IPv6Gateway    string            `json:"ipv6-gw,omitempty"`
	IPv6Range      string            `json:"ipv6-range,omitempty"`
	MTU            int               `json:"mtu,omitempty"`
	ExternalAccess bool              `json:"external-access"`
	SkipWhenUnused bool              `json:"skip-when-unused,omitempty"`
	DriverOpts     map[string]string `json:"driver-opts,omitempty"`
}

type nodeData struct {
	Index        string            `json:"index"`
	ShortName    string            `json:"shortname"`
	LongName     string            `json:"longname"`
	FQDN         string            `json:"fqdn"`
	Group        string            `json:"group"`
	LabDir       string            `json:"labdir"`
	Kind         string            `json:"kind"`
	Image        string            `json:"image"`
	MgmtNet      string            `json:"mgmt-net"`
	MgmtIntf     string            `json:"mgmt-intf"`
	IPv4         string            `json:"mgmt-ipv4-address"`
	IPv4Bits     int               `json:"mgmt-ipv4-prefix-length"`
	IPv6         string            `json:"mgmt-ipv6-address"`
	IPv6Bits     int               `json:"mgmt-ipv6-prefix-length"`
	MAC          string            `json:"mac-address"`
	Labels       map[string]string `json:"labels"`
	PortBindings []struct{}        `json:"port-bindings"`
}

type linkData struct {
	Endpoints map[string]endpointData `json:"endpoints"`
	Vars      map[string]any          `json:"vars,omitempty"`
}

type endpointData struct {
	Node      string         `json:"node"`
	Interface string         `json:"interface"`
	MAC       string         `json:"mac"`
	IPv4      string         `json:"ipv4,omitempty"`
	IPv6      string         `json:"ipv6,omitempty"`
	Vars      map[string]any `json:"vars,omitempty"`
	Peer      string         `json:"peer"`
}

// export writes topology-data.json into the lab's directory.
func (b *builder) export() error {
	d := b.topologyData()
	data, err := json.MarshalIndent(d, "", "  ")
	if err != nil {
		return fmt.Errorf("export topology: %w", err)
	}
	if err := os.MkdirAll(b.LabDir, 0o755); err != nil {
		return fmt.Errorf("export topology: %w", err)
	}
	if err := os.WriteFile(filepath.Join(b.LabDir, exportName), append(data, '\n'), 0o644); err != nil {
		return fmt.Errorf("export topology: %w", err)
	}
	return nil
}

// removeExport removes that file, and the directory if nothing else is in it.
func (s *state) removeExport() error {
	if s.LabDir == "" {
		return nil // a lab without a record
	}
	err := os.Remove(filepath.Join(s.LabDir, exportName))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove %s: %w", exportName, err)
	}
	_ = os.Remove(s.LabDir) // somebody's files keep it
	return nil
}

func (b *builder) topologyData() topologyData {
	m := b.t.Mgmt
	d := topologyData{Name: b.Lab, Type: "clab", SSHPubKeys: []string{}, Nodes: map[string]nodeData{}, Links: []linkData{}}
	d.Clab.Config.Prefix = b.t.Prefix
	d.Clab.Config.Mgmt = mgmtData{Network: m.Network, Bridge: m.Bridge, IPv4Subnet: m.IPv4Subnet, IPv4Gateway: m.IPv4Gateway, IPv4Range: m.IPv4Range,
		IPv6Subnet: m.IPv6Subnet, IPv6Gateway: m.IPv6Gateway, IPv6Range: m.IPv6Range, MTU: m.MTU,
		ExternalAccess: m.ExternalAccess == nil || *m.ExternalAccess, SkipWhenUnused: m.SkipWhenUnused, DriverOpts: m.DriverOpts}
	if b.Mgmt != nil {
		d.Clab.Config.Mgmt.Bridge = b.Mgmt.Bridge
		d.Clab.Config.Mgmt.IPv4Gateway, _ = addrText(b.Mgmt.IPv4)
		d.Clab.Config.Mgmt.IPv6Gateway, _ = addrText(b.Mgmt.IPv6)
	}
	for i, n := range b.Nodes {
		out := nodeData{Index: strconv.Itoa(b.index(n.Name)), ShortName: n.Name, LongName: n.LongName, FQDN: n.Name + "." + b.Lab + ".io",
			Group: n.Group, LabDir: filepath.Join(b.LabDir, n.Name), Kind: n.Kind, Image: n.Image, Labels: maps.Clone(b.t.Nodes[i].Labels), PortBindings: []struct{}{}}
		out.IPv4, out.IPv4Bits = addrText(n.IPv4)
		out.IPv6, out.IPv6Bits = addrText(n.IPv6)
		maps.Copy(out.Labels, n.Marks)
		d.Nodes[n.Name] = out
	}
	for i, l := range b.t.Links {
		d.Links = append(d.Links, b.linkData(l, b.Links[i]))
	}
	return d
}

// index is a node's place among the names in order, as containerlab counts.
func (s *state) index(name string) int {
	i := 0
	for _, n := range s.Nodes {
		if n.Name < name {
			i++
		}
	}
	return i
}

func addrText(p netip.Prefix) (string, int) {
	if !p.IsValid() {
		return "", 0
	}
	return p.Addr().String(), p.Bits()
}

func (b *builder) linkData(l clab.Link, made link) linkData {
	a := exportEnd(l.A, made.A, l.A.Node)
	out := linkData{Vars: l.Vars, Endpoints: map[string]endpointData{}}
	switch l.Type {
	case clab.LinkDummy:
		a.Peer = "dummy"
		out.Endpoints["a"] = a
	case clab.LinkMgmtNet: // containerlab names the bridge first
		z := a
		a = exportEnd(l.B, made.B, made.B.Bridge)
		a.Peer, z.Peer = "z", "a"
		out.Endpoints["a"], out.Endpoints["z"] = a, z
	case clab.LinkVxlan: // the far end is the tunnel, on the host
		a.Peer = "z"
		out.Endpoints["a"] = a
		out.Endpoints["z"] = endpointData{Node: "host", MAC: a.MAC, Peer: "a"}
	default:
		node := l.B.Node
		if node == "" {
			node = "host"
		}
		z := exportEnd(l.B, made.B, node)
		if l.Type == clab.LinkMacvlan {
			if parent, err := net.InterfaceByName(made.B.Name); err == nil {
				z.MAC = parent.HardwareAddr.String()
			}
		}
		a.Peer, z.Peer = "z", "a"
		out.Endpoints["a"], out.Endpoints["z"] = a, z
	}
	return out
}

func exportEnd(e clab.Endpoint, made end, node string) endpointData {
	return endpointData{Node: node, Interface: e.Interface, MAC: made.MAC, IPv4: e.IPv4, IPv6: e.IPv6, Vars: e.Vars}
}

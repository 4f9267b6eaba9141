package clab

import (
	"net"
	"strings"

	"github.com/platelet-sdn/platelet/segmentation/strictyaml"
	"gopkg.in/yaml.v3"
)

// rawLink is a link as written: brief (two "node:interface" strings) or
// extended (a type and mappings).
type rawLink struct {
	Type          string         `yaml:"type"`
	Endpoints     []rawEndpoint  `yaml:"endpoints"`
	Endpoint      *rawEndpoint   `yaml:"endpoint"`
	MTU           int            `yaml:"mtu"`
	HostInterface string         `yaml:"host-interface"`
	Mode          string         `yaml:"mode"`
	Remote        string         `yaml:"remote"`
	VNI           int            `yaml:"vni"`
	DstPort       int            `yaml:"dst-port"`
	SrcPort       int            `yaml:"src-port"`
	UDPPort       int            `yaml:"udp-port"`
	ParentIface   string         `yaml:"parent-interface"`
	Labels        map[string]any `yaml:"labels"`
	Vars          any            `yaml:"vars"`
	IPv4          []string       `yaml:"ipv4"`
	IPv6          []string       `yaml:"ipv6"`
}

// rawEndpoint is "node:interface" or a mapping.
type rawEndpoint struct {
	Node      string         `yaml:"node"`
	Interface string         `yaml:"interface"`
	MAC       string         `yaml:"mac"`
	IPv4      string         `yaml:"ipv4"`
	IPv6      string         `yaml:"ipv6"`
	Vars      map[string]any `yaml:"vars"`
	brief     bool
}

// plainEndpoint has the fields without the method, to end the recursion.
type plainEndpoint rawEndpoint

// UnmarshalStrict reads either form.
func (e *rawEndpoint) UnmarshalStrict(n strictyaml.Node) error {
	if n.Kind() != yaml.ScalarNode {
		return n.Decode((*plainEndpoint)(e))
	}
	node, iface, ok := strings.Cut(n.Value(), ":")
	if !ok || node == "" || iface == "" {
		return n.Errorf("needs \"node:interface\", got %q", n.Value())
	}
	e.Node, e.Interface, e.brief = node, iface, true
	return nil
}

// briefTypes are node names that make a brief link one of another type.
var briefTypes = map[string]LinkType{"host": LinkHost, "mgmt-net": LinkMgmtNet, "macvlan": LinkMacvlan}

// link turns a raw link into the model. Complaints go to report.
func (r rawLink) link(path string, report func(path, format string, args ...any)) Link {
	l := Link{Type: LinkType(r.Type), MTU: r.MTU, Path: path}
	if l.MTU == 0 {
		l.MTU = defaultMTU
	} else if l.MTU < 68 || l.MTU > 65535 {
		report(path+".mtu", "needs 68 to 65535, got %d", l.MTU)
	}
	switch {
	case r.Endpoint != nil && len(r.Endpoints) > 0:
		report(path, "has both endpoint and endpoints")
	case r.Endpoint != nil:
		l.A = r.Endpoint.endpoint(path+".endpoint", report)
		l.B = Endpoint{Interface: r.HostInterface}
		if l.Type == "" {
			report(path, "needs a type (host, mgmt-net, macvlan, vxlan or dummy)")
		}
	case len(r.Endpoints) == 2:
		r.pair(&l, path, report)
	default:
		report(path, "needs two endpoints, got %d", len(r.Endpoints))
	}
	return l
}

// pair fills a link with two endpoints.
func (r rawLink) pair(l *Link, path string, report func(path, format string, args ...any)) {
	ends := [2]Endpoint{}
	for i, raw := range r.Endpoints {
		ends[i] = raw.endpoint(path+".endpoints"+[2]string{"[0]", "[1]"}[i], report)
		if i < len(r.IPv4) && ends[i].IPv4 == "" {
			ends[i].IPv4 = r.IPv4[i]
		}
		if i < len(r.IPv6) && ends[i].IPv6 == "" {
			ends[i].IPv6 = r.IPv6[i]
		}
	}
	// "host:eth0" and the like stand second in the model wherever they
	// stand in the file.
	if _, special := briefTypes[ends[0].Node]; special && r.Endpoints[0].brief {
		ends[0], ends[1] = ends[1], ends[0]
	}
	l.A, l.B = ends[0], ends[1]
	if l.Type != "" {
		return
	}
	l.Type = LinkVeth
	if t, special := briefTypes[l.B.Node]; special {
		l.Type = t
		l.B.Node = ""
	}
}

func (e rawEndpoint) endpoint(path string, report func(path, format string, args ...any)) Endpoint {
	out := Endpoint{Node: e.Node, Interface: e.Interface, IPv4: e.IPv4, IPv6: e.IPv6, Vars: e.Vars}
	if e.Node == "" || e.Interface == "" {
		report(path, "needs node and interface")
	}
	if e.MAC != "" {
		mac, err := net.ParseMAC(e.MAC)
		if err != nil || len(mac) != 6 {
			report(path+".mac", "needs a MAC address such as 02:00:00:00:00:01, got %q", e.MAC)
		}
		out.MAC = mac
	}
	return out
}

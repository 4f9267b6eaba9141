package clab

import (
	"net"
	"net/netip"
	"slices"
	"strings"

	"github.com/platelet-sdn/platelet/segmentation/strictyaml"
	"gopkg.in/yaml.v3"
)

// rawLink is a link as written: brief (two "node:interface" strings) or
// extended (a type and mappings). Which keys it may have depends on the type.
type rawLink struct {
	Type          text           `yaml:"type"`
	Endpoints     []rawEndpoint  `yaml:"endpoints"`
	Endpoint      *rawEndpoint   `yaml:"endpoint"`
	HostInterface text           `yaml:"host-interface"`
	Mode          text           `yaml:"mode"`
	Remote        text           `yaml:"remote"`
	VNI           whole          `yaml:"vni"`
	DstPort       whole          `yaml:"dst-port"`
	SrcPort       whole          `yaml:"src-port"`
	UDPPort       whole          `yaml:"udp-port"`
	ParentIface   text           `yaml:"parent-interface"`
	MTU           whole          `yaml:"mtu"`
	Labels        textMap        `yaml:"labels"`
	Vars          map[string]any `yaml:"vars"`
	IPv4          texts          `yaml:"ipv4"`
	IPv6          texts          `yaml:"ipv6"`
	given         []string       // the keys that are written
}

// plainLink has the fields without the method, to end the recursion.
type plainLink rawLink

// UnmarshalStrict reads a link and notes which keys it has.
func (r *rawLink) UnmarshalStrict(n strictyaml.Node) error {
	if null(n) {
		return n.Errorf("needs a link, got nothing")
	}
	if err := n.Decode((*plainLink)(r)); err != nil {
		return err
	}
	var keys map[string]any
	if err := n.Decode(&keys); err != nil {
		return err
	}
	for k := range keys {
		r.given = append(r.given, k)
	}
	slices.Sort(r.given)
	return nil
}

// rawEndpoint is "node:interface" or a mapping.
type rawEndpoint struct {
	Node      text           `yaml:"node"`
	Interface text           `yaml:"interface"`
	MAC       text           `yaml:"mac"`
	IPv4      text           `yaml:"ipv4"`
	IPv6      text           `yaml:"ipv6"`
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
	e.Node, e.Interface, e.brief = text(node), text(iface), true
	return nil
}

// linkKeys are the keys that a type of link has beside the common ones.
func linkKeys(t LinkType) []string {
	switch t {
	case "", linkBrief, LinkVeth, LinkVethStitch:
		return []string{"endpoints"}
	case LinkHost, LinkMgmtNet:
		return []string{"endpoint", "host-interface"}
	case LinkMacvlan:
		return []string{"endpoint", "host-interface", "mode"}
	case LinkVxlan, LinkVxlanStitch:
		return []string{"endpoint", "remote", "vni", "dst-port", "src-port", "udp-port", "parent-interface"}
	}
	return []string{"endpoint"}
}

// commonLinkKeys are the keys of every link.
func commonLinkKeys() []string { return []string{"type", "mtu", "labels", "vars", "ipv4", "ipv6"} }

// linkReport takes a complaint about a field.
type linkReport func(path, format string, args ...any)

// link turns a raw link into the model. Complaints go to report.
func (r rawLink) link(path string, report linkReport) Link {
	l := Link{Type: LinkType(strings.ToLower(strings.TrimSpace(string(r.Type)))), MTU: int(r.MTU), Path: path,
		Labels: mergeMaps(r.Labels), Vars: r.Vars, Mode: string(r.Mode), Remote: string(r.Remote), VNI: int(r.VNI),
		DstPort: int(r.DstPort), SrcPort: int(r.SrcPort), Parent: string(r.ParentIface)}
	if l.DstPort == 0 {
		l.DstPort = int(r.UDPPort)
	}
	if l.MTU == 0 {
		if l.Type != LinkVxlan { // whose MTU follows from its parent's
			l.MTU = defaultMTU
		}
	} else if l.MTU < 68 || l.MTU > 65535 {
		report(path+".mtu", "needs 68 to 65535, got %d", l.MTU)
	}
	if l.Type != "" && l.Type != linkBrief && !slices.Contains(LinkTypes(), l.Type) {
		report(path+".type", "unknown link type %q%s", r.Type, nearest(string(l.Type), LinkTypes()))
		return l
	}
	brief := l.Type == "" || l.Type == linkBrief
	if !r.checkKeys(l.Type, path, report) {
		return l
	}
	switch {
	case brief:
		r.brief(&l, path, report)
	case len(linkKeys(l.Type)) == 1 && l.Type != LinkDummy:
		r.pair(&l, path, report)
	case r.Endpoint == nil:
		report(path, "a link of type %s needs an endpoint", l.Type)
	default:
		l.A = r.Endpoint.endpoint(path+".endpoint", report)
		l.B = Endpoint{Interface: string(r.HostInterface)}
		if slices.Contains(linkKeys(l.Type), "host-interface") && r.HostInterface == "" {
			report(path, "a link of type %s needs a host-interface", l.Type)
		}
	}
	return l
}

// checkKeys refuses the keys of another type of link.
func (r rawLink) checkKeys(t LinkType, path string, report linkReport) bool {
	allowed, good := append(commonLinkKeys(), linkKeys(t)...), true
	name := string(t)
	if t == "" {
		name = "brief" // which is what no type means
	}
	for _, k := range r.given {
		if !slices.Contains(allowed, k) {
			report(path+"."+k, "a link of type %s has no key %q", name, k)
			good = false
		}
	}
	return good
}

// brief fills a link of two "node:interface" strings. A node called host,
// mgmt-net or macvlan makes it a link of that type.
func (r rawLink) brief(l *Link, path string, report linkReport) {
	if len(r.Endpoints) != 2 {
		report(path, "needs two endpoints, got %d", len(r.Endpoints))
		return
	}
	for i, raw := range r.Endpoints {
		if !raw.brief {
			report(path+endpointPath(i), "needs \"node:interface\"; a mapping needs the link's type")
			return
		}
	}
	ends := r.ends(path, report)
	r.addresses(&ends, path, report)
	l.Type, l.A, l.B = LinkVeth, ends[0], ends[1]
	for i, e := range ends {
		switch t := LinkType(strings.ToLower(strings.TrimSpace(e.Node))); t {
		case LinkHost, LinkMgmtNet, LinkMacvlan:
			// The special end stands second in the model wherever it
			// stands in the file.
			l.Type, l.A, l.B = t, ends[1-i], Endpoint{Interface: e.Interface, IPv4: e.IPv4, IPv6: e.IPv6}
			return
		}
	}
}

// pair fills an extended link with two endpoints. Nodes called host and
// mgmt-net are the host and the management network here too.
func (r rawLink) pair(l *Link, path string, report linkReport) {
	if len(r.Endpoints) != 2 {
		report(path, "needs two endpoints, got %d", len(r.Endpoints))
		return
	}
	for i, raw := range r.Endpoints {
		if raw.brief {
			report(path+endpointPath(i), "a link with a type needs a mapping with node and interface, got %q", raw.Node+":"+raw.Interface)
			return
		}
	}
	ends := r.ends(path, report)
	l.A, l.B = ends[0], ends[1]
	for i, e := range ends {
		if t := LinkType(e.Node); l.Type == LinkVeth && (t == LinkHost || t == LinkMgmtNet) {
			e.Node = ""
			l.Type, l.A, l.B = t, ends[1-i], e
			return
		}
	}
}

func endpointPath(i int) string { return ".endpoints" + [2]string{"[0]", "[1]"}[i] }

func (r rawLink) ends(path string, report linkReport) (out [2]Endpoint) {
	for i, raw := range r.Endpoints {
		out[i] = raw.endpoint(path+endpointPath(i), report)
	}
	return out
}

// addresses are those that a brief link gives its endpoints in order.
func (r rawLink) addresses(ends *[2]Endpoint, path string, report linkReport) {
	for _, family := range []struct {
		key  string
		list texts
		set  func(*Endpoint, string)
	}{
		{"ipv4", r.IPv4, func(e *Endpoint, a string) { e.IPv4 = a }},
		{"ipv6", r.IPv6, func(e *Endpoint, a string) { e.IPv6 = a }},
	} {
		if len(family.list) > 2 {
			report(path+"."+family.key, "has %d addresses for two endpoints", len(family.list))
			continue
		}
		for i, a := range family.list {
			if trimmed := strings.TrimSpace(string(a)); trimmed != "" && checkPrefix(trimmed, family.key, path+"."+family.key, report) {
				family.set(&ends[i], trimmed)
			}
		}
	}
}

func checkPrefix(s, family, path string, report linkReport) bool {
	p, err := netip.ParsePrefix(s)
	if err != nil || p.Addr().Is4() != (family == "ipv4") {
		report(path, "needs an %s address with a prefix length, got %q", family, s)
		return false
	}
	return true
}

func (e rawEndpoint) endpoint(path string, report linkReport) Endpoint {
	out := Endpoint{Node: string(e.Node), Interface: string(e.Interface), IPv4: string(e.IPv4), IPv6: string(e.IPv6), Vars: e.Vars}
	if e.Node == "" || e.Interface == "" {
		report(path, "needs node and interface")
	}
	if e.MAC != "" {
		mac, err := net.ParseMAC(string(e.MAC))
		if err != nil || len(mac) != 6 {
			report(path+".mac", "needs a MAC address such as 02:00:00:00:00:01, got %q", e.MAC)
		}
		out.MAC = mac
	}
	if out.IPv4 != "" {
		checkPrefix(out.IPv4, "ipv4", path+".ipv4", report)
	}
	if out.IPv6 != "" {
		checkPrefix(out.IPv6, "ipv6", path+".ipv6", report)
	}
	return out
}

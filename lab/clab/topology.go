// Package clab reads containerlab topology files and holds their model. It
// knows the format; which parts of it a runner can bring up is the runner's
// to say.
//
// Format: containerlab 0.79, https://containerlab.dev/manual/topo-def-file/
package clab

import (
	"net"
	"strings"

	"github.com/platelet-sdn/platelet/segmentation/strictyaml"
)

// Kinds of node that need no container image with a network OS.
const (
	KindLinux     = "linux"
	KindBridge    = "bridge"
	KindOVSBridge = "ovs-bridge"
	KindHost      = "host"
)

// Topology is one topology file with its inheritance resolved.
type Topology struct {
	// File is the path it was read from.
	File string
	// Name is the lab's name.
	Name string
	// Prefix is the first part of namespace and container names.
	Prefix string
	// Mgmt is the management network, containerlab's defaults filled in.
	Mgmt Mgmt
	// Nodes are in the file's order.
	Nodes []Node
	Links []Link

	doc *strictyaml.Doc
}

// Node is a node with what it inherits from defaults, kind and group.
type Node struct {
	Name string
	Definition
}

// SharesNamespace reports whether the node lives in the network namespace of
// another container.
func (n Node) SharesNamespace() bool { return strings.HasPrefix(n.NetworkMode, "container:") }

// Node finds a node by name.
func (t *Topology) Node(name string) (Node, bool) {
	for _, n := range t.Nodes {
		if n.Name == name {
			return n, true
		}
	}
	return Node{}, false
}

// LongName is what containerlab calls a node's container, and what names its
// namespace: "clab-LAB-NODE" unless the file sets another prefix.
func (t *Topology) LongName(lab, node string) string {
	switch t.Prefix {
	case "":
		return node
	case "__lab-name":
		return lab + "-" + node
	}
	return t.Prefix + "-" + lab + "-" + node
}

// Errorf makes an error that points at a field, such as
// "topology.nodes.h1.kind".
func (t *Topology) Errorf(path, format string, args ...any) *strictyaml.Error {
	return t.doc.Errorf(path, format, args...)
}

// LinkType is the kind of a link.
type LinkType string

// The link types of containerlab.
const (
	LinkVeth        LinkType = "veth"
	LinkVethStitch  LinkType = "veth-stitch"
	LinkHost        LinkType = "host"
	LinkMgmtNet     LinkType = "mgmt-net"
	LinkMacvlan     LinkType = "macvlan"
	LinkVxlan       LinkType = "vxlan"
	LinkVxlanStitch LinkType = "vxlan-stitch"
	LinkDummy       LinkType = "dummy"
	linkBrief       LinkType = "brief" // resolved to another
	defaultMTU               = 9500    // containerlab's, not Ethernet's
)

// LinkTypes lists the types that a file may name.
func LinkTypes() []LinkType {
	return []LinkType{LinkVeth, LinkVethStitch, LinkHost, LinkMgmtNet, LinkMacvlan, LinkVxlan, LinkVxlanStitch, LinkDummy}
}

// Link is one link. A veth link has two ends A and B. Of the types host and
// mgmt-net, B is the interface in the host's namespace and names no node; of
// macvlan it is the parent interface; of the others it is empty.
type Link struct {
	Type LinkType
	A, B Endpoint
	MTU  int // bytes; zero, of a vxlan link, leaves it to the kernel
	// Labels and Vars are the file's, for whoever reads them.
	Labels map[string]string
	Vars   map[string]any
	// Mode is macvlan's; empty is bridge.
	Mode string
	// Remote, VNI, DstPort, SrcPort and Parent are vxlan's.
	Remote           string
	VNI              int
	DstPort, SrcPort int
	Parent           string
	// Path is the link's place in the file, for errors.
	Path string
}

// Endpoint is one end of a link.
type Endpoint struct {
	Node      string
	Interface string
	MAC       net.HardwareAddr // nil lets the runner choose
	// IPv4 and IPv6 are written down for other programs to read;
	// containerlab itself does not set them on interfaces of kind linux.
	IPv4, IPv6 string
	Vars       map[string]any
}

package runner

import (
	"crypto/sha256"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"github.com/platelet-sdn/platelet/lab/clab"
	"golang.org/x/sys/unix"
)

var labName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_.-]*$`)

// planner decides every name of a lab.
type planner struct {
	*state
	t *clab.Topology
	o Options
	// global names what is in the host's own namespace. Under its own name a
	// lab uses the file's names, as containerlab does; under another it must
	// not collide with itself.
	global func(string) string
}

// plan decides every name of a lab. It makes nothing; addresses in the
// management network come later, when nobody else takes any.
func plan(t *clab.Topology, o Options) (*state, error) {
	file, err := filepath.Abs(t.File)
	if err != nil {
		return nil, fmt.Errorf("topology path: %w", err)
	}
	p := planner{t: t, o: o, global: func(name string) string { return name },
		state: &state{Lab: t.Name, Topology: file, DB: o.DB, Owner: owner(), Created: time.Now().UTC().Truncate(time.Second)}}
	if o.Name != "" && o.Name != t.Name {
		if !labName.MatchString(o.Name) {
			return nil, fmt.Errorf("lab name %q: needs letters, digits, '-', '_' or '.', beginning with a letter or digit", o.Name)
		}
		p.Lab = o.Name
		p.global = func(name string) string { return rename(p.Lab, name) }
	}
	p.LabDir = labDir(t, p.Lab, o)
	p.bridges()
	for _, n := range t.Nodes {
		planned, err := p.node(n)
		if err != nil {
			return nil, err
		}
		p.Nodes = append(p.Nodes, planned)
	}
	for _, l := range t.Links {
		p.Links = append(p.Links, p.link(l))
	}
	p.mgmt()
	p.markLoops()
	return p.state, nil
}

// owner is who containerlab would say the lab belongs to.
func owner() string {
	if u := os.Getenv("SUDO_USER"); u != "" {
		return u
	}
	return os.Getenv("USER")
}

// labDir is where containerlab keeps a lab's files: beside the topology, or
// where CLAB_LABDIR_BASE says. A lab under another name than its file's, and
// one whose directory cannot be written, keeps them with its record.
func labDir(t *clab.Topology, lab string, o Options) string {
	base := os.Getenv("CLAB_LABDIR_BASE")
	if base == "" {
		base = filepath.Dir(t.File)
	}
	if abs, err := filepath.Abs(base); err == nil {
		base = abs
	}
	if lab != t.Name || unix.Access(base, unix.W_OK) != nil {
		base = o.StateDir
	}
	return filepath.Join(base, "clab-"+lab)
}

func (p *planner) bridges() {
	for _, n := range p.t.Nodes {
		switch n.Kind {
		case clab.KindBridge:
			b := bridge{Node: n.Name, Name: p.global(n.Name)}
			if inside, ok := strings.CutPrefix(n.NetworkMode, "container:"); ok {
				name, _, _ := strings.Cut(n.Name, "|")
				b.Name, b.Namespace, b.Made = name, p.namespace(inside), true
			}
			p.Bridges = append(p.Bridges, b)
		case clab.KindOVSBridge:
			p.Bridges = append(p.Bridges, bridge{Node: n.Name, Name: p.global(n.Name), OVS: true})
		}
	}
}

// namespace is the network namespace that a node's interfaces are in.
func (p *planner) namespace(name string) string {
	for range p.t.Nodes {
		n, ok := p.t.Node(name)
		if !ok || n.Kind != clab.KindLinux || n.NetworkMode == "host" {
			return ""
		}
		next, shared := strings.CutPrefix(n.NetworkMode, "container:")
		if !shared {
			return p.t.LongName(p.Lab, n.Name)
		}
		name = next
	}
	return ""
}

func (p *planner) node(n clab.Node) (node, error) {
	out := node{Name: n.Name, LongName: p.t.LongName(p.Lab, n.Name), Kind: n.Kind, Image: n.Image, Group: n.Group,
		Labels: n.Labels, Namespace: p.namespace(n.Name), Shares: n.SharesNamespace(), Container: n.Kind == clab.KindLinux, User: n.User}
	out.Marks = p.marks(n, out)
	env, err := p.environment(n, out)
	if err != nil {
		return out, err
	}
	out.Env = env
	if out.Container {
		out.Hostname = n.Hostname
		if n.NetworkMode == "host" {
			out.Hostname = "" // Docker leaves the host's
		}
		if out.Mounts, err = p.mounts(n); err != nil {
			return out, err
		}
	}
	return out, nil
}

// marks are the labels that containerlab gives a node.
func (p *planner) marks(n clab.Node, planned node) map[string]string {
	out := map[string]string{
		"containerlab": p.Lab, "clab-node-name": n.Name, "clab-node-longname": planned.LongName, "clab-node-kind": n.Kind,
		"clab-node-type": n.Type, "clab-node-group": n.Group, "clab-node-lab-dir": filepath.Join(p.LabDir, n.Name),
		"clab-topo-file": p.Topology, "clab-owner": p.Owner,
	}
	if branch, hash := p.t.Git(); branch != "none" {
		out["clab-git-branch"] = branch
		if hash != "none" {
			out["clab-git-hash"] = hash
		}
	}
	return out
}

// magic replaces containerlab's own variables in a command or a path.
func (p *planner) magic(node string) *strings.Replacer {
	return strings.NewReplacer("__clabDir__", p.LabDir, "__clabLabName__", filepath.Base(p.LabDir),
		"__clabNodeDir__", filepath.Join(p.LabDir, node), "__clabNodeName__", node)
}

func (p *planner) link(l clab.Link) link {
	out := link{Type: l.Type, MTU: l.MTU, Mode: l.Mode, A: p.end(l.A), B: p.end(l.B)}
	switch l.Type {
	case clab.LinkMacvlan:
		out.B = end{Interface: l.B.Interface, Name: p.parent(l.B.Interface)} // is there already
	case clab.LinkDummy:
		out.B = end{}
	case clab.LinkVxlan:
		out.B = end{}
		remote, _ := netip.ParseAddr(l.Remote) // which Check has looked at
		out.VXLAN = &vxlan{Remote: remote, VNI: l.VNI, DstPort: l.DstPort, SrcPort: l.SrcPort, Parent: p.parent(l.Parent)}
		if out.VXLAN.DstPort == 0 {
			out.VXLAN.DstPort = defaultVXLANPort
		}
	}
	return out
}

// defaultVXLANPort is containerlab's, not the standard's 4789, which others
// may filter or use.
const defaultVXLANPort = 14789

// parent names the interface of the host that a link stands on, which the
// lab itself may make.
func (p *planner) parent(name string) string {
	for _, l := range p.t.Links {
		for _, e := range []clab.Endpoint{l.A, l.B} {
			n, _ := p.t.Node(e.Node)
			if l.Type != clab.LinkMacvlan && e.Interface == name && name != "" && (n.Name == "" || n.Kind != clab.KindLinux) {
				return p.global(name)
			}
		}
	}
	return name
}

func (p *planner) end(e clab.Endpoint) end {
	out := end{Node: e.Node, Interface: e.Interface, Name: e.Interface, MAC: e.MAC.String()}
	if e.MAC == nil {
		out.MAC = stableMAC(p.Lab, e.Node, e.Interface).String()
	}
	out.Namespace = p.namespace(e.Node)
	for _, b := range p.Bridges {
		if b.Node == e.Node {
			out.Bridge, out.Namespace = b.Name, b.Namespace
		}
	}
	if out.Namespace == "" {
		out.Name = p.global(e.Interface)
	}
	return out
}

// switchEnv points Open vSwitch's programs, where the host itself runs them,
// at the lab's switch when that is not the machine's own.
func switchEnv(kind, db string) []string {
	socket, local := strings.CutPrefix(db, "unix:")
	if kind != clab.KindHost || !local || db == SystemDB {
		return nil
	}
	return []string{"OVS_RUNDIR=" + filepath.Dir(socket)}
}

// stableMAC gives an interface the same address in every run, under the
// prefix that containerlab uses too.
func stableMAC(parts ...string) net.HardwareAddr {
	sum := sha256.Sum256([]byte(strings.Join(parts, "/")))
	return net.HardwareAddr{0xaa, 0xc1, 0xab, sum[0], sum[1], sum[2]}
}

package clab

import (
	"fmt"
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"

	"github.com/platelet-sdn/platelet/segmentation/strictyaml"
	"gopkg.in/yaml.v3"
)

// Load reads a topology file. Faults come as strictyaml.Errors.
func Load(path string) (*Topology, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read topology: %w", err)
	}
	return Parse(path, data, os.LookupEnv)
}

// Parse reads a topology from memory; lookup gives the values of ${NAME}.
func Parse(file string, data []byte, lookup func(string) (string, bool)) (*Topology, error) {
	doc, err := strictyaml.Parse(file, substitute(data, lookup))
	if err != nil {
		return nil, err
	}
	r := reader{doc: doc}
	if err := doc.Decode(&r.raw); err != nil {
		return nil, err
	}
	t := r.topology()
	if err := r.faults.Err(); err != nil {
		return nil, err
	}
	return t, nil
}

// variable matches ${NAME}, ${NAME:=default} and ${NAME:-default}. A bare
// $NAME is left to the node's own shell, as containerlab leaves it.
var variable = regexp.MustCompile(`\$\{([A-Za-z_][A-Za-z0-9_]*)(?::?[=-]([^}]*))?\}`)

// substitute replaces variables in the text, before it is parsed. One that
// is neither set nor has a default stays as it is.
func substitute(data []byte, lookup func(string) (string, bool)) []byte {
	return variable.ReplaceAllFunc(data, func(ref []byte) []byte {
		m := variable.FindSubmatch(ref)
		if v, ok := lookup(string(m[1])); ok && v != "" {
			return []byte(v)
		}
		if strings.ContainsAny(string(ref), "=-") {
			return m[2]
		}
		return ref
	})
}

// nodeList keeps the nodes in the file's order.
type nodeList []Node

// UnmarshalStrict reads a mapping in order.
func (l *nodeList) UnmarshalStrict(n strictyaml.Node) error {
	byName := map[string]Definition{}
	if err := n.Decode(&byName); err != nil {
		return err
	}
	var order keyOrder
	if err := n.Decode(&order); err != nil {
		return err
	}
	for _, name := range order {
		if d, ok := byName[name]; ok {
			*l = append(*l, Node{name, d})
			delete(byName, name)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(byName)) { // from merge keys
		*l = append(*l, Node{name, byName[name]})
	}
	return nil
}

// keyOrder is the keys of a mapping in order.
type keyOrder []string

// UnmarshalYAML reads the keys only.
func (k *keyOrder) UnmarshalYAML(n *yaml.Node) error {
	for i := 0; i+1 < len(n.Content); i += 2 {
		*k = append(*k, n.Content[i].Value)
	}
	return nil
}

type reader struct {
	doc    *strictyaml.Doc
	raw    file
	faults strictyaml.Errors
}

func (r *reader) report(path, format string, args ...any) {
	r.faults = append(r.faults, r.doc.Errorf(path, format, args...))
}

func (r *reader) topology() *Topology {
	t := &Topology{File: r.doc.File(), Name: r.raw.Name, Prefix: "clab", Mgmt: r.raw.Mgmt, doc: r.doc}
	if r.raw.Prefix != nil {
		t.Prefix = *r.raw.Prefix
	}
	if !validName.MatchString(t.Name) {
		r.report("name", "needs letters, digits, '-', '_' or '.', beginning with a letter or digit, got %q", t.Name)
	}
	for _, n := range r.raw.Topology.Nodes {
		t.Nodes = append(t.Nodes, r.node(n))
	}
	if len(t.Nodes) == 0 {
		r.report("topology.nodes", "needs at least one node")
	}
	for i, raw := range r.raw.Topology.Links {
		l := raw.link(fmt.Sprintf("topology.links[%d]", i), r.report)
		r.checkLink(t, l)
		t.Links = append(t.Links, l)
	}
	r.checkInterfaces(t)
	return t
}

var validName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_.-]*$`)

// node resolves inheritance: defaults < kind < group < node.
func (r *reader) node(n Node) Node {
	path := "topology.nodes." + n.Name
	if !validName.MatchString(n.Name) {
		r.report(path, "a node's name needs letters, digits, '-', '_' or '.', beginning with a letter or digit")
	}
	top := r.raw.Topology
	d := n.Definition
	if group, ok := top.Groups[firstOf(d.Group, top.Defaults.Group)]; ok {
		d = d.inherit(group)
	}
	kind := firstOf(d.Kind, top.Defaults.Kind)
	if kind == "" {
		r.report(path, "needs a kind, its own or by defaults")
	}
	d = d.inherit(top.Kinds[kind]).inherit(top.Defaults)
	return Node{n.Name, d}
}

func firstOf(words ...string) string {
	for _, w := range words {
		if w != "" {
			return w
		}
	}
	return ""
}

var linkTypes = []string{string(LinkVeth), string(LinkHost), string(LinkMgmtNet), string(LinkMacvlan), string(LinkVxlan), string(LinkVxlanStitch), string(LinkDummy)}

func (r *reader) checkLink(t *Topology, l Link) {
	if l.Type != "" && !slices.Contains(linkTypes, string(l.Type)) {
		hint := ""
		if near := strictyaml.Nearest(string(l.Type), linkTypes); near != "" {
			hint = fmt.Sprintf(" (did you mean %q?)", near)
		}
		r.report(l.Path+".type", "unknown link type %q%s", l.Type, hint)
	}
	ends := []Endpoint{l.A}
	if l.Type == LinkVeth {
		ends = append(ends, l.B)
	}
	for _, e := range ends {
		if e.Node == "" {
			continue // reported already
		}
		if _, ok := t.Node(e.Node); !ok {
			names := make([]string, len(t.Nodes))
			for i, n := range t.Nodes {
				names[i] = n.Name
			}
			hint := ""
			if near := strictyaml.Nearest(e.Node, names); near != "" {
				hint = fmt.Sprintf(" (did you mean %q?)", near)
			}
			r.report(l.Path, "there is no node %q%s", e.Node, hint)
		}
	}
}

// checkInterfaces reports names that the kernel would refuse, and names
// used twice in one place.
func (r *reader) checkInterfaces(t *Topology) {
	used := map[string]string{}
	for _, l := range t.Links {
		for _, e := range []Endpoint{l.A, l.B} {
			if e.Interface == "" {
				continue
			}
			if len(e.Interface) > interfaceNameMax || strings.ContainsAny(e.Interface, "/ \t") {
				r.report(l.Path, "interface name %q: needs at most %d characters without spaces or slashes", e.Interface, interfaceNameMax)
			}
			// Bridges and the host share one namespace.
			place := e.Node
			if n, _ := t.Node(e.Node); n.Kind == KindBridge || n.Kind == KindOVSBridge || n.Kind == KindHost {
				place = ""
			}
			key := place + ":" + e.Interface
			if first, ok := used[key]; ok && l.Type != LinkMacvlan {
				r.report(l.Path, "interface %q is already used by %s", e.Interface, first)
			}
			used[key] = l.Path
		}
	}
}

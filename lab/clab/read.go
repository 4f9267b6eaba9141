package clab

import (
	"bytes"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/platelet-sdn/platelet/segmentation/strictyaml"
	"gopkg.in/yaml.v3"
)

// maxFile bounds a topology file, in bytes.
const maxFile = 4 << 20

// Load reads a topology file. Faults come as strictyaml.Errors.
func Load(path string) (*Topology, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read topology: %w", err)
	}
	return Parse(path, data, os.LookupEnv)
}

// Parse reads a topology from memory; lookup gives the values of variables.
func Parse(file string, data []byte, lookup func(string) (string, bool)) (*Topology, error) {
	if len(data) > maxFile {
		return nil, strictyaml.Errors{{File: file, Line: 1, Column: 1, Msg: fmt.Sprintf("file has more than %d bytes", maxFile)}}
	}
	if i := bytes.Index(data, []byte("{{")); i >= 0 {
		line := 1 + bytes.Count(data[:i], []byte("\n"))
		return nil, strictyaml.Errors{{File: file, Line: line, Column: i - bytes.LastIndexByte(data[:i], '\n'),
			Msg: "containerlab takes {{ for the start of a Go template, which is not supported here: render the file first"}}
	}
	data, err := substitute(data, lookup)
	if err != nil {
		return nil, strictyaml.Errors{{File: file, Line: 1, Column: 1, Msg: err.Error()}}
	}
	doc, err := strictyaml.Parse(file, data)
	if err != nil {
		return nil, err
	}
	r := reader{doc: doc, lookup: lookup}
	if err := doc.Decode(&r.raw); err != nil {
		return nil, err
	}
	r.importEnv()
	t := r.topology()
	if err := r.faults.Err(); err != nil {
		return nil, err
	}
	return t, nil
}

// rawNode is a node as written; its definition is nil when nothing is said.
type rawNode struct {
	name string
	def  *rawDefinition
}

// nodeList keeps the nodes in the file's order.
type nodeList []rawNode

// UnmarshalStrict reads a mapping in order.
func (l *nodeList) UnmarshalStrict(n strictyaml.Node) error {
	byName := map[string]*rawDefinition{}
	if err := n.Decode(&byName); err != nil {
		return err
	}
	var order keyOrder
	if err := n.Decode(&order); err != nil {
		return err
	}
	for _, name := range order {
		if d, ok := byName[name]; ok {
			*l = append(*l, rawNode{name, d})
			delete(byName, name)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(byName)) { // from merge keys
		*l = append(*l, rawNode{name, byName[name]})
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
	raw    rawFile
	lookup func(string) (string, bool)
	faults strictyaml.Errors
}

func (r *reader) report(path, format string, args ...any) {
	r.faults = append(r.faults, r.doc.Errorf(path, format, args...))
}

// importEnvKey set to "true" in an env brings the caller's whole
// environment into it.
const importEnvKey = "__IMPORT_ENVS"

func (r *reader) importEnv() {
	top := &r.raw.Topology
	all := []*rawDefinition{&top.Defaults}
	for _, m := range []map[string]*rawDefinition{top.Kinds, top.Groups} {
		for _, d := range m {
			all = append(all, d)
		}
	}
	for _, n := range top.Nodes {
		all = append(all, n.def)
	}
	for _, d := range all {
		if d == nil || d.Env[importEnvKey] != "true" {
			continue
		}
		for _, kv := range os.Environ() {
			k, v, _ := strings.Cut(kv, "=")
			if _, own := d.Env[k]; !own {
				d.Env[k] = text(v)
			}
		}
	}
}

func (r *reader) topology() *Topology {
	t := &Topology{File: r.doc.File(), Name: string(r.raw.Name), Prefix: "clab", Mgmt: r.raw.Mgmt.mgmt().WithDefaults(), doc: r.doc}
	if strings.Contains(t.Name, "__git") {
		branch, hash := gitHead(filepath.Dir(t.File))
		t.Name = strings.NewReplacer("__gitBranch__", strings.ReplaceAll(branch, "/", "-"), "__gitHash__", hash).Replace(t.Name)
	}
	if r.raw.Prefix != nil {
		t.Prefix = string(*r.raw.Prefix)
	}
	if !validName.MatchString(t.Name) {
		r.report("name", "needs letters, digits, '-', '_' or '.', beginning with a letter or digit, got %q", t.Name)
	}
	if t.Prefix != "" && !validPrefix.MatchString(t.Prefix) {
		r.report("prefix", "needs letters, digits, '-', '_' or '.', got %q", t.Prefix)
	}
	for _, n := range r.raw.Topology.Nodes {
		t.Nodes = append(t.Nodes, r.node(n))
	}
	if len(t.Nodes) == 0 {
		r.report("topology.nodes", "needs at least one node")
	}
	for i, raw := range r.raw.Topology.Links {
		before := len(r.faults)
		l := raw.link(fmt.Sprintf("topology.links[%d]", i), r.report)
		if len(r.faults) == before {
			r.checkLink(t, l)
		}
		t.Links = append(t.Links, l)
	}
	r.checkInterfaces(t)
	r.checkMgmt(t)
	return t
}

var (
	validName   = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_.-]*$`)
	validPrefix = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9_.-]*$`)
)

// node resolves inheritance: defaults < kind < group < node.
func (r *reader) node(n rawNode) Node {
	path := "topology.nodes." + n.name
	d, err := r.raw.definition(n.name, n.def)
	if err != nil {
		r.report(path, "%v", err)
	}
	name := n.name
	if d.Kind == KindBridge { // "BRIDGE|NODE" is a bridge inside a node
		name = strings.Replace(name, "|", "-", 1)
	}
	if !validName.MatchString(name) {
		r.report(path, "a node's name needs letters, digits, '-', '_' or '.', beginning with a letter or digit")
	}
	if d.Kind == "" {
		r.report(path, "needs a kind, its own or by defaults, group or kind")
	}
	r.checkStages(path, d)
	return Node{n.name, d}
}

// checkStages refuses what would wait for ever.
func (r *reader) checkStages(path string, d Definition) {
	for _, stage := range AllStages() {
		for _, w := range d.Stages[stage].WaitFor {
			if !slices.Contains(AllStages(), w.Stage) {
				r.report(path+".stages."+string(stage)+".wait-for", "there is no stage %q%s", w.Stage, nearest(string(w.Stage), AllStages()))
			}
			if !slices.ContainsFunc(r.raw.Topology.Nodes, func(n rawNode) bool { return n.name == w.Node }) {
				r.report(path+".stages."+string(stage)+".wait-for", "there is no node %q%s", w.Node, nearest(w.Node, r.nodeNames()))
			}
		}
	}
}

func (r *reader) nodeNames() []string {
	var out []string
	for _, n := range r.raw.Topology.Nodes {
		out = append(out, n.name)
	}
	return out
}

// nearest is the tail of a message about an unknown word.
func nearest[T ~string](word string, valid []T) string {
	words := make([]string, len(valid))
	for i, v := range valid {
		words[i] = string(v)
	}
	if near := strictyaml.Nearest(word, words); near != "" {
		return fmt.Sprintf(" (did you mean %q?)", near)
	}
	return ""
}

func (r *reader) checkLink(t *Topology, l Link) {
	ends := []Endpoint{l.A}
	if l.Type == LinkVeth || l.Type == LinkVethStitch {
		ends = append(ends, l.B)
	}
	for _, e := range ends {
		if _, ok := t.Node(e.Node); !ok {
			r.report(l.Path, "there is no node %q%s", e.Node, nearest(e.Node, r.nodeNames()))
		}
	}
}

// checkInterfaces reports names that are used twice.
func (r *reader) checkInterfaces(t *Topology) {
	used := map[string]string{}
	for _, l := range t.Links {
		for _, e := range []Endpoint{l.A, l.B} {
			if e.Interface == "" {
				continue
			}
			if l.Type == LinkMacvlan && e.Node == "" {
				continue // the parent, which may have several
			}
			n, _ := t.Node(e.Node)
			if n.Kind == KindLinux && e.Interface == "eth0" && strings.ToLower(n.NetworkMode) != "none" {
				r.report(l.Path, "eth0 of node %q is its management interface, unless its network-mode is none", e.Node)
			}
			key := t.place(n) + ":" + e.Interface
			if first, ok := used[key]; ok {
				r.report(l.Path, "interface %q is already used by %s", e.Interface, first)
			}
			used[key] = l.Path
		}
	}
}

// place is the node whose namespace a node's interfaces are in; it is empty
// for the host's.
func (t *Topology) place(n Node) string {
	for range t.Nodes { // a ring of references ends too
		other, shared := strings.CutPrefix(n.NetworkMode, "container:")
		if n.Kind == "" || n.Kind == KindBridge && !shared || n.Kind == KindOVSBridge || n.Kind == KindHost || n.NetworkMode == "host" {
			return ""
		}
		next, ok := t.Node(other)
		if !shared || !ok {
			break
		}
		n = next
	}
	return n.Name
}

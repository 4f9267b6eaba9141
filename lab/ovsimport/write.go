package ovsimport

import (
	"bytes"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"gopkg.in/yaml.v3"

	"github.com/platelet-sdn/platelet/lab/clab"
)

// image is what nodes run where there are containers; see lab/image.
const image = "platelet-lab:latest"

// write writes the topology. The same host gives the same bytes.
func (p *plan) write() ([]byte, error) {
	root := mapping(
		"name", scalar(p.o.Lab),
		"topology", mapping(
			"kinds", mapping(clab.KindLinux, mapping("image", scalar(image), "network-mode", scalar("none"))),
			"nodes", p.yamlNodes(),
			"links", p.yamlLinks(),
		),
	)
	var out bytes.Buffer
	out.WriteString(p.header())
	enc := yaml.NewEncoder(&out)
	enc.SetIndent(2)
	if err := enc.Encode(root); err != nil {
		return nil, fmt.Errorf("write topology: %w", err)
	}
	if err := enc.Close(); err != nil {
		return nil, fmt.Errorf("write topology: %w", err)
	}
	// Variables are replaced before the file is parsed; only one is meant.
	text := strings.ReplaceAll(out.String(), "$", "$$")
	text = withoutTemplates(strings.ReplaceAll(text, "$"+dirVariable, dirVariable))
	// What we write, we can read.
	if _, err := clab.Parse(p.o.Lab+".clab.yml", []byte(text), func(string) (string, bool) { return "", false }); err != nil {
		return nil, fmt.Errorf("the topology does not read back: %w", err)
	}
	return []byte(text), nil
}

// withoutTemplates writes two braces in a row so that containerlab, which looks
// for Go templates before it reads YAML, takes them for what they are. Outside
// of comments they stand in double quotes, see scalar.
func withoutTemplates(text string) string {
	var out strings.Builder
	for line := range strings.Lines(text) {
		apart := `{\x7b`
		if strings.HasPrefix(strings.TrimLeft(line, " -"), "#") {
			apart = "{ {"
		}
		for strings.Contains(line, "{{") {
			line = strings.ReplaceAll(line, "{{", apart)
		}
		out.WriteString(line)
	}
	return out.String()
}

// header is the comment on top: what was read, how to bring it up, and what
// is missing.
func (p *plan) header() string {
	var out strings.Builder
	say := func(format string, args ...any) {
		text := strings.TrimRight(fmt.Sprintf("# "+format, args...), " ")
		fmt.Fprintln(&out, strings.Map(printable, text))
	}
	say("Imported from a live Open vSwitch by `platelet lab import`.")
	for _, b := range p.sortedBridges() {
		was := ""
		if w := p.wasCalled[p.bridgeOf[b]]; w != "" {
			was = " (" + strconv.Quote(w) + ")"
		}
		say("  %s%s: %d ports, %d flows, %d groups, %d meters", p.bridgeOf[b], was, len(b.ports), len(b.flows), len(b.groups), len(b.meters))
	}
	say("Every port keeps its OpenFlow number; flows name ports for people to read.")
	say("It runs under its own name only, and on the datapath of the machine it runs on.")
	say("")
	say("  platelet lab up FILE")
	say("  containerlab deploy -t FILE   after:")
	for _, b := range p.sortedBridges() {
		say("    ovs-vsctl add-br %s -- set bridge %[1]s external_ids:%s=%s", p.bridgeOf[b], labKey, p.o.Lab)
	}
	if notes := p.sortedNotes(); len(notes) > 0 {
		say("")
		say("Not carried over:")
		for _, n := range notes {
			say("  - %s", n)
		}
	}
	return out.String()
}

// printable keeps a comment a comment, whatever a name contains.
func printable(r rune) rune {
	if !strconv.IsPrint(r) {
		return '?'
	}
	return r
}

func (p *plan) sortedBridges() []*bridge {
	out := slices.Clone(p.bridges)
	slices.SortFunc(out, func(a, b *bridge) int { return strings.Compare(p.bridgeOf[a], p.bridgeOf[b]) })
	return out
}

func (p *plan) yamlNodes() *yaml.Node {
	out := mapping()
	for _, b := range p.sortedBridges() {
		add(out, p.bridgeOf[b], flowStyle(mapping("kind", scalar(clab.KindOVSBridge))))
	}
	for _, n := range p.nodes {
		m := mapping("kind", scalar(clab.KindLinux))
		if len(n.labels) > 0 {
			add(m, "labels", flowStyle(stringMap(n.labels)))
		}
		if len(n.sysctls) > 0 {
			add(m, "sysctls", stringMap(n.sysctls))
		}
		if len(n.exec) > 0 {
			add(m, "exec", sequence(n.exec))
		}
		add(out, n.name, m)
	}
	add(out, p.setup, mapping("kind", scalar(clab.KindHost), "exec", steps(p.exec)))
	return out
}

func (p *plan) yamlLinks() *yaml.Node {
	out := &yaml.Node{Kind: yaml.SequenceNode}
	for _, l := range p.links {
		ends := flowStyle(&yaml.Node{Kind: yaml.SequenceNode})
		for _, e := range []endpoint{l.a, l.b} {
			m := mapping("node", scalar(e.node), "interface", scalar(e.nic))
			if e.mac != "" {
				add(m, "mac", scalar(e.mac))
			}
			ends.Content = append(ends.Content, flowStyle(m))
		}
		out.Content = append(out.Content, mapping("type", scalar("veth"), "endpoints", ends, "mtu", &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!int", Value: strconv.Itoa(l.mtu)}))
	}
	if len(out.Content) == 0 {
		out.Style = yaml.FlowStyle
	}
	return out
}

// mapping makes a YAML mapping of keys and nodes in turn.
func mapping(pairs ...any) *yaml.Node {
	m := &yaml.Node{Kind: yaml.MappingNode}
	for i := 0; i+1 < len(pairs); i += 2 {
		add(m, pairs[i].(string), pairs[i+1].(*yaml.Node))
	}
	return m
}

func add(m *yaml.Node, key string, value *yaml.Node) {
	m.Content = append(m.Content, scalar(key), value)
}

func stringMap(pairs map[string]string) *yaml.Node {
	m := mapping()
	for _, k := range slices.Sorted(maps.Keys(pairs)) {
		add(m, k, scalar(pairs[k]))
	}
	return m
}

func sequence(lines []string) *yaml.Node {
	out := &yaml.Node{Kind: yaml.SequenceNode}
	for _, l := range lines {
		out.Content = append(out.Content, scalar(l))
	}
	return out
}

func steps(list []step) *yaml.Node {
	out := &yaml.Node{Kind: yaml.SequenceNode}
	for _, s := range list {
		n := scalar(s.line)
		if s.comment != "" {
			n.HeadComment = "# " + s.comment
		}
		out.Content = append(out.Content, n)
	}
	return out
}

func flowStyle(n *yaml.Node) *yaml.Node {
	n.Style |= yaml.FlowStyle
	return n
}

// scalar makes a string, in quotes where YAML would read something else, and
// as it stands where it has several lines.
func scalar(s string) *yaml.Node {
	n := &yaml.Node{}
	n.SetString(s)
	if strings.Contains(s, "{{") {
		n.Style = yaml.DoubleQuotedStyle // where braces can be written otherwise
	}
	return n
}

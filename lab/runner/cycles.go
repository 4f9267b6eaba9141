package runner

import (
	"slices"
	"strings"

	"github.com/platelet-sdn/platelet/lab/clab"
)

// cycles refuses nodes that wait for each other. Like containerlab's, the
// check is about nodes, whatever the stages: shared namespaces and static
// addresses, which come first, count too.
func (c *checker) cycles() {
	waits := c.waits()
	for _, n := range c.t.Nodes {
		if slices.Contains(waits[n.Name], n.Name) {
			c.report("topology.nodes."+n.Name, "node %q waits for itself", n.Name)
			return
		}
	}
	w := walk{waits: waits, seen: map[string]bool{}}
	for _, n := range c.t.Nodes {
		if ring := w.from(n.Name); ring != nil {
			c.report("topology.nodes."+ring[0], "nodes wait for each other: %s (dynamic management addresses wait for static ones)", strings.Join(ring, " waits for "))
			return
		}
	}
}

// waits lists per node the nodes that it waits for.
func (c *checker) waits() map[string][]string {
	out := map[string][]string{}
	add := func(who, whom string) {
		if !slices.Contains(out[who], whom) {
			out[who] = append(out[who], whom)
		}
	}
	static := func(n clab.Node) bool { return n.MgmtIPv4 != "" || n.MgmtIPv6 != "" }
	for _, n := range c.t.Nodes {
		for _, stage := range clab.AllStages() {
			for _, w := range n.Stages[stage].WaitFor {
				add(n.Name, w.Node)
			}
		}
		if other, ok := strings.CutPrefix(n.NetworkMode, "container:"); ok {
			add(n.Name, other)
		}
		for _, other := range c.t.Nodes {
			if !static(n) && static(other) {
				add(n.Name, other.Name)
			}
		}
	}
	return out
}

// walk is a depth-first walk along who waits for whom.
type walk struct {
	waits map[string][]string
	seen  map[string]bool // walked to the end without a ring
	path  []string
}

// from finds a ring that can be reached from a node: its nodes, the first
// once more at the end.
func (w *walk) from(name string) []string {
	if i := slices.Index(w.path, name); i >= 0 {
		return append(slices.Clone(w.path[i:]), name)
	}
	if w.seen[name] {
		return nil
	}
	w.path = append(w.path, name)
	for _, next := range w.waits[name] {
		if ring := w.from(next); ring != nil {
			return ring
		}
	}
	w.path = w.path[:len(w.path)-1]
	w.seen[name] = true
	return nil
}

package draw

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/google/shlex"

	"github.com/platelet-sdn/platelet/lab/clab"
	"github.com/platelet-sdn/platelet/lab/ipcmd"
)

// place is the part of the picture that a node stands in.
type place int

const (
	above place = iota // routers, the internet, what stands for itself
	switching
	below // a host under its switch
)

// vertex is a node as drawn.
type vertex struct {
	name string
	// says is the word in its corner, such as its app.
	says string
	kind string
	category
	place place
	// level counts the rows from the hosts upwards: of switches 0 for those
	// with hosts, of nodes above 1 for those next to a switch.
	level int
	// panel is the title of the group that a host stands in.
	panel      string
	attacker   bool
	interfaces []iface
	edges      []*edge
	hosts      []*vertex // of a switch
}

// iface is an interface that has addresses.
type iface struct {
	name      string
	addresses []netip.Prefix
}

// edge is a link as drawn.
type edge struct {
	a, b  *vertex
	title string
}

func (e *edge) other(v *vertex) *vertex {
	if e.a == v {
		return e.b
	}
	return e.a
}

// graph is a topology as drawn, in the file's order.
type graph struct {
	name     string
	vertices []*vertex
	edges    []*edge
}

// read makes the graph of a topology and decides where everything goes.
func read(t *clab.Topology) *graph {
	g := &graph{name: t.Name}
	byName := map[string]*vertex{}
	add := func(v *vertex) *vertex {
		byName[v.name] = v
		g.vertices = append(g.vertices, v)
		return v
	}
	for _, n := range t.Nodes {
		add(&vertex{name: n.Name, kind: n.Kind, says: word(n), category: categorise(n), panel: panelOf(n),
			attacker: n.Labels["role"] == "attacker" || n.Labels["role"] == "outsider", interfaces: interfaces(n, t.Links)})
	}
	for _, l := range t.Links {
		from := byName[l.A.Node]
		to := byName[l.B.Node]
		if l.B.Node == "" { // a link out of the lab
			name := string(l.Type)
			if to = byName["("+name+")"]; to == nil {
				to = add(&vertex{name: "(" + name + ")", kind: "outside", category: plain("")})
			}
		}
		if from == nil || to == nil {
			continue // reading reported it
		}
		e := &edge{from, to, fmt.Sprintf("%s:%s – %s:%s", from.name, l.A.Interface, to.name, l.B.Interface)}
		g.edges = append(g.edges, e)
		from.edges = append(from.edges, e)
		if to != from {
			to.edges = append(to.edges, e)
		}
	}
	g.arrange()
	return g
}

// arrange decides every node's place and level.
func (g *graph) arrange() {
	g.findSwitches()
	for _, v := range g.vertices {
		if v.place == above && len(v.edges) == 1 && v.kind != "outside" {
			if sw := v.edges[0].other(v); sw.place == switching {
				v.place = below
				sw.hosts = append(sw.hosts, v)
			}
		}
	}
	g.levels(switching, func(v *vertex) bool { return len(v.hosts) > 0 })
	tops := 0
	for _, v := range g.vertices {
		if v.place == switching {
			tops = max(tops, v.level)
		}
	}
	// Where there are no spines in between, a gateway looks best above.
	for _, v := range g.vertices {
		if tops == 0 && v.place == below && v.category == routing() {
			v.place = above
			sw := v.edges[0].other(v)
			sw.hosts = slices.DeleteFunc(sw.hosts, func(h *vertex) bool { return h == v })
		}
	}
	g.levels(above, func(v *vertex) bool {
		return slices.ContainsFunc(v.edges, func(e *edge) bool { return e.other(v).place != above })
	})
}

// findSwitches takes bridges for switches and, where there is none, the nodes
// that connect others.
func (g *graph) findSwitches() {
	found := false
	for _, v := range g.vertices {
		if v.kind == clab.KindBridge || v.kind == clab.KindOVSBridge || v.kind != clab.KindLinux && v.kind != clab.KindHost && len(v.edges) > 1 {
			v.place, found = switching, true
		}
	}
	for _, v := range g.vertices {
		if !found && len(v.edges) > 1 {
			v.place = switching
		}
	}
}

// levels counts, among the nodes of a place, the steps from those that are
// at the bottom of it. Without any such node all are.
func (g *graph) levels(p place, bottom func(*vertex) bool) {
	level := map[*vertex]int{}
	var queue []*vertex
	for _, v := range g.vertices {
		if v.place == p && bottom(v) {
			level[v] = 0
			queue = append(queue, v)
		}
	}
	for len(queue) > 0 {
		v := queue[0]
		queue = queue[1:]
		for _, e := range v.edges {
			o := e.other(v)
			if _, seen := level[o]; !seen && o.place == p {
				level[o] = level[v] + 1
				queue = append(queue, o)
			}
		}
	}
	for _, v := range g.vertices {
		if v.place == p {
			v.level = level[v]
		}
	}
}

// interfaces reads a node's addresses out of its exec lines and links.
func interfaces(n clab.Node, links []clab.Link) []iface {
	var out []iface
	take := func(dev string, p netip.Prefix) {
		i := slices.IndexFunc(out, func(f iface) bool { return f.name == dev })
		if i < 0 {
			out = append(out, iface{name: dev})
			i = len(out) - 1
		}
		if !slices.Contains(out[i].addresses, p) {
			out[i].addresses = append(out[i].addresses, p)
		}
	}
	for _, l := range links {
		for _, e := range []clab.Endpoint{l.A, l.B} {
			for _, text := range []string{e.IPv4, e.IPv6} {
				if p, err := netip.ParsePrefix(text); err == nil && e.Node == n.Name {
					take(e.Interface, p)
				}
			}
		}
	}
	for _, line := range n.Exec {
		words, err := shlex.Split(line)
		if err != nil || len(words) == 0 || words[0] != "ip" {
			continue
		}
		c, err := ipcmd.Parse(words[1:])
		if err == nil && c.Object == ipcmd.ObjectAddress && (c.Verb == ipcmd.VerbAdd || c.Verb == ipcmd.VerbReplace) {
			take(c.Dev, c.Address.Prefix)
		}
	}
	slices.SortStableFunc(out, func(a, b iface) int { return cmp.Compare(a.name, b.name) })
	return out
}

// subnets lists those of some nodes, in order of appearance.
func subnets(vs []*vertex) []string {
	var out []string
	for _, v := range vs {
		for _, f := range v.interfaces {
			for _, a := range f.addresses {
				if s := a.Masked().String(); !slices.Contains(out, s) && !a.IsSingleIP() {
					out = append(out, s)
				}
			}
		}
	}
	return out
}

// summary is the line under the title.
func (g *graph) summary() string {
	switches, others := 0, []*vertex{}
	for _, v := range g.vertices {
		switch {
		case v.place == switching:
			switches++
		case v.kind != "outside":
			others = append(others, v)
		}
	}
	words := []string{count(switches, "switch", "switches"), count(len(others), "node", "nodes"), count(len(g.edges), "link", "links")}
	if nets := subnets(others); len(nets) <= 2 {
		words = append(words, nets...)
	}
	return strings.Join(words, "  ·  ")
}

func count(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, many)
}

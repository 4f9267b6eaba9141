package runner

import (
	"fmt"

	"github.com/platelet-sdn/platelet/lab/clab"
)

// Isolated reports whether a node has a network namespace of its own, unlike
// bridges and the host.
func (l *Lab) Isolated(node string) bool {
	n, err := l.state.node(node)
	return err == nil && n.Namespace != ""
}

// Interface is a node's first interface on the lab's own links.
func (l *Lab) Interface(node string) (string, error) {
	if all := l.Interfaces(node); len(all) > 0 {
		return all[0], nil
	}
	return "", fmt.Errorf("lab %s: node %q has no interface on the lab's links", l.state.Lab, node)
}

// Interfaces lists a node's interfaces on the lab's own links, in the file's
// order. The management network is none of them, nor are links that lead out
// on the machine's network: no traffic of a lab belongs there.
func (l *Lab) Interfaces(node string) []string {
	var out []string
	for _, k := range l.state.Links {
		switch k.Type {
		case clab.LinkVeth, clab.LinkVethStitch, clab.LinkHost, clab.LinkDummy:
		default:
			continue
		}
		for _, e := range []end{k.A, k.B} {
			if e.Node == node {
				out = append(out, e.Interface)
			}
		}
	}
	return out
}

package runner

// Isolated reports whether a node has a network namespace of its own, unlike
// bridges and the host.
func (l *Lab) Isolated(node string) bool {
	n, err := l.state.node(node)
	return err == nil && n.Namespace != ""
}

// Interfaces lists a node's interfaces on the lab's links, in the file's
// order.
func (l *Lab) Interfaces(node string) []string {
	var out []string
	for _, k := range l.state.Links {
		for _, e := range []end{k.A, k.B} {
			if e.Node == node {
				out = append(out, e.Interface)
			}
		}
	}
	return out
}

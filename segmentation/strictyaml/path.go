package strictyaml

import (
	"fmt"
	"strconv"
	"strings"

	"gopkg.in/yaml.v3"
)

// Pos finds where a field path such as "guard.max_quarantines" or
// "policies[2].ingress[0].from" stands. Keys may contain dots. When the
// document leaves the field out, it is where the nearest enclosing field
// stands.
func (d *Doc) Pos(path string) Position {
	pos := Position{File: d.file, Line: 1, Column: 1}
	n := d.root
	for depth := 0; n != nil && depth <= maxDepth; depth++ {
		pos.Line, pos.Column = n.Line, n.Column
		if path == "" {
			break
		}
		n, path = step(resolve(n), path)
	}
	return pos
}

// Errorf makes a fault at a field path, for validation after decoding.
func (d *Doc) Errorf(path, format string, args ...any) *Error {
	p := d.Pos(path)
	msg := fmt.Sprintf(format, args...)
	if path != "" {
		msg = path + ": " + msg
	}
	return &Error{File: p.File, Line: p.Line, Column: p.Column, Msg: msg}
}

// step goes one key or index down and returns the rest of the path.
func step(n *yaml.Node, path string) (*yaml.Node, string) {
	path = strings.TrimPrefix(path, ".")
	switch n.Kind {
	case yaml.SequenceNode:
		index, rest, ok := strings.Cut(strings.TrimPrefix(path, "["), "]")
		i, err := strconv.Atoi(index)
		if !ok || err != nil || i < 0 || i >= len(n.Content) {
			return nil, ""
		}
		return n.Content[i], rest
	case yaml.MappingNode:
		// The longest key wins, so that keys with dots are found.
		var found *yaml.Node
		length := -1
		for i := 0; i+1 < len(n.Content); i += 2 {
			key := n.Content[i].Value
			rest, ok := strings.CutPrefix(path, key)
			if ok && len(key) > length && (rest == "" || rest[0] == '.' || rest[0] == '[') {
				found, length = n.Content[i+1], len(key)
			}
		}
		if found == nil {
			return nil, ""
		}
		return found, path[length:]
	}
	return nil, ""
}

// resolve follows an alias to what it stands for.
func resolve(n *yaml.Node) *yaml.Node {
	for i := 0; n.Kind == yaml.AliasNode && n.Alias != nil && i < maxDepth; i++ {
		n = n.Alias
	}
	return n
}

// join appends a key to a path.
func join(path, key string) string {
	if path == "" {
		return key
	}
	return path + "." + key
}

package audit

import "golang.org/x/mod/sumdb/tlog"

// tree is a Merkle tree of RFC 6962 of which only the right edge is kept: the
// roots of the complete subtrees that its size falls into, which is all that
// appending and the root need.
type tree struct {
	size int64
	// root[l] is that of the complete subtree of 2^l leaves, valid where bit
	// l of size is set.
	root [63]tlog.Hash
}

// add appends a leaf.
func (t *tree) add(leaf tlog.Hash) {
	level := 0
	for ; t.size>>level&1 == 1; level++ {
		leaf = tlog.NodeHash(t.root[level], leaf)
	}
	t.root[level] = leaf
	t.size++
}

// hash is the root over all leaves; that of none is the hash of nothing.
func (t *tree) hash() tlog.Hash {
	if t.size == 0 {
		empty, _ := tlog.TreeHash(0, nil) // defined, without reading
		return empty
	}
	var h tlog.Hash
	below := false
	for level := range t.root {
		if t.size>>level&1 == 0 {
			continue
		}
		if below {
			h = tlog.NodeHash(t.root[level], h)
		} else {
			h, below = t.root[level], true
		}
	}
	return h
}

// Edge is the right edge of the tree before a file's first line: what it takes
// to go on from there without the files before.
type Edge struct {
	Size int64 `json:"size"`
	// Roots are those of the complete subtrees, the largest first.
	Roots []tlog.Hash `json:"roots"`
}

func (t *tree) edge() *Edge {
	e := &Edge{Size: t.size, Roots: []tlog.Hash{}}
	for level := len(t.root) - 1; level >= 0; level-- {
		if t.size>>level&1 == 1 {
			e.Roots = append(e.Roots, t.root[level])
		}
	}
	return e
}

// from is the tree with a right edge; ok is false where that cannot be one.
func (e *Edge) tree() (t tree, ok bool) {
	if e == nil || e.Size < 0 {
		return tree{}, false
	}
	t.size = e.Size
	left := e.Roots
	for level := len(t.root) - 1; level >= 0; level-- {
		if t.size>>level&1 == 0 {
			continue
		}
		if len(left) == 0 {
			return tree{}, false
		}
		t.root[level], left = left[0], left[1:]
	}
	return t, len(left) == 0
}

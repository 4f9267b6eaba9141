package clab

import (
	"bufio"
	"bytes"
	"os"
	"path/filepath"
	"strings"
)

// gitHead is the branch and the short commit of the repository whose root
// dir is; "none" stands for what cannot be told, as it does for containerlab.
func gitHead(dir string) (branch, hash string) {
	branch, hash = "none", "none"
	git := filepath.Join(dir, ".git")
	if data, err := os.ReadFile(git); err == nil { // a worktree names its own
		if to, ok := strings.CutPrefix(strings.TrimSpace(string(data)), "gitdir: "); ok {
			git = to
		}
	}
	head, err := os.ReadFile(filepath.Join(git, "HEAD"))
	if err != nil {
		return branch, hash
	}
	commit := strings.TrimSpace(string(head))
	if ref, ok := strings.CutPrefix(commit, "ref: "); ok {
		branch = strings.TrimPrefix(ref, "refs/heads/")
		commit = gitRef(git, ref)
	} else {
		branch = "HEAD"
	}
	if len(commit) >= 7 {
		hash = commit[:7]
	}
	return branch, hash
}

// gitRef finds the commit of a reference, which is a file of its own or a
// line among the packed ones.
func gitRef(git, ref string) string {
	if common, err := os.ReadFile(filepath.Join(git, "commondir")); err == nil {
		git = filepath.Join(git, strings.TrimSpace(string(common)))
	}
	if data, err := os.ReadFile(filepath.Join(git, ref)); err == nil {
		return strings.TrimSpace(string(data))
	}
	packed, err := os.ReadFile(filepath.Join(git, "packed-refs"))
	if err != nil {
		return ""
	}
	for s := bufio.NewScanner(bytes.NewReader(packed)); s.Scan(); {
		if commit, name, ok := strings.Cut(s.Text(), " "); ok && name == ref {
			return commit
		}
	}
	return ""
}

// Git is the branch and short commit of the repository that the file stands
// in the root of; "none" where there is none.
func (t *Topology) Git() (branch, hash string) { return gitHead(filepath.Dir(t.File)) }

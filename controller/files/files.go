// Package files finds, reads and watches the files that people write for the
// controller: policies, workloads, feeds, playbooks. What is read is bounded,
// and never half of what somebody is writing.
//
// Files are looked at, not subscribed to: on NFS, and where another machine or
// another mount namespace writes, the kernel tells of no change, and a watch of
// a symbolic link (a Kubernetes ConfigMap changes one of a directory) sees
// nothing of what it leads to. A look at fifty files takes about 0.1 ms.
package files

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// Glob lists the files of patterns, each once, in the order of the patterns. A
// pattern may match nothing, and its directory may not be there yet; a file that
// is named must be there, and a directory that is there must be readable: what
// cannot be read is not gone. As in a shell, a pattern matches no file whose
// name begins with a dot unless it does so itself: editors keep theirs there.
func Glob(patterns ...string) ([]string, error) {
	var names []string
	for _, pattern := range patterns {
		found, err := match(pattern)
		if err != nil {
			return nil, err
		}
		for _, name := range found {
			if !slices.Contains(names, name) {
				names = append(names, name)
			}
		}
	}
	return names, nil
}

func match(pattern string) ([]string, error) {
	if !strings.ContainsAny(pattern, `*?[`) {
		if _, err := os.Stat(pattern); err != nil {
			return nil, fmt.Errorf("look for %s: %w", pattern, errors.Unwrap(err))
		}
		return []string{pattern}, nil
	}
	if err := readable(fixed(pattern)); err != nil {
		return nil, fmt.Errorf("look for %s: %w", pattern, err)
	}
	found, err := filepath.Glob(pattern)
	if err != nil {
		return nil, fmt.Errorf("look for %s: %w", pattern, err)
	}
	return slices.DeleteFunc(found, func(name string) bool { return hides(pattern, name) }), nil
}

// fixed is the directory that a pattern begins with.
func fixed(pattern string) string {
	dir := filepath.Dir(pattern)
	for strings.ContainsAny(dir, `*?[`) {
		dir = filepath.Dir(dir)
	}
	return dir
}

// readable is the error of listing a directory, which filepath.Glob keeps to
// itself; one that is not there has none.
func readable(dir string) error {
	d, err := os.Open(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer d.Close()
	if _, err = d.Readdirnames(1); errors.Is(err, io.EOF) {
		return nil
	}
	return err
}

// hides reports whether a part of a name begins with a dot where the pattern's
// does not. Both have as many parts.
func hides(pattern, name string) bool {
	parts := strings.Split(filepath.Clean(pattern), string(filepath.Separator))
	for i, part := range strings.Split(filepath.Clean(name), string(filepath.Separator)) {
		if strings.HasPrefix(part, ".") && i < len(parts) && !strings.HasPrefix(parts[i], ".") {
			return true
		}
	}
	return false
}

// Read reads a file of at most so many bytes; the size is not believed, but
// counted.
func Read(name string, most int64) ([]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	raw, err := io.ReadAll(io.LimitReader(f, most+1))
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", name, err)
	}
	if int64(len(raw)) > most {
		return nil, fmt.Errorf("%s: has more than %d bytes", name, most)
	}
	return raw, nil
}

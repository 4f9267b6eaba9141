package evaluate

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// labelsFile is the name of a labels file beside the recordings it speaks of.
const labelsFile = "labels.csv"

// Set is a labelled recording.
type Set struct {
	Name   string
	Inputs []string
	Labels []HostLabel
	// Guessed is true when nobody named the file: it may turn out to be no
	// recording, and is left out then.
	Guessed bool
}

// Find lists the sets behind names. A file is a set. A directory holds a set per
// file, its subdirectories included; where it has a flows.csv or flows.csv.gz
// that one alone, because the others are what it was made of. A labels.csv in a
// directory speaks of the recordings there; extra labels come first.
func Find(names []string, extra []HostLabel) ([]Set, error) {
	var sets []Set
	for _, name := range names {
		st, err := os.Stat(name)
		if err != nil {
			return nil, fmt.Errorf("evaluate: %w", err)
		}
		if !st.IsDir() {
			labels, err := labelsBeside(filepath.Dir(name))
			if err != nil {
				return nil, err
			}
			sets = append(sets, Set{Name: setName(filepath.Base(name)), Inputs: []string{name}, Labels: labels})
			continue
		}
		found, err := below(name)
		if err != nil {
			return nil, err
		}
		sets = append(sets, found...)
	}
	for i := range sets {
		sets[i].Labels = slices.DeleteFunc(append(slices.Clone(extra), sets[i].Labels...),
			func(l HostLabel) bool { return !l.of(sets[i].Name) })
	}
	return sets, nil
}

// below lists the sets in a directory and its subdirectories.
func below(root string) ([]Set, error) {
	files := map[string][]string{} // by directory
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.Type().IsRegular() && isCandidate(d.Name()) {
			dir := filepath.Dir(path)
			files[dir] = append(files[dir], path)
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("evaluate: %w", err)
	}
	var sets []Set
	for dir, list := range files {
		labels, err := labelsBeside(dir)
		if err != nil {
			return nil, err
		}
		rel, err := filepath.Rel(root, dir)
		if err != nil {
			return nil, fmt.Errorf("evaluate: %w", err)
		}
		if rel == "." {
			rel = filepath.Base(root)
		}
		rel = filepath.ToSlash(rel)
		if i := slices.IndexFunc(list, func(f string) bool { return setName(filepath.Base(f)) == "flows" }); i >= 0 {
			sets = append(sets, Set{Name: rel, Inputs: list[i : i+1], Labels: labels, Guessed: true})
			continue
		}
		for _, f := range list {
			sets = append(sets, Set{Name: rel + "/" + setName(filepath.Base(f)), Inputs: []string{f}, Labels: labels, Guessed: true})
		}
	}
	slices.SortFunc(sets, func(a, b Set) int { return strings.Compare(a.Name, b.Name) })
	return sets, nil
}

// isCandidate leaves out what is a recording in no directory.
func isCandidate(name string) bool {
	if name == labelsFile || strings.HasPrefix(name, ".") {
		return false
	}
	switch strings.ToLower(filepath.Ext(name)) {
	case ".md", ".txt", ".yml", ".yaml", ".html", ".pdf", ".png", ".svg", ".zip", ".py":
		return false
	}
	return true
}

// setName is a file's name without what says how it is written.
func setName(file string) string {
	for _, ext := range []string{".gz", ".csv", ".log", ".labeled", ".binetflow", ".pcap", ".pcapng", ".json"} {
		file = strings.TrimSuffix(file, ext)
	}
	return strings.TrimSuffix(file, ".log")
}

// labelsBeside reads the labels file of a directory, if it has one.
func labelsBeside(dir string) ([]HostLabel, error) {
	name := filepath.Join(dir, labelsFile)
	if _, err := os.Stat(name); err != nil {
		return nil, nil //nolint:nilerr // most directories have none
	}
	return LoadLabels(name)
}

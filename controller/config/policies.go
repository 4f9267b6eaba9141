package config

import (
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"time"

	"github.com/platelet-sdn/platelet/controller/files"
	"github.com/platelet-sdn/platelet/controller/intel"
	"github.com/platelet-sdn/platelet/controller/segment"
	"github.com/platelet-sdn/platelet/segmentation/kubernetes"
	"github.com/platelet-sdn/platelet/segmentation/lint"
	"github.com/platelet-sdn/platelet/segmentation/policy"
	"github.com/platelet-sdn/platelet/segmentation/strictyaml"
)

// Segmentation says which policies are enforced, and who is who.
type Segmentation struct {
	// files of policies, or of Kubernetes NetworkPolicy and AdminNetworkPolicy resources, also as patterns such as policies/*.yaml, relative to this file; they are read again when they change
	Policies []string `yaml:"policies"`
	// files that name workloads with their labels and addresses, in addition to the switches' ports and their external_ids
	Inventory []string `yaml:"inventory"`
	// threat feeds by the name that groups call them by: a file, or a pattern of files, with an address or CIDR a line, or a bundle of STIX 2.1 or 2.0
	Feeds map[string]string `yaml:"feeds"`
	// sum up who opens connections to whom, for `platelet policy staged` and `recommend`, even where there are no policies (about 50 MB)
	Observe bool `yaml:"observe"`
	// what becomes of policies when the controller ends in good order: remove, or keep, so that a restart leaves no gap; then they hold, for the workloads that are known at the time, until a controller takes them over or `platelet clean` takes them off
	AtExit string `yaml:"at_exit"`
}

// What becomes of policies at exit.
const (
	AtExitRemove = "remove"
	AtExitKeep   = "keep"
)

func (s *Segmentation) check(want func(ok bool, path, format string, args ...any)) {
	for key, list := range map[string][]string{"policies": s.Policies, "inventory": s.Inventory} {
		for i, pattern := range list {
			_, err := filepath.Match(pattern, "")
			want(pattern != "" && err == nil, fmt.Sprintf("segmentation.%s[%d]", key, i), "%q is neither a file nor a pattern", pattern)
		}
	}
	want(s.AtExit == AtExitRemove || s.AtExit == AtExitKeep, "segmentation.at_exit", "%q is neither %s nor %s", s.AtExit, AtExitRemove, AtExitKeep)
	for name, pattern := range s.Feeds {
		_, err := filepath.Match(pattern, "")
		want(pattern != "" && err == nil, "segmentation.feeds."+name, "%q is neither a file nor a pattern", pattern)
	}
}

// beside finds the files from anywhere.
func (s Segmentation) beside(dir string) Segmentation {
	from := func(pattern string) string {
		if filepath.IsAbs(pattern) {
			return pattern
		}
		return filepath.Join(dir, pattern)
	}
	out := Segmentation{Feeds: map[string]string{}, Observe: s.Observe, AtExit: s.AtExit}
	for _, p := range s.Policies {
		out.Policies = append(out.Policies, from(p))
	}
	for _, p := range s.Inventory {
		out.Inventory = append(out.Inventory, from(p))
	}
	for name, p := range s.Feeds {
		out.Feeds[name] = from(p)
	}
	return out
}

// maxPolicyFile bounds a file of policies, in bytes.
const maxPolicyFile = 16 << 20

// LoadPolicies reads the files of policies, those of Kubernetes among them, and
// of workloads, but no feeds. Faults of the files are strictyaml.Errors; a rule
// that would restrict what is protected is one.
func (f *File) LoadPolicies() (*segment.Policies, error) {
	s := &f.Segmentation
	names, sources, err := readAll(s.Policies)
	if err != nil {
		return nil, err
	}
	if sources, _, err = kubernetes.Mixed(kubernetes.Options{}, sources); err != nil {
		return nil, err
	}
	set, err := policy.Read(sources...)
	if err != nil {
		return nil, err
	}
	if err := f.checkFeeds(set); err != nil {
		return nil, err
	}
	if err := lint.Refused(set, prefixes(f.Protected), time.Now()); err != nil {
		return nil, err
	}
	known, err := s.known()
	if err != nil {
		return nil, err
	}
	return &segment.Policies{Set: set, Files: names, Known: known}, nil
}

// PolicyFiles lists the files that LoadPolicies reads.
func (f *File) PolicyFiles() ([]string, error) {
	return files.Glob(slices.Concat(f.Segmentation.Policies, f.Segmentation.Inventory)...)
}

// FeedNames lists the threat feeds.
func (f *File) FeedNames() []string { return slices.Sorted(maps.Keys(f.Segmentation.Feeds)) }

// LoadFeed reads what a feed holds at a time.
func (f *File) LoadFeed(name string, now time.Time) (intel.Feed, error) {
	return intel.Read(f.Segmentation.Feeds[name], now)
}

// FeedFiles lists the files that LoadFeed reads.
func (f *File) FeedFiles(name string) ([]string, error) {
	return files.Glob(f.Segmentation.Feeds[name])
}

// checkFeeds refuses groups of a feed that nobody names.
func (f *File) checkFeeds(set *policy.Set) error {
	for _, name := range slices.Sorted(maps.Keys(set.Groups)) {
		feed := set.Groups[name].Intel
		if _, ok := f.Segmentation.Feeds[feed]; feed == "" || ok {
			continue
		}
		at := set.GroupAt(name)
		return strictyaml.Errors{{File: at.File, Line: at.Line, Column: at.Column,
			Msg: fmt.Sprintf("groups.%s: feed %q is not in segmentation.feeds of the configuration%s", name, feed,
				near(feed, slices.Collect(maps.Keys(f.Segmentation.Feeds))))}}
	}
	return nil
}

func near(word string, valid []string) string {
	if n := strictyaml.Nearest(word, valid); n != "" {
		return fmt.Sprintf(" (did you mean %q?)", n)
	}
	return ""
}

// known are the workloads of the inventory files.
func (s *Segmentation) known() (out []policy.Workload, err error) {
	_, sources, err := readAll(s.Inventory)
	if err != nil {
		return nil, err
	}
	var faults strictyaml.Errors
	for _, src := range sources {
		inv, err := policy.ReadInventory(src)
		var bad strictyaml.Errors
		switch {
		case errors.As(err, &bad):
			faults = append(faults, bad...)
		case err != nil:
			return nil, err
		}
		out = append(out, inv.Workloads...)
	}
	return out, faults.Err()
}

// readAll reads the files of patterns.
func readAll(patterns []string) (names []string, sources []policy.Source, err error) {
	if names, err = files.Glob(patterns...); err != nil {
		return nil, nil, err
	}
	for _, name := range names {
		raw, err := files.Read(name, maxPolicyFile)
		if err != nil {
			return nil, nil, err
		}
		sources = append(sources, policy.Source{Name: name, Data: raw})
	}
	return names, sources, nil
}

package config

import (
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

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
// of workloads and feeds. Faults of the files are strictyaml.Errors; a rule that
// would restrict what is protected is one.
func (f *File) LoadPolicies() (*segment.Policies, error) {
	s := &f.Segmentation
	names, err := glob(s.Policies)
	if err != nil {
		return nil, fmt.Errorf("policies: %w", err)
	}
	sources, err := readAll(names)
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
	if err := lint.Refused(set, prefixes(f.Protected), time.Now()); err != nil {
		return nil, err
	}
	out := &segment.Policies{Set: set, Files: names, Feeds: map[string][]netip.Prefix{}}
	if out.Known, err = s.known(); err != nil {
		return nil, err
	}
	for _, name := range slices.Sorted(maps.Keys(s.Feeds)) {
		if out.Feeds[name], err = intel.Read(s.Feeds[name], time.Now()); err != nil {
			return nil, err
		}
	}
	return out, f.checkFeeds(set)
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
	names, err := glob(s.Inventory)
	if err != nil {
		return nil, fmt.Errorf("inventory: %w", err)
	}
	sources, err := readAll(names)
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

// glob lists the files of patterns, each once. A pattern may match nothing, a
// file that is named must be there.
func glob(patterns []string) (names []string, err error) {
	for _, pattern := range patterns {
		found, err := filepath.Glob(pattern)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", pattern, err)
		}
		if len(found) == 0 && !strings.ContainsAny(pattern, "*?[") {
			return nil, fmt.Errorf("%s: %w", pattern, os.ErrNotExist)
		}
		for _, name := range found {
			if !slices.Contains(names, name) {
				names = append(names, name)
			}
		}
	}
	return names, nil
}

func readAll(names []string) (out []policy.Source, err error) {
	for _, name := range names {
		info, err := os.Stat(name)
		if err == nil && info.Size() > maxPolicyFile {
			err = fmt.Errorf("%s: has more than %d bytes", name, maxPolicyFile)
		}
		if err != nil {
			return nil, err
		}
		raw, err := os.ReadFile(name)
		if err != nil {
			return nil, err
		}
		out = append(out, policy.Source{Name: name, Data: raw})
	}
	return out, nil
}

// PolicyFiles lists everything that LoadPolicies reads, for whoever watches
// for changes.
func (f *File) PolicyFiles() []string {
	patterns := slices.Concat(f.Segmentation.Policies, f.Segmentation.Inventory, slices.Sorted(maps.Values(f.Segmentation.Feeds)))
	var out []string
	for _, p := range patterns {
		found, _ := filepath.Glob(p) // a pattern that cannot be read was refused before
		out = append(out, found...)
	}
	return out
}

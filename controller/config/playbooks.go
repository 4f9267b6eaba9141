package config

import (
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"slices"

	"github.com/platelet-sdn/platelet/controller/files"
	"github.com/platelet-sdn/platelet/controller/response"
	"github.com/platelet-sdn/platelet/controller/response/playbook"
	"github.com/platelet-sdn/platelet/detector"
	"github.com/platelet-sdn/platelet/segmentation/strictyaml"
)

// Command is one that playbooks may run.
type Command struct {
	// absolute path, of a file that only root, or the controller's user, can write
	Path string `yaml:"path"`
	// user that it runs as; empty means that of the controller
	User string `yaml:"user"`
}

func (f *File) checkPlaybooks(want func(ok bool, path, format string, args ...any)) {
	for i, pattern := range f.Playbooks {
		_, err := filepath.Match(pattern, "")
		want(pattern != "" && err == nil, fmt.Sprintf("playbooks[%d]", i), "%q is neither a file nor a pattern", pattern)
	}
	for _, name := range slices.Sorted(maps.Keys(f.PlaybookExec)) {
		want(filepath.IsAbs(f.PlaybookExec[name].Path), "playbook_exec."+name+".path", "%q is not an absolute path", f.PlaybookExec[name].Path)
	}
}

// Beside is the configuration with the files that it names relative to itself
// found from anywhere.
func (f *File) Beside(path string) *File {
	out := *f
	out.Segmentation = f.Segmentation.beside(filepath.Dir(path))
	out.Playbooks = slices.Clone(f.Playbooks)
	for i, pattern := range out.Playbooks {
		if !filepath.IsAbs(pattern) {
			out.Playbooks[i] = filepath.Join(filepath.Dir(path), pattern)
		}
	}
	return &out
}

// maxPlaybookFile bounds a file of playbooks, in bytes.
const maxPlaybookFile = 4 << 20

// LoadPlaybooks reads the files of playbooks and puts what holds in order: those
// of the files, the actions of the configuration where they differ from the
// defaults, and what the program brings along. Faults of the files are
// strictyaml.Errors.
func (f *File) LoadPlaybooks() (*playbook.Set, error) {
	names, err := f.PlaybookFiles()
	if err != nil {
		return nil, err
	}
	var books []playbook.Playbook
	var faults strictyaml.Errors
	for _, name := range names {
		list, err := readPlaybooks(name)
		var bad strictyaml.Errors
		switch {
		case errors.As(err, &bad):
			faults = append(faults, bad...)
		case err != nil:
			return nil, err
		}
		books = append(books, list...)
	}
	if len(faults) > 0 {
		return nil, faults.Err()
	}
	if err := playbook.Check(books, slices.Sorted(maps.Keys(f.PlaybookExec))); err != nil {
		return nil, err
	}
	if err := f.checkStations(books); err != nil {
		return nil, err
	}
	defaults, err := playbook.Default()
	if err != nil {
		return nil, err
	}
	changed := map[detector.Kind]response.Action{}
	for kind, action := range Default().Response.Actions {
		if own := f.Response.Actions[kind]; own != action {
			changed[kind] = own
		}
	}
	return playbook.NewSet(books, playbook.OfActions(changed), defaults), nil
}

// checkStations refuses to divert traffic to a station that there is none of.
func (f *File) checkStations(books []playbook.Playbook) error {
	missing := map[response.Action]string{}
	if !f.Response.Honeypot.IsValid() {
		missing[response.ActionReroute] = "response.honeypot"
	}
	if len(f.Response.Scrubbers) == 0 {
		missing[response.ActionScrub] = "response.scrubbers"
	}
	if len(f.Response.Mirror.Ports) == 0 {
		missing[response.ActionMirror] = "response.mirror.ports"
	}
	var faults strictyaml.Errors
	for i := range books {
		p := &books[i]
		if key := missing[p.Rung()]; key != "" {
			at := p.Origin()
			faults = append(faults, &strictyaml.Error{File: at.File, Line: at.Line, Column: at.Column,
				Msg: fmt.Sprintf("playbook %s: %s needs %s in the configuration", p.Name, p.Rung(), key)})
		}
	}
	return faults.Err()
}

// PlaybookFiles lists the files, each once. A pattern may match nothing, a file
// that is named must be there.
func (f *File) PlaybookFiles() ([]string, error) {
	names, err := files.Glob(f.Playbooks...)
	if err != nil {
		return nil, fmt.Errorf("playbooks: %w", err)
	}
	return names, nil
}

// readPlaybooks reads one file of playbooks.
func readPlaybooks(name string) ([]playbook.Playbook, error) {
	raw, err := files.Read(name, maxPlaybookFile)
	if err != nil {
		return nil, fmt.Errorf("playbooks: %w", err)
	}
	return playbook.Parse(name, raw)
}

// Package ovsimport turns a live Open vSwitch host into a containerlab
// topology file that reproduces it in the lab: its bridges, ports, VLANs,
// flows, groups and meters, and the hosts behind the ports. Importing only
// reads.
//
// What makes the reproduction exact is that every port keeps its OpenFlow
// number: a pipeline may compute port numbers in registers, where no name
// could stand for them. Names are written where flows name a port, for
// people to read.
package ovsimport

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// SystemDB is the OVSDB endpoint of the machine's own Open vSwitch.
const SystemDB = "unix:/var/run/openvswitch/db.sock"

// ErrOVN says that a bridge belongs to ovn-controller, whose flows mean
// nothing without OVN's databases.
var ErrOVN = errors.New("the bridge belongs to OVN")

// Options say what is imported and how. The zero value imports every bridge
// of the machine's own Open vSwitch under its own names.
type Options struct {
	// DB is the OVSDB endpoint, unix:/ABSOLUTE/PATH; SystemDB when empty.
	// The management sockets are expected beside it.
	DB string
	// Lab is the name of the topology; "imported" when empty.
	Lab string
	// Bridges are those to import; all when empty.
	Bridges []string
	// Rename gives bridges and ports names of the lab's own, so that the lab
	// comes up beside the live switch. What is the lab's already keeps its
	// name.
	Rename bool
	// Dir is the absolute path of the directory that the topology will be
	// written to. Pipelines of many flows then go into files beside it; when
	// empty, all flows are in the topology.
	Dir string
}

// Result is an imported host.
type Result struct {
	// Topology is a containerlab topology file.
	Topology []byte
	// Flows are the files that belong beside it, by name.
	Flows map[string][]byte
	// Notes say what was not carried over, sorted.
	Notes []string
}

var labName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_.-]*$`)

// Import reads a live host. It needs the right to open the switch's sockets
// and, for the hosts behind the ports, to enter their network namespaces.
func Import(ctx context.Context, o Options) (*Result, error) {
	if o.DB == "" {
		o.DB = SystemDB
	}
	if o.Lab == "" {
		o.Lab = "imported"
	}
	if !labName.MatchString(o.Lab) {
		return nil, fmt.Errorf("lab name %q: needs letters, digits, '-', '_' or '.', beginning with a letter or digit", o.Lab)
	}
	if o.Dir != "" && (!filepath.IsAbs(o.Dir) || strings.ContainsAny(o.Dir, "$}\n")) {
		return nil, fmt.Errorf("directory %q: needs an absolute path without '$' and '}'", o.Dir)
	}
	path, ok := strings.CutPrefix(o.DB, "unix:")
	if !ok || !filepath.IsAbs(path) {
		return nil, fmt.Errorf("database endpoint %q: import runs on the switch's own host and needs unix:/PATH", o.DB)
	}
	s := tools{db: o.DB, runDir: filepath.Dir(path)}
	bridges, notes, err := s.readDatabase(ctx, o.Bridges)
	if err != nil {
		return nil, err
	}
	for _, b := range bridges {
		if err := s.readOpenFlow(ctx, b); err != nil {
			return nil, fmt.Errorf("bridge %s: %w", b.name, err)
		}
	}
	learned, err := s.readLearned(ctx, bridges)
	if err != nil {
		notes = append(notes, fmt.Sprintf("learned MAC addresses: %v", err))
	}
	kernel, err := readKernel()
	if err != nil {
		return nil, err
	}
	defer kernel.close()
	p := newPlan(o, bridges, kernel, learned)
	p.notes = append(p.notes, notes...)
	if err := p.build(); err != nil {
		return nil, err
	}
	topology, err := p.write()
	if err != nil {
		return nil, err
	}
	return &Result{Topology: topology, Flows: p.files, Notes: p.sortedNotes()}, nil
}

// sortedNotes gives each note once.
func (p *plan) sortedNotes() []string {
	slices.Sort(p.notes)
	return slices.Compact(p.notes)
}

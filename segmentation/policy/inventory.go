package policy

import (
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/platelet-sdn/platelet/flowcollector/flow"
)

// Workload is something that has addresses and can be told by its labels, its
// place or its MAC: a virtual machine, a container, a device.
type Workload struct {
	// Name is unique in an inventory and stable.
	Name  string       `json:"name" yaml:"name"`
	Addrs []netip.Addr `json:"addrs" yaml:"addrs"`
	MAC   flow.MAC     `json:"mac" yaml:"mac,omitempty"`
	// Switch and Port are where it attaches; empty when that is not known.
	Switch string `json:"switch,omitempty" yaml:"switch,omitempty"`
	Port   string `json:"port,omitempty" yaml:"port,omitempty"`
	// Labels are the interface's external_ids, the lab node's labels and the
	// operator's tags, the later winning.
	Labels map[string]string `json:"labels,omitempty" yaml:"labels,omitempty"`
	// Risk is the worst severity of what stands against it.
	Risk Risk `json:"risk,omitempty" yaml:"risk,omitempty"`
	// Learned is what was seen of the workload's port; nil where nothing was,
	// and all else is declared.
	Learned *Learned `json:"learned,omitempty" yaml:"learned,omitempty"`
}

// Learned is what was seen at a workload's port, rather than declared by its
// interface or by a file.
type Learned struct {
	// Addrs and MAC say that the workload's are what was seen.
	Addrs bool `json:"addrs,omitempty" yaml:"addrs,omitempty"`
	MAC   bool `json:"mac,omitempty" yaml:"mac,omitempty"`
	// Bound are the addresses that two-way evidence binds to the port, and
	// Stations the number of Ethernet addresses that have them.
	Bound    []netip.Addr `json:"bound,omitempty" yaml:"bound,omitempty"`
	Stations int          `json:"stations,omitempty" yaml:"stations,omitempty"`
	// Trunk is set where the port carries several VLANs, as it is configured.
	Trunk bool `json:"trunk,omitempty" yaml:"trunk,omitempty"`
}

// Inventory is what groups are resolved against, at one time. It is not
// changed once made.
type Inventory struct {
	Workloads []Workload
	// Feeds are the addresses of threat feeds, by name.
	Feeds map[string][]netip.Prefix
	// Assets are the addresses that the controller protects, by the classes of
	// AssetClasses.
	Assets map[string][]netip.Prefix
}

// Selects reports whether the group, apart from the groups that it joins and
// from its addresses, speaks of the workload at a time.
func (g *Group) Selects(w *Workload, now time.Time) bool {
	for key, want := range g.Selector {
		value, has := w.Labels[key]
		if !matchLabel(want, value, has) {
			return false
		}
	}
	return (len(g.Ports) == 0 || slices.ContainsFunc(g.Ports, w.at)) &&
		(len(g.MACs) == 0 || slices.Contains(g.MACs, w.MAC)) &&
		w.Risk >= g.Risk &&
		(g.During == nil || g.During.Covers(now))
}

// ByWorkload reports whether the group is about workloads, rather than about
// addresses whoever has them.
func (g *Group) ByWorkload() bool {
	return len(g.Selector) > 0 || len(g.Ports) > 0 || len(g.MACs) > 0 || g.Risk > 0
}

// at reports whether the workload attaches at "port" or "switch/port".
func (w *Workload) at(place string) bool {
	sw, port, both := strings.Cut(place, "/")
	if !both {
		return place == w.Port && place != ""
	}
	return sw == w.Switch && port == w.Port && port != ""
}

// matchLabel holds a label against what a selector wants of it.
func matchLabel(want, value string, has bool) bool {
	if not, negated := strings.CutPrefix(want, "!"); negated {
		return !matchLabel(not, value, has)
	}
	if want == "*" || !has {
		return has
	}
	if not, other := strings.CutPrefix(want, "*!"); other {
		return !slices.Contains(strings.Split(not, "|"), value)
	}
	return slices.Contains(strings.Split(want, "|"), value)
}

// Package attack is the catalogue of attacks that the lab runs, played by
// agents of our own and, as cross-checks, with the tools that attackers use,
// inside the lab's own namespaces and nowhere else. Everything is a simulation
// of what attacks look like on the wire. Every run is bounded in packets and
// in time, whatever becomes of its starter: agents end with the process that
// they are part of, and tools are ended by a clock of their own.
package attack

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/platelet-sdn/platelet/lab/runner"
	"github.com/platelet-sdn/platelet/segmentation/strictyaml"
)

// Attack is one kind of attack.
type Attack struct {
	// Name is what it is called on the command line.
	Name string
	// Finding is the kind of finding that it must raise.
	Finding string
	// Early is the kind of finding that is right as well where the attack was
	// contained before it had reached anybody, such as a worm's that has only
	// looked for hosts; empty for most.
	Early string
	// Action is the containment that a default playbook answers it with.
	Action string
	// Flood is true when it sends as fast as it can, which nobody wants to
	// capture in full.
	Flood bool
	// Spoofed is true when its source addresses are forged.
	Spoofed bool
	// Technique is the MITRE ATT&CK technique that it simulates, such as
	// T1046.
	Technique string
	about     string
	traffic   string // capture filter, besides the attackers' MAC addresses
	// Either an attacker's tool runs it, or agents of ours play it.
	program string
	args    []string // TARGET stands for the target
	target  func(Roles) string
	play    func(ctx context.Context, s *Scene) error
	// swept is true when it arrives at more hosts than the victim.
	swept   bool
	prepare func(ctx context.Context, lab *runner.Lab, r Roles) (undo func(context.Context) error, err error)
	// watch names the nodes that it arrives at, where those are not the usual.
	watch func(Roles) []string
	// marked is true when its packets are known by their source ports.
	marked bool
	// alone is true when one agent can play it where it stands.
	alone bool
	// attackers is how many attacking nodes it wants; 1 when 0. Where the lab
	// has fewer, it takes those.
	attackers int
	// filter replaces the usual capture filter.
	filter func(Roles) string
}

// Tool is the program that runs the attack; empty where agents of ours do.
func (a Attack) Tool() string { return a.program }

const (
	// webPort is the port that the victim serves.
	webPort = "80"
	// Last octets in the lab's subnet: the addresses that sweeps go over,
	// and one that nobody has.
	sweepFrom, sweepTo, silent = 40, 239, 250
)

// All is the catalogue: what agents of ours play first, the tools as
// cross-checks last.
func All() []Attack { return slices.Concat(packets(), intrusions(), tools()) }

// Find finds an attack by name.
func Find(name string) (Attack, error) {
	var names []string
	for _, a := range All() {
		if a.Name == name {
			return a, nil
		}
		names = append(names, a.Name)
	}
	hint := ""
	if near := strictyaml.Nearest(name, names); near != "" {
		hint = fmt.Sprintf(" (did you mean %q?)", near)
	}
	return Attack{}, fmt.Errorf("unknown attack %q%s: there are %s", name, hint, strings.Join(names, ", "))
}

// About is one line for people.
func (a Attack) About() string { return a.about }

// Watch lists the nodes that the attack arrives at.
func (a Attack) Watch(r Roles) []string {
	if a.watch != nil {
		return a.watch(r)
	}
	if a.swept {
		return append([]string{r.Victim}, r.Bystanders...)
	}
	return []string{r.Victim}
}

// Filter is the capture filter of the attack's packets. Those of our own
// scans are known by their source ports, which nothing else uses; the others
// by the attackers' hardware addresses, and beyond a router by their IP
// addresses or the range that forged ones are from. Benign packets of the same
// form are not counted.
func (a Attack) Filter(r Roles) string {
	if a.filter != nil {
		return a.filter(r)
	}
	if a.marked {
		return a.traffic + " and src portrange " + markedPorts()
	}
	var from []string
	for _, p := range a.Parties(r) {
		from = append(from, "ether src "+p.MAC)
		for _, addr := range p.Addrs {
			if addr.IsGlobalUnicast() {
				from = append(from, "src host "+addr.String())
			}
		}
	}
	if a.Spoofed && a.program == "" {
		from = append(from, "src net 198.18.0.0/15")
	}
	return "(" + strings.Join(from, " or ") + ") and " + a.traffic
}

// Parties lists the attacking nodes of those cast that this attack uses.
func (a Attack) Parties(r Roles) []Party {
	return r.Attackers[:min(len(r.Attackers), max(1, a.attackers))]
}

func victim(r Roles) string { return r.VictimAddr.String() }

// octets is a range of addresses in the victim's /24, as nmap writes it.
func octets(from, to int) func(Roles) string {
	return func(r Roles) string {
		b := r.Subnet.Addr().As4()
		if from == to {
			return fmt.Sprintf("%d.%d.%d.%d", b[0], b[1], b[2], from)
		}
		return fmt.Sprintf("%d.%d.%d.%d-%d", b[0], b[1], b[2], from, to)
	}
}

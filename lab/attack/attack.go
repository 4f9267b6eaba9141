// Package attack is the catalogue of attacks that the lab runs, with the
// tools that attackers use, inside the lab's own namespaces and nowhere else.
// Every attack is bounded in time, whatever becomes of its starter.
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
	// attackers is how many attacking nodes it wants; 1 when 0. Where the lab
	// has fewer, it takes those.
	attackers int
	// filter replaces the usual capture filter.
	filter func(Roles) string
}

// Tool is the program that runs the attack; empty where agents of ours do.
func (a Attack) Tool() string { return a.program }

const (
	// synOnly matches connection attempts.
	synOnly = "tcp[tcpflags] & (tcp-syn|tcp-ack) == tcp-syn"
	// webPort is the port that the victim serves.
	webPort = "80"
	// Last octets in the lab's subnet: the addresses that sweeps go over,
	// and one that nobody has.
	sweepFrom, sweepTo, silent = 40, 239, 250
)

// All is the catalogue.
func All() []Attack { return slices.Concat(tools(), intrusions()) }

// tools are attacks by the programs that attackers use.
func tools() []Attack {
	scan := []string{"-sS", "-n", "-Pn", "--disable-arp-ping", "--send-ip", "--max-retries", "0", "--min-rate", "1000", "--max-rate", "1000"}
	ports := append(scan[:len(scan):len(scan)], "-p", "1-8000", "TARGET")
	return []Attack{
		{
			Name: "port-scan", Finding: "port-scan", Action: "quarantine", traffic: synOnly,
			about:   "nmap -sS at 1,000 probes/s, closed ports answer",
			program: "nmap", args: ports, target: victim,
		},
		{
			Name: "port-scan-silent", Finding: "port-scan", Action: "quarantine", traffic: synOnly,
			about:   "the same against an address that never answers",
			program: "nmap", args: ports, target: octets(silent, silent), prepare: silentNeighbour,
		},
		{
			Name: "host-sweep", Finding: "host-sweep", Action: "quarantine", traffic: synOnly, swept: true,
			about:   "nmap -sS for one port over 200 live addresses",
			program: "nmap", args: append(scan[:len(scan):len(scan)], "-p", "22", "TARGET"),
			target: octets(sweepFrom, sweepTo), prepare: liveAddresses,
		},
		{
			Name: "arp-sweep", Finding: "arp-sweep", Action: "quarantine", traffic: "arp[6:2] == 1",
			about:   "nmap -PR over 200 dead addresses of the own subnet",
			program: "nmap", args: []string{"-sn", "-PR", "-n", "TARGET"}, target: octets(sweepFrom, sweepTo),
		},
		{
			Name: "syn-flood", Finding: "syn-flood", Action: "rate-limit", Flood: true, Spoofed: true, traffic: synOnly,
			about:   "hping3 -S --flood --rand-source",
			program: "hping3", args: []string{"-q", "-S", "-p", webPort, "--flood", "--rand-source", "TARGET"}, target: victim,
		},
		{
			Name: "syn-flood-direct", Finding: "syn-flood", Action: "rate-limit", Flood: true, traffic: synOnly,
			about:   "hping3 -S --flood from its own address",
			program: "hping3", args: []string{"-q", "-S", "-p", webPort, "--flood", "TARGET"}, target: victim,
		},
		{
			Name: "udp-flood", Finding: "udp-flood", Action: "rate-limit", Flood: true, traffic: "udp dst port 9999",
			about:   "hping3 --udp --flood",
			program: "hping3", args: []string{"-q", "--udp", "-p", "9999", "--flood", "TARGET"}, target: victim,
		},
		{
			Name: "icmp-flood", Finding: "icmp-flood", Action: "rate-limit", Flood: true, traffic: "icmp[icmptype] == icmp-echo",
			about:   "hping3 --icmp --flood",
			program: "hping3", args: []string{"-q", "--icmp", "--flood", "TARGET"}, target: victim,
		},
	}
}

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
	if a.swept {
		return append([]string{r.Victim}, r.Bystanders...)
	}
	return []string{r.Victim}
}

// Filter is the capture filter of the attack's packets. They are known by
// the attackers' hardware addresses, so that benign packets of the same form
// are not counted; an attack that forges those too has a filter of its own.
func (a Attack) Filter(r Roles) string {
	if a.filter != nil {
		return a.filter(r)
	}
	macs := make([]string, 0, max(1, a.attackers))
	for _, p := range a.Parties(r) {
		macs = append(macs, "ether src "+p.MAC)
	}
	return "(" + strings.Join(macs, " or ") + ") and " + a.traffic
}

// Parties lists the attacking nodes of those cast that this attack uses.
func (a Attack) Parties(r Roles) []Party {
	return r.Attackers[:min(len(r.Attackers), max(1, a.attackers))]
}

// Target is what the tool is given as the target.
func (a Attack) Target(r Roles) string { return a.target(r) }

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

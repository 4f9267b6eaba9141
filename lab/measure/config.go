package measure

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os/exec"
	"slices"
	"strings"
	"time"

	"github.com/platelet-sdn/platelet/lab/attack"
	"github.com/platelet-sdn/platelet/lab/clab"
	"github.com/platelet-sdn/platelet/lab/runner"
)

// Config says what to measure on one lab.
type Config struct {
	// Topology is brought up, and taken down afterwards, unless Lab is set.
	Topology *clab.Topology
	Options  runner.Options
	// Lab is a lab that is already up, and stays.
	Lab *runner.Lab
	// Attacks are the attacks' names, in the order in which they are run.
	Attacks []string
	// Benign is the profile of honest traffic; by the lab's labels when
	// empty.
	Benign string
	// Runs is how often to attack; 20 when 0. Attacks that are slow by nature
	// are run a fifth as often.
	Runs int
	// Releases is in how many of the runs of each attack to wait until the
	// controller lets go by itself; 0 in none. They are the first ones.
	Releases int
	// Controller starts the controller on the lab. It must be ready to act
	// when it returns.
	Controller func(ctx context.Context, lab *runner.Lab) (Controller, error)
	// Kinds are the kinds of findings that the controller can raise; nil is
	// every kind. Attacks of other kinds are run all the same, with less
	// patience.
	Kinds []string
	// AnyMeans counts an end of delivery as containment by whatever means it
	// came about, even by cutting the victim off: for controllers that know no
	// other.
	AnyMeans bool
	// BlindRuns is how often to run an attack that the controller has no
	// detector for; as the others when 0.
	BlindRuns int
	// Hold is how long containment must hold under continued attack; 1 s
	// when 0.
	Hold time.Duration
	// Patience is how long an attack may go on uncontained; 8 s when 0.
	// Attacks that are slow by nature are given what they need. BlindPatience
	// is the same for attacks that the controller has no detector for; 4 s
	// when 0.
	Patience, BlindPatience time.Duration
	// WarmUp is how long honest traffic runs before the first attack, so
	// that there is a normal to compare with; 3 s when 0.
	WarmUp time.Duration
	// Before and After are how long honest traffic is observed before the
	// attack and after it; 1 s when 0.
	Before, After time.Duration
	// ReleaseWithin is how long to wait for a release; 30 s when 0.
	ReleaseWithin time.Duration
	// Seed makes the agents' choices and the pauses between runs the same
	// every time.
	Seed uint64
	// Truth is a directory for the ground truth, one file per run; empty
	// keeps none.
	Truth string
	// Log gets a line per run; nil is silent.
	Log io.Writer
	// Done, when not nil, is told after each attack what there is so far.
	Done func(Lab) error
}

func (c Config) withDefaults() Config {
	for _, d := range []struct {
		v *time.Duration
		d time.Duration
	}{
		{&c.Hold, time.Second}, {&c.Patience, 8 * time.Second}, {&c.BlindPatience, 4 * time.Second}, {&c.WarmUp, 3 * time.Second},
		{&c.Before, time.Second}, {&c.After, time.Second}, {&c.ReleaseWithin, 30 * time.Second},
	} {
		if *d.v == 0 {
			*d.v = d.d
		}
	}
	if c.Runs == 0 {
		c.Runs = 20
	}
	if c.BlindRuns == 0 {
		c.BlindRuns = c.Runs
	}
	if c.Log == nil {
		c.Log = io.Discard
	}
	return c
}

// Check reports everything that cannot work, before anything is created:
// attacks and profiles that do not exist, roles that no node of the topology
// plays, programs that are not installed.
func (c Config) Check() error {
	var errs []error
	need := map[string]string{"tcpdump": "to capture"}
	if len(c.Attacks) == 0 {
		errs = append(errs, errors.New("no attack is named"))
	}
	for _, name := range c.Attacks {
		a, err := attack.Find(name)
		if err != nil {
			errs = append(errs, err)
		} else if a.Tool() != "" {
			need[a.Tool()] = "for " + name
		}
	}
	errs = append(errs, checkProfile(c.Benign))
	if c.Topology != nil {
		errs = append(errs, checkLabels(c.Topology))
	}
	for _, program := range slices.Sorted(maps.Keys(need)) {
		if _, err := exec.LookPath(program); err != nil {
			errs = append(errs, fmt.Errorf("%s is needed %s and not installed (scripts/install-deps.sh installs it)", program, need[program]))
		}
	}
	return errors.Join(errs...)
}

// checkLabels holds that an attack can be cast and honest traffic be made.
func checkLabels(t *clab.Topology) error {
	has := map[string]bool{}
	for _, n := range t.Nodes {
		for k, v := range n.Labels {
			has[k+"="+v] = true
		}
	}
	var missing []string
	for _, label := range []string{"role=attacker", "app=web", "role=client", "app=dns"} {
		if !has[label] {
			missing = append(missing, label)
		}
	}
	if len(missing) > 0 {
		return fmt.Errorf("%s: no node is labelled %s: an attack needs role=attacker and app=web, honest traffic app=web, app=dns and role=client",
			t.File, strings.Join(missing, ", "))
	}
	return nil
}

// blind reports whether the controller has no detector for an attack.
func (c Config) blind(a attack.Attack) bool {
	return c.Kinds != nil && !slices.Contains(c.Kinds, a.Finding)
}

// pace is how one attack is run.
type pace struct {
	runs           int
	hold, patience time.Duration
}

// pace bounds an attack. One that sends a packet in several seconds must be
// given the time for several of them, before and after it is contained.
func (c Config) pace(a attack.Attack) pace {
	p := pace{runs: c.Runs, hold: c.Hold, patience: c.Patience}
	if c.blind(a) {
		p.runs, p.patience = c.BlindRuns, c.BlindPatience
	} else if gap, slow := slowest()[a.Name]; slow {
		p.hold, p.patience = max(p.hold, 2*gap), max(p.patience, 14*gap)
		if gap >= time.Second {
			p.runs = (p.runs + 4) / 5 // each takes up to a minute
		}
	}
	return p
}

// slowest is how far apart the packets of slow attacks are, or what they do
// regularly: an interval shows only when it comes again. One password for every
// account of every host shows only when there have been some; of guesses and
// uploads, one packet in ten is seen; and whose an address is shows when its
// holder speaks again and again.
func slowest() map[string]time.Duration {
	return map[string]time.Duration{
		"slow-scan": 5 * time.Second, "beacon": time.Second, "beacon-tls": time.Second, "exfiltration-slow": time.Second,
		"password-spray": time.Second, "ssh-brute-force": 500 * time.Millisecond, "http-brute-force": 600 * time.Millisecond,
		"exfiltration-fast": 500 * time.Millisecond, "arp-spoof": time.Second,
	}
}

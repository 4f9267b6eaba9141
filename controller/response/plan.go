package response

import (
	"fmt"
	"net/url"
	"time"

	"github.com/platelet-sdn/platelet/detector"
	"github.com/platelet-sdn/platelet/topology"
)

// Plan is what a playbook asks of a switch on a finding.
type Plan struct {
	Playbook string // its name
	// Version is that of the playbooks that it is one of; see decidedBy.
	Version string
	Action  Action // the rung of the ladder that it begins with
	// Mode is the playbook's own; empty for that of the configuration. The
	// more careful of the two holds.
	Mode Mode
	// Canary holds further containments of the playbook back until the one
	// before is proven, and asks a person when one had to be rolled back.
	Canary bool
	// Probes are services that have to answer as before; see Health.
	Probes []string
	// People is how many have to approve, each another one, whatever the mode.
	People int
	// Rungs are those that a Chooser may choose from besides Action; without
	// them what contains and is milder.
	Rungs []Action
}

// Circumstances are what a plan depends on besides the finding.
type Circumstances struct {
	Now time.Time
	// Tags are the labels of the port where the attack enters.
	Tags map[string]string
}

// Health tells what became of the services that playbooks name.
type Health interface {
	// Broke says in words which of the probes answered before a time and has
	// not since; it is empty where there is none. It does not wait.
	Broke(probes []string, since time.Time) string
}

// CheckProbe reports whether a probe is one: tcp://HOST:PORT, which has to accept a
// connection, or http:// or https://, which has to answer with a status below 400.
func CheckProbe(target string) error {
	u, err := url.Parse(target)
	switch {
	case err != nil:
		return err
	case u.Scheme == "tcp" && (u.Port() == "" || u.Hostname() == "" || u.Path != ""):
		return fmt.Errorf("%q is not tcp://HOST:PORT", target)
	case u.Scheme == "tcp":
		return nil
	case u.Scheme != "http" && u.Scheme != "https" || u.Host == "":
		return fmt.Errorf("%q is neither tcp://HOST:PORT nor a URL of HTTP", target)
	}
	return nil
}

// Planner chooses a plan. It stands on the way to containment, so it takes
// microseconds, and it answers the same to the same question.
type Planner interface {
	Plan(f detector.Finding, c Circumstances) Plan
}

// plan asks the playbooks, or where there are none the actions by kind.
func (c *Config) plan(f detector.Finding, at Circumstances) Plan {
	if c.Playbooks == nil {
		return Plan{Action: c.Actions[f.Kind]}
	}
	return c.Playbooks.Plan(f, at)
}

// Stricter is the more careful of two modes; an empty one does not count.
func Stricter(a, b Mode) Mode {
	for _, m := range []Mode{ModeObserve, ModeAdvise, ModeAutonomous} {
		if a == m || b == m {
			return m
		}
	}
	return ModeObserve
}

// Tags are the labels of the port where an attack enters, or else of the one
// where its host lives.
func Tags(snap *topology.Snapshot, f detector.Finding) map[string]string {
	if p, ok := snap.PortByIndex(f.InPort); ok && f.InPort != 0 && p.Type == topology.PortEdge {
		return p.Labels
	}
	if h, ok := snap.Host(f.Host); ok && !f.Spoofed {
		p, _ := snap.Port(h.Port)
		return p.Labels
	}
	return nil
}

package attack

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/platelet-sdn/platelet/lab/agent"
	"github.com/platelet-sdn/platelet/lab/runner"
)

// Settings say how an attack is run. The zero value is good.
type Settings struct {
	// Truth gets a line per action of our own agents; nil keeps none.
	Truth *agent.Truth
	// Seed makes what agents choose at random the same every time.
	Seed uint64
	// Rate is in packets, or attempts, per second; the attack's own when 0.
	Rate float64
	// Packets bounds what all agents send together; ten million when 0.
	Packets uint64
	// For bounds the time; 30 s when 0.
	For time.Duration
}

// packetLimit bounds a run where nothing else is said: a flood of 30 s.
const packetLimit = 10_000_000

func (s Settings) withDefaults() Settings {
	if s.Packets == 0 {
		s.Packets = packetLimit
	}
	if s.For == 0 {
		s.For = hardLimit
	}
	return s
}

// Scene is what our own agents play an attack on: where they stand, whom they
// attack, and how far they may go.
type Scene struct {
	Roles
	Settings
	// Lab is the lab, for attacks that several nodes take part in.
	Lab *runner.Lab
	// Attack is the name for the ground truth.
	Attack string
	// From are the attackers' stations, the first attacker's first.
	From []*agent.Station
	Rand *rand.Rand
}

// open puts the agents in place.
func (a Attack) open(lab *runner.Lab, r Roles, set Settings) (*Scene, error) {
	s := &Scene{Roles: r, Settings: set, Lab: lab, Attack: a.Name, Rand: rand.New(rand.NewPCG(set.Seed, 0))}
	for _, p := range a.Parties(r) {
		station, err := agent.In(lab, p.Node)
		if err != nil {
			return nil, err
		}
		s.From = append(s.From, station)
	}
	return s, nil
}

// Record writes a line of ground truth for one of the attacking nodes.
func (s *Scene) Record(a agent.Action) {
	a.Role, a.Behaviour = agent.Attack, s.Attack
	s.Truth.Record(a)
}

// startPlay lets our own agents play the attack, again and again until it is
// stopped or its time is up.
func (a Attack) startPlay(ctx context.Context, lab *runner.Lab, r Roles, set Settings) (*Running, error) {
	scene, err := a.open(lab, r, set)
	if err != nil {
		return nil, fmt.Errorf("attack %s: %w", a.Name, err)
	}
	ctx, cancel := context.WithTimeout(ctx, set.For)
	run := &Running{cancel: cancel, done: make(chan struct{})}
	go func() {
		defer close(run.done)
		for ctx.Err() == nil {
			if err := a.play(ctx, scene); err != nil {
				if ctx.Err() == nil || !errors.Is(err, ctx.Err()) {
					run.err = fmt.Errorf("attack %s: %w", a.Name, err)
				}
				return
			}
		}
	}()
	return run, nil
}

package attack

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"time"

	"github.com/platelet-sdn/platelet/lab/agent"
	"github.com/platelet-sdn/platelet/lab/runner"
	"github.com/platelet-sdn/platelet/lab/wire"
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
	// Once ends a run that comes to its end by itself, such as a scan of all
	// ports, instead of starting it again until it is stopped.
	Once bool
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
	// Lab is the lab, for attacks that several nodes take part in; nil for an
	// agent that stands alone in its node.
	Lab *runner.Lab
	// Attack is the name for the ground truth.
	Attack string
	// From are the attackers' stations, the first attacker's first.
	From []*agent.Station
	Rand *rand.Rand
	// Targets are what sweeps go over; addresses of the victim's subnet when
	// empty.
	Targets []netip.Addr
	// Budget is what the attackers may send in raw frames.
	Budget *agent.Budget

	senders   map[int]*wire.Sender
	resolvers map[int]*wire.Resolver
	hops      map[hop]net.HardwareAddr
}

// hop is a way from a station.
type hop struct {
	from int
	to   netip.Addr
}

// newScene makes a scene for stations that stand already.
func newScene(name string, r Roles, set Settings, from ...*agent.Station) (*Scene, error) {
	budget, err := agent.NewBudget(set.Packets, set.For)
	if err != nil {
		return nil, err
	}
	return &Scene{
		Roles: r, Settings: set, Attack: name, From: from, Rand: rand.New(rand.NewPCG(set.Seed, 0)), Budget: budget,
		senders: map[int]*wire.Sender{}, resolvers: map[int]*wire.Resolver{}, hops: map[hop]net.HardwareAddr{},
	}, nil
}

// open puts the agents in place.
func (a Attack) open(lab *runner.Lab, r Roles, set Settings) (*Scene, error) {
	var from []*agent.Station
	for _, p := range a.Parties(r) {
		station, err := agent.In(lab, p.Node)
		if err != nil {
			return nil, err
		}
		from = append(from, station)
	}
	s, err := newScene(a.Name, r, set, from...)
	if err != nil {
		return nil, err
	}
	s.Lab = lab
	return s, nil
}

// close closes the sockets.
func (s *Scene) close() error {
	var errs []error
	for _, w := range s.senders {
		errs = append(errs, w.Close())
	}
	for _, r := range s.resolvers {
		r.Close()
	}
	return errors.Join(errs...)
}

// sender is the raw sender of one of the stations.
func (s *Scene) sender(from int) (*wire.Sender, error) {
	if w, ok := s.senders[from]; ok {
		return w, nil
	}
	w, err := wire.NewSender(s.From[from], s.Budget)
	if err != nil {
		return nil, err
	}
	s.senders[from] = w
	return w, nil
}

// nextHop is the hardware address that frames of a station to an address go
// to. It is asked for once: containment that stops address resolution must
// not stop the attack, or nothing would show that containment holds.
func (s *Scene) nextHop(ctx context.Context, from int, to netip.Addr) (net.HardwareAddr, error) {
	if mac, ok := s.hops[hop{from, to}]; ok {
		return mac, nil
	}
	r, ok := s.resolvers[from]
	if !ok {
		var err error
		if r, err = wire.NewResolver(s.From[from]); err != nil {
			return nil, err
		}
		s.resolvers[from] = r
	}
	mac, err := r.NextHop(ctx, to)
	if err == nil {
		s.hops[hop{from, to}] = mac
	}
	return mac, err
}

// path leads from one of the stations to an address.
func (s *Scene) path(ctx context.Context, from int, to netip.Addr) (wire.Path, error) {
	if !to.IsValid() {
		return wire.Path{}, errors.New("there is no address to attack")
	}
	p := wire.Path{SrcMAC: s.From[from].MAC, Src: s.From[from].Addr(), Dst: to}
	if to.Is6() {
		p.Src = s.From[from].Addr6()
	}
	if !p.Src.IsValid() {
		return p, fmt.Errorf("%s has no address of the family of %v", s.From[from].Node, to)
	}
	var err error
	p.DstMAC, err = s.nextHop(ctx, from, to)
	return p, err
}

// pace is the rate that the settings name, or the attack's own.
func (s *Scene) pace(own float64) (*wire.Pace, error) {
	if s.Rate > 0 {
		own = s.Rate
	}
	return wire.NewPace(own)
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
	return a.run(ctx, scene), nil
}

// Alone lets one agent play the attack from a station, against some
// addresses: the first is the victim, for ARP spoofing the second is the
// gateway. Attacks in which other nodes take part are refused.
func (a Attack) Alone(ctx context.Context, at *agent.Station, to []netip.Addr, set Settings) (*Running, error) {
	if !a.alone {
		return nil, fmt.Errorf("attack %s: one agent alone cannot play it; run it on the lab", a.Name)
	}
	for _, addr := range to {
		if err := at.Fence.Check(addr); err != nil {
			return nil, fmt.Errorf("attack %s: %w", a.Name, err)
		}
	}
	r := Roles{Attacker: at.Node, AttackerIface: at.Iface, AttackerMAC: at.MAC.String(), AttackerAddr: at.Addr(), Near: Host{}}
	for _, addr := range to {
		switch addr = addr.Unmap(); {
		case addr.Is6() && !r.VictimAddr6.IsValid():
			r.VictimAddr6 = addr
		case addr.Is4() && !r.VictimAddr.IsValid():
			r.VictimAddr, r.Near.Addr = addr, addr
			r.Subnet = netip.PrefixFrom(addr, 24).Masked()
		case addr.Is4() && !r.Gateway.Addr.IsValid():
			r.Gateway.Addr = addr
		}
	}
	scene, err := newScene(a.Name, r, set.withDefaults(), at)
	if err != nil {
		return nil, fmt.Errorf("attack %s: %w", a.Name, err)
	}
	if len(to) > 1 {
		scene.Targets = to
	}
	return a.run(ctx, scene), nil
}

// run plays a scene in the background, and closes it.
func (a Attack) run(ctx context.Context, scene *Scene) *Running {
	ctx, cancel := context.WithTimeout(ctx, scene.For)
	run := &Running{cancel: cancel, done: make(chan struct{}), budget: scene.Budget}
	go func() {
		defer close(run.done)
		defer cancel()
		if err := errors.Join(a.plays(ctx, scene), scene.close()); err != nil {
			run.err = fmt.Errorf("attack %s: %w", a.Name, err)
		}
	}()
	return run
}

// plays plays until the end of the context, of the budget or, once, of the
// play.
func (a Attack) plays(ctx context.Context, s *Scene) error {
	for ctx.Err() == nil {
		err := a.play(ctx, s)
		switch {
		case errors.Is(err, agent.ErrSpent), ctx.Err() != nil && errors.Is(err, ctx.Err()):
			return nil
		case err != nil:
			return err
		case s.Once:
			return nil
		}
	}
	return nil
}

package intrusion

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/platelet-sdn/platelet/lab/agent"
)

const (
	// passes is how often a taken host goes over its subnet before it rests.
	passes = 2
	// generations bounds how far it is from the first host to the last.
	generations = 16
	// scanCap bounds the probes of all taken hosts together, per second.
	// Most go to addresses that nobody has, and each of those keeps a place
	// in the kernel's table of neighbours for seconds: the table has 1,024
	// for all namespaces of a machine, and honest hosts need it too.
	scanCap = 150
	// subnetBits is the largest subnet that is gone over as a whole; of a
	// larger one it is the part round the own address. nearBits is what is
	// near.
	subnetBits, nearBits = 22, 27
)

// strain is how one kind of thing spreads.
type strain struct {
	// ports are where it looks, the first nine times out of ten.
	ports []uint16
	// greet talks to a host that answered, and reports what came of it.
	greet func(ctx context.Context, o *outbreak, b *bot, c net.Conn) string
	// serve is the other side, at a host that can be taken.
	serve func(o *outbreak, host *bot, c net.Conn)
}

// bot is a host that can be taken, or is.
type bot struct {
	station *agent.Station
	rand    *rand.Rand
	probes  int
	order   []netip.Addr // what is left of this pass
	// The outbreak guards the rest.
	taken      bool
	generation int // 0 of the attackers
}

// outbreak is one strain spreading over the hosts of a lab.
type outbreak struct {
	strain
	*Stage
	left  atomic.Int64 // probes that all may still make
	gate  gate
	hosts map[netip.Addr]*bot
	order []*bot // as they were taken
	work  sync.WaitGroup

	mu    sync.Mutex
	spent error // why no more may be sent, where that was charged
}

// newOutbreak furnishes the hosts: each that can be taken listens, also the
// attackers, who say that they have been taken already.
func (s *Stage) newOutbreak(k strain, own *servers, seed uint64) (*outbreak, error) {
	o := &outbreak{strain: k, Stage: s, hosts: map[netip.Addr]*bot{}, gate: gate{pace: newPace(scanCap)}}
	o.left.Store(int64(min(s.Limit, 1<<40)))
	stations := slices.Clone(s.Attackers)
	for _, node := range s.Hosts {
		if s.attacks(node) {
			continue
		}
		st, err := s.Open(node)
		if err != nil {
			return nil, err
		}
		if st.Addr().IsValid() {
			stations = append(stations, st)
		}
	}
	for i, st := range stations {
		b := &bot{station: st, rand: rand.New(rand.NewPCG(seed, uint64(i)+1))}
		o.hosts[st.Addr()] = b
		for _, port := range k.ports {
			if err := own.accept(st, port, func(c net.Conn) { k.serve(o, b, c) }); err != nil {
				return nil, err
			}
		}
	}
	return o, nil
}

// run lets the attackers spread it, and returns when every taken host has
// gone over its subnet as often as it does, or the limit is reached.
func (o *outbreak) run(ctx context.Context) error {
	for _, st := range o.Attackers {
		o.mu.Lock()
		b := o.hosts[st.Addr()]
		b.taken = true
		o.order = append(o.order, b)
		o.mu.Unlock()
		o.work.Go(func() { o.scan(ctx, b) })
	}
	o.work.Wait()
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.spent != nil {
		return o.spent
	}
	return ctx.Err()
}

// may reports whether one more packet or probe may be sent.
func (o *outbreak) may() bool {
	if o.left.Add(-1) < 0 {
		return false
	}
	err := o.charge()
	if err != nil {
		o.mu.Lock()
		defer o.mu.Unlock()
		o.spent = err
	}
	return err == nil
}

// take notes that a host is taken by the caller at an address, and sets it to
// work. It is false where it was taken before, or where the caller is none of
// ours: then nothing happens.
func (o *outbreak) take(ctx context.Context, host *bot, from netip.Addr, port uint16) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	by := o.hosts[from]
	if host.taken || by == nil || !by.taken || by.generation == generations || ctx.Err() != nil {
		return false
	}
	host.taken, host.generation = true, by.generation+1
	o.order = append(o.order, host)
	o.Record(agent.Action{
		Agent: by.station.Node, Action: "infected", From: from, To: host.station.Addr(), Proto: "tcp", Port: port,
		Note: fmt.Sprintf("%s, generation %d", host.station.Node, host.generation),
	})
	// The caller waits for the answer inside a probe, so the group is not
	// at its end.
	o.work.Go(func() { o.scan(ctx, host) })
	return true
}

// bots lists the hosts taken so far.
func (o *outbreak) bots() []*bot {
	o.mu.Lock()
	defer o.mu.Unlock()
	return slices.Clone(o.order)
}

// scan goes over a taken host's subnet. Every other probe goes to an address
// near its own, as those of worms with a local preference do.
func (o *outbreak) scan(ctx context.Context, b *bot) {
	var open sync.WaitGroup
	defer open.Wait()
	clock := newPace(o.Rate)
	subnet := others(b.station, subnetBits)
	near := others(b.station, nearBits)
	for range 2 * passes * len(subnet) {
		var to netip.Addr
		if b.probes++; b.probes%2 == 1 && len(near) > 0 {
			to = near[b.rand.IntN(len(near))]
		} else {
			to = b.next(subnet)
		}
		port := o.ports[0]
		if len(o.ports) > 1 && b.rand.IntN(10) == 0 {
			port = o.ports[1]
		}
		if clock.wait(ctx) != nil || o.gate.wait(ctx) != nil || !o.may() {
			return
		}
		now := time.Now()
		open.Go(func() {
			ctx, cancel := context.WithTimeout(ctx, patience)
			defer cancel()
			o.probe(ctx, b, netip.AddrPortFrom(to, port), now)
		})
	}
}

// next goes over addresses in random order, again and again.
func (b *bot) next(all []netip.Addr) netip.Addr {
	if len(b.order) == 0 {
		b.order = slices.Clone(all)
		b.rand.Shuffle(len(b.order), func(i, j int) { b.order[i], b.order[j] = b.order[j], b.order[i] })
	}
	to := b.order[0]
	b.order = b.order[1:]
	return to
}

// probe tries one address.
func (o *outbreak) probe(ctx context.Context, b *bot, to netip.AddrPort, now time.Time) {
	a := agent.Action{
		Time: now, Agent: b.station.Node, Action: "probe", From: b.station.Addr(), To: to.Addr(), Proto: "tcp", Port: to.Port(),
	}
	c, err := b.station.Dial(ctx, "tcp", agentAny, to)
	switch {
	case err == nil:
		defer c.Close()
		stop := context.AfterFunc(ctx, func() { _ = c.SetDeadline(time.Unix(1, 0)) })
		defer stop()
		a.Note = o.greet(ctx, o, b, c)
	case errors.Is(err, syscall.ECONNREFUSED):
		a.Note = "closed"
	default:
		a.Note = noAnswer
	}
	o.Record(a)
}

// others lists the other addresses of a station's subnet, or of the part of
// so many bits round its own address where the subnet is larger.
func others(st *agent.Station, bits int) []netip.Addr {
	i := slices.IndexFunc(st.Prefixes, func(p netip.Prefix) bool { return p.Addr().Is4() })
	if i < 0 {
		return nil
	}
	own := st.Prefixes[i]
	whole := own.Masked()
	part := netip.PrefixFrom(own.Addr(), max(bits, own.Bits())).Masked()
	var out []netip.Addr
	for a := part.Addr(); part.Contains(a); a = a.Next() {
		// Neither the subnet's first address nor its last is a host's.
		if a != own.Addr() && a != whole.Addr() && whole.Contains(a.Next()) {
			out = append(out, a)
		}
	}
	return out
}

// gate is a pace that many share.
type gate struct {
	mu   sync.Mutex
	pace *pace
}

// wait waits for the next free place.
func (g *gate) wait(ctx context.Context) error {
	g.mu.Lock()
	at := g.pace.next()
	g.mu.Unlock()
	return agent.Wait(ctx, time.Until(at))
}

package benign

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"math"
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/platelet-sdn/platelet/lab/agent"
)

// lackError says which labels a behaviour finds on no node.
type lackError struct{ labels []string }

func (e *lackError) Error() string { return "a node labelled " + strings.Join(e.labels, " or ") }

// join puts several sentences in one.
func join(s []string) string { return strings.Join(s, "; ") }

// nodes lists the nodes with the first of the labels that any has, written
// app=web; a lackError when none has.
func (t *Traffic) nodes(labels ...string) ([]string, error) {
	for _, label := range labels {
		key, value, _ := strings.Cut(label, "=")
		nodes := slices.DeleteFunc(t.lab.Select(key, value), func(node string) bool {
			return !t.lab.Isolated(node) || len(t.lab.Interfaces(node)) == 0 || t.hostile(node)
		})
		if len(nodes) > 0 {
			return nodes, nil
		}
	}
	return nil, &lackError{labels}
}

// hostile reports whether a node is an attacker's: those are not honest.
func (t *Traffic) hostile(node string) bool {
	return slices.Contains(t.lab.Select("role", "attacker"), node) || slices.Contains(t.lab.Select("role", "outsider"), node)
}

// hosts lists all honest nodes with an address.
func (t *Traffic) hosts() ([]string, error) {
	var out []string
	for _, node := range t.lab.Nodes() {
		if !t.lab.Isolated(node) || len(t.lab.Interfaces(node)) == 0 || t.hostile(node) {
			continue
		}
		st, err := t.station(node)
		if err != nil {
			return nil, err
		}
		if st.Addr().IsValid() {
			out = append(out, node)
		}
	}
	return out, nil
}

// station opens a node's station, once.
func (t *Traffic) station(node string) (*agent.Station, error) {
	if st := t.stations[node]; st != nil {
		return st, nil
	}
	st, err := agent.In(t.lab, node)
	if err != nil {
		return nil, err
	}
	t.stations[node] = st
	return st, nil
}

// server opens the station of a node that serves, which needs an address.
func (t *Traffic) server(node string) (*agent.Station, error) {
	st, err := t.station(node)
	if err == nil && !st.Addr().IsValid() {
		err = fmt.Errorf("node %s has no IPv4 address", node)
	}
	return st, err
}

// once reports whether a service is still to be started, and notes it.
func (t *Traffic) once(service, node string) bool {
	key := service + "@" + node
	if t.serving[key] {
		return false
	}
	t.serving[key] = true
	return true
}

// actor is one node's part in a behaviour.
type actor struct {
	*Traffic
	behaviour string
	*agent.Station
	rand *rand.Rand
}

// actor puts a node in place as a client.
func (t *Traffic) actor(behaviour, node string) (*actor, error) {
	st, err := t.server(node)
	if err != nil {
		return nil, err
	}
	sum := fnv.New64a()
	_, _ = sum.Write([]byte(behaviour + "@" + node))
	return &actor{t, behaviour, st, rand.New(rand.NewPCG(t.options.Seed, sum.Sum64()))}, nil
}

// run lets a client go on once all servers are up.
func (t *Traffic) run(client func(ctx context.Context)) { t.clients = append(t.clients, client) }

// peer is the other side of an exchange.
type peer struct {
	node  string
	addr  netip.AddrPort
	proto string
}

// peer describes a service of a node.
func (t *Traffic) peer(node, proto string, port uint16) (peer, error) {
	st, err := t.server(node)
	if err != nil {
		return peer{}, err
	}
	return peer{node, netip.AddrPortFrom(st.Addr(), port), proto}, nil
}

// exchange makes one exchange, which may take so long, and keeps what came of
// it, in the ledger and as a line of ground truth.
func (a *actor) exchange(ctx context.Context, what string, to peer, limit time.Duration, f func(ctx context.Context) (octets int, err error)) {
	start := time.Now()
	e := a.ledger.begin(start)
	limited, cancel := context.WithTimeout(ctx, limit)
	octets, err := f(limited)
	cancel()
	end := time.Now()
	line := agent.Action{
		Time: start, Agent: a.Node, Role: agent.Benign, Behaviour: a.behaviour, Action: what, From: a.Addr(), To: to.addr.Addr(),
		Proto: to.proto, Port: to.addr.Port(), Bytes: uint64(octets), Seconds: end.Sub(start).Seconds(),
	}
	switch {
	case err != nil && (ctx.Err() != nil || a.stopping.Load()):
		a.ledger.drop(e, false)
		return // ended by us
	case err != nil && innocent(err):
		a.ledger.drop(e, true)
		line.Note = "not served: " + err.Error()
	default:
		flow := Flow{Behaviour: a.behaviour, Client: a.Node, Server: to.node, Start: start, End: end}
		if err != nil {
			flow.Harmed, flow.Lost = true, 1
			line.Note = "harmed: " + err.Error()
		}
		a.ledger.end(e, flow)
	}
	a.options.Truth.Record(line)
}

// innocent reports whether an exchange failed for reasons other than loss:
// nobody serves it, or this machine has not what it takes.
func innocent(err error) bool {
	for _, reason := range []error{
		syscall.ECONNREFUSED, syscall.EADDRINUSE, syscall.EADDRNOTAVAIL, syscall.EMFILE, syscall.ENFILE, syscall.ENOBUFS,
		syscall.ENOMEM, agent.ErrOutside,
	} {
		if errors.Is(err, reason) {
			return true
		}
	}
	return false
}

// dial connects to a peer; the connection breaks when the context ends.
func (a *actor) dial(ctx context.Context, to peer) (net.Conn, error) {
	c, err := a.Dial(ctx, to.proto, netip.AddrPort{}, to.addr)
	if err != nil {
		return nil, err
	}
	return c, bound(ctx, c)
}

// bound gives a connection the context's deadline.
func bound(ctx context.Context, c net.Conn) error {
	deadline, _ := ctx.Deadline()
	return c.SetDeadline(deadline)
}

// every does something again and again, at intervals that next chooses, the
// first after a part of one so that clients do not move in step. Those that
// take longer delay the next.
func (a *actor) every(ctx context.Context, next func() time.Duration, do func()) {
	pause := time.Duration(a.rand.Float64() * float64(next()))
	for agent.Wait(ctx, pause) == nil {
		do()
		pause = next()
	}
}

// logNormal draws from the log-normal distribution with the given median and
// sigma, cut off at both ends: how long people think and how large files are.
func (a *actor) logNormal(median, sigma, least, most float64) float64 {
	return min(max(median*math.Exp(sigma*a.rand.NormFloat64()), least), most)
}

// jittered is a period give or take a fifth.
func (a *actor) jittered(d time.Duration, pace float64) func() time.Duration {
	return func() time.Duration { return time.Duration(float64(d) / pace * (0.8 + 0.4*a.rand.Float64())) }
}

package segment

import (
	"slices"
	"time"

	"github.com/platelet-sdn/platelet/segmentation/policy"
	"github.com/platelet-sdn/platelet/segmentation/sourceguard"
	"github.com/platelet-sdn/platelet/topology"
)

// guards knows what source guards come to, and of what that was made.
type guards struct {
	plan  *sourceguard.Plan // never nil; another one when anything is guarded otherwise
	of    *Policies
	build uint64
	until time.Time // when a group may hold somebody else by the hour
}

// look makes the plan anew where anything has changed that it is made of.
func (g *guards) look(read *Policies, inv policy.Inventory, s *topology.Snapshot, build uint64, now time.Time) {
	if g.of == read && g.build == build && now.Before(g.until) {
		return
	}
	g.of, g.build, g.until = read, build, now.Truncate(time.Minute).Add(time.Minute) // schedules are in minutes
	next := sourceguard.Resolve(read.Set, inv, now)
	next.Ports = slices.DeleteFunc(next.Ports, func(p sourceguard.Port) bool {
		at, ok := s.Port(topology.PortID{Switch: p.Switch, Port: p.Port})
		return !ok || at.Type != topology.PortEdge
	})
	same := func(x, y sourceguard.Port) bool { return x.Same(&y) }
	if !slices.EqualFunc(g.plan.Ports, next.Ports, same) || !slices.Equal(g.plan.Open, next.Open) {
		g.plan = &next
	}
}

// at are the guarded ports of a switch.
func at(p *sourceguard.Plan, sw string) []sourceguard.Port {
	return slices.DeleteFunc(slices.Clone(p.Ports), func(x sourceguard.Port) bool { return x.Switch != sw })
}

func sameSources(a, b []sourceguard.Port) bool {
	return slices.EqualFunc(a, b, func(x, y sourceguard.Port) bool { return x.Same(&y) })
}

// Sources says at which ports sources are guarded, and which workloads that a
// guard applies to are not restricted. It is not to be changed.
func (k *Keeper) Sources() *sourceguard.Plan {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.plan
}

// otherwise counts the ports of a plan that another one does not guard alike.
func otherwise(p, q *sourceguard.Plan) (n int) {
	for i := range p.Ports {
		if x := q.At(p.Ports[i].Switch, p.Ports[i].Port); x == nil || !x.Same(&p.Ports[i]) {
			n++
		}
	}
	return n
}

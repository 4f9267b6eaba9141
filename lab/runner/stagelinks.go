package runner

import (
	"context"
	"fmt"

	"github.com/platelet-sdn/platelet/lab/clab"
	"github.com/platelet-sdn/platelet/lab/namespace"
)

func (r *stageRun) makeParking() error {
	mark, err := namespaceMark(r.Lab)
	if err != nil {
		return err
	}
	return namespace.CreateMarked(r.parking(), mark)
}

func (r *stageRun) removeParking() error { return namespace.Delete(r.parking()) }

// createLinks makes the links of a node whose other end is not there yet, and
// takes its own ends of those that are.
func (r *stageRun) createLinks(ctx context.Context, n node) error {
	if !r.staged {
		return nil
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for i := range r.t.Links {
		l := &r.Links[i]
		for side, e := range l.ends() {
			if e.Node != n.Name {
				continue
			}
			var err error
			if waiting := r.parked[i]; waiting == e {
				err = r.unpark(ctx, i, e, side)
			} else if waiting == nil {
				err = r.makeHalf(ctx, i, l, side)
			}
			if err != nil {
				return err
			}
		}
	}
	return nil
}

// makeHalf makes a link and places one end of it. The other is placed too
// when it is no node's; otherwise it is parked until its node takes it.
func (r *stageRun) makeHalf(ctx context.Context, i int, l *link, side int) error {
	half := *l
	ends := l.ends()
	near := ends[side]
	var far *end
	if len(ends) == 2 {
		far = ends[1-side]
	}
	park := far != nil && far.Node != "" && far.Node != near.Node
	if park {
		parked := half.ends()[1-side]
		parked.Namespace, parked.Name = r.parking(), parkedName(i, 1-side)
	}
	if err := r.makeLink(r.h, half); err != nil {
		return err
	}
	if park {
		r.parked[i] = far
	} else if far != nil {
		r.parked[i] = near // nobody waits any more, but the link is made
		if err := r.place(ctx, l.Type, far, near); err != nil {
			return err
		}
	}
	return r.place(ctx, l.Type, near, far)
}

// unpark takes an end from where it waited to where it belongs.
func (r *stageRun) unpark(ctx context.Context, i int, e *end, side int) error {
	l := &r.Links[i]
	ends := l.ends()
	peer := ends[1-side]
	if peer.Node == "" || peer.Node == e.Node {
		return nil // both were placed when the link was made
	}
	if err := move(r.parking(), parkedName(i, side), e.Namespace, e.Name); err != nil {
		return err
	}
	return r.place(ctx, l.Type, e, peer)
}

func parkedName(link, side int) string { return fmt.Sprintf("pk%d-%d", link, side) }

// place finishes an end that is where it belongs.
func (r *stageRun) place(ctx context.Context, kind clab.LinkType, e, peer *end) error {
	if err := r.finish(e.Namespace, []placed{{e, kind}}); err != nil {
		return err
	}
	b := r.bridgeNamed(e.Bridge)
	if b == nil || !b.OVS {
		return nil
	}
	var far end
	if peer != nil {
		far = *peer
	}
	if _, err := r.vsctl(ctx, 20, r.portArgs(*b, *e, far)...); err != nil {
		return fmt.Errorf("attach %s to bridge %s: %w", e.Name, b.Name, err)
	}
	return r.checkOVS(ctx)
}

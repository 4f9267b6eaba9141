package runner

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/platelet-sdn/platelet/lab/clab"
	"golang.org/x/sync/errgroup"
)

// parking is where the far end of a link waits for its node, while nodes
// come up one after the other. It is a namespace of the lab's.
func (s *state) parking() string { return "platelet-" + s.Lab + "-parking" }

// stageRun brings the nodes through their stages, each at its own pace.
type stageRun struct {
	*builder
	staged bool
	// done is closed when a node has completed a stage.
	done map[string]map[clab.Stage]chan struct{}
	// mu serialises what touches links and switches.
	mu     sync.Mutex
	parked map[int]*end // by link: the end that still waits
	work   chan struct{}
	mains  map[string]*process
}

// parallel is how many commands of nodes run at once.
const parallel = 4

// runStages brings every node through its stages.
func (b *builder) runStages(ctx context.Context, staged bool) error {
	r := &stageRun{builder: b, staged: staged, done: map[string]map[clab.Stage]chan struct{}{}, parked: map[int]*end{},
		work: make(chan struct{}, parallel), mains: map[string]*process{}}
	for _, n := range b.Nodes {
		r.done[n.Name] = map[clab.Stage]chan struct{}{}
		for _, stage := range clab.AllStages() {
			r.done[n.Name][stage] = make(chan struct{})
		}
	}
	if staged {
		if err := r.makeParking(); err != nil {
			return err
		}
	}
	group, ctx := errgroup.WithContext(ctx)
	for i := range b.Nodes {
		group.Go(func() error {
			if err := r.node(ctx, i); err != nil {
				return fmt.Errorf("node %s: %w", b.Nodes[i].Name, err)
			}
			return nil
		})
	}
	err := group.Wait()
	if staged {
		err = errors.Join(err, r.removeParking())
	}
	return err
}

// node brings one node through its stages, in containerlab's order.
func (r *stageRun) node(ctx context.Context, i int) error {
	n, def := r.Nodes[i], r.t.Nodes[i].Definition
	steps := []struct {
		stage clab.Stage
		do    func() error
	}{
		{clab.StageCreate, func() error { return r.create(ctx, n, def) }},
		{clab.StageCreateLinks, func() error { return r.createLinks(ctx, n) }},
		{clab.StageConfigure, func() error { return nil }},
	}
	for _, step := range steps {
		if err := r.pass(ctx, i, step.stage, step.do); err != nil {
			return err
		}
	}
	if err := r.limited(ctx, func() error { return r.runExec(ctx, n, def) }); err != nil {
		return err
	}
	if r.waitedFor(n.Name, clab.StageHealthy) || len(def.Stages[clab.StageHealthy].Exec) > 0 {
		if err := r.pass(ctx, i, clab.StageHealthy, func() error { return r.healthy(ctx, n, def) }); err != nil {
			return err
		}
	}
	if r.waitedFor(n.Name, clab.StageExit) {
		return r.pass(ctx, i, clab.StageExit, func() error { return r.exited(ctx, n) })
	}
	return nil
}

// pass brings a node through one stage: wait for others, run what belongs to
// its beginning, do its work, run what belongs to its end, let others go on.
func (r *stageRun) pass(ctx context.Context, i int, stage clab.Stage, do func() error) error {
	n, def := r.Nodes[i], r.t.Nodes[i].Definition
	plan := def.Stages[stage]
	for _, w := range plan.WaitFor {
		select {
		case <-r.done[w.Node][w.Stage]:
		case <-ctx.Done():
			return fmt.Errorf("stage %s waits for %s of node %s: %w", stage, w.Stage, w.Node, context.Cause(ctx))
		}
	}
	if err := r.limited(ctx, func() error { return r.stageExec(ctx, n, stage, plan, false) }); err != nil {
		return err
	}
	if err := do(); err != nil {
		return err
	}
	if err := r.limited(ctx, func() error { return r.stageExec(ctx, n, stage, plan, true) }); err != nil {
		return err
	}
	close(r.done[n.Name][stage])
	return nil
}

// limited runs f when there is room: a command per processor is enough.
func (r *stageRun) limited(ctx context.Context, f func() error) error {
	select {
	case r.work <- struct{}{}:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	defer func() { <-r.work }()
	return f()
}

// stageExec runs the commands at the beginning or the end of a stage.
func (r *stageRun) stageExec(ctx context.Context, n node, stage clab.Stage, plan clab.StagePlan, exit bool) error {
	for _, e := range plan.Exec {
		if e.OnExit != exit {
			continue
		}
		where := n
		if e.OnHost {
			where = node{Name: n.Name} // nothing of the node's
		}
		if err := r.runLine(ctx, where, e.Command); err != nil {
			return fmt.Errorf("stage %s: %w", stage, err)
		}
	}
	return nil
}

// waitedFor reports whether another node waits for a node's stage.
func (r *stageRun) waitedFor(name string, stage clab.Stage) bool {
	for _, n := range r.t.Nodes {
		for _, plan := range n.Stages {
			for _, w := range plan.WaitFor {
				if w.Node == name && w.Stage == stage {
					return true
				}
			}
		}
	}
	return false
}

// create makes a node's namespace and starts its command.
func (r *stageRun) create(ctx context.Context, n node, def clab.Definition) error {
	if def.StartupDelay > 0 {
		select {
		case <-time.After(time.Duration(def.StartupDelay) * time.Second): // the file asks for it
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	if n.Shares { // the namespace's owner comes first
		if owner := r.ownerOf(n); owner != "" {
			select {
			case <-r.done[owner][clab.StageCreate]:
			case <-ctx.Done():
				return context.Cause(ctx)
			}
		}
	}
	if r.staged {
		r.mu.Lock()
		err := r.createAlone(n)
		r.mu.Unlock()
		if err != nil {
			return err
		}
	}
	if err := setSysctls(n, def); err != nil {
		return err
	}
	return r.limited(ctx, func() error { return r.startMain(n, def) })
}

// ownerOf is the node whose namespace another lives in.
func (r *stageRun) ownerOf(n node) string {
	for _, other := range r.Nodes {
		if other.Namespace == n.Namespace && !other.Shares && n.Namespace != "" {
			return other.Name
		}
	}
	return ""
}

// createAlone makes what a node has before its links.
func (r *stageRun) createAlone(n node) error {
	if err := r.makeNamespace(n); err != nil {
		return err
	}
	for _, br := range r.Bridges {
		if br.Node == n.Name && br.Namespace != "" {
			if err := makeInnerBridge(br); err != nil {
				return err
			}
		}
	}
	for i := len(r.t.Links); i < len(r.Links); i++ {
		l := &r.Links[i]
		if l.A.Node != n.Name {
			continue
		}
		if err := r.makeLink(r.h, *l); err != nil {
			return err
		}
		for _, e := range l.ends() {
			if err := r.finish(e.Namespace, []placed{{e, l.Type}}); err != nil {
				return err
			}
		}
	}
	return r.addressMgmt(n)
}

// healthy waits until a node's health check passes.
func (r *stageRun) healthy(ctx context.Context, n node, def clab.Definition) error {
	if !r.waitedFor(n.Name, clab.StageHealthy) && def.Healthcheck == nil {
		return nil
	}
	return r.waitHealthy(ctx, n, def.Healthcheck)
}

// exited waits for the end of a node's command.
func (r *stageRun) exited(ctx context.Context, n node) error {
	r.mu.Lock()
	p := r.mains[n.Name]
	r.mu.Unlock()
	select {
	case <-p.ended:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("wait for the end of its command: %w", context.Cause(ctx))
	}
}

package response

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/platelet-sdn/platelet/segmentation"
	"github.com/platelet-sdn/platelet/topology"
)

// hanging is an enforcer one of whose switches takes every request and
// answers none before its deadline.
type hanging struct {
	*ledger
	hung string

	mu    sync.Mutex
	calls []string // to the hung switch, in order
}

func (h *hanging) wait(ctx context.Context, sw, call string) error {
	if sw != h.hung {
		return nil
	}
	h.mu.Lock()
	h.calls = append(h.calls, call)
	h.mu.Unlock()
	<-ctx.Done()
	return fmt.Errorf("%w: %w", ErrPending, ctx.Err())
}

func (h *hanging) Apply(ctx context.Context, sw, owner string, in []segmentation.Intent) (Receipt, error) {
	if err := h.wait(ctx, sw, "apply "+owner); err != nil {
		return Receipt{}, err
	}
	return h.ledger.Apply(ctx, sw, owner, in)
}

func (h *hanging) Remove(ctx context.Context, sw, owner string) error {
	if err := h.wait(ctx, sw, "remove "+owner); err != nil {
		return err
	}
	return h.ledger.Remove(ctx, sw, owner)
}

func (h *hanging) Counters(ctx context.Context, sw, owner string) ([]Counter, error) {
	if err := h.wait(ctx, sw, "counters"); err != nil {
		return nil, err
	}
	return h.ledger.Counters(ctx, sw, owner)
}

// twoSwitches has edge ports p1 on s1 and q1 on s2.
func twoSwitches() place {
	sw := func(name, port string, index uint32) topology.Switch {
		id := topology.PortID{Switch: name, Port: port}
		return topology.Switch{Name: name, Ports: map[string]topology.Port{port: {ID: id, IfIndex: index, OFPort: 1}}}
	}
	return place{topology.NewSnapshot(map[string]topology.Switch{"s1": sw("s1", "p1", 1), "s2": sw("s2", "q1", 2)})}
}

// A switch that hangs keeps no other switch's containment waiting, and what it
// was asked for one owner reaches it in order.
func TestHungSwitchDelaysNobody(t *testing.T) {
	r := newRig(t, testConfig())
	h := &hanging{ledger: r.led, hung: "s1"}
	r.enforce, r.where = h, twoSwitches()
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() { defer close(ended); _ = r.Run(ctx) }()
	defer func() { cancel(); <-ended }()

	r.Handle(scanBy(11, 1, 1)) // on the switch that hangs
	var stuck Decision
	wait(t, "the hung switch to be asked", func() bool { h.mu.Lock(); defer h.mu.Unlock(); return len(h.calls) > 0 })
	for n := range byte(2) {
		r.Handle(scanBy(20+n, 2, 1))
	}
	wait(t, "the healthy switch's containments", func() bool {
		applied := 0
		for _, d := range r.Decisions() {
			if d.Target.Switch == "s1" {
				stuck = d
			} else if d.State.Holds() {
				applied++
			}
		}
		return applied == 2
	})
	h.mu.Lock()
	if len(h.calls) != 1 || stuck.State != StateProposed {
		t.Errorf("the hung switch's deadline passed first: %q, %s", h.calls, stuck.State)
	}
	h.mu.Unlock()

	// An operator who lets go does not overtake what was asked before.
	wait(t, "the hung switch's decision to hold", func() bool { d, err := r.find(stuck.ID); return err == nil && holds(r.Manager, d.ID) })
	if err := r.Release(ctx, stuck.ID, "test"); err != nil {
		t.Fatal(err)
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if first, last := h.calls[0], h.calls[len(h.calls)-1]; first != "apply "+stuck.ID || last != "remove "+stuck.ID {
		t.Errorf("order of requests: %q", h.calls)
	}
}

func holds(m *Manager, id string) bool {
	for _, d := range m.Decisions() {
		if d.ID == id {
			return d.State.Holds()
		}
	}
	return false
}

// A containment that is released while it is still on its way goes.
func TestReleaseOvertakesNothing(t *testing.T) {
	r, ctx := newRig(t, testConfig()), t.Context()
	r.consider(ctx, scanBy(9, 9, 1))
	d, err := r.find(r.only(t).ID)
	if err != nil {
		t.Fatal(err)
	}
	ended := 0
	r.finish(ctx, d, StateReleased, "", func() { ended++ })
	r.finish(ctx, d, StateReleased, "", func() { ended++ })
	if ended != 2 || d.State != StateReleased || len(r.led.rules) != 0 || len(r.lives) != 0 {
		t.Errorf("%d answers, %s, rules %v", ended, d.State, r.led.rules)
	}
}

func wait(t *testing.T, what string, ok func() bool) {
	t.Helper()
	deadline := time.Now().Add(30 * time.Second)
	for !ok() {
		if time.Now().After(deadline) {
			t.Fatalf("waited 30 s for %s", what)
		}
		time.Sleep(time.Millisecond)
	}
}

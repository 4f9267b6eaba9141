package openflow

import (
	"context"
	"errors"
	"testing"
)

// awaitAsync returns the next asynchronous message of a type.
func awaitAsync(ctx context.Context, t *testing.T, c *Conn, want Type) Message {
	t.Helper()
	for {
		select {
		case m := <-c.Async():
			if m.Type == want {
				return m
			}
		case <-c.Done():
			t.Fatalf("connection ended: %v", c.Err())
		case <-ctx.Done():
			t.Fatalf("no message of type %d", want)
		}
	}
}

// Two controllers on one bridge: the switch itself keeps the one that lost
// the lead from changing anything, and from taking it back with an old lease.
func TestLeadPassesToTheNewerGeneration(t *testing.T) {
	ctx, _, target := realSwitch(t, "plofr")
	var conns [2]*Conn
	for i := range conns {
		c, err := Dial(ctx, target)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if err := c.SetAsync(ctx, Async{RoleStatus: true}); err != nil {
			t.Fatal(err)
		}
		conns[i] = c
	}
	old, next := conns[0], conns[1]
	if r, _, err := old.SetRole(ctx, RoleNoChange, 0); err != nil || r != RoleEqual {
		t.Fatalf("a new connection is %s, %v", r, err)
	}
	if err := old.Lead(ctx, 7); err != nil {
		t.Fatal(err)
	}
	rule := func(table uint8) Tx { return Tx{Flows: []FlowMod{{Flow: Flow{Table: table}}}} }
	if err := old.Commit(ctx, rule(1)); err != nil {
		t.Fatal(err)
	}
	if err := next.Lead(ctx, 6); !errors.Is(err, ErrStale) {
		t.Fatalf("an older generation takes the lead: %v", err)
	}
	if err := next.Lead(ctx, 8); err != nil {
		t.Fatal(err)
	}
	s, err := DecodeRoleStatus(awaitAsync(ctx, t, old, TypeRoleStatus))
	if want := (RoleStatus{Role: RoleSlave, Reason: RoleMasterRequest, Generation: 8}); err != nil || s != want {
		t.Fatalf("%+v, %v: want %+v", s, err, want)
	}
	if r, g, err := old.SetRole(ctx, RoleNoChange, 0); err != nil || r != RoleSlave || g != 8 {
		t.Fatalf("the former master is %s under %d, %v", r, g, err)
	}
	if err := old.Commit(ctx, rule(2)); !errors.Is(err, ErrSlave) {
		t.Errorf("a slave's transaction: %v", err)
	}
	meter := Meter{ID: 5, Flags: MeterPktps, Rate: 5}
	if err := old.Commit(ctx, Tx{AddMeters: []Meter{meter}}); !errors.Is(err, ErrSlave) {
		t.Errorf("a slave's meter: %v", err)
	}
	if err := old.Lead(ctx, 7); !errors.Is(err, ErrStale) {
		t.Errorf("the former master leads again: %v", err)
	}
	flows, err := old.Flows(ctx, FlowFilter{Table: 1}) // a slave may read
	if err != nil || len(flows) != 1 {
		t.Errorf("a slave reads %v, %v", flows, err)
	}
	if err := next.Commit(ctx, rule(3)); err != nil {
		t.Error(err)
	}
	if err := next.Follow(ctx, 8); err != nil {
		t.Error(err)
	}
	if err := next.Commit(ctx, rule(4)); !errors.Is(err, ErrSlave) {
		t.Errorf("after stepping down: %v", err)
	}
}

// Only masters are demoted, and generations wrap around: both are what a
// controller that takes over must know.
func TestEqualsKeepWritingBesideAMaster(t *testing.T) {
	ctx, _, target := realSwitch(t, "plofs")
	master, err := Dial(ctx, target)
	if err != nil {
		t.Fatal(err)
	}
	defer master.Close()
	equal, err := Dial(ctx, target)
	if err != nil {
		t.Fatal(err)
	}
	defer equal.Close()
	if err := master.Lead(ctx, 1<<63+5); err != nil {
		t.Fatal(err)
	}
	if err := equal.Commit(ctx, Tx{Flows: []FlowMod{{Flow: Flow{Table: 1}}}}); err != nil {
		t.Fatalf("an equal beside a master: %v", err)
	}
	// Modular: ahead by less than half of the numbers is newer.
	if err := equal.Lead(ctx, 3); err != nil {
		t.Errorf("a generation that wrapped around: %v", err)
	}
}

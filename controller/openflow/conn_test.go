package openflow

import (
	"errors"
	"strings"
	"sync"
	"testing"
)

func TestConversationWithRealSwitch(t *testing.T) {
	ctx, sw, target := realSwitch(t, "plofa")
	if _, err := sw.Ctl(ctx, "add-port", "plofa", "plofa-internal-x", "--", "set", "Interface", "plofa-internal-x", "type=patch", "options:peer=none"); err != nil {
		t.Fatal(err)
	}
	c, err := Dial(ctx, target)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if f := c.Features(); f.Tables == 0 || f.DatapathID == 0 {
		t.Errorf("features %+v", f)
	}
	ports, err := c.Ports(ctx)
	if err != nil {
		t.Fatal(err)
	}
	names := map[string]uint32{}
	for _, p := range ports {
		names[p.Name] = p.Number
	}
	if names["plofa"] != PortLocal || names["plofa-internal-x"[:PortNameLen]] == 0 {
		t.Errorf("ports %v", names)
	}
	if f, err := c.MeterFeatures(ctx); err != nil || f.Max == 0 {
		t.Errorf("meter features %+v, %v", f, err)
	}
	if err := errors.Join(c.Echo(ctx), c.SetConfig(ctx, 0), c.SetAsync(ctx, Async{PortStatus: true})); err != nil {
		t.Error(err)
	}
	if r, g, err := c.SetRole(ctx, RoleMaster, 9); err != nil || r != RoleMaster || g != 9 {
		t.Errorf("role %d, generation %d, %v", r, g, err)
	}
	if _, _, err := c.SetRole(ctx, RoleMaster, 8); !errors.Is(err, &Error{Type: ErrorTypeRoleFailed, Code: 0}) {
		t.Errorf("stale generation: %v", err)
	}
	var wg sync.WaitGroup
	for range 8 {
		wg.Add(1)
		go func() {
			defer wg.Done()
			for range 50 {
				if _, err := c.Flows(ctx, FlowFilter{Table: TableAll}); err != nil {
					t.Error(err)
				}
			}
		}()
	}
	wg.Wait()
	if _, err := sw.Ctl(ctx, "del-port", "plofa-internal-x"); err != nil {
		t.Fatal(err)
	}
	select {
	case m := <-c.Async():
		if s, err := DecodePortStatus(m); err != nil || s.Reason != PortDeleted {
			t.Errorf("%+v, %v", s, err)
		}
	case <-ctx.Done():
		t.Error("no port status")
	}
}

// Errors that Open vSwitch finds when a member is added do not fail its
// commit: without waiting for them, half the bundle would be in force.
func TestErrorAtAddDiscardsTheBundle(t *testing.T) {
	ctx, sw, target := realSwitch(t, "plofb")
	c, err := Dial(ctx, target)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	mine := Meter{ID: 11, Flags: MeterPktps | MeterBurst, Rate: 5, Burst: 5}
	foreign := Meter{ID: 12, Flags: MeterKbps, Rate: 5}
	if err := c.Commit(ctx, Tx{AddMeters: []Meter{foreign}}); err != nil {
		t.Fatal(err)
	}
	good := FlowMod{Flow: Flow{Table: 9, Match: Match{InPort(1)}}}
	strange := FlowMod{Flow: Flow{Table: 9, Priority: 7, Instructions: Instructions{Actions: []Action{refusedBySwitch()}}}}
	err = c.Commit(ctx, Tx{AddMeters: []Meter{mine, foreign}, Flows: []FlowMod{good, strange, good}})
	var refused *TxError
	if !errors.As(err, &refused) || len(refused.Members) != 2 {
		t.Fatalf("got %v", err)
	}
	if m := refused.Members[0]; m.Member != "meter" || m.Index != 1 || !strings.Contains(m.Error(), "METER_EXISTS") {
		t.Errorf("first member: %v", m)
	}
	if m := refused.Members[1]; m.Member != "flow" || m.Index != 1 || !strings.Contains(m.Error(), "BAD_EXP_TYPE") {
		t.Errorf("second member: %v", m)
	}
	flows, err := c.Flows(ctx, FlowFilter{Table: 9})
	if err != nil || len(flows) != 0 {
		t.Errorf("half applied: %v, %v", flows, err)
	}
	meters, err := c.Meters(ctx)
	if err != nil || len(meters) != 1 || meters[0].ID != foreign.ID {
		t.Errorf("meters %+v, %v: want the foreign one alone", meters, err)
	}
	if err := c.Commit(ctx, Tx{Flows: []FlowMod{{Flow: Flow{Match: Match{TCPDst(80)}}}}}); !errors.As(err, new(*PrereqError)) {
		t.Errorf("got %v", err)
	}
	if err := c.Commit(ctx, Tx{}); err != nil {
		t.Errorf("empty transaction: %v", err)
	}
	if err := sw.KillSwitch(); err != nil {
		t.Fatal(err)
	}
	<-c.Done()
	if err := c.Commit(ctx, Tx{Flows: []FlowMod{good}}); err == nil {
		t.Error("committed to a dead switch")
	}
}

func TestOldSwitchIsRefused(t *testing.T) {
	ctx, sw, target := realSwitch(t, "plofc")
	if _, err := sw.Ctl(ctx, "set", "bridge", "plofc", "protocols=OpenFlow10,OpenFlow13"); err != nil {
		t.Fatal(err)
	}
	_, err := Dial(ctx, target)
	var old *VersionError
	if !errors.As(err, &old) || !strings.Contains(err.Error(), "OpenFlow14") {
		t.Fatalf("got %v", err)
	}
}

func TestPassiveTCP(t *testing.T) {
	ctx, sw, _ := realSwitch(t, "plofd")
	if _, err := sw.Ctl(ctx, "set-controller", "plofd", "ptcp:16653:127.0.0.1"); err != nil {
		t.Fatal(err)
	}
	c, err := Dial(ctx, "tcp:127.0.0.1:16653")
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := c.Barrier(ctx); err != nil {
		t.Fatal(err)
	}
}

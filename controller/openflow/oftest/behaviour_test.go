package oftest

import (
	"errors"
	"testing"

	of "github.com/platelet-sdn/platelet/controller/openflow"
)

// What the virtual switch refuses because Open vSwitch 3.1.0 gets it wrong. A
// later one that does not makes these tests skip: the refusals can go then.

// dropsFor reports whether the virtual switch gave a packet up for a reason.
func dropsFor(res *Result, why error) bool {
	for _, e := range res.Effects {
		if d, ok := e.(Dropped); ok && d.Why == why.Error() {
			return true
		}
	}
	return false
}

func TestWideChangesOverlookNewFlowsOfTheirBundle(t *testing.T) {
	r := newRig(t)
	old := of.Flow{Table: 1, Priority: 10, Match: of.Match{of.EthType(EtherIPv4)}}
	added := of.Flow{Table: 1, Priority: 20, Match: of.Match{of.EthType(EtherIPv4), of.IPTTL(1)}}
	v := New(Config{Ports: ports})
	if refused, err := r.program(v, []of.Flow{old}); err != nil || refused != nil {
		t.Fatal(refused, err)
	}
	tx := of.Tx{Flows: []of.FlowMod{{Flow: added}, {Command: of.Delete, Flow: of.Flow{Table: 1}}}}
	if err := v.Apply(tx); !errors.Is(err, errWideLate) {
		t.Errorf("the virtual switch says %v", err)
	}
	if err := r.conn.Commit(r.ctx, tx); err != nil {
		t.Fatal(err)
	}
	_, real, err := r.installed(v)
	switch {
	case err != nil:
		t.Fatal(err)
	case len(real) == 0:
		t.Skip("this Open vSwitch deletes what a bundle added")
	case len(real) != 1 || real[0] != added.String():
		t.Errorf("left are %q", real)
	}
}

func TestActionSetsDoNotSurviveRecirculation(t *testing.T) {
	r := newRig(t)
	v := New(Config{Ports: ports})
	ip := of.Match{of.EthType(EtherIPv4)}
	flows := []of.Flow{
		{Match: ip, Instructions: of.Instructions{Write: []of.Action{of.Output{Port: 4}}, HasGoto: true, Goto: 1}},
		{Table: 1, Match: ip, Instructions: of.Instructions{Actions: []of.Action{of.Conntrack{Recirc: true, Table: 5}}}},
	}
	if refused, err := r.program(v, flows); err != nil || refused != nil {
		t.Fatal(refused, err)
	}
	p := UDP(endpoints()[0], endpoints()[1]).From(1)
	if res := v.Trace(p); !dropsFor(&res, errActionSet) {
		t.Errorf("the virtual switch says\n%s", &res)
	}
	if _, err := r.ctl.call("ofproto/trace", bridge, p.String()); err == nil {
		t.Skip("this Open vSwitch survives it")
	}
	if _, err := r.sw.Appctl(r.ctx, "version"); err == nil {
		t.Error("ovs-vswitchd refused the trace, but lives")
	}
}

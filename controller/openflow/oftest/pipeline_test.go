package oftest

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	of "github.com/platelet-sdn/platelet/controller/openflow"
)

// The example of ovs-fields(7) for conjunctive matches: a few sources, a few
// destinations and a few ports, and flows of other priorities around them.
func TestConjunctionsOfTheManual(t *testing.T) {
	r := newRig(t)
	v := New(Config{Ports: ports})
	prefix := netip.MustParsePrefix
	tcp := func(o ...of.OXM) of.Match { return append(of.Match{of.EthType(EtherIPv4), of.IPProto(ProtoTCP)}, o...) }
	flow := func(priority uint16, m of.Match, a ...of.Action) of.Flow {
		return of.Flow{Priority: priority, Match: m, Instructions: of.Instructions{Actions: a}}
	}
	clause := func(k uint8) of.Action { return of.Conjunction{ID: 1234, Clause: k, Of: 3} }
	flows := []of.Flow{
		flow(20, tcp(of.IPSrc(prefix("10.0.0.1/32"))), clause(1)),
		flow(20, tcp(of.IPSrc(prefix("10.1.0.0/16"))), clause(1)),
		flow(20, tcp(of.IPDst(prefix("10.0.0.2/32"))), clause(2)),
		flow(20, tcp(of.IPDst(prefix("10.2.0.0/16"))), clause(2)),
		flow(20, tcp(of.TCPDst(80)), clause(3)),
		flow(20, tcp(of.TCPDst(443)), clause(3)),
		flow(20, of.Match{of.ConjID(1234)}, of.Output{Port: 2}),
		flow(30, tcp(of.IPSrc(prefix("10.1.0.66/32"))), of.Output{Port: 3}), // before all of them
		flow(10, tcp(), of.Output{Port: 4}),                                 // where one clause is missing
		flow(20, tcp(of.IPDst(prefix("10.0.0.7/32"))), clause(2)),
		flow(15, tcp(of.IPDst(prefix("10.0.0.7/32"))), of.Output{Port: 1}), // behind a clause with the same match
	}
	for i := range flows {
		flows[i].Cookie = uint64(i + 1)
	}
	if refused, err := r.program(v, flows); err != nil || refused != nil {
		t.Fatal(refused, err)
	}
	met := map[uint64]int{}
	for _, src := range []string{"10.0.0.1", "10.1.5.5", "10.1.0.66", "10.9.9.9"} {
		for _, dst := range []string{"10.0.0.2", "10.2.5.5", "10.0.0.7", "10.9.9.8"} {
			for _, port := range []uint16{80, 443, 22} {
				p := TCP(netip.AddrPortFrom(netip.MustParseAddr(src), 1), netip.AddrPortFrom(netip.MustParseAddr(dst), port), SYN).From(1)
				if err := r.compare(v, p); err != nil {
					t.Error(err)
				}
				res := v.Trace(p)
				met[res.By.Cookie]++
			}
		}
	}
	// Two sources and one that is caught before, three destinations, two ports;
	// what misses a clause comes to the flow behind it.
	if want := map[uint64]int{7: 12, 8: 12, 9: 19, 11: 5}; fmt.Sprint(met) != fmt.Sprint(want) {
		t.Errorf("flows met %v, want %v", met, want)
	}
}

func TestGroupsFollowTheirPorts(t *testing.T) {
	r := newWire(newRig(t))
	v := New(Config{Ports: ports})
	tx := of.Tx{
		Groups: []of.GroupMod{
			{Group: of.Group{ID: 1, Type: of.GroupFastFailover, Buckets: []of.Bucket{
				{WatchPort: 2, Actions: []of.Action{of.Output{Port: 2}}}, {WatchPort: 3, Actions: []of.Action{of.Output{Port: 3}}}}}},
			{Group: of.Group{ID: 2, Type: of.GroupFastFailover, Buckets: []of.Bucket{
				{WatchGroup: 1, Actions: []of.Action{of.ToGroup{ID: 1}}}, {WatchPort: 4, Actions: []of.Action{of.Output{Port: 4}}}}}},
			{Group: of.Group{ID: 3, Type: of.GroupSelect, Buckets: []of.Bucket{
				{Weight: 1, Actions: []of.Action{of.Output{Port: 2}}}, {Weight: 0, Actions: []of.Action{of.Output{Port: 3}}}, {Weight: 2, Actions: []of.Action{of.Output{Port: 4}}}}}}},
		Flows: []of.FlowMod{{Flow: of.Flow{Instructions: of.Instructions{Actions: []of.Action{of.ToGroup{ID: 2}}}}}},
	}
	if refused, err := r.commit(v, tx); err != nil || refused != nil {
		t.Fatal(refused, err)
	}
	p := UDP(endpoints()[0], endpoints()[1]).From(1)
	for _, down := range [][]uint32{{2}, {2, 3}, {3}, {2, 3, 4}, nil} {
		for _, port := range ports {
			up := !slices.Contains(down, port)
			v.SetPort(port, up)
			r.must("netdev-dummy/set-admin-state", fmt.Sprintf("p%d", port), map[bool]string{true: "up", false: "down"}[up])
		}
		if err := r.eventually(func() error { return r.compare(v, p) }); err != nil {
			t.Errorf("down are %v: %v", down, err)
		}
	}
	r.selects(t, v, p)
}

// selects sends packets to group 3, whose choice is the switch's own
// business, and looks where they leave.
func (w *wire) selects(t *testing.T, v *Switch, p Packet) {
	toGroup := of.Flow{Match: of.Match{of.EthType(EtherIPv4)}, Instructions: of.Instructions{Actions: []of.Action{of.ToGroup{ID: 3}}}}
	if refused, err := w.program(v, []of.Flow{toGroup, probeFlow()}); err != nil || refused != nil {
		t.Fatal(refused, err)
	}
	w.must("revalidator/purge")
	for i := range uint16(50) {
		p.SrcPort = 1000 + i
		res := v.Trace(p)
		s, ok := res.Effects[0].(Selected)
		if !ok || !slices.Equal(s.Alternatives, []int{0, 2}) || !slices.Contains(s.Alternatives, s.Bucket) {
			t.Fatalf("a select group chose\n%s", &res)
		}
		out := w.send(1, frame(t, p))
		if len(out[2])+len(out[4]) != 1 || len(out[3]) != 0 {
			t.Fatalf("the real one sent it to %v", out)
		}
	}
}

func TestZonesAreLimited(t *testing.T) {
	w := newWire(newRig(t))
	w.dial()
	v := New(Config{Ports: ports, Now: w.clock, ZoneLimit: 2})
	if refused, err := w.program(v, pipelines()["commit everything"]); err != nil || refused != nil {
		t.Fatal(refused, err)
	}
	w.must("revalidator/purge")
	w.must("dpctl/flush-conntrack")
	w.must("dpctl/ct-set-limits", "zone=5,limit=2")
	for i := range uint16(4) {
		p := UDP(netip.AddrPortFrom(endpoints()[0].Addr(), 2000+i), endpoints()[1]).From(1)
		if _, err := w.both(v, p); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.connections(v); err != nil {
		t.Fatal(err)
	}
	if n := len(v.Connections()); n != 2 {
		t.Errorf("%d connections", n)
	}
}

// circle is a flow that sends a packet round and round, and why it ends.
type circle struct {
	actions []of.Action
	why     error
}

func circles() map[string]circle {
	again := of.Conntrack{Recirc: true, Table: 0}
	return map[string]circle{
		"itself":        {[]of.Action{of.Resubmit{Table: 0}}, errTooDeep},
		"many times":    {append([]of.Action{of.Output{Port: 2}}, slices.Repeat([]of.Action{of.Resubmit{Table: 1}}, 100)...), errResubmits},
		"recirculation": {[]of.Action{again}, errRecirculation},
		"exponentially": {slices.Repeat([]of.Action{again}, 100), errTooMuchWork},
	}
}

// Flows that never end are given up within bounds, with the reason.
func TestCirclesEnd(t *testing.T) {
	for name, c := range circles() {
		v := New(Config{Ports: ports})
		tx := of.Tx{Flows: []of.FlowMod{
			{Flow: of.Flow{Match: of.Match{of.EthType(EtherIPv4)}, Instructions: of.Instructions{Actions: c.actions}}},
			{Flow: of.Flow{Table: 1, Instructions: of.Instructions{Actions: slices.Repeat([]of.Action{of.Resubmit{Table: 2}}, 100)}}},
			{Flow: of.Flow{Table: 2}}}}
		if err := v.Apply(tx); err != nil {
			t.Fatal(err)
		}
		res := v.Process(UDP(endpoints()[0], endpoints()[1]).From(1))
		if !dropsFor(&res, c.why) || len(res.Effects) > maxWork {
			t.Errorf("%s: %d effects, the last %s", name, len(res.Effects), res.Effects[len(res.Effects)-1])
		}
		if name == "many times" && res.Forwarded() {
			t.Error("what a pass did before it was given up counts")
		}
	}
}

// A transaction that is refused changes nothing, its meters and groups
// included.
func TestRefusedTransactionsChangeNothing(t *testing.T) {
	v := New(Config{Ports: ports})
	tx := of.Tx{
		AddMeters: []of.Meter{{ID: 1, Flags: of.MeterPktps, Rate: 1}},
		Groups:    []of.GroupMod{{Group: of.Group{ID: 1, Buckets: []of.Bucket{{Actions: []of.Action{of.Output{Port: 1}}}}}}},
		Flows: []of.FlowMod{
			{Flow: of.Flow{Instructions: of.Instructions{Meter: 1, Actions: []of.Action{of.ToGroup{ID: 1}}}}},
			{Flow: of.Flow{Priority: 1, Instructions: of.Instructions{Actions: []of.Action{of.ToGroup{ID: 2}}}}}},
	}
	var refused *of.TxError
	if err := v.Apply(tx); !errors.As(err, &refused) || refused.Members[0].Index != 1 {
		t.Fatal(err)
	}
	if _, ok := v.MeterCounters(1); ok || len(v.Rules()) != 0 || len(v.groups) != 0 {
		t.Errorf("left are %v, %v", v.Rules(), v.groups)
	}
	tx.Flows = tx.Flows[:1]
	if err := v.Apply(tx); err != nil {
		t.Fatal(err)
	}
	for _, in := range []of.Tx{{DeleteMeters: []uint32{1}}, {DeleteGroups: []uint32{1}}} {
		if err := v.Apply(in); !errors.Is(err, of.ErrInUse) {
			t.Errorf("%+v: %v", in, err)
		}
	}
	if err := v.Apply(of.Tx{Flows: []of.FlowMod{{Command: of.Delete}}, DeleteGroups: []uint32{1}, DeleteMeters: []uint32{1}}); err != nil {
		t.Error(err)
	}
}

// Flows that match with one priority are reported: which one a real switch
// takes is not defined.
func TestTiesAreReported(t *testing.T) {
	v := New(Config{Ports: ports})
	for i, m := range []of.Match{{of.InPort(1)}, {of.EthType(EtherIPv4)}, {of.EthType(EtherARP)}} {
		if err := v.FlowMod(of.FlowMod{Flow: of.Flow{Priority: 5, Cookie: uint64(i), Match: m}}); err != nil {
			t.Fatal(err)
		}
	}
	res := v.Trace(UDP(endpoints()[0], endpoints()[1]).From(1))
	if a := res.Ambiguous(); len(a) != 1 || len(a[0].Ties) != 1 || !strings.Contains(res.String(), "tie with cookie=0x1") {
		t.Error(&res)
	}
	if res = v.Trace(UDP(endpoints()[0], endpoints()[1]).From(2)); len(res.Ambiguous()) != 0 {
		t.Error(&res)
	}
}

package oftest_test

import (
	"fmt"
	"net/netip"
	"testing"

	"github.com/platelet-sdn/platelet/controller/openflow"
	"github.com/platelet-sdn/platelet/controller/openflow/oftest"
)

func firewall() []openflow.FlowMod {
	ip := openflow.EthType(oftest.EtherIPv4)
	state := func(s oftest.CTState) openflow.OXM { return openflow.CTState(uint32(s), uint32(s)) }
	flow := func(table uint8, priority uint16, m openflow.Match, a ...openflow.Action) openflow.FlowMod {
		return openflow.FlowMod{Flow: openflow.Flow{Table: table, Priority: priority, Match: m, Instructions: openflow.Instructions{Actions: a}}}
	}
	return []openflow.FlowMod{
		flow(0, 10, openflow.Match{ip}, openflow.Conntrack{Zone: 1, Recirc: true, Table: 1}),
		flow(1, 20, openflow.Match{ip, state(oftest.CTEstablished)}, openflow.Output{Port: openflow.PortNormal}),
		flow(1, 10, openflow.Match{ip, openflow.InPort(1), state(oftest.CTNew)},
			openflow.Conntrack{Zone: 1, Commit: true}, openflow.Output{Port: openflow.PortNormal}),
	}
}

// Whoever is behind port 1 may open connections, others may answer.
func ExampleSwitch() {
	s := oftest.New(oftest.Config{Ports: []uint32{1, 2}})
	if err := s.Apply(openflow.Tx{Flows: firewall()}); err != nil {
		fmt.Println(err)
	}
	inside, outside := netip.MustParseAddrPort("10.0.0.1:40000"), netip.MustParseAddrPort("192.0.2.9:53")
	for _, p := range []oftest.Packet{
		oftest.UDP(outside, inside).From(2), oftest.UDP(inside, outside).From(1), oftest.UDP(outside, inside).From(2),
	} {
		r := s.Process(p)
		fmt.Println(r.Forwarded(), r.By.Flow.String())
	}
	// Output:
	// false cookie=0x0,table=0,priority=10,ip actions=ct(table=1,zone=1)
	// true cookie=0x0,table=1,priority=10,ip,in_port=1,ct_state=+new actions=ct(commit,zone=1),NORMAL
	// true cookie=0x0,table=1,priority=20,ip,ct_state=+est actions=NORMAL
}

func BenchmarkProcess(b *testing.B) {
	s := oftest.New(oftest.Config{Ports: []uint32{1, 2}})
	if err := s.Apply(openflow.Tx{Flows: firewall()}); err != nil {
		b.Fatal(err)
	}
	p := oftest.UDP(netip.MustParseAddrPort("10.0.0.1:40000"), netip.MustParseAddrPort("192.0.2.9:53")).From(1)
	for b.Loop() {
		s.Process(p)
	}
}

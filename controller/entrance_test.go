package controller

import (
	"slices"
	"testing"

	"github.com/platelet-sdn/platelet/flowcollector/flow"
	"github.com/platelet-sdn/platelet/topology"
)

func TestEntranceCountsWhereAPacketEnters(t *testing.T) {
	sw := func(name string, domain uint32, ports ...topology.Port) topology.Switch {
		s := topology.Switch{Name: name, TapDomain: domain, Ports: map[string]topology.Port{}}
		for _, p := range ports {
			p.ID.Switch = name
			s.Ports[p.ID.Port] = p
		}
		return s
	}
	port := func(name string, kind topology.PortType, index uint32, peer string) topology.Port {
		return topology.Port{ID: topology.PortID{Port: name}, Type: kind, IfIndex: index, Peer: peer}
	}
	switches := map[string]topology.Switch{
		"a": sw("a", 1, port("a-h", topology.PortEdge, 11, ""), port("a-b", topology.PortLink, 12, "b-a"), port("a-x", topology.PortLink, 13, "x-a")),
		"b": sw("b", 2, port("b-a", topology.PortLink, 21, "a-b"), port("b-c", topology.PortLink, 0, "c-b")),
		// Behind a tunnel hosts may attack that no other bridge shows.
		"c": sw("c", 3, port("c-b", topology.PortLink, 0, "b-c"), port("vxlan0", topology.PortLink, 0, "")),
		"x": sw("x", 4, port("x-a", topology.PortLink, 41, "a-x")),
	}
	rec := func(domain, in uint32, source flow.Source) flow.Record {
		return flow.Record{Exporter: flow.Exporter{Domain: domain}, InPort: in, Source: source}
	}
	tap := flow.SourceTap
	batch := []flow.Record{rec(1, 11, tap), rec(1, 12, tap), rec(2, 21, tap), rec(1, 13, tap), rec(2, 0, tap), rec(2, 0, flow.SourceSFlow), rec(3, 0, tap), rec(4, 41, tap), rec(0, 99, tap)}
	keep := func(e *entrance) (kept []flow.Record) {
		e.each(batch, func(run []flow.Record) { kept = append(kept, run...) })
		return kept
	}
	var e entrance
	if got := keep(&e); !slices.Equal(got, batch) {
		t.Errorf("before the switches are known: %v", got)
	}
	// x is somebody else's: what comes from there enters here.
	e.set(switches, func(s topology.Switch) bool { return s.Name != "x" })
	want := []flow.Record{batch[0], batch[3], batch[5], batch[6], batch[8]}
	// Port 41 leads from x to a, which is watched: seen there already.
	if got := keep(&e); !slices.Equal(got, want) {
		t.Errorf("got %v\nwant %v", got, want)
	}
	e.set(map[string]topology.Switch{"a": switches["a"]}, func(topology.Switch) bool { return true })
	if got := keep(&e); !slices.Equal(got, batch) {
		t.Errorf("with one bridge alone: %v", got)
	}
}

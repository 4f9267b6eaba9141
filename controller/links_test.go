package controller

import (
	"testing"
	"time"

	"github.com/platelet-sdn/platelet/detector"
	"github.com/platelet-sdn/platelet/flowcollector/flow"
	"github.com/platelet-sdn/platelet/topology"
)

func TestFlappingLinkIsFound(t *testing.T) {
	cfg := detector.DefaultConfig()
	var found []detector.Finding
	cfg.Emit = func(f detector.Finding) { found = append(found, f) }
	engine, err := detector.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	c := &Controller{engine: engine}
	var was map[topology.PortID]linkState
	for i := range 16 {
		id := topology.PortID{Switch: "br0", Port: "p7"}
		was = c.links(was, map[string]topology.Switch{"br0": {Ports: map[string]topology.Port{
			"p7": {ID: id, IfIndex: 7, LinkUp: i%2 == 0}, "p8": {ID: topology.PortID{Switch: "br0", Port: "p8"}, IfIndex: 8, LinkUp: true},
		}}})
	}
	if len(found) != 1 || found[0].Kind != detector.KindLinkFlap || found[0].InPort != 7 {
		t.Errorf("%d findings: %+v", len(found), found)
	}
}

// A port that is taken away is a link that goes down.
func TestPortThatIsGoneIsDown(t *testing.T) {
	cfg := detector.DefaultConfig()
	cfg.Rhythm.Flaps = 1.5
	found := 0
	cfg.Emit = func(detector.Finding) { found++ }
	engine, err := detector.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	c := &Controller{engine: engine}
	there := map[string]topology.Switch{"br0": {Ports: map[string]topology.Port{
		"p7": {ID: topology.PortID{Switch: "br0", Port: "p7"}, IfIndex: 7, LinkUp: true}}}}
	was := c.links(nil, there)
	was = c.links(was, nil)
	was = c.links(was, there)
	engine.Link(flow.Exporter{}, 7, true, time.Now().UnixNano())
	if c.links(was, nil); found != 1 {
		t.Errorf("%d findings for a port that went away twice", found)
	}
}

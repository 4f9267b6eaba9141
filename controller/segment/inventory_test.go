package segment_test

import (
	"net/netip"
	"slices"
	"testing"

	"github.com/platelet-sdn/platelet/controller/segment"
	"github.com/platelet-sdn/platelet/flowcollector/flow"
	"github.com/platelet-sdn/platelet/segmentation/policy"
	"github.com/platelet-sdn/platelet/topology"
)

func addr(s string) netip.Addr { return netip.MustParseAddr(s) }

// snapshot has a bridge with a workload that was learned, one whose addresses
// are written down, one that somebody forges sources at, and a link.
func snapshot() *topology.Snapshot {
	port := func(name string, typ topology.PortType, labels map[string]string) topology.Port {
		return topology.Port{ID: topology.PortID{Switch: "br0", Port: name}, Type: typ, Labels: labels}
	}
	s := topology.NewSnapshot(map[string]topology.Switch{"br0": {Name: "br0", Ports: map[string]topology.Port{
		"web": port("web", topology.PortEdge, map[string]string{"app": "web"}),
		"db":  port("db", topology.PortEdge, map[string]string{"app": "db", segment.AddressKey: "10.0.0.3, fd00::3 nonsense"}),
		"bad": port("bad", topology.PortEdge, nil),
		"up":  port("up", topology.PortLink, nil),
	}}})
	s.Hosts = map[netip.Addr]topology.Host{}
	return s
}

func TestInventory(t *testing.T) {
	s := snapshot()
	at := func(a string, port string, bound bool) {
		x := addr(a)
		s.Hosts[x] = topology.Host{Addr: x, Port: topology.PortID{Switch: "br0", Port: port}, Bound: bound, MAC: flow.MAC{2, 0, 0, 0, 0, 9}}
	}
	at("10.0.0.2", "web", true)
	at("10.0.0.99", "db", true) // claimed, but the port says whose it is
	at("10.0.0.4", "bad", true)
	for i := range 200 {
		at(netip.AddrFrom4([4]byte{10, 9, 0, byte(i)}).String(), "bad", false)
	}
	w := segment.World{Snapshot: s, Hosts: segment.Remember(s), Risk: map[netip.Addr]policy.Risk{addr("10.0.0.2"): policy.RiskHigh},
		Known: []policy.Workload{
			{Name: "shop", Port: "web", Labels: map[string]string{"env": "prod", "app": "shop"}},
			{Name: "printer", Addrs: []netip.Addr{addr("10.0.0.50")}, Labels: map[string]string{"app": "print"}},
		}}
	inv := w.Inventory()
	by := map[string]policy.Workload{}
	for _, x := range inv.Workloads {
		by[x.Name] = x
	}
	if len(by) != 4 {
		t.Fatalf("workloads %v", inv.Workloads)
	}
	if x := by["shop"]; x.Labels["app"] != "shop" || x.Labels["env"] != "prod" || !slices.Equal(x.Addrs, []netip.Addr{addr("10.0.0.2")}) || x.Risk != policy.RiskHigh || x.Port != "web" {
		t.Errorf("shop: %+v", x)
	}
	if x := by["br0/db"]; !slices.Equal(x.Addrs, []netip.Addr{addr("10.0.0.3"), addr("fd00::3")}) || x.Risk != 0 {
		t.Errorf("db: %+v", x)
	}
	if x := by["printer"]; x.Labels["app"] != "print" || x.Port != "" {
		t.Errorf("printer: %+v", x)
	}
	if x := by["br0/bad"]; len(x.Addrs) != 64 || !slices.Contains(x.Addrs, addr("10.0.0.4")) {
		t.Errorf("a port of forged sources: %d addresses, %v", len(x.Addrs), x.Addrs)
	}
}

// What is declared of a port is told from what was seen there; whoever sends in
// the name of a workload that a file knows is not taken for it.
func TestInventoryTellsWhatIsDeclared(t *testing.T) {
	s := snapshot()
	s.Switches["br0"].Ports["db"].Labels[segment.MACKey] = "02:00:00:00:00:07"
	at := func(a string, port string, bound bool, mac byte) {
		x := addr(a)
		s.Hosts[x] = topology.Host{Addr: x, Port: topology.PortID{Switch: "br0", Port: port}, Bound: bound, MAC: flow.MAC{2, 0, 0, 0, 0, mac}}
	}
	at("10.0.0.2", "web", true, 1)
	at("10.0.0.3", "db", true, 9)
	at("10.0.0.60", "bad", false, 2) // of the camera
	at("10.0.0.4", "bad", true, 3)
	at("10.0.0.5", "bad", true, 4)
	w := segment.World{Snapshot: s, Hosts: segment.Remember(s), Known: []policy.Workload{
		{Name: "shop", Addrs: []netip.Addr{addr("10.0.0.2"), addr("10.0.0.22")}, MAC: flow.MAC{2, 0, 0, 0, 0, 1}},
		{Name: "camera", Addrs: []netip.Addr{addr("10.0.0.60")}},
	}}
	by := map[string]policy.Workload{}
	for _, x := range w.Inventory().Workloads {
		by[x.Name] = x
	}
	if x := by["br0/db"]; x.Learned.Addrs || x.Learned.MAC || x.MAC != (flow.MAC{2, 0, 0, 0, 0, 7}) || !slices.Equal(x.Learned.Bound, []netip.Addr{addr("10.0.0.3")}) {
		t.Errorf("db: %+v %+v", x, x.Learned)
	}
	if x := by["shop"]; x.Learned.Addrs || x.Learned.MAC || len(x.Addrs) != 2 || x.Port != "web" {
		t.Errorf("shop, which evidence binds there: %+v %+v", x, x.Learned)
	}
	if x := by["camera"]; x.Port != "bad" || !x.Learned.Addrs || x.Learned.Stations != 2 {
		t.Errorf("who names the camera's address: %+v %+v", x, x.Learned)
	}
}

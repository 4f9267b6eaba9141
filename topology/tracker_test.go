package topology_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/platelet-sdn/platelet/flowcollector/flow"
	"github.com/platelet-sdn/platelet/topology"
)

const second = int64(time.Second)

// Interface indices of the test switch's ports.
const (
	portA, portB, portC    = 11, 12, 13
	portPatch, portLocalIf = 21, 22
)

var (
	addrX = netip.MustParseAddr("10.0.0.1")
	addrY = netip.MustParseAddr("10.0.0.2")
	macX  = flow.MAC{2, 0, 0, 0, 0, 1}
	macY  = flow.MAC{2, 0, 0, 0, 0, 2}
)

func id(port string) topology.PortID { return topology.PortID{Switch: "br0", Port: port} }

// switches is a bridge with the edge ports a, b, c without those left out.
func switches(without ...string) map[string]topology.Switch {
	ports := map[string]topology.Port{}
	for name, p := range map[string]topology.Port{
		"a": {IfIndex: portA}, "b": {IfIndex: portB}, "c": {IfIndex: portC},
		"patch": {IfIndex: portPatch, Type: topology.PortLink}, "br0": {IfIndex: portLocalIf, Type: topology.PortLocal},
	} {
		p.ID = id(name)
		ports[name] = p
	}
	for _, name := range without {
		delete(ports, name)
	}
	return map[string]topology.Switch{"br0": {Name: "br0", Ports: ports}}
}

func tracker(max int) *topology.Tracker {
	t := topology.NewTracker(max)
	t.SetSwitches(switches())
	return t
}

// The records of the tests, at a time in seconds.

func seen(at float64, src netip.Addr, mac flow.MAC, port uint32) flow.Record {
	return flow.Record{Time: int64(at * 1e9), Source: flow.SourceSFlow, Src: src, SrcMAC: mac, InPort: port}
}

func attempt(at float64, client, server netip.Addr, port uint32) flow.Record {
	return flow.Record{Time: int64(at * 1e9), Source: flow.SourceTap, Signal: flow.SignalAttempt, Src: client, Dst: server, InPort: port}
}

func accept(at float64, server, client netip.Addr, mac flow.MAC, port uint32) flow.Record {
	return flow.Record{Time: int64(at * 1e9), Source: flow.SourceTap, Signal: flow.SignalAccept, Src: server, Dst: client, SrcMAC: mac, InPort: port}
}

func forwarded(at float64, dst netip.Addr, mac flow.MAC, port uint32) flow.Record {
	return flow.Record{Time: int64(at * 1e9), Source: flow.SourceSFlow, Verdict: flow.VerdictForwarded, Dst: dst, DstMAC: mac, OutPort: port}
}

func with(r flow.Record, change func(*flow.Record)) flow.Record {
	change(&r)
	return r
}

func TestEvidence(t *testing.T) {
	lan := netip.MustParseAddr("fe80::1")
	none := flow.MAC{}
	cases := map[string]struct {
		records []flow.Record
		host    netip.Addr
		port    string // empty: not known
		bound   bool
	}{
		"a source is seen":            {[]flow.Record{seen(1, addrX, macX, portA)}, addrX, "a", false},
		"a link-local source is seen": {[]flow.Record{seen(1, lan, macX, portA)}, lan, "a", false},
		"a mapped address is plain":   {[]flow.Record{seen(1, netip.AddrFrom16(addrX.As16()), macX, portA)}, addrX, "a", false},
		"an answer binds":             {[]flow.Record{accept(1, addrX, addrY, macX, portA)}, addrX, "a", true},
		"forwarded to one port binds": {[]flow.Record{forwarded(1, addrX, macX, portB)}, addrX, "b", true},
		"an ARP reply does not bind": {[]flow.Record{with(seen(1, addrX, macX, portA), func(r *flow.Record) {
			r.Signal, r.EtherType = flow.SignalARPReply, flow.EtherARP
		})}, addrX, "a", false},
		"seen, then forwarded there": {[]flow.Record{seen(1, addrX, macX, portA), forwarded(1.1, addrX, macX, portA)}, addrX, "a", true},
		"dropped is not forwarded": {[]flow.Record{with(forwarded(1, addrX, macX, portB), func(r *flow.Record) {
			r.Verdict = flow.VerdictDropped
		})}, addrX, "", false},
		"an aggregated flow is not one packet": {[]flow.Record{with(forwarded(1, addrX, macX, portB), func(r *flow.Record) {
			r.Source = flow.SourceIPFIX
		})}, addrX, "", false},
		"flooded binds nothing":           {[]flow.Record{forwarded(1, addrX, macX, 0)}, addrX, "", false},
		"a group MAC binds nothing":       {[]flow.Record{forwarded(1, addrX, flow.MAC{1, 0, 0x5e}, portB)}, addrX, "", false},
		"a patch port binds nothing":      {[]flow.Record{accept(1, addrX, addrY, macX, portPatch), forwarded(1, addrX, macX, portPatch)}, addrX, "", false},
		"the local port binds nothing":    {[]flow.Record{accept(1, addrX, addrY, macX, portLocalIf)}, addrX, "", false},
		"an unknown port binds nothing":   {[]flow.Record{accept(1, addrX, addrY, macX, 99)}, addrX, "", false},
		"an unbound host follows sources": {[]flow.Record{seen(1, addrX, macX, portA), seen(2.5, addrX, macY, portB)}, addrX, "b", false},
		"a forged source moves nothing": {[]flow.Record{accept(1, addrX, addrY, macX, portA),
			seen(9, addrX, macY, portB), seen(20, addrX, macY, portB)}, addrX, "a", true},
		"a forged answer moves nothing": {[]flow.Record{accept(1, addrX, addrY, macX, portA),
			accept(9, addrX, addrY, macY, portB), accept(20, addrX, addrY, macY, portB)}, addrX, "a", true},
		"one answer that was asked for moves nothing": {[]flow.Record{accept(1, addrX, addrY, macX, portA),
			attempt(9, addrY, addrX, portB), accept(9, addrX, addrY, macY, portB)}, addrX, "a", true},
		"while the old port answers, it keeps the host": {[]flow.Record{accept(1, addrX, addrY, macX, portA),
			attempt(9, addrY, addrX, portB), accept(9, addrX, addrY, macY, portB), accept(9.1, addrX, addrY, macX, portA),
			attempt(12, addrY, addrX, portB), accept(12, addrX, addrY, macY, portB)}, addrX, "a", true},
		"a host that has moved is bound anew": {[]flow.Record{accept(1, addrX, addrY, macX, portA),
			attempt(9, addrY, addrX, portC), accept(9, addrX, addrY, macX, portB),
			attempt(11.5, addrY, addrX, portC), accept(11.5, addrX, addrY, macX, portB)}, addrX, "b", true},
		"forwarding shows a move, too": {[]flow.Record{accept(1, addrX, addrY, macX, portA),
			forwarded(9, addrX, macX, portB), forwarded(11.5, addrX, macX, portB)}, addrX, "b", true},
		"own address above a neighbour's MAC": {[]flow.Record{seen(1, addrX, macX, portA),
			forwarded(2, addrX, macY, portB), forwarded(5, addrX, macY, portB)}, addrX, "a", false},
		"no MAC known, forwarding still binds": {[]flow.Record{seen(1, addrX, none, portA), forwarded(2, addrX, macX, portA)}, addrX, "a", true},
		"the unspecified address is nobody":    {[]flow.Record{seen(1, netip.IPv4Unspecified(), macX, portA)}, netip.IPv4Unspecified(), "", false},
		"a broadcast address is nobody":        {[]flow.Record{forwarded(1, netip.MustParseAddr("255.255.255.255"), macX, portA)}, netip.MustParseAddr("255.255.255.255"), "", false},
		"a multicast address is nobody":        {[]flow.Record{forwarded(1, netip.MustParseAddr("ff02::1"), macX, portA)}, netip.MustParseAddr("ff02::1"), "", false},
		"a loopback address is nobody":         {[]flow.Record{seen(1, netip.MustParseAddr("127.0.0.1"), macX, portA)}, netip.MustParseAddr("127.0.0.1"), "", false},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			tr := tracker(0)
			tr.Observe(c.records)
			h, ok := tr.Publish().Host(c.host)
			if ok != (c.port != "") {
				t.Fatalf("known: %v (%+v)", ok, h)
			}
			if ok && (h.Port != id(c.port) || h.Bound != c.bound || h.Addr != c.host) {
				t.Errorf("%+v, want port %s, bound %v", h, c.port, c.bound)
			}
		})
	}
}

func TestSetSwitchesPublishesAtOnce(t *testing.T) {
	tr := topology.NewTracker(0)
	tr.Observe([]flow.Record{seen(1, addrX, macX, portA)}) // before any switch is known
	if s := tr.Snapshot(); s == nil || len(s.Hosts) != 0 || len(s.Switches) != 0 {
		t.Fatalf("empty tracker: %+v", s)
	}
	tr.SetSwitches(switches())
	if p, ok := tr.Snapshot().PortByIndex(portA); !ok || p.ID != id("a") {
		t.Fatalf("port: %+v", p)
	}
	tr.Observe([]flow.Record{accept(1, addrX, addrY, macX, portA), accept(1, addrY, addrX, macY, portB)})
	before := tr.Publish()

	// b is gone; a was re-created and has another index.
	next := switches("b")
	a := next["br0"].Ports["a"]
	a.IfIndex = 99
	next["br0"].Ports["a"] = a
	tr.SetSwitches(next)
	s := tr.Snapshot()
	if h, ok := s.Host(addrX); !ok || !h.Bound || h.Port != id("a") {
		t.Errorf("host of the re-created port: %+v", h)
	}
	if h, ok := s.Host(addrY); ok {
		t.Errorf("host of a port that is gone: %+v", h)
	}
	if _, ok := s.PortByIndex(portA); ok {
		t.Error("the old index is still known")
	}
	if len(before.Hosts) != 2 {
		t.Error("a snapshot changed")
	}
	tr.SetSwitches(switches())
	tr.Observe([]flow.Record{accept(2, addrY, addrX, macY, portC)})
	if h, _ := tr.Publish().Host(addrY); h.Port != id("c") || !h.Bound {
		t.Errorf("a forgotten host is bound at its first answer: %+v", h)
	}
	if st := tr.Stats(); st.Hosts != 2 || st.Bound != 2 {
		t.Errorf("stats: %+v", st)
	}
}

func TestSnapshotFollows(t *testing.T) {
	tr := tracker(0)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- tr.Run(ctx) }()
	defer func() { cancel(); <-done }()
	tr.Observe([]flow.Record{seen(1, addrX, macX, portA)})
	for deadline := time.Now().Add(10 * time.Second); ; {
		if _, ok := tr.Snapshot().Host(addrX); ok {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("the host never appeared")
		}
		time.Sleep(time.Millisecond)
	}
	if a, b := tr.Snapshot(), tr.Snapshot(); a != b {
		t.Error("a snapshot was made without need")
	}
	// Sightings within a second change nothing.
	tr.Observe([]flow.Record{seen(1.5, addrX, macX, portA)})
	if h, _ := tr.Publish().Host(addrX); h.LastSeen != second {
		t.Errorf("last seen %d", h.LastSeen)
	}
	tr.Observe([]flow.Record{seen(2.5, addrX, macX, portA)})
	if h, _ := tr.Publish().Host(addrX); h.LastSeen != 5*second/2 {
		t.Errorf("last seen %d", h.LastSeen)
	}
}

func TestHostsByPortAndMAC(t *testing.T) {
	tr := tracker(0)
	lan := netip.MustParseAddr("fe80::1")
	tr.Observe([]flow.Record{
		accept(1, addrX, addrY, macX, portA), seen(5, lan, macX, portB), seen(6, addrY, macX, portA), seen(7, netip.MustParseAddr("10.0.0.3"), flow.MAC{}, portC),
	})
	s := tr.Publish()
	if hosts := s.HostsAt(id("a")); len(hosts) != 2 || hosts[0].Addr != addrX || hosts[1].Addr != addrY {
		t.Errorf("hosts at a: %+v", hosts)
	}
	if hosts := s.HostsAt(id("patch")); len(hosts) != 0 {
		t.Errorf("hosts at a patch port: %+v", hosts)
	}
	if h, ok := s.HostByMAC(macX); !ok || h.Addr != addrX {
		t.Errorf("the bound host is not preferred: %+v", h)
	}
	if h, ok := s.HostByMAC(flow.MAC{}); ok {
		t.Errorf("the unknown MAC belongs to %+v", h)
	}
}

// address is the n-th address of a flood.
func address(n int) netip.Addr {
	return netip.AddrFrom4([4]byte{100, byte(n >> 16), byte(n >> 8), byte(n)})
}

func TestForgedSourcesDoNotDisplaceHosts(t *testing.T) {
	const max = 100
	tr := tracker(max)
	for n := range 40 {
		tr.Observe([]flow.Record{accept(1, address(n), addrY, macX, portA)})
	}
	for n := range 10 {
		tr.Observe([]flow.Record{seen(1, address(100+n), macX, portA)})
	}
	// From b: forged sources, and then forged answers, which look like
	// evidence.
	for n := range 20000 {
		at := 2 + float64(n)/1000
		if n < 10000 {
			tr.Observe([]flow.Record{seen(at, address(1000+n), macY, portB)})
			continue
		}
		tr.Observe([]flow.Record{accept(at, address(1000+n), addrY, macY, portB)})
		if st := tr.Stats(); st.Hosts > max {
			t.Fatalf("%d hosts", st.Hosts)
		}
	}
	s := tr.Publish()
	for n := range 40 {
		if h, ok := s.Host(address(n)); !ok || !h.Bound || h.Port != id("a") {
			t.Fatalf("host %d: %+v", n, h)
		}
	}
	if n := len(s.HostsAt(id("a"))); n != 50 {
		t.Errorf("%d hosts left at the port of the honest", n)
	}
	if n := len(s.HostsAt(id("b"))); n != max/2 {
		t.Errorf("%d hosts at the crowded port, want its share of %d", n, max/2)
	}
	if st := tr.Stats(); st.Hosts != len(s.Hosts) || st.Evicted == 0 {
		t.Errorf("stats: %+v", st)
	}
}

func TestFullTable(t *testing.T) {
	const max = 64
	tr := tracker(max)
	for n := range max / 2 {
		tr.Observe([]flow.Record{accept(1, address(n), addrY, macX, portA), accept(1, address(1000+n), addrY, macX, portB)})
	}
	tr.Observe([]flow.Record{seen(2, addrX, macX, portC)})
	if _, ok := tr.Publish().Host(addrX); ok {
		t.Error("what merely appeared displaced what is proven")
	}
	tr.Observe([]flow.Record{accept(3, addrX, addrY, macX, portC)})
	if _, ok := tr.Publish().Host(addrX); ok {
		t.Error("a newcomer displaced a host that is in use")
	}
	if st := tr.Stats(); st.Refused != 2 {
		t.Errorf("stats: %+v", st)
	}
	tr.Observe([]flow.Record{accept(600, addrX, addrY, macX, portC)})
	if h, ok := tr.Publish().Host(addrX); !ok || !h.Bound {
		t.Error("idle hosts kept a newcomer out")
	}
	if st := tr.Stats(); st.Evicted != 1 || st.Hosts != max || st.Bound != max {
		t.Errorf("stats: %+v", st)
	}
}

func TestAdmissionIsBounded(t *testing.T) {
	tr := tracker(0)
	for n := range 10000 {
		tr.Observe([]flow.Record{seen(1, address(n), macX, portA)})
	}
	if st := tr.Stats(); st.Hosts+int(st.Refused) != 10000 || st.Refused == 0 {
		t.Errorf("stats: %+v", st)
	}
	tr.Observe([]flow.Record{seen(1.2, addrX, macX, portA)})
	if _, ok := tr.Publish().Host(addrX); !ok {
		t.Error("nobody is admitted after the flood")
	}
}

// Random records keep the counts true, and readers see whole snapshots.
func TestConcurrentUse(t *testing.T) {
	tr := tracker(500)
	stop := make(chan struct{})
	var readers, writers sync.WaitGroup
	for range 2 {
		readers.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				s := tr.Snapshot()
				for addr, h := range s.Hosts {
					if _, ok := s.Port(h.Port); h.Addr != addr || !ok {
						t.Errorf("host %v: %+v", addr, h)
						return
					}
				}
				s.HostsAt(id("a"))
			}
		})
	}
	for w := range 2 {
		writers.Go(func() {
			r := rand.New(rand.NewPCG(1, uint64(w)))
			ports := []uint32{portA, portB, portC, portPatch}
			for step := range 300 {
				batch := make([]flow.Record, 64)
				for i := range batch {
					at, addr, port := float64(step)/3, address(r.IntN(2000)), ports[r.IntN(4)]
					switch r.IntN(3) {
					case 0:
						batch[i] = seen(at, addr, macX, port)
					case 1:
						batch[i] = accept(at, addr, addrY, macX, port)
					default:
						batch[i] = forwarded(at, addr, macX, port)
					}
				}
				tr.Observe(batch)
				if step%50 == 49 {
					tr.SetSwitches(switches([]string{"a", "b", "c"}[r.IntN(3)]))
					tr.SetSwitches(switches())
				}
			}
		})
	}
	writers.Wait()
	close(stop)
	readers.Wait()
	s, st := tr.Publish(), tr.Stats()
	bound := 0
	for _, h := range s.Hosts {
		if h.Bound {
			bound++
		}
	}
	if st.Hosts != len(s.Hosts) || st.Bound != bound || st.Hosts > 500 {
		t.Errorf("counted %+v, found %d hosts, %d bound", st, len(s.Hosts), bound)
	}
}

func TestObserveDoesNotAllocate(t *testing.T) {
	tr := tracker(0)
	batch := known(1024)
	tr.Observe(batch)
	if n := testing.AllocsPerRun(100, func() { tr.Observe(batch) }); n != 0 {
		t.Errorf("%v allocations per batch", n)
	}
}

func known(n int) []flow.Record {
	batch := make([]flow.Record, n)
	for i := range batch {
		batch[i] = forwarded(1, address((i+1)%n), macX, portA)
		batch[i].Src, batch[i].SrcMAC, batch[i].InPort = address(i), macX, portA
	}
	return batch
}

func BenchmarkObserve(b *testing.B) {
	for _, hosts := range []int{100, 10000} {
		b.Run(fmt.Sprintf("known=%d", hosts), func(b *testing.B) {
			tr, batch := tracker(0), known(hosts)
			for n := range batch { // slowly enough for all to be admitted
				tr.Observe([]flow.Record{seen(float64(n)/10000-5, batch[n].Src, macX, portA)})
			}
			for b.Loop() {
				tr.Observe(batch)
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*hosts), "ns/record")
		})
	}
	b.Run("forged", func(b *testing.B) {
		tr, batch, n := tracker(0), make([]flow.Record, 1000), 0
		for b.Loop() {
			for i := range batch {
				n++
				batch[i] = seen(1+float64(n)/1e6, address(n), macX, portA) // a million packets per second
			}
			tr.Observe(batch)
		}
		b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*1000), "ns/record")
	})
}

func BenchmarkPublish(b *testing.B) {
	for _, hosts := range []int{1000, 32768} {
		b.Run(fmt.Sprint(hosts), func(b *testing.B) {
			tr := tracker(0)
			for n := range hosts {
				tr.Observe([]flow.Record{accept(float64(n), address(n), addrY, macX, portA)})
			}
			for b.Loop() {
				tr.Publish()
			}
		})
	}
}

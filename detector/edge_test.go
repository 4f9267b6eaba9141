package detector

import (
	"math"
	"net/netip"
	"testing"

	"github.com/platelet-sdn/platelet/flowcollector/flow"
)

// recorder keeps what sensors are told.
type recorder struct {
	events  []edgeEvent
	windows []Window
}

func (*recorder) resolved(findingKey)   {}
func (x *recorder) edge(ev *edgeEvent)  { x.events = append(x.events, *ev) }
func (x *recorder) window(w *Window)    { x.windows = append(x.windows, *w) }
func (x *recorder) phases() []edgePhase { return phasesOf(x.events) }

func phasesOf(events []edgeEvent) (list []edgePhase) {
	for _, ev := range events {
		list = append(list, ev.what)
	}
	return list
}

func recording(t *testing.T, change ...func(*Config)) (*sim, *recorder) {
	s, x := newSim(t, change...).warm(), &recorder{}
	s.e.sensors.edges = append(s.e.sensors.edges, x)
	s.e.sensors.windows = append(s.e.sensors.windows, x)
	return s, x
}

func expectPhases(t *testing.T, x *recorder, want ...edgePhase) {
	t.Helper()
	have := x.phases()
	if len(have) != len(want) {
		t.Fatalf("events %v, want %v", have, want)
	}
	for i := range want {
		if have[i] != want[i] {
			t.Fatalf("events %v, want %v", have, want)
		}
	}
}

// A connection that the tap and sFlow both see is one conversation, and its
// volume is what sFlow says.
func TestConversationIsToldOnce(t *testing.T) {
	s, x := recording(t)
	c, v := hostAddr(1), hostAddr(2)
	open := syn(c, v, 443)
	s.at(0, open)
	sampled := open
	sampled.Source, sampled.Rate, sampled.Bytes = flow.SourceSFlow, 10, 74
	s.at(1*ms, sampled)
	s.at(2*ms, answer(open, flow.SignalAccept))
	data := answer(open, flow.SignalNone)
	data.Source, data.Rate, data.Bytes, data.TCPFlags = flow.SourceSFlow, 10, 1500, flow.ACK
	s.at(3*ms, data)
	s.at(1*sec, open) // a retransmission
	fin := open
	fin.Signal = flow.SignalFinish
	s.at(2*sec, fin)
	s.run(3 * sec)
	expectPhases(t, x, edgeOpened, edgeTraffic, edgeAccepted, edgeTraffic, edgeTraffic, edgeClosed)
	ev := x.events[len(x.events)-1]
	if ev.key != contactKeyOf(addressOf(c), addressOf(v), 443, flow.ProtoTCP) || !ev.up {
		t.Errorf("last event %+v", ev)
	}
	e := ev.edge
	if e.opens != 1 || e.accepts != 1 || e.closes != 1 || e.fails != 0 {
		t.Errorf("edge %+v", e)
	}
	if e.up.bytes != 740 || e.down.bytes != 15000 || e.up.packets != 10 {
		t.Errorf("volumes %+v and %+v", e.up, e.down)
	}
}

// Who is the client is known from the ports where the beginning was missed,
// and from the edge where the ports say the opposite.
func TestClientIsFound(t *testing.T) {
	s, x := recording(t)
	c, v := hostAddr(1), hostAddr(2)
	data := func(r flow.Record) flow.Record {
		r.Source, r.Signal, r.Rate, r.TCPFlags = flow.SourceSFlow, flow.SignalNone, 10, flow.ACK
		return r
	}
	s.at(0, data(tcp(v, 443, c, 50000, 0)))                       // from the server, unseen before
	s.at(1*ms, data(tcp(c, 50000, v, 443, 0)))                    // from the client
	s.at(2*ms, tcp(c, 2000, v, 60000, flow.SignalAttempt))        // a service on a high port
	s.at(3*ms, data(tcp(v, 60000, c, 2000, 0)))                   // looks like a client's by its ports
	s.at(4*ms, tcp(hostAddr(3), 80, c, 50001, flow.SignalAccept)) // answers nothing that was seen
	s.run(sec)
	if len(x.events) != 4 {
		t.Fatalf("%d events: %+v", len(x.events), x.events)
	}
	for i, want := range []struct {
		port uint16
		up   bool
	}{{443, false}, {443, true}, {60000, true}, {60000, false}} {
		ev := x.events[i]
		if ev.key.src != addressOf(c) || ev.key.dst != addressOf(v) || ev.key.port() != want.port || ev.up != want.up {
			t.Errorf("event %d: %+v, want port %d, up %v", i, ev, want.port, want.up)
		}
	}
}

func TestOutcomesOfConversations(t *testing.T) {
	s, x := recording(t)
	c, v := hostAddr(1), hostAddr(2)
	s.probe(0, c, v, 81, ms, flow.SignalRefuse)
	log := syn(c, v, 82)
	log.Source = flow.SourceLog
	s.at(10*ms, log)
	silence := answer(log, flow.SignalSilence)
	s.at(20*ms, silence)
	open := syn(c, v, 83)
	s.at(30*ms, open)
	s.at(31*ms, answer(open, flow.SignalAccept))
	s.at(32*ms, answer(open, flow.SignalRefuse)) // closes what was accepted
	un := udp(c, 5000, v, 84, 1)
	s.at(40*ms, un)
	gone := flow.Record{Source: flow.SourcePacket, Signal: flow.SignalUnreachable, Rate: 1, Proto: flow.ProtoICMP, ICMPType: 3, ICMPCode: 3,
		Src: v, Dst: c, Inner: flow.Tuple{Src: c, Dst: v, SrcPort: 5000, DstPort: 84, Proto: flow.ProtoUDP}}
	s.at(41*ms, gone)
	s.run(sec)
	expectPhases(t, x, edgeOpened, edgeFailed, edgeOpened, edgeFailed, edgeOpened, edgeAccepted, edgeClosed, edgeOpened, edgeFailed)
}

// What a flood is made of opens no edges.
func TestFloodsAreNoConversations(t *testing.T) {
	s, _ := recording(t)
	batch := make([]flow.Record, 1000)
	for n := range 200 {
		now := t0 + sec + int64(n)*10*ms
		spoofed(batch, n*len(batch), now, func(int) netip.Addr { return hostAddr(2) })
		s.e.Observe(batch)
		s.e.Advance(now + 10*ms)
	}
	if n := s.e.Stats().Edges; n > 2000 {
		t.Errorf("%d edges of 200,000 invented sources", n)
	}
}

func TestWindowFeatures(t *testing.T) {
	s, x := recording(t, func(c *Config) { c.Seed = 7 })
	c := hostAddr(1)
	for i := range 12 { // one a second, to four servers, every third refused
		r := tcp(c, uint16(40000+i), hostAddr(100+i%4), 22, flow.SignalAttempt)
		s.at(int64(i)*sec, r)
		outcome := flow.SignalAccept
		if i%3 == 0 {
			outcome = flow.SignalRefuse
		}
		s.at(int64(i)*sec+ms, answer(r, outcome))
		up := r
		up.Source, up.Signal, up.Rate, up.Bytes, up.TTL = flow.SourceSFlow, flow.SignalNone, 10, 1000, 64
		up.TCPFlags = flow.ACK
		s.at(int64(i)*sec+2*ms, up)
	}
	s.run(59 * sec)
	if len(x.windows) != 0 {
		t.Fatalf("%d windows before a minute is over", len(x.windows))
	}
	s.run(75 * sec)
	if len(x.windows) != 5 {
		t.Fatalf("%d windows, want those of the client and its servers", len(x.windows))
	}
	w := x.windows[0]
	for f, want := range map[int]float64{
		FeatureOpens: 12, FeatureAccepted: 8, FeatureFailed: 4, FeatureFailedShare: 1. / 3, FeatureServers: 4, FeatureServices: 4,
		FeatureServicesPerServer: 1, FeatureNewEdges: 4, FeatureNewEdgeShare: 1, FeatureAdmin: 4, FeatureOutside: 0,
		FeaturePacketsOut: 120, FeatureBytesOut: 120_000, FeatureOutShare: 1, FeatureSizeMean: 1000, FeatureSizeSpread: 0,
		FeatureRegularity: 1, FeatureTCPShare: 1, FeaturePortEntropy: 0, FeatureServed: 0, FeatureTTLs: 0, FeatureMACs: 0,
	} {
		if have := w.Values[f]; math.Abs(have-want) > 1e-3 {
			t.Errorf("%s is %v, want %v", Features()[f].Name, have, want)
		}
	}
	if w.Host != c || w.Rate != 10 || w.Records != 36 || w.End-w.Start != 60*sec || w.Start != t0 {
		t.Errorf("window %+v", w)
	}
	if v := x.windows[1].Values; v[FeatureServed] != 3 || v[FeatureClients] != 1 || v[FeatureOpens] != 0 {
		t.Errorf("a server's window: %v", v)
	}
	if n := s.e.Stats().Windows; n != 0 {
		t.Errorf("%d windows left", n)
	}
}

func TestFeaturesAreDocumented(t *testing.T) {
	list := Features()
	if len(list) != NumFeatures {
		t.Fatalf("%d features are documented, there are %d", len(list), NumFeatures)
	}
	seen := map[string]bool{}
	for _, f := range list {
		if f.Name == "" || f.Unit == "" || f.Source == "" || f.About == "" || seen[f.Name] {
			t.Errorf("%+v is incomplete or there twice", f)
		}
		seen[f.Name] = true
	}
}

func TestPrivateAddresses(t *testing.T) {
	for text, want := range map[string]bool{"10.1.2.3": true, "172.16.0.1": true, "172.32.0.1": false, "192.168.9.9": true, "192.169.0.1": false,
		"100.64.0.1": true, "100.128.0.1": false, "169.254.1.1": true, "8.8.8.8": false, "fd00::1": true, "fe80::1": true, "2001:db8::1": false} {
		if have := addressOf(mustAddr(text)).private(); have != want {
			t.Errorf("%s: private is %v", text, have)
		}
	}
}

// Whoever resets a conversation ends it: its client, or its server once it had
// accepted. A server that had not has refused it.
func TestResetsEndConversations(t *testing.T) {
	r := syn(hostAddr(1), hostAddr(2), 443)
	reset := r
	reset.Signal, reset.TCPFlags = flow.SignalRefuse, flow.RST
	for name, c := range map[string]struct {
		records []flow.Record
		want    []edgePhase
		up      bool
	}{
		"by the client":       {[]flow.Record{r, answer(r, flow.SignalAccept), reset}, []edgePhase{edgeOpened, edgeAccepted, edgeClosed}, true},
		"by the server":       {[]flow.Record{r, answer(r, flow.SignalAccept), answer(r, flow.SignalRefuse)}, []edgePhase{edgeOpened, edgeAccepted, edgeClosed}, false},
		"refused":             {[]flow.Record{r, answer(r, flow.SignalRefuse)}, []edgePhase{edgeOpened, edgeFailed}, false},
		"of nothing we know":  {[]flow.Record{reset}, nil, false},
		"answers nothing too": {[]flow.Record{answer(r, flow.SignalRefuse)}, nil, false},
	} {
		t.Run(name, func(t *testing.T) {
			s, x := recording(t)
			for i, r := range c.records {
				s.at(int64(i)*ms, r)
			}
			s.run(sec)
			expectPhases(t, x, c.want...)
			if n := len(x.events); n > 0 && x.events[n-1].up != c.up {
				t.Errorf("up is %v", x.events[n-1].up)
			}
		})
	}
}

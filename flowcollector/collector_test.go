package flowcollector_test

import (
	"context"
	"encoding/json"
	"errors"
	"maps"
	"net"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/platelet-sdn/platelet/flowcollector"
	"github.com/platelet-sdn/platelet/flowcollector/flow"
	"github.com/platelet-sdn/platelet/flowcollector/netflow"
	"github.com/platelet-sdn/platelet/flowcollector/sflow"
)

// patience is how long a condition may take on an overloaded machine.
const patience = 20 * time.Second

// eventually polls until ok; it fails with what is then wrong.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !ok(); {
		if time.Now().After(deadline) {
			t.Fatalf("still not: %s", what)
		}
		time.Sleep(time.Millisecond)
	}
}

func loopback() []netip.AddrPort { return []netip.AddrPort{netip.MustParseAddrPort("127.0.0.1:0")} }

// running is a Collector that runs until the test ends or stop is called.
type running struct {
	*flowcollector.Collector
	stop func() error

	mu      sync.Mutex
	records []flow.Record
}

func (r *running) handle(batch []flow.Record) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.records = append(r.records, batch...)
}

func (r *running) received() []flow.Record {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]flow.Record(nil), r.records...)
}

// start runs a Collector; the records go to the result unless cfg has another
// handler.
func start(t *testing.T, cfg flowcollector.Config) *running {
	t.Helper()
	r := &running{}
	if cfg.Handle == nil {
		cfg.Handle = r.handle
	}
	c, err := flowcollector.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Listen(); err != nil {
		t.Fatal(err)
	}
	r.Collector = c
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- c.Run(ctx) }()
	r.stop = sync.OnceValue(func() error {
		cancel()
		select {
		case err := <-done:
			return err
		case <-time.After(patience):
			return errors.New("collector does not stop")
		}
	})
	t.Cleanup(func() {
		if err := r.stop(); err != nil {
			t.Error(err)
		}
	})
	return r
}

// send sends datagrams slowly enough for any socket buffer.
func send(t *testing.T, to netip.AddrPort, ds ...[]byte) {
	t.Helper()
	conn, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(to))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	for _, d := range ds {
		if _, err := conn.Write(d); err != nil {
			t.Fatal(err)
		}
	}
}

func TestCollectorReceives(t *testing.T) {
	var counters atomic.Int64
	c := start(t, flowcollector.Config{
		SFlow: loopback(), IPFIX: loopback(), Shards: 2,
		Counters: func(*sflow.Counters) { counters.Add(1) },
	})
	send(t, c.Addresses(flowcollector.ProtocolSFlow)[0], datagrams(t, "ovs-sflow-drop.pcap")...)
	send(t, c.Addresses(flowcollector.ProtocolIPFIX)[0], datagrams(t, "ovs-ipfix-drop.pcap")...)
	eventually(t, "26 samples and 32 flow records", func() bool { return len(c.received()) == 26+32 })
	eventually(t, "6 counter samples", func() bool { return counters.Load() == 6 })

	source := map[flow.Source]int{}
	for _, r := range c.received() {
		source[r.Source]++
		if age := time.Since(time.Unix(0, r.Time)); age < 0 || age > time.Minute {
			t.Errorf("received %v ago", age)
		}
	}
	if source[flow.SourceSFlow] != 26 || source[flow.SourceIPFIX] != 32 {
		t.Errorf("records by source: %v", source)
	}
	eventually(t, "counters move", func() bool {
		s := c.Stats()
		return s.SFlow.Datagrams == 8 && s.SFlow.Records == 26 && s.SFlow.Bytes == 4888 &&
			s.IPFIX.Datagrams == 52 && s.IPFIX.Records == 32 && s.IPFIX.Bytes == 29115 &&
			s.SFlow.Malformed+s.IPFIX.Malformed == 0
	})
	if n := len(c.Stats().Listeners); n != 4 {
		t.Errorf("%d listeners, want 2 protocols x 2 shards", n)
	}
}

func TestCollectorCountsWhatIsWrong(t *testing.T) {
	c := start(t, flowcollector.Config{SFlow: loopback(), IPFIX: loopback()})
	samples := datagrams(t, "ovs-sflow-drop.pcap")
	_, data := split(datagrams(t, "ovs-ipfix-drop.pcap"))
	send(t, c.Addresses(flowcollector.ProtocolSFlow)[0],
		samples[0][:60], []byte{0, 0, 0, 4, 0, 0, 0, 1}, make([]byte, 10000))
	send(t, c.Addresses(flowcollector.ProtocolIPFIX)[0], []byte{0, 10, 0, 99}, data[0], data[0])

	home := netip.MustParseAddr("127.0.0.1")
	eventually(t, "malformed datagrams by exporter and kind", func() bool {
		by := map[string]uint64{}
		for _, m := range append(c.Stats().SFlow.MalformedBy, c.Stats().IPFIX.MalformedBy...) {
			if m.Exporter != home {
				t.Errorf("blamed %v", m.Exporter)
			}
			by[m.Kind] = m.Count
		}
		return maps.Equal(by, map[string]uint64{
			sflow.KindSampleCount: 1, sflow.KindVersion: 1, flowcollector.KindTruncated: 1, netflow.KindHeader: 1,
		})
	})
	eventually(t, "two unknown templates", func() bool {
		u := c.Stats().IPFIX.UnknownBy
		return len(u) == 1 && u[0] == flowcollector.UnknownCount{Exporter: home, Domain: 1, Set: u[0].Set, Count: 2} &&
			c.Stats().IPFIX.UnknownTemplate == 2
	})
	text, err := json.Marshal(c.Stats())
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{`"malformed":3`, `"kind":"truncated"`, `"unknown_template":2`, `"kernel_drops":0`} {
		if !strings.Contains(string(text), want) {
			t.Errorf("%s is not in %s", want, text)
		}
	}
}

func TestCollectorRefusesStrangers(t *testing.T) {
	c := start(t, flowcollector.Config{
		SFlow: loopback(),
		Peers: []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")},
	})
	send(t, c.Addresses(flowcollector.ProtocolSFlow)[0], datagrams(t, "ovs-sflow-drop.pcap")...)
	eventually(t, "8 datagrams refused", func() bool { return c.Stats().SFlow.Refused == 8 })
	if n := len(c.received()); n != 0 {
		t.Errorf("%d records of a stranger", n)
	}
}

func TestCollectorReceivesOverIPv6(t *testing.T) {
	c := start(t, flowcollector.Config{IPFIX: []netip.AddrPort{netip.MustParseAddrPort("[::1]:0")}})
	send(t, c.Addresses(flowcollector.ProtocolIPFIX)[0], datagrams(t, "ovs-ipfix-drop.pcap")...)
	eventually(t, "32 records", func() bool { return len(c.received()) == 32 })
	if got, want := c.received()[0].Exporter.Addr, netip.IPv6Loopback(); got != want {
		t.Errorf("exporter %v, want %v", got, want)
	}
}

// A handler that does not return makes the kernel drop; the counter has to
// say so once there is a datagram to carry it.
func TestCollectorCountsKernelDrops(t *testing.T) {
	blocked, release := make(chan struct{}), make(chan struct{})
	var once sync.Once
	c := start(t, flowcollector.Config{SFlow: loopback(), Handle: func([]flow.Record) {
		once.Do(func() { close(blocked) })
		<-release
	}})
	to := c.Addresses(flowcollector.ProtocolSFlow)[0]
	sample := datagrams(t, "ovs-sflow-drop.pcap")[:1]
	send(t, to, sample...)
	select {
	case <-blocked:
	case <-time.After(patience):
		t.Fatal("nothing received")
	}
	// Each datagram takes at least its own size of the buffer.
	big := make([]byte, 8000)
	overfull := make([][]byte, c.Stats().Listeners[0].ReceiveBuffer/len(big)+1000)
	for i := range overfull {
		overfull[i] = big
	}
	send(t, to, overfull...)
	close(release)
	eventually(t, "kernel drops counted", func() bool {
		send(t, to, sample...)
		s := c.Stats()
		return s.SFlow.KernelDrops > 0 && s.Listeners[0].KernelDrops == s.SFlow.KernelDrops
	})
}

func TestCollectorTicksWhenIdle(t *testing.T) {
	var ticks atomic.Int64
	start(t, flowcollector.Config{SFlow: loopback(), IPFIX: loopback(), Tick: func(now int64) {
		if d := time.Since(time.Unix(0, now)); d < 0 || d > time.Minute {
			t.Errorf("tick of %v ago", d)
		}
		ticks.Add(1)
	}})
	eventually(t, "20 ticks", func() bool { return ticks.Load() >= 20 })
}

func TestCollectorStopsPromptly(t *testing.T) {
	// The best of a few attempts: a busy machine may hold up any of them.
	best := time.Hour
	for range 5 {
		c := start(t, flowcollector.Config{
			SFlow: loopback(), IPFIX: loopback(), Shards: 2, Templates: &memoryStore{},
		})
		began := time.Now()
		if err := c.stop(); err != nil {
			t.Fatal(err)
		}
		best = min(best, time.Since(began))
	}
	if best > 100*time.Millisecond {
		t.Errorf("stopping takes %v", best)
	}
}

func TestCollectorFreesItsAddress(t *testing.T) {
	first := start(t, flowcollector.Config{SFlow: loopback()})
	at := first.Addresses(flowcollector.ProtocolSFlow)
	second, err := flowcollector.New(flowcollector.Config{SFlow: at, Handle: first.handle})
	if err != nil {
		t.Fatal(err)
	}
	if err := second.Listen(); err == nil {
		t.Error("two collectors share an address and would get half of the datagrams each")
	}
	if err := first.stop(); err != nil {
		t.Fatal(err)
	}
	if err := second.Listen(); err != nil {
		t.Error(err)
	}
	if err := second.Close(); err != nil {
		t.Error(err)
	}
}

func TestNewValidates(t *testing.T) {
	handle := func([]flow.Record) {}
	for _, tt := range []struct {
		cfg  flowcollector.Config
		want string
	}{
		{flowcollector.Config{Handle: handle}, "no address"},
		{flowcollector.Config{SFlow: loopback()}, "handle"},
		{flowcollector.Config{SFlow: loopback(), Handle: handle, Shards: -1}, "shards"},
		{flowcollector.Config{IPFIX: []netip.AddrPort{{}}, Handle: handle}, "invalid address"},
		{flowcollector.Config{IPFIX: []netip.AddrPort{netip.MustParseAddrPort("0.0.0.0:4739")}, Handle: handle}, "peers"},
	} {
		_, err := flowcollector.New(tt.cfg)
		if err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%+v: error %v, want one about %q", tt.cfg, err, tt.want)
		}
	}
}

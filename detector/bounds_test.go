package detector

import (
	"net/netip"
	"testing"

	"github.com/platelet-sdn/platelet/flowcollector/flow"
)

// batchOf fills a batch with n attempts of invented sources from a sequence.
func spoofed(batch []flow.Record, from int, now int64, dst func(i int) netip.Addr) {
	for i := range batch {
		x := mix(uint64(from + i))
		src := netip.AddrFrom4([4]byte{1 + byte(x)%222, byte(x >> 8), byte(x >> 16), byte(x >> 24)})
		batch[i] = syn(src, dst(from+i), 80)
		batch[i].Time = now + int64(i)*100
		batch[i].InPort = 7
		batch[i].SrcMAC = flow.MAC{2, 1, 1, 1, 1, 1}
	}
}

// A million attempts of invented sources, many times what the tables hold, at one
// victim or at all of a network, must not grow anything beyond its cap, nor wash
// out what is known of a slow scanner and of a client with credit.
func TestSpoofedFloodStaysBounded(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name string
		dst  func(i int) netip.Addr
	}{
		{"one victim", func(int) netip.Addr { return hostAddr(2) }},
		{"every victim", func(i int) netip.Addr { return hostAddr(int(mix(uint64(i)) % (1 << 20))) }},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			s := newSim(t).warm()
			for i := range 3 {
				s.probe(int64(i)*ms, hostAddr(1), hostAddr(300), uint16(i+1), ms/5, flow.SignalRefuse)
			}
			for i := range 20 {
				s.connection(int64(i)*ms, syn(hostAddr(9), hostAddr(400+i), 443), ms/5, ms/2)
			}
			s.run(sec)
			batch := make([]flow.Record, 1000)
			const batches = 1000
			for n := range batches {
				now := t0 + 2*sec + int64(n)*100_000
				spoofed(batch, n*len(batch), now, c.dst)
				s.e.Observe(batch)
				s.e.Advance(now + 100_000)
			}
			checkCaps(t, s.e)
			for _, f := range s.fired() {
				if f.Host.IsValid() {
					t.Fatalf("an invented source was found: %+v", f)
				}
			}
			if _, h := s.e.hosts.Find(addressOf(hostAddr(9))); h == nil || !h.proven || h.walk > -10 {
				t.Errorf("the client's credit was washed out: %+v", h)
			}
			before := len(s.fired())
			begin := 2*sec + batches*100_000 + sec
			s.tickedTo = t0 + begin
			s.probe(begin, hostAddr(1), hostAddr(300), 4, ms/5, flow.SignalRefuse)
			s.run(begin + 10*ms)
			if list := s.fired()[before:]; len(list) != 1 || list[0].Host != hostAddr(1) {
				t.Errorf("the scanner's fourth failure decided %+v", list)
			}
		})
	}
}

func checkCaps(t *testing.T, e *Engine) {
	t.Helper()
	st, l := e.Stats(), e.cfg.Limit
	for _, c := range []struct {
		name      string
		have, cap int
	}{
		{"hosts", st.HostsTracked, l.Hosts}, {"contacts", st.ContactsTracked, l.Contacts},
		{"pending", st.ContactsPending, 2 * l.Pending}, {"suspects", st.Suspects, l.Suspects},
		{"stations", st.Stations, l.MACs}, {"cells", st.Cells, l.Cells}, {"findings", st.Active, l.Findings},
	} {
		if c.have > c.cap {
			t.Errorf("%s: %d held, cap %d", c.name, c.have, c.cap)
		}
	}
}

// traffic is a steady mix of every kind of record.
func traffic() []flow.Record {
	var batch []flow.Record
	for i := range 200 {
		r := syn(hostAddr(i%50), hostAddr(100+i), 443)
		batch = append(batch, r, answer(r, flow.SignalAccept))
		r.Signal = flow.SignalFinish
		batch = append(batch, r)
		r.Source, r.Signal, r.Rate, r.TCPFlags = flow.SourceSFlow, flow.SignalNone, 64, flow.ACK
		batch = append(batch, r)
		q := udp(hostAddr(i%50), 5000, hostAddr(53), 53, 100)
		batch = append(batch, q, answer(q, flow.SignalUDP), arpRequest(i%50, 1000, true))
	}
	return batch
}

func TestObserveDoesNotAllocate(t *testing.T) {
	s := newSim(t).warm()
	batch, now := traffic(), t0
	step := func() {
		now += 2 * ms
		for i := range batch {
			batch[i].Time = now
		}
		s.e.Observe(batch)
		s.e.Advance(now)
	}
	step()
	if n := testing.AllocsPerRun(1000, step); n != 0 {
		t.Errorf("%v allocations for %d records, want 0", n, len(batch))
	}
}

func TestFloodDoesNotAllocate(t *testing.T) {
	s := newSim(t).warm()
	batch, now, n := make([]flow.Record, 500), t0, 0
	step := func() {
		now += 2 * ms
		spoofed(batch, n, now, func(int) netip.Addr { return hostAddr(2) })
		n += len(batch)
		s.e.Observe(batch)
		s.e.Advance(now)
	}
	for range 100 {
		step()
	}
	if len(s.fired()) != 1 {
		t.Fatalf("fired %+v", s.fired())
	}
	if n := testing.AllocsPerRun(200, step); n != 0 {
		t.Errorf("%v allocations for %d records, want 0", n, len(batch))
	}
}

func benchmark(b *testing.B, fill func(batch []flow.Record, from int, now int64)) {
	cfg := DefaultConfig()
	e, err := New(cfg)
	if err != nil {
		b.Fatal(err)
	}
	e.Advance(t0 - 3600*sec)
	batch, now := make([]flow.Record, 64), t0
	const prepared = 1 << 14 // records are made outside the measured time
	all := make([]flow.Record, prepared)
	for i := 0; i < prepared; i += len(batch) {
		fill(all[i:i+len(batch)], i, now)
	}
	b.ReportAllocs()
	b.ResetTimer()
	for n := 0; n < b.N; n += len(batch) {
		from := n % prepared
		now += 64_000 // a record per microsecond
		part := all[from : from+len(batch)]
		for i := range part {
			part[i].Time = now
		}
		e.Observe(part)
		e.Advance(now)
	}
}

func BenchmarkTapConnections(b *testing.B) {
	benchmark(b, func(batch []flow.Record, from int, _ int64) {
		for i := range batch {
			n := (from + i) / 3
			r := syn(clientAddr(n%4096), hostAddr(n%64), 443)
			switch (from + i) % 3 {
			case 1:
				r = answer(r, flow.SignalAccept)
			case 2:
				r.Signal = flow.SignalFinish
			}
			batch[i] = r
		}
	})
}

func BenchmarkSFlowData(b *testing.B) {
	benchmark(b, func(batch []flow.Record, from int, _ int64) {
		for i := range batch {
			r := syn(clientAddr((from+i)%4096), hostAddr(i%64), 443)
			r.Source, r.Signal, r.Rate, r.TCPFlags = flow.SourceSFlow, flow.SignalNone, 64, flow.ACK
			batch[i] = r
		}
	})
}

func BenchmarkRandomSourceFlood(b *testing.B) {
	benchmark(b, func(batch []flow.Record, from int, now int64) {
		spoofed(batch, from, now, func(int) netip.Addr { return hostAddr(2) })
	})
}

// BenchmarkRandomEverything defeats every gate: invented sources to invented
// victims.
func BenchmarkRandomEverything(b *testing.B) {
	benchmark(b, func(batch []flow.Record, from int, now int64) {
		spoofed(batch, from, now, func(i int) netip.Addr { return hostAddr(int(mix(uint64(i)) % (1 << 20))) })
	})
}

// BenchmarkACKFlood is a flood of segments from invented sources, each a
// connection of its own.
func BenchmarkACKFlood(b *testing.B) {
	benchmark(b, func(batch []flow.Record, from int, now int64) {
		spoofed(batch, from, now, func(int) netip.Addr { return hostAddr(2) })
		for i := range batch {
			batch[i].Source, batch[i].Signal, batch[i].TCPFlags, batch[i].Rate = flow.SourceSFlow, flow.SignalNone, flow.ACK, 10
		}
	})
}

package detector

import (
	"testing"

	"github.com/platelet-sdn/platelet/flowcollector/flow"
)

// stealthy scripts a segment without SYN, as the tap reports it, and a reset
// after d where d is not 0.
func (s *sim) stealthy(t int64, from, to int, dport uint16, sig flow.Signal, d int64) {
	r := tcp(hostAddr(from), 50_000, hostAddr(to), dport, sig)
	s.at(t, r)
	if d != 0 {
		s.at(t+d, answer(r, flow.SignalRefuse))
	}
}

func TestStealthScans(t *testing.T) {
	for _, c := range []struct {
		name   string
		signal flow.Signal
		answer int64
		rate   float64
		most   int64 // to decide
	}{
		{"fin, null and xmas, refused", flow.SignalProbe, ms / 5, 1, 4 * ms},
		{"the same, silent", flow.SignalProbe, 0, 1, 4 * ms},
		{"the same, sampled", flow.SignalProbe, 0, 10, 4 * ms},
		{"maimon", flow.SignalFinish, ms / 5, 1, 4 * ms},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newSim(t)
			for i := range 500 {
				s.stealthy(int64(i)*ms, 1, 2, uint16(i+1), c.signal, c.answer)
				s.script[len(s.script)-1].Rate = c.rate
			}
			s.run(2 * sec)
			if f := s.only(KindPortScan); f.Time-t0 > c.most || f.Host != hostAddr(1) || f.Victims[0] != hostAddr(2) {
				t.Errorf("after %d us: %+v", (f.Time-t0)/1000, f)
			}
		})
	}
}

// An ACK scan in a capture of all packets, and connections whose begin it missed.
func TestACKScan(t *testing.T) {
	s := newSim(t)
	ack := func(from, to int, sport, dport uint16) flow.Record {
		r := tcp(hostAddr(from), sport, hostAddr(to), dport, flow.SignalNone)
		r.Source, r.TCPFlags = flow.SourcePacket, flow.ACK
		return r
	}
	for i := range 200 {
		r := ack(1, 2, 50_000, uint16(i+1))
		s.at(int64(i)*ms, r)
		s.at(int64(i)*ms+ms/5, answer(r, flow.SignalRefuse))

		honest := ack(3, 4, uint16(40_000+i), uint16(100+i))
		s.at(int64(i)*ms, honest)
		data := answer(honest, flow.SignalNone)
		data.TCPFlags = flow.ACK | flow.PSH
		s.at(int64(i)*ms+ms/5, data)
		s.at(int64(i)*ms+ms/2, answer(honest, flow.SignalRefuse))
	}
	s.run(5 * sec)
	if f := s.only(KindPortScan); f.Host != hostAddr(1) || f.Time-t0 > 4*ms {
		t.Errorf("after %d us: %+v", (f.Time-t0)/1000, f)
	}
}

// What no honest stack sends is not excused by a busy past.
func TestStealthScanOfBusyHost(t *testing.T) {
	s := newSim(t)
	for i := range 500 {
		s.probe(int64(i)*10*ms, hostAddr(1), clientAddr(i), 443, 5*ms, flow.SignalAccept)
	}
	for i := range 50 {
		s.stealthy(6*sec+int64(i)*300*sec, 1, 2, uint16(i+1), flow.SignalProbe, 0)
	}
	s.run(16_000 * sec)
	if d := s.only(KindPortScan).Time - t0 - 6*sec; d > 901*sec {
		t.Errorf("found after %d s, want at the fourth probe", d/sec)
	}
}

func TestStealthSweep(t *testing.T) {
	s := newSim(t)
	for i := range 50 {
		s.stealthy(int64(i)*ms, 1, 100+i, 445, flow.SignalProbe, 0)
	}
	s.run(2 * sec)
	if f := s.only(KindHostSweep); f.DstPort != 445 {
		t.Errorf("finding %+v", f)
	}
}

// The switch shows neither ports nor flags of segments that are cut before
// their control bits.
func TestFragmentedScan(t *testing.T) {
	s := newSim(t)
	for i := range 50 {
		r := tcp(hostAddr(1), 0, hostAddr(2), 0, flow.SignalProbe)
		s.at(int64(i)*ms, r)
	}
	s.run(2 * sec)
	if f := s.only(KindPortScan); f.Time-t0 > 4*ms {
		t.Errorf("found after %d us", (f.Time-t0)/1000)
	}
}

// A device with a broken stack ends its connections without acknowledging.
func TestBenignBrokenStack(t *testing.T) {
	s := newSim(t)
	for i := range 200 {
		r := syn(hostAddr(1), hostAddr(2+i%5), 80)
		r.SrcPort = uint16(40_000 + i)
		s.connection(int64(i)*sec, r, ms, 20*ms)
		r.Signal = flow.SignalProbe
		s.at(int64(i)*sec+30*ms, r)
	}
	s.run(300 * sec)
	s.quiet()
}

// The tap began in the middle of things: clients and servers end connections
// whose begin nobody saw, and some of those are reset.
func TestBenignStrayEnds(t *testing.T) {
	s := newSim(t)
	for i := range 200 {
		client := tcp(hostAddr(1), uint16(40_000+i), hostAddr(2+i%20), 443, flow.SignalFinish)
		s.at(int64(i)*50*ms, client)
		s.at(int64(i)*50*ms+ms, answer(client, flow.SignalRefuse))
		server := tcp(hostAddr(60), 8080, hostAddr(61), uint16(40_000+i), flow.SignalFinish)
		s.at(int64(i)*50*ms, server)
		s.at(int64(i)*50*ms+ms, answer(server, flow.SignalRefuse))
	}
	s.run(30 * sec)
	s.quiet()
}

func BenchmarkStealthScan(b *testing.B) {
	benchmark(b, func(batch []flow.Record, from int, _ int64) {
		for i := range batch {
			n := from + i
			batch[i] = tcp(hostAddr(n%64), 50_000, hostAddr(n%4096), uint16(n), flow.SignalProbe)
		}
	})
}

package evaluate

import (
	"errors"
	"io"
	"math"
	"net/netip"
	"testing"

	"github.com/platelet-sdn/platelet/flowcollector/flow"
)

// list hands out records.
type list []flow.Record

func (l *list) Read(r *flow.Record) error {
	if len(*l) == 0 {
		return io.EOF
	}
	*r = (*l)[0]
	*l = (*l)[1:]
	return nil
}

func (s Sampling) all(t *testing.T, in []flow.Record) []flow.Record {
	t.Helper()
	l := list(in)
	src, last := s.Of(&l, 1), int64(0)
	var out []flow.Record
	for {
		var r flow.Record
		if err := src.Read(&r); errors.Is(err, io.EOF) {
			return out
		} else if err != nil {
			t.Fatal(err)
		}
		if r.Time < last {
			t.Fatalf("time runs back from %d to %d", last, r.Time)
		}
		last = r.Time
		out = append(out, r)
	}
}

// connection is a log's row of a TCP connection: both directions.
func connection(at int64, packets uint64) []flow.Record {
	a, b := netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("10.0.0.2")
	up := flow.Record{Time: at, Duration: 10e9, Source: flow.SourceLog, Signal: flow.SignalAttempt, Rate: 1, Packets: packets, Bytes: 100 * packets,
		Src: a, Dst: b, SrcPort: 40000, DstPort: 80, Proto: flow.ProtoTCP, TCPFlags: flow.SYN | flow.ACK | flow.FIN}
	down := up
	down.Time, down.Signal = at+1e8, flow.SignalAccept
	down.Src, down.Dst, down.SrcPort, down.DstPort = up.Dst, up.Src, up.DstPort, up.SrcPort
	return []flow.Record{up, down}
}

func TestSamplingOfALog(t *testing.T) {
	const flows, packets = 200, 500
	var in []flow.Record
	for i := range int64(flows) {
		in = append(in, connection(i*1e9, packets)...)
	}
	out := Sampling{Rate: 10}.all(t, in)
	// Binomial: 200,000 packets, one in ten, within five standard deviations.
	if n, want := float64(len(out)), float64(2*flows*packets)/10; math.Abs(n-want) > 5*math.Sqrt(want) {
		t.Errorf("%v of 200,000 packets, want about %v", n, want)
	}
	opens := 0
	for _, r := range out {
		if r.Source != flow.SourceSFlow || r.Rate != 10 || r.Packets != 1 || r.Bytes != 100 || r.Duration != 0 {
			t.Fatalf("%+v is no sample of sFlow", r)
		}
		if r.Signal == flow.SignalAttempt {
			opens++
		}
	}
	if opens < 5 || opens > 45 { // of 200 SYN segments, one in ten
		t.Errorf("%d of 200 SYN segments", opens)
	}
}

func TestTheTapShowsEveryConnection(t *testing.T) {
	var in []flow.Record
	for i := range int64(50) {
		in = append(in, connection(i*1e9, 20)...)
	}
	refused := connection(100e9, 1)
	refused[0].TCPFlags, refused[1].TCPFlags, refused[1].Signal = flow.SYN, flow.RST|flow.ACK, flow.SignalRefuse
	silent := connection(101e9, 3)
	silent[0].TCPFlags, silent[1].Packets, silent[1].Signal = flow.SYN, 0, flow.SignalSilence
	in = append(append(in, refused...), silent...)
	count := map[flow.Signal]int{}
	for _, r := range (Sampling{Rate: 10, Tap: true}).all(t, in) {
		if r.Source == flow.SourceTap {
			count[r.Signal]++
			if r.Rate != 1 {
				t.Errorf("%+v is thinned", r)
			}
		}
	}
	// The silent one is tried three times, of which the tap's view here has
	// the first and the last.
	want := map[flow.Signal]int{flow.SignalAttempt: 53, flow.SignalAccept: 50, flow.SignalRefuse: 1, flow.SignalFinish: 100}
	for s, n := range want {
		if count[s] != n {
			t.Errorf("signal %d: %d records of the tap, want %d", s, count[s], n)
		}
	}
	if count[flow.SignalSilence] != 0 {
		t.Error("nobody sends silence")
	}
}

func TestSamplingOfPackets(t *testing.T) {
	var in []flow.Record
	for i := range int64(20_000) {
		in = append(in, flow.Record{Time: i, Source: flow.SourcePacket, Signal: flow.SignalUDP, Rate: 1, Packets: 1, Bytes: 60, Proto: flow.ProtoUDP})
	}
	n := len(Sampling{Rate: 100}.all(t, in))
	if n < 130 || n > 270 {
		t.Errorf("%d of 20,000 packets at 1:100", n)
	}
	tapped := 0
	for _, r := range (Sampling{Rate: 100, Tap: true}).all(t, in) {
		if r.Source == flow.SourceTap {
			tapped++
			if math.Abs(r.Rate-1/tapShare) > 1e-9 {
				t.Fatalf("rate %v", r.Rate)
			}
		}
	}
	if tapped < 480 || tapped > 720 {
		t.Errorf("the tap shows %d of 20,000 datagrams, want about 600", tapped)
	}
}

func TestSamplingText(t *testing.T) {
	for _, text := range []string{"1:1", "1:10", "1:100", "tap+1:64"} {
		if s, err := ParseSampling(text); err != nil || s.String() != text {
			t.Errorf("%s: %v, %v", text, s, err)
		}
	}
	for _, text := range []string{"", "1", "10", "1:0", "tap", "2:10", "1:x", "1:99999999"} {
		if s, err := ParseSampling(text); err == nil {
			t.Errorf("%q is read as %v", text, s)
		}
	}
}

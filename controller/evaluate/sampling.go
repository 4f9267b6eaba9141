package evaluate

import (
	"errors"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"strconv"
	"strings"

	"github.com/platelet-sdn/platelet/flowcollector/flow"
)

// Sampling is how much of a recording the detectors are shown; see the package
// documentation.
type Sampling struct {
	// Rate N shows one packet in N, as sFlow does; 1 shows the recording.
	Rate int
	// Tap adds the connection tap.
	Tap bool
}

// tapShare is how many of the datagrams and echoes a tap shows at default
// settings; of the segments that open and end connections it shows all.
const tapShare = 0.03

// String is 1:10 or tap+1:10.
func (s Sampling) String() string {
	if s.Tap {
		return fmt.Sprintf("tap+1:%d", s.Rate)
	}
	return fmt.Sprintf("1:%d", s.Rate)
}

// ParseSampling reads what String wrote.
func ParseSampling(text string) (Sampling, error) {
	rest, tap := strings.CutPrefix(text, "tap+")
	number, ok := strings.CutPrefix(rest, "1:")
	n, err := strconv.Atoi(number)
	if !ok || err != nil || n < 1 || n > 1<<24 {
		return Sampling{}, fmt.Errorf("sampling %q is not 1:N or tap+1:N with N from 1 to %d", text, 1<<24)
	}
	return Sampling{Rate: n, Tap: tap}, nil
}

// Records are handed out in the order of time; io.EOF after the last.
type Records interface {
	Read(*flow.Record) error
}

// Of returns what the sampling shows of a recording.
func (s Sampling) Of(in Records, seed uint64) Records {
	if s.Rate == 1 && !s.Tap {
		return in
	}
	rng := rand.New(rand.NewPCG(seed, uint64(s.Rate)))
	return &thinner{in: in, rng: rng, rate: float64(s.Rate), tap: s.Tap}
}

// thinner samples a recording.
type thinner struct {
	in   Records
	rng  *rand.Rand
	rate float64
	tap  bool
	// head is the next record of the input; err why there is none.
	head   flow.Record
	loaded bool
	err    error
	// flows are those of a log whose packets still come, a heap by time.
	flows []underWay
}

// underWay is one direction of a log's flow, of which packet number next is the
// next that is seen.
type underWay struct {
	flow       flow.Record
	next, last uint64 // packets, from 0
	at         int64  // when next is sent
	tapped     bool   // next is seen by the tap, not by sFlow
}

// Read sets r to the next record that is seen.
func (t *thinner) Read(r *flow.Record) error {
	for {
		if !t.loaded && t.err == nil {
			t.err = t.in.Read(&t.head)
			t.loaded = t.err == nil
		}
		if len(t.flows) > 0 && (!t.loaded || t.flows[0].at <= t.head.Time) {
			t.emit(r)
			return nil
		}
		if !t.loaded {
			if errors.Is(t.err, io.EOF) {
				return io.EOF
			}
			return t.err
		}
		t.loaded = false
		if t.head.Source == flow.SourceLog {
			t.begin(&t.head)
		} else if t.pick(&t.head) {
			*r = t.head
			return nil
		}
	}
}

// pick decides about a record that is a packet or was sampled already, and
// makes it a sampled one.
func (t *thinner) pick(r *flow.Record) bool {
	switch r.Source {
	case flow.SourceTap:
		return true
	case flow.SourceIPFIX:
		seen := uint64(0)
		for k := t.skip(); k < r.Packets; k += 1 + t.skip() {
			seen++
		}
		if seen == 0 {
			return false
		}
		r.Bytes = uint64(float64(r.Bytes) * float64(seen) / float64(r.Packets))
		r.Packets = seen
		r.Rate *= t.rate
		return true
	}
	if t.tap && t.rng.Float64()*tapRate(r) < 1 && tapRate(r) > 0 {
		r.Source, r.Rate = flow.SourceTap, tapRate(r)
		return true
	}
	if t.rng.Float64()*t.rate >= 1 {
		return false
	}
	r.Source = flow.SourceSFlow
	r.Rate *= t.rate
	return true
}

// tapRate is the number of packets behind each that the tap shows of a record's
// kind; 0 where it shows none.
func tapRate(r *flow.Record) float64 {
	switch r.Signal {
	case flow.SignalAttempt, flow.SignalAccept, flow.SignalRefuse, flow.SignalFinish,
		flow.SignalUnreachable, flow.SignalARPRequest, flow.SignalARPReply:
		return 1
	case flow.SignalUDP:
		return 1 / tapShare
	case flow.SignalICMP:
		if r.ICMPType == 8 || r.ICMPType == 128 {
			return 1 / tapShare
		}
	}
	return 0
}

// skip draws how many packets pass unseen before the next that is sampled.
func (t *thinner) skip() uint64 { return geometric(t.rng, t.rate) }

func geometric(rng *rand.Rand, rate float64) uint64 {
	if rate <= 1 {
		return 0
	}
	n := math.Log1p(-rng.Float64()) / math.Log1p(-1/rate)
	return uint64(min(n, math.MaxInt64/2))
}

// begin takes a direction of a log's flow apart into packets.
func (t *thinner) begin(r *flow.Record) {
	if r.Packets == 0 || r.Signal == flow.SignalSilence {
		return // nothing was sent: there is no packet to sample
	}
	u := underWay{flow: *r, last: r.Packets - 1}
	u.flow.Bytes, u.flow.Packets = max(1, r.Bytes/r.Packets), 1
	sampled := u
	if sampled.next = t.skip(); sampled.next <= sampled.last {
		t.push(sampled)
	}
	if !t.tap {
		return
	}
	u.tapped = true
	switch p := u.packet(0); {
	case tapRate(&p) == 1:
		t.push(u)
		if last := u.packet(u.last); u.last > 0 && tapRate(&last) == 1 {
			u.next = u.last
			t.push(u)
		}
	case tapRate(&p) > 1:
		if u.next = geometric(t.rng, tapRate(&p)); u.next <= u.last {
			t.push(u)
		}
	default:
		if last := u.packet(u.last); tapRate(&last) == 1 {
			u.next = u.last
			t.push(u)
		}
	}
}

// packet is packet number k of the flow, as it was on the wire.
func (u *underWay) packet(k uint64) flow.Record {
	r := u.flow
	r.Time, r.Duration = u.flow.Time, 0
	if u.last > 0 {
		r.Time += int64(float64(u.flow.Duration) * float64(k) / float64(u.last))
	}
	switch r.Proto {
	case flow.ProtoTCP:
		u.segment(&r, k)
	case flow.ProtoUDP:
		r.Signal = flow.SignalUDP
	}
	return r
}

// segment says what a TCP segment of the flow carries: the first opens or
// answers, the last ends it, as far as the log's judgement and flags go.
func (u *underWay) segment(r *flow.Record, k uint64) {
	retries := u.flow.TCPFlags&(flow.SYN|flow.ACK|flow.FIN|flow.RST) == flow.SYN
	switch s := u.flow.Signal; {
	case s == flow.SignalAttempt && (k == 0 || retries):
		r.Signal, r.TCPFlags = s, flow.SYN
	case s == flow.SignalAccept && k == 0:
		r.Signal, r.TCPFlags = s, flow.SYN|flow.ACK
	case s == flow.SignalRefuse:
		r.TCPFlags = flow.RST | flow.ACK
	case k == u.last && u.flow.TCPFlags&flow.RST != 0:
		r.Signal, r.TCPFlags = flow.SignalRefuse, flow.RST|flow.ACK
	case k == u.last && u.flow.TCPFlags&flow.FIN != 0:
		r.Signal, r.TCPFlags = flow.SignalFinish, flow.FIN|flow.ACK
	default:
		r.Signal, r.TCPFlags = flow.SignalNone, flow.ACK
	}
}

// emit hands out the earliest packet and draws the flow's next.
func (t *thinner) emit(r *flow.Record) {
	u := &t.flows[0]
	*r = u.packet(u.next)
	r.Source, r.Rate = flow.SourceSFlow, t.rate
	gap := t.skip()
	if u.tapped {
		r.Source, r.Rate = flow.SourceTap, max(1, tapRate(r))
		gap = math.MaxInt64 / 2 // one segment, except of datagrams
		if r.Rate > 1 {
			gap = geometric(t.rng, r.Rate)
		}
	}
	if gap >= u.last-u.next {
		t.pop()
		return
	}
	u.next += 1 + gap
	u.at = u.packet(u.next).Time
	t.down(0)
}

func (t *thinner) push(u underWay) {
	u.at = u.packet(u.next).Time
	t.flows = append(t.flows, u)
	for i := len(t.flows) - 1; i > 0; {
		parent := (i - 1) / 2
		if t.flows[parent].at <= t.flows[i].at {
			return
		}
		t.flows[parent], t.flows[i] = t.flows[i], t.flows[parent]
		i = parent
	}
}

func (t *thinner) pop() {
	n := len(t.flows) - 1
	t.flows[0] = t.flows[n]
	t.flows = t.flows[:n]
	t.down(0)
}

func (t *thinner) down(i int) {
	for {
		least := i
		for _, child := range []int{2*i + 1, 2*i + 2} {
			if child < len(t.flows) && t.flows[child].at < t.flows[least].at {
				least = child
			}
		}
		if least == i {
			return
		}
		t.flows[least], t.flows[i] = t.flows[i], t.flows[least]
		i = least
	}
}

package detector

import (
	"math"

	"github.com/platelet-sdn/platelet/flowcollector/flow"
)

// progress is what TCP connections carried by their sequence numbers: two
// samples of one tell exactly how much each side sent between them, whatever
// the sampling rate. Both numbers stand in every segment, so that each sample
// tells of both sides. How much more that is worth than counting samples show
// Ribeiro, Towsley, Ye and Bolot, Fisher information of sampled packets: an
// application to flow size estimation (IMC 2006).
type progress struct {
	port        uint16 // the client's, of the connection that is followed
	connections uint16 // with two samples or more, saturating
	seen        bool   // a sample of this connection
	thinned     bool   // not every packet was captured
	counted     bool   // in connections
	answered    bool   // the server said something
	low, high   [2]uint32
	sums        [2]float32 // of earlier connections, payload bytes
}

// observe takes a record, whatever it is of.
func (p *progress) observe(r *flow.Record, up bool) {
	if r.Rate > 1 && r.Source != flow.SourceTap {
		p.thinned = true
	}
	if r.Proto == flow.ProtoTCP && r.Seq|r.Ack != 0 {
		p.follow(r, up)
	}
}

// follow takes a sampled segment. A jump that no connection makes between two
// samples is a new one with an old port, or a lie.
func (p *progress) follow(r *flow.Record, up bool) {
	const farthest = 1 << 28
	at, port := [2]uint32{r.Seq, r.Ack}, r.SrcPort
	if !up {
		at, port = [2]uint32{r.Ack, r.Seq}, r.DstPort
	}
	if r.TCPFlags&flow.ACK == 0 || r.TCPFlags&flow.RST != 0 {
		return // one of the numbers means nothing
	}
	jump := func(i int) bool { return at[i]-p.low[i]+farthest > p.high[i]-p.low[i]+2*farthest }
	if !p.seen || port != p.port || jump(0) || jump(1) {
		p.fold()
		p.port, p.seen, p.counted = port, true, false
		p.low, p.high = at, at
		return
	}
	if !p.counted && p.connections < math.MaxUint16 {
		p.connections++
	}
	p.counted = true
	for i := range at {
		if int32(at[i]-p.high[i]) > 0 {
			p.high[i] = at[i]
		}
		if int32(at[i]-p.low[i]) < 0 {
			p.low[i] = at[i]
		}
		if p.high[i]-p.low[i] >= 1<<29 { // before it wraps
			p.sums[i] += float32(p.high[i] - p.low[i])
			p.low[i] = p.high[i]
		}
	}
}

// fold adds the connection that was followed to the sums.
func (p *progress) fold() {
	for i := range p.sums {
		p.sums[i] += float32(p.high[i] - p.low[i])
	}
	p.low, p.high = [2]uint32{}, [2]uint32{}
}

// exchange is how much went either way on an edge, in bytes.
type exchange struct {
	up, down      float64
	conversations uint32 // that it is of
	// known is false where sampling hides too much of it.
	known bool
}

// ratio of what was sent to what came back.
func (x exchange) ratio() float64 { return x.up / max(x.down, 1) }

const (
	// sampledConnections is how many connections with two samples tell which
	// side sends more, sampledPackets how many samples tell how much.
	sampledConnections = 4
	sampledPackets     = 64
)

// exchanged says what is known of the volumes of an edge. Where little was
// sampled, the proportion of both sides is that of their sequence numbers.
func (x *edge) exchanged() exchange {
	samples := x.up.samples + x.down.samples
	v := exchange{up: x.up.bytes, down: x.down.bytes, conversations: x.opens, known: samples > 0}
	if !x.progress.thinned || samples >= sampledPackets {
		return v
	}
	p := x.progress
	p.fold()
	if p.connections >= sampledConnections {
		return exchange{up: float64(p.sums[0]), down: float64(p.sums[1]), conversations: uint32(p.connections), known: true}
	}
	v.known = false
	return v
}

package detector

import (
	"math"

	"github.com/platelet-sdn/platelet/detector/bounded"
	"github.com/platelet-sdn/platelet/flowcollector/flow"
)

const (
	// synHonest is the largest share of opening segments among the segments
	// of a client whose conversations come about: it acknowledges and ends
	// them, so that every third is one at most (RFC 9293, section 3.5).
	// synScan is the share among those of a scanner that is hardly answered.
	synHonest, synScan = 1.0 / 3, 0.9
	// synError is the error that Wald's bound allows, per walk that leaves 0.
	synError = 1e-4
	// synSamples is how many samples of a client and a service count: what a
	// download adds to that is no news.
	synSamples = 4
	// synVote keeps the score below that of a finding that may corroborate
	// others: silent servers look the same.
	synVote = 0.94
)

// synKey names a walk: over the services of one target, or over the hosts of one
// service. What a host does else at the same time, such as a download, is in
// other walks.
type synKey struct {
	src, dst address // dst is zero in a walk over hosts
	service  uint64  // 0 in a walk over services
}

// synWalk is the evidence of one walk.
type synWalk struct {
	first, last int64
	sum         float64 // log likelihood ratio, not below 0
	opens       uint32  // samples since sum was 0 that opened something new
	others      uint32  // and those that did not
	packets     float64 // behind opens
	victims     [4]address
}

// synWatch finds scans where there are samples alone (sFlow at 1:N) and outcomes
// are hidden. What is not hidden is of which kind a client's sampled segments
// are: a sequential test (Wald, Annals of Mathematical Statistics 16, 1945; reset
// at 0 as by Page, Biometrika 1954) tells clients that only ever open from those
// that also talk. The first sample of a service counts for it when it opens a
// conversation, the first few that do not count against, retransmissions count
// nothing. At
// 1:N it takes about 10 N probes, of few services or targets. It alerts and does
// not contain, and leaves alone what exporters show that have a connection tap.
type synWatch struct {
	e        *Engine
	walks    *bounded.Table[synKey, synWalk]
	tapped   map[uint16]int64 // by exporter, when its tap last told of an attempt
	up, down float64
	limit    float64
}

func newSynWatch(e *Engine) sensor {
	w := &synWatch{e: e, tapped: map[uint16]int64{}, up: math.Log(synScan / synHonest), down: math.Log((1 - synScan) / (1 - synHonest)), limit: -math.Log(synError)}
	w.walks = bounded.New[synKey](e.cfg.Limit.Suspects, func(x *synWalk) int64 {
		if e.clock.now-x.last > hostIdle {
			return rank(0, x.last)
		}
		return rank(int64(min(x.opens/2, 4)), x.last)
	})
	return w
}

func (w *synWatch) edge(ev *edgeEvent) {
	r, n := ev.r, ev.edge.up.samples
	if r.Proto != flow.ProtoTCP || !ev.up {
		return
	}
	if r.Source == flow.SourceTap && ev.fresh {
		w.tapped[w.e.exporters.number(r.Exporter)] = ev.now
	}
	if r.Source != flow.SourceSFlow || r.Rate <= 1 || n > synSamples {
		return
	}
	if at, ok := w.tapped[w.e.exporters.number(r.Exporter)]; ok && ev.now-at < hostIdle {
		return
	}
	k := &ev.key
	opens := r.TCPFlags&(flow.SYN|flow.ACK|flow.FIN|flow.RST) == flow.SYN
	for _, walk := range [...]synKey{{src: k.src, dst: k.dst}, {src: k.src, service: k.service}} {
		switch {
		case opens && n == 1:
			w.toward(walk, ev)
		case !opens:
			w.away(walk)
		}
	}
}

// toward takes a sample that opens a conversation with a new service.
func (w *synWatch) toward(k synKey, ev *edgeEvent) {
	_, x, fresh := w.walks.Put(k, rank(0, ev.now))
	if x == nil {
		return
	}
	if fresh || x.sum == 0 || ev.now-x.last > hostIdle {
		*x = synWalk{first: ev.now}
	}
	x.last = ev.now
	x.victims[x.opens%uint32(len(x.victims))] = ev.key.dst
	x.opens++
	x.packets += ev.r.ScaledPackets()
	if x.sum = min(x.sum+w.up, 2*w.limit); x.sum >= w.limit {
		w.report(k, x, ev)
	}
}

// away takes a sample that goes on with a conversation.
func (w *synWatch) away(k synKey) {
	if _, x := w.walks.Find(k); x != nil {
		x.sum = max(x.sum+w.down, 0)
		x.others++
	}
}

func (w *synWatch) report(k synKey, x *synWalk, ev *edgeEvent) {
	kind, service := KindPortScan, uint64(flow.ProtoTCP)<<16
	victims := []address{k.dst}
	if k.dst == (address{}) {
		kind, service, victims = KindHostSweep, k.service, nil
		for i := range min(x.opens, uint32(len(x.victims))) {
			victims = append(victims, x.victims[i])
		}
	}
	if w.e.ledger.byKey[findingKey{kind: kind, host: k.src}] != nil {
		return // the random walk has found it
	}
	all := float64(x.opens + x.others)
	w.e.ledger.report(&report{
		key: findingKey{kind: kind, host: k.src, peer: k.dst, service: service}, state: StateFiring, first: x.first, owner: w,
		host: k.src, mac: ev.r.SrcMAC, victims: victims, proto: flow.ProtoTCP, port: contactKey{service: k.service}.port(),
		severity: SeverityMedium, score: min(1/(1+math.Exp(-x.sum)), synVote), confidence: 0.9, records: int64(all),
		rate:     x.packets / max(float64(ev.now-x.first)/1e9, 1),
		evidence: []Evidence{{"opening_samples", float64(x.opens), all * synHonest, 1}, {"other_samples", float64(x.others), 2 * all * synHonest, 0}},
		limits:   []Limit{{"opening_samples", math.Ceil(float64(x.opens) - (x.sum-w.limit)/w.up - 1)}},
	})
}

// resolved implements sensor: evidence that was used is not used again.
func (w *synWatch) resolved(k findingKey) {
	walk := synKey{src: k.host, dst: k.peer}
	if k.kind == KindHostSweep {
		walk = synKey{src: k.host, service: k.service}
	}
	if i, x := w.walks.Find(walk); x != nil {
		w.walks.Delete(i)
	}
}

package detector

import (
	"time"

	"github.com/platelet-sdn/platelet/detector/bounded"
	"github.com/platelet-sdn/platelet/flowcollector/flow"
)

const (
	// pingTargets is how many new hosts decide when they are asked within
	// pingWindow.
	pingTargets = 8
	pingWindow  = int64(10 * time.Second)
	// pingEmpty is the longest frame, in bytes, of an echo request without
	// data: Ethernet (with a tag), IPv6 and eight bytes of ICMP, or the least
	// frame. People's ping and monitors send 32 bytes or more with it.
	pingEmpty = 66
)

// pingWatch finds host discovery that is answered, which failures cannot tell:
// echo requests without data, as scanners send them and hardly anybody else, to
// many new hosts in a moment. It is a fingerprint, so it only tells.
type pingWatch struct {
	e     *Engine
	hosts *bounded.Table[address, pinger]
}

type pinger struct {
	since, last int64
	count       uint32
	targets     [pingTargets]address
}

func newPingWatch(e *Engine) sensor {
	w := &pingWatch{e: e}
	w.hosts = bounded.New[address](e.cfg.Limit.Suspects, func(p *pinger) int64 { return rank(int64(min(p.count, 3)), p.last) })
	return w
}

func (*pingWatch) resolved(findingKey) {}

func (w *pingWatch) edge(ev *edgeEvent) {
	r := ev.r
	if ev.what != edgeOpened || !ev.fresh || ev.key.service>>16 == uint64(flow.ProtoTCP) || !isEchoRequest(r) ||
		r.Packets == 0 || r.Bytes == 0 || r.Bytes > pingEmpty*r.Packets {
		return
	}
	_, p, _ := w.hosts.Put(ev.key.src, rank(0, ev.now))
	if p == nil {
		return
	}
	if ev.now-p.since > pingWindow {
		*p = pinger{since: ev.now}
	}
	p.last = ev.now
	p.targets[p.count%pingTargets] = ev.key.dst
	if p.count++; p.count < pingTargets {
		return
	}
	n := float64(p.count)
	w.e.ledger.report(&report{
		key:   findingKey{kind: KindHostSweep, host: ev.key.src, service: ev.key.service},
		state: StateFiring, first: p.since, owner: w, host: ev.key.src, victims: p.targets[:], proto: r.Proto,
		score: 0.9, confidence: 0.9, severity: SeverityMedium, technique: "T1018",
		records: int64(p.count), rate: n / max(float64(ev.now-p.since)/1e9, 0.01),
		evidence: []Evidence{{"empty_echo_requests_to_new_hosts", n, 0, 1}},
		limits:   []Limit{{"empty_echo_requests_to_new_hosts", pingTargets - 1}},
	})
}

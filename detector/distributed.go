package detector

import (
	"math"
	"slices"
	"time"

	"github.com/platelet-sdn/platelet/detector/bounded"
)

const (
	// crowdWindow is how long failures at a target are counted together.
	crowdWindow = int64(10 * time.Minute)
	// crowdPorts are the distinct closed ports of one target that decide when
	// at least crowdSources asked for them. What the Internet does to every
	// exposed address is a quarter of it.
	crowdPorts   = 96
	crowdSources = 4
	// crowdNamed is how many sources are remembered, crowdPart how many ports
	// one of them must have asked for to be named.
	crowdNamed, crowdPart = 16, 2
	// crowdShare is how many suspects there are per target.
	crowdShare = 8
)

// crowdWatch finds scans that many share: too few failures of each for a walk, but
// more closed ports of one target than anybody's clients ask for (Gates,
// Coordinated scan detection, NDSS 2009). Sources that were found by themselves do
// not count. Who is part of it and who only strayed in cannot be told for certain:
// it is a finding about the target, with one of medium severity about each who
// asked for several ports.
type crowdWatch struct {
	e       *Engine
	targets *bounded.Table[address, crowd]
}

type crowd struct {
	since, last int64
	ports       [crowdPorts]uint64 // services
	distinct    uint32
	sources     [crowdNamed]crowdSource
	filled      uint32
}

type crowdSource struct {
	addr  address
	ports uint32
}

func newCrowdWatch(e *Engine) crowdWatch {
	w := crowdWatch{e: e}
	w.targets = bounded.New[address](max(e.cfg.Limit.Suspects/crowdShare, 1), func(c *crowd) int64 {
		return rank(int64(magnitude(c.distinct)), c.last)
	})
	return w
}

// magnitude is the order of magnitude of a count, below 7.
func magnitude(n uint32) int { return min(int(math.Log2(float64(n+1))), 6) }

func (*crowdWatch) resolved(findingKey) {}

// failed notes that a contact of somebody not yet found has failed.
func (w *crowdWatch) failed(k contactKey) {
	now := w.e.clock.now
	_, c, fresh := w.targets.Put(k.dst, rank(0, now))
	if c == nil {
		return
	}
	if fresh || now-c.since > crowdWindow {
		*c = crowd{since: now}
	}
	c.last = now
	if int(c.distinct) == len(c.ports) || slices.Contains(c.ports[:c.distinct], k.service) {
		return
	}
	c.ports[c.distinct] = k.service
	c.distinct++
	c.credit(k.src)
	if int(c.distinct) == len(c.ports) && c.shared() {
		w.report(k, c)
	}
}

// credit counts a port for its source. Of more sources than are remembered the
// first of one port only makes room.
func (c *crowd) credit(src address) {
	list := c.sources[:c.filled]
	if i := slices.IndexFunc(list, func(s crowdSource) bool { return s.addr == src }); i >= 0 {
		list[i].ports++
		return
	}
	if int(c.filled) < len(c.sources) {
		c.sources[c.filled] = crowdSource{src, 1}
		c.filled++
	} else if i := slices.IndexFunc(list, func(s crowdSource) bool { return s.ports < crowdPart }); i >= 0 {
		list[i] = crowdSource{src, 1}
	}
}

// shared reports whether the ports were asked for by many, none of them by half.
func (c *crowd) shared() bool {
	return c.filled >= crowdSources && !slices.ContainsFunc(c.sources[:c.filled], func(s crowdSource) bool { return 2*s.ports > c.distinct })
}

func (w *crowdWatch) report(k contactKey, c *crowd) {
	now := w.e.clock.now
	ports := float64(c.distinct)
	r := report{
		key: findingKey{kind: KindPortScan, peer: k.dst}, state: StateFiring, first: c.since, owner: w, victims: []address{k.dst},
		proto: k.proto(), score: 0.9, confidence: 0.9, severity: SeverityMedium, records: int64(c.distinct),
		rate:     ports / max(float64(now-c.since)/1e9, 0.01),
		evidence: []Evidence{{"closed_ports_asked_for", ports, crowdPorts / 4, 1}, {"sources_at_least", float64(c.filled), 1, 0}},
		limits:   []Limit{{"closed_ports_asked_for", crowdPorts - 1}, {"sources_at_least", crowdSources - 1}},
	}
	w.e.ledger.report(&r)
	for _, s := range c.sources[:c.filled] {
		if s.ports < crowdPart {
			continue
		}
		r.key.host, r.host, r.score = s.addr, s.addr, 0.8
		r.evidence = []Evidence{{"closed_ports_asked_for", float64(s.ports), 0, 0.5}, {"closed_ports_asked_for_by_all", ports, crowdPorts / 4, 0.5}}
		r.limits = []Limit{{"closed_ports_asked_for", crowdPart - 1}, {"closed_ports_asked_for_by_all", crowdPorts - 1}}
		w.e.ledger.report(&r)
	}
	*c = crowd{since: now, last: now}
}

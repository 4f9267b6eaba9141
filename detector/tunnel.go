package detector

import (
	"math"
	"math/bits"

	"github.com/platelet-sdn/platelet/detector/bounded"
	"github.com/platelet-sdn/platelet/flowcollector/flow"
)

// TunnelConfig tunes the detection of data in DNS names. Every name that was
// not asked for before adds the octets beyond what names usually carry to a
// CUSUM (Page 1954) per client and registered domain.
type TunnelConfig struct {
	// Usual is how many octets of five bits a name carries in front of its
	// registered domain without being odd: hosts of content networks, hashes that virus
	// scanners look up, addresses in reverse.
	Usual float64
	// Drain is how many odd octets per second anybody may ask for, Threshold
	// how many beyond that decide. Paxson et al. bound what gets out
	// unnoticed at 4 kB a day and look at every alarm by hand; these let
	// more through.
	Drain, Threshold float64
	// Names is how many odd names must have been seen, sampled or not.
	Names uint32
	// Query is the size of a query in bytes, with its IP header, that is not
	// odd where no payload is seen.
	Query float64
	// Domains bounds the clients and domains followed at once, 128 bytes
	// each.
	Domains int
}

func defaultTunnel() TunnelConfig {
	return TunnelConfig{Usual: 36, Drain: 8, Threshold: 4 << 10, Names: 8, Query: 150, Domains: 1 << 14}
}

func (c *TunnelConfig) valid() bool {
	return c.Usual >= 0 && c.Drain > 0 && c.Threshold > 0 && c.Names > 0 && c.Query > 0 && c.Domains > 0
}

const (
	// entropyUnit is the scale of flow.DNS.Entropy.
	entropyUnit = 32
	// coded is how many bits a character carries at most that tunnels make:
	// DNS takes letters of either case for the same.
	coded = 5
)

// domainKey names a client and what it asks for: a registered domain, names
// whose end was cut off (no zone), or everything, which is known by size alone
// where no payload is seen.
type domainKey struct {
	client address
	zone   uint32
	scope  domainScope
}

type domainScope uint8

const (
	scopeDomain domainScope = iota
	scopeClient             // all its domains
	scopeSizes              // all its queries, by size
)

// domain is what a client asked for.
type domain struct {
	first, last, told int64
	net               float64 // odd octets, CUSUM
	names             sketch  // asked for lately
	odd               uint32  // odd names
	carried, entropy  float32 // smoothed, of odd names
	rare              uint32  // of them, of types that carry much
	zone              uint32  // scopeClient: of the latest finding
	firing            bool
}

// tunnelWatch finds data in DNS names, after Paxson, Christodorescu, Javed,
// Rao, Sailer, Schales, Stoecklin, Thomas, Venema and Weaver, Practical
// comprehensive bounds on surreptitious communication over DNS (USENIX
// Security 2013): what matters is how much information the names below one
// domain can carry, however they are made. Answers carry data as well, but to
// get at them one has to ask for ever new names.
type tunnelWatch struct {
	e       *Engine
	domains *bounded.Table[domainKey, domain]
	weight  weighing
}

func newTunnelWatch(e *Engine) *tunnelWatch {
	w := &tunnelWatch{e: e}
	w.domains = bounded.New[domainKey](e.cfg.Tunnel.Domains, func(d *domain) int64 {
		switch {
		case d.firing:
			return rank(3, d.last)
		case d.net > e.cfg.Tunnel.Threshold/8:
			return rank(2, d.last)
		case d.odd > 0:
			return rank(1, d.last)
		}
		return rank(0, d.last)
	})
	return w
}

// resolved implements sensor: what was counted for the finding is used up.
func (w *tunnelWatch) resolved(k findingKey) {
	zone := uint32(0)
	if _, all := w.domains.Find(domainKey{k.host, 0, scopeClient}); all != nil {
		zone = all.zone
	}
	for _, key := range []domainKey{{k.host, zone, scopeDomain}, {k.host, 0, scopeClient}, {k.host, 0, scopeSizes}} {
		if _, d := w.domains.Find(key); d != nil {
			*d = domain{first: w.e.clock.now, last: w.e.clock.now}
		}
	}
}

// edge implements edgeSensor.
func (w *tunnelWatch) edge(ev *edgeEvent) {
	if ev.key.port() != 53 || ev.key.proto() != flow.ProtoUDP || ev.r.Source == flow.SourceTap || w.resolver(ev.key.src) {
		return
	}
	switch d := &ev.r.DNS; {
	case d.Flags&flow.DNSReverse != 0:
	case d.Valid():
		w.name(ev, d)
	case ev.up && ev.r.Packets > 0:
		w.size(ev)
	}
}

// resolver reports whether a host answers such questions itself: then it asks
// for others.
func (w *tunnelWatch) resolver(host address) bool {
	_, c := w.e.familiar.circles.Find(circleKey{host, uint64(flow.ProtoUDP)<<16 | 53, true})
	return c != nil
}

// name takes a name from the payload.
func (w *tunnelWatch) name(ev *edgeEvent, q *flow.DNS) {
	if q.Flags&flow.DNSCut != 0 && q.Longest == 1 {
		return // an address in reverse that was cut before it says so
	}
	excess := float64(q.Carried)*min(float64(q.Entropy)/entropyUnit/coded, 1) - w.e.cfg.Tunnel.Usual
	if excess <= 0 {
		return
	}
	for _, k := range [...]domainKey{{ev.key.src, q.Zone, scopeDomain}, {ev.key.src, 0, scopeClient}} {
		d := w.at(k)
		if d == nil {
			continue
		}
		names := d.news(w.e.hash(uint64(q.Name)))
		if names == 0 {
			continue
		}
		d.odd++
		smooth(&d.carried, float64(q.Carried), d.odd)
		smooth(&d.entropy, float64(q.Entropy)/entropyUnit, d.odd)
		if isCarrier(q.Type) {
			d.rare++
		}
		w.add(ev, k, d, excess*names*ev.r.Rate)
	}
}

// size takes queries of which only the size is known.
func (w *tunnelWatch) size(ev *edgeEvent) {
	n := float64(ev.r.Packets)
	mean := float64(ev.r.Bytes) / n
	if mean <= w.e.cfg.Tunnel.Query {
		return
	}
	k := domainKey{ev.key.src, 0, scopeSizes}
	d := w.at(k)
	if d == nil {
		return
	}
	d.odd += uint32(min(n, 1e6))
	smooth(&d.carried, mean, d.odd)
	w.add(ev, k, d, (mean-w.e.cfg.Tunnel.Query)*n*ev.r.Rate)
}

// at finds or makes what is known of a domain.
func (w *tunnelWatch) at(k domainKey) *domain {
	now := w.e.clock.now
	_, d, fresh := w.domains.Put(k, rank(0, now))
	if fresh && d != nil {
		d.first, d.last = now, now
	}
	return d
}

// news says how many names a name stands for that was not asked for lately: one,
// and those that the sketch took for known ones by chance (Ting, Streamed
// approximate counting of distinct elements, KDD 2014). It is 0 for a known one.
func (d *domain) news(hash uint64) float64 {
	const size = len(d.names) * 64
	old, ones := d.names, 0
	for _, x := range old {
		ones += bits.OnesCount64(x)
	}
	if ones > size*3/4 { // too full to tell
		old, ones = sketch{}, 0
	}
	d.names = old
	d.names.put(hash)
	if d.names == old {
		return 0
	}
	return float64(size) / float64(size-ones)
}

// smooth moves a mean towards a value, as the plain mean of the first few.
func smooth(mean *float32, value float64, n uint32) {
	*mean += float32((value - float64(*mean)) / float64(min(n, 64)))
}

// isCarrier reports whether a type is one whose answers carry much, and that
// hosts seldom ask for: tools prefer them.
func isCarrier(t uint16) bool {
	switch t {
	case flow.DNSTypeTXT, flow.DNSTypeNULL, flow.DNSTypeMX, flow.DNSTypeCNAME, flow.DNSTypePrivate:
		return true
	}
	return false
}

// add adds odd octets, and decides.
func (w *tunnelWatch) add(ev *edgeEvent, k domainKey, d *domain, octets float64) {
	c, now := &w.e.cfg.Tunnel, ev.now
	bound := c.Threshold
	switch k.scope {
	case scopeClient: // several domains, each too little by itself
		bound *= 8
	case scopeSizes: // nothing is known of the names
		bound *= 4
	case scopeDomain:
	}
	// What is too much already says nothing about how long it lasts.
	d.net = min(max(d.net-float64(now-d.last)/1e9*c.Drain, 0)+octets, 4*bound)
	d.last = now
	if d.net < bound || d.odd < c.Names || now-d.told < reportEvery {
		return
	}
	d.told = now
	w.report(ev, k, d, bound)
}

// reportEvery is how often evidence of a finding is refreshed.
const reportEvery = int64(1e9)

// report weighs and reports a tunnel.
func (w *tunnelWatch) report(ev *edgeEvent, k domainKey, d *domain, bound float64) {
	v := w.weight.begin(0)
	v.add("odd_octets", d.net, bound, min(math.Log2(d.net/bound), 1))
	if k.scope == scopeSizes {
		v.add("query_bytes", float64(d.carried), w.e.cfg.Tunnel.Query, 1)
	} else {
		v.add("new_names", float64(d.odd), float64(w.e.cfg.Tunnel.Names), 0.5)
		v.add("carried_octets", float64(d.carried), w.e.cfg.Tunnel.Usual, min(float64(d.carried)/w.e.cfg.Tunnel.Usual-1, 1.5))
		v.add("entropy_bits", float64(d.entropy), 4, min(max(float64(d.entropy)-4, 0), 1))
		if d.rare*2 > d.odd {
			v.add("carrier_types", float64(d.rare)/float64(d.odd), 0.1, 0.5)
		}
	}
	r := report{
		key:   findingKey{kind: KindDNSTunnel, host: k.client},
		state: StateFiring, first: d.first, owner: w, host: k.client, victims: []address{ev.key.dst},
		proto: ev.key.proto(), port: ev.key.port(), score: v.score(), confidence: sampleConfidence(d.odd),
		evidence: v.evidence(), records: int64(d.odd), limits: []Limit{{"odd_octets", bound}},
	}
	if r.score < beaconMedium {
		r.severity = SeverityLow
	}
	d.firing = w.e.ledger.report(&r) != nil
	if all := w.at(domainKey{k.client, 0, scopeClient}); all != nil && k.scope == scopeDomain {
		all.zone = k.zone
	}
}

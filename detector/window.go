package detector

import (
	"math"
	"math/bits"
	"net/netip"

	"github.com/platelet-sdn/platelet/detector/bounded"
	"github.com/platelet-sdn/platelet/flowcollector/flow"
)

// windowLength is how long a host's features are gathered.
const windowLength = int64(60e9)

// acquaintance is how long everything is new to an engine that has just begun.
const acquaintance = int64(10 * 60e9)

// Window is what a host did in a minute.
type Window struct {
	Host netip.Addr
	// Start and End are Unix nanoseconds; the window began with the host's
	// first record and lasts a minute.
	Start, End int64
	Values     [NumFeatures]float64
	// Rate is the largest number of packets that a record stood for: 1 when
	// nothing was sampled.
	Rate    float64
	Records uint32
	// Sent and Received count the records behind the volumes: packets or
	// flows that carry bytes, not those that only tell of attempts.
	Sent, Received uint32
	// Suspicious is true when a finding, pending ones too, names the host:
	// nothing should be learned from this window.
	Suspicious bool
	// Settled is true once the engine has watched for long enough that an
	// edge which is new to it may be new to the host.
	Settled bool

	addr address
}

// activity is a window while it lasts.
type activity struct {
	start                         int64
	opens, accepts, fails, served uint32
	newEdges, records             uint32
	servers, services, clients    sketch
	outside, inside, admin        sketch64
	ports                         [16]uint16 // server ports by hash, for the entropy
	out, in                       volume
	sizes, squares                float64 // of packets sent, weighted
	tcp, udp, icmp                float64
	lastOpen                      int64
	gaps, gapsSquared             float64 // seconds between opens
	queries, queryFails           uint32
	queryBytes                    float64
	rate                          float64
	mac                           flow.MAC
	ttl, ttls, macs               uint8
}

// sketch64 counts up to about 100 distinct values, see sketch.
type sketch64 uint64

func (k *sketch64) add(hash uint64) { *k |= 1 << (hash >> 8 & 63) }

func (k sketch64) estimate() float64 {
	zeros := 64 - bits.OnesCount64(uint64(k))
	return -64 * math.Log(max(float64(zeros), 0.5)/64)
}

// windowWatch gathers the windows of all active hosts.
type windowWatch struct {
	e     *Engine
	table *bounded.Table[address, activity]
	queue deadlines // of slots, by the start of their windows
	done  Window
	began int64 // when the first window did; 0 before
}

func newWindowWatch(e *Engine) *windowWatch {
	w := &windowWatch{e: e, queue: newDeadlines(e.cfg.Limit.Windows)}
	w.table = bounded.New[address](e.cfg.Limit.Windows, func(a *activity) int64 {
		return rank(int64(min(a.records/16, 7)), a.start)
	})
	return w
}

// at finds or makes the activity of a host. Hint is the slot where it was last.
func (w *windowWatch) at(h address, hint *uint32) *activity {
	if k, ok := w.table.Key(*hint); ok && k == h {
		return w.table.At(*hint)
	}
	now := w.e.clock.now
	slot, a, fresh := w.table.Put(h, rank(0, now))
	if a == nil {
		return nil
	}
	*hint = slot
	if fresh {
		if !w.queue.push(deadline{since: now, slot: slot}) {
			w.table.Delete(slot)
			w.e.stats.Shed++
			return nil
		}
		a.start = now
		if w.began == 0 {
			w.began = now
		}
		w.e.wake(now + windowLength)
	}
	return a
}

// observe adds an event on an edge to the windows of both its ends.
func (w *windowWatch) observe(ev *edgeEvent) {
	if c := w.at(ev.key.src, &ev.edge.client); c != nil {
		c.asClient(w, ev)
	}
	if s := w.at(ev.key.dst, &ev.edge.server); s != nil {
		s.asServer(w, ev)
	}
}

// asClient counts an event for the client of its edge.
func (a *activity) asClient(w *windowWatch, ev *edgeEvent) {
	a.common(ev, ev.up)
	h := w.e.keys.address(ev.key.dst)
	service := w.e.keys.pair(h, ev.key.service)
	a.servers.put(h)
	a.services.put(service)
	if w.e.inside(ev.key.dst) {
		a.inside.add(service)
	} else {
		a.outside.add(service)
	}
	if isAdmin(ev.key) {
		a.admin.add(service)
	}
	if ev.fresh {
		a.newEdges++
	}
	port := &a.ports[w.e.hash(ev.key.service)&15]
	if *port < math.MaxUint16 {
		*port++
	}
	dns := ev.key.port() == 53
	switch ev.what {
	case edgeOpened:
		a.opens++
		a.gap(ev.now)
	case edgeAccepted:
		a.accepts++
	case edgeFailed:
		a.fails++
		if dns {
			a.queryFails++
		}
	case edgeClosed, edgeTraffic:
	}
	if dns && ev.up && ev.what != edgeClosed {
		n := max(ev.r.ScaledPackets(), 1)
		if ev.r.Source != flow.SourceTap || ev.r.Rate <= 1 {
			a.queries += uint32(min(n, 1e6))
			a.queryBytes += ev.r.ScaledBytes()
		}
	}
}

func (a *activity) asServer(w *windowWatch, ev *edgeEvent) {
	a.common(ev, !ev.up)
	a.clients.put(w.e.keys.address(ev.key.src))
	if ev.what == edgeOpened {
		a.served++
	}
}

// common counts what does not depend on who is the client.
func (a *activity) common(ev *edgeEvent, sent bool) {
	r := ev.r
	a.records++
	a.rate = max(a.rate, r.Rate)
	if !sent {
		if r.Source != flow.SourceTap {
			a.in.add(r)
		}
		return
	}
	a.identity(r)
	if r.Source == flow.SourceTap {
		return
	}
	a.out.add(r)
	packets := r.ScaledPackets()
	if r.Packets > 0 {
		size := float64(r.Bytes) / float64(r.Packets)
		a.sizes += packets * size
		a.squares += packets * size * size
	}
	switch r.Proto {
	case flow.ProtoTCP:
		a.tcp += packets
	case flow.ProtoUDP:
		a.udp += packets
	case flow.ProtoICMP, flow.ProtoICMPv6:
		a.icmp += packets
	}
}

// identity counts changes of what should stay the same.
func (a *activity) identity(r *flow.Record) {
	if r.TTL != 0 {
		if a.ttl != 0 && a.ttl != r.TTL && a.ttls < math.MaxUint8 {
			a.ttls++
		}
		a.ttl = r.TTL
	}
	if !r.SrcMAC.IsZero() {
		if !a.mac.IsZero() && a.mac != r.SrcMAC && a.macs < math.MaxUint8 {
			a.macs++
		}
		a.mac = r.SrcMAC
	}
}

func (a *activity) gap(now int64) {
	if a.lastOpen != 0 {
		d := float64(now-a.lastOpen) / 1e9
		a.gaps += d
		a.gapsSquared += d * d
	}
	a.lastOpen = now
}

// expire hands out the windows that are over and returns when the next is.
func (w *windowWatch) expire(now int64) int64 {
	for {
		d, ok := w.queue.pop(now, windowLength)
		if !ok {
			break
		}
		h, held := w.table.Key(d.slot)
		a := w.table.At(d.slot)
		if !held || a.start != d.since {
			continue // evicted
		}
		w.fill(h, a)
		w.table.Delete(d.slot)
		for _, s := range w.e.sensors.windows {
			s.window(&w.done)
		}
	}
	return w.queue.due(windowLength, windowLength, math.MaxInt64)
}

// fill computes the features of a window.
func (w *windowWatch) fill(h address, a *activity) {
	d := &w.done
	*d = Window{
		Host: h.netip(), addr: h, Rate: a.rate, Records: a.records, Sent: a.out.samples, Received: a.in.samples,
		Start: w.e.clock.outside(a.start), End: w.e.clock.outside(a.start + windowLength),
		Suspicious: w.e.ledger.suspicious(h), Settled: a.start-w.began >= acquaintance,
	}
	v := &d.Values
	v[FeatureOpens], v[FeatureAccepted], v[FeatureFailed] = float64(a.opens), float64(a.accepts), float64(a.fails)
	v[FeatureFailedShare] = share(float64(a.fails), float64(a.accepts))
	services := finite(a.services.estimate())
	v[FeatureServers], v[FeatureServices] = finite(a.servers.estimate()), services
	if v[FeatureServers] > 0 {
		v[FeatureServicesPerServer] = services / v[FeatureServers]
	}
	v[FeatureNewEdges] = float64(a.newEdges)
	if services > 0 {
		v[FeatureNewEdgeShare] = min(float64(a.newEdges)/services, 1)
	}
	v[FeatureOutside] = share(a.outside.estimate(), a.inside.estimate())
	v[FeatureAdmin] = math.Round(a.admin.estimate())
	v[FeatureServed], v[FeatureClients] = float64(a.served), finite(a.clients.estimate())
	v[FeaturePacketsOut], v[FeaturePacketsIn] = a.out.packets, a.in.packets
	v[FeatureBytesOut], v[FeatureBytesIn] = a.out.bytes, a.in.bytes
	v[FeatureOutShare] = share(a.out.bytes, a.in.bytes)
	v[FeatureSizeMean], v[FeatureSizeSpread] = moments(a.out.packets, a.sizes, a.squares)
	v[FeatureRegularity] = a.regularity()
	v[FeaturePortEntropy] = a.entropy()
	if sum := a.tcp + a.udp + a.icmp; sum > 0 {
		v[FeatureTCPShare], v[FeatureUDPShare], v[FeatureICMPShare] = a.tcp/sum, a.udp/sum, a.icmp/sum
	}
	v[FeatureDNSQueries] = float64(a.queries)
	if a.queries > 0 {
		v[FeatureDNSBytes] = a.queryBytes / float64(a.queries)
	}
	v[FeatureDNSFailed] = float64(a.queryFails)
	v[FeatureTTLs], v[FeatureMACs] = float64(a.ttls), float64(a.macs)
}

// regularity is near 1 when conversations begin at equal intervals and near
// 1/2 when they come at random; 0 when there were too few to tell.
func (a *activity) regularity() float64 {
	n := float64(a.opens) - 1
	if n < 4 {
		return 0
	}
	_, spread := moments(n, a.gaps, a.gapsSquared)
	return 1 / (1 + spread)
}

// entropy of the server ports, normalised to that of as many different ones
// (16 at most are told apart).
func (a *activity) entropy() float64 {
	total, h := 0.0, 0.0
	for _, n := range a.ports {
		total += float64(n)
	}
	if total < 2 {
		return 0
	}
	for _, n := range a.ports {
		if n > 0 {
			p := float64(n) / total
			h -= p * math.Log(p)
		}
	}
	return h / math.Log(min(total, float64(len(a.ports))))
}

// moments returns the mean of n values and their standard deviation relative
// to it, from their sum and sum of squares.
func moments(n, sum, squares float64) (mean, spread float64) {
	if n <= 0 || sum <= 0 {
		return 0, 0
	}
	mean = sum / n
	return mean, math.Sqrt(max(squares/n-mean*mean, 0)) / mean
}

func share(part, rest float64) float64 {
	if part+rest <= 0 {
		return 0
	}
	return part / (part + rest)
}

// isAdmin reports whether a service is one that hosts are administered by.
func isAdmin(k contactKey) bool {
	if k.proto() != flow.ProtoTCP {
		return false
	}
	switch k.port() {
	case 22, 23, 135, 139, 445, 3389, 5900, 5985, 5986:
		return true
	}
	return false
}

package detector

import (
	"math"

	"github.com/platelet-sdn/platelet/flowcollector/flow"
)

// portKey names a port of an exporter; port 0 stands for all of them where
// ports are not told.
type portKey struct {
	inPort   uint32
	exporter uint16
}

// portStations is a CUSUM (Page, Biometrika 1954) of the stations that a port
// has that it did not have before. A switch forgets the stations that it has no
// room for and then sends to everybody what is for them, so whoever invents
// stations hears everything.
type portStations struct {
	first, last int64
	s           float64
	astray      float64 // the same, of those whose first frame was for nobody
	rate        float64 // learned, new stations per second
	count       float64 // in this bin
	bin         int64   // its start
	total       int64
	began       int64 // when s left 0
	// resident is the only address that lives behind the port.
	resident    address
	residentMAC flow.MAC
	several     bool
	firing      bool
}

const (
	stationBin = int64(10e9)
	// stationTau is the time constant of the baseline.
	stationTau = float64(3600e9)
	// stationCap bounds what can be learned as normal, in new stations per
	// second: however slowly it is taught.
	stationCap    = 50.0
	stationMargin = 1.5
	// trunkFactor is how many times more new stations a port may have at
	// first: it may lead to a switch whose stations were there all along.
	trunkFactor = 8
	// A station that appears speaks to one that is there, or to all. Invented
	// ones, as of macof, speak to each other: of those a quarter of the usual
	// number decides, beyond astrayDrift per second.
	astrayDrift = 50.0
	astrayShare = 4
)

// drift is how many new stations per second are normal.
func (p *portStations) drift(c *LinkConfig) float64 {
	return math.Min(math.Max(stationMargin*p.rate, c.StationRate), stationCap)
}

// arrived counts a station that was not known.
func (w *linkWatch) arrived(r *flow.Record) {
	now, c := w.e.clock.now, &w.e.cfg.Link
	exporter := w.e.exporters.number(r.Exporter)
	_, p, fresh := w.ports.Put(portKey{r.InPort, exporter}, rank(0, now))
	if p == nil {
		return
	}
	if fresh {
		p.first, p.last, p.bin = now, now, now
	}
	limit := c.NewStations
	if now-p.first < settling {
		limit *= trunkFactor
	}
	p.pass(now, c, limit)
	if p.s == 0 {
		p.began, p.total = now, 0
	}
	p.s++
	if w.astray(r) {
		p.astray++
	}
	p.count++
	p.total++
	if p.s >= limit || p.astray >= c.NewStations/astrayShare {
		w.raiseMACFlood(p, r, exporter, limit)
	}
	p.s, p.astray = math.Min(p.s, 2*limit), math.Min(p.astray, c.NewStations)
}

// astray reports whether a frame is for one station that nobody has heard of,
// once there was time to hear of those that are there.
func (w *linkWatch) astray(r *flow.Record) bool {
	return w.e.clock.now-w.e.clock.start > int64(w.e.cfg.WarmUp) && !r.DstMAC.IsZero() && !group(r.DstMAC) &&
		w.find(r.DstMAC, w.e.exporters.number(r.Exporter)) == nil
}

// pass lets time pass: s leaks, and in calm times the rate is learned.
func (p *portStations) pass(now int64, c *LinkConfig, limit float64) {
	dt := float64(now-p.last) / 1e9
	p.s, p.astray = math.Max(p.s-p.drift(c)*dt, 0), math.Max(p.astray-astrayDrift*dt, 0)
	p.last = now
	d := now - p.bin
	if d < stationBin {
		return
	}
	if p.s < limit/4 {
		gain := 1 - math.Exp(-float64(d)/stationTau)
		p.rate += gain * (p.count/(float64(d)/1e9) - p.rate)
	}
	p.count, p.bin = 0, now
}

func (w *linkWatch) raiseMACFlood(p *portStations, r *flow.Record, exporter uint16, limit float64) {
	elapsed := math.Max(float64(w.e.clock.now-p.began)/1e9, 1e-3)
	rep := report{
		key:   findingKey{kind: KindMACFlood, inPort: r.InPort, exporter: exporter},
		state: StateFiring, first: p.began, owner: w, exporter: exporter, inPort: r.InPort,
		score: 1 - math.Exp(-4*math.Max(p.s/limit, astrayShare*p.astray/w.e.cfg.Link.NewStations)), confidence: 0.99, sequential: true, records: p.total,
		rate: float64(p.total) / elapsed, baseline: p.rate,
		evidence: []Evidence{
			{"new_stations", float64(p.total), p.rate * elapsed, share(p.s/limit, astrayShare*p.astray/w.e.cfg.Link.NewStations)},
			{"new_stations_that_speak_to_nobody", p.astray, 0, share(astrayShare*p.astray/w.e.cfg.Link.NewStations, p.s/limit)},
		},
	}
	if p.s >= limit { // the last s - limit of them were too many
		rep.limits = append(rep.limits, Limit{"new_stations", max(float64(p.total)-1-math.Floor(p.s-limit), 0)})
	}
	if least := w.e.cfg.Link.NewStations / astrayShare; p.astray >= least {
		rep.limits = append(rep.limits, Limit{"new_stations_that_speak_to_nobody", least - 1})
	}
	if !p.several {
		rep.host, rep.mac = p.resident, p.residentMAC
	}
	if w.e.ledger.report(&rep) != nil {
		p.firing = true
	}
}

// lives notes that an address lives behind a port.
func (w *linkWatch) lives(a address, mac flow.MAC, k portKey) {
	_, p := w.ports.Find(k)
	if p == nil || !a.is4() {
		return
	}
	p.several = p.several || p.resident != (address{}) && p.resident != a
	p.resident, p.residentMAC = a, mac
}

package detector

import (
	"math"
	"time"

	"github.com/platelet-sdn/platelet/detector/bounded"
	"github.com/platelet-sdn/platelet/flowcollector/flow"
)

// ExfilConfig tunes the detection of data that leaves in bulk. What a client
// sends to one service beyond what comes back is summed up, less what drains
// (Page's CUSUM), and compared with a bound that depends on how usual the
// service is and on what the client has uploaded before.
type ExfilConfig struct {
	// Drain is how many bytes per second any client may upload.
	Drain float64
	// Return is how many bytes of upload one byte in the other direction
	// excuses: calls and sessions of people go both ways.
	Return float64
	// Ratio is the least proportion of what was sent to what came back, ever:
	// a measurement of speed goes one way after the other.
	Ratio float64
	// The bounds, in bytes, for a service that nobody else uses and that is
	// new or on an unusual port; for any other; and for one that many use.
	Odd, Usual, Common float64
	// Habit multiplies the largest upload that the client is known for,
	// HabitCap bounds it, in bytes, whatever was seen, and it halves every
	// HabitHalfLife.
	Habit, HabitCap float64
	HabitHalfLife   time.Duration
	// Young is the age up to which a service is new.
	Young time.Duration
}

func defaultExfil() ExfilConfig {
	return ExfilConfig{Drain: 16 << 10, Return: 4, Ratio: 8, Odd: 4 << 20, Usual: 64 << 20, Common: 512 << 20,
		Habit: 2, HabitCap: 64 << 20, HabitHalfLife: 24 * time.Hour, Young: time.Hour}
}

func (c *ExfilConfig) valid() bool {
	return c.Drain > 0 && c.Return >= 0 && c.Ratio >= 0 && c.Odd > 0 && c.Usual >= c.Odd && c.Common >= c.Usual &&
		c.Habit >= 0 && c.HabitCap >= 0 && c.HabitHalfLife > 0 && c.Young > 0
}

// upload is what an edge remembers of data that leaves.
type upload struct {
	at, told int64   // latest change, latest report; engine time
	net      float64 // bytes, CUSUM
}

// uploader is what a client is known to upload: bytes of the largest upload,
// fading, and of the largest one lately, which counts only when it has been
// over for a while, or it would teach us to tolerate itself.
type uploader struct {
	at, lateAt int64
	most, late float64
}

// settled is how long an upload must be past to be a habit.
const settled = 10 * time.Minute

// exfilWatch finds data that leaves in bulk, after Marchetti, Pierazzi,
// Colajanni and Guido, Analysis of high volumes of network traffic for
// advanced persistent threat detection (Computer Networks 109, 2016): by the
// upload, its direction, and how new and rare its destination is. Data that
// drips away is found by its rhythm, see beaconWatch.
type exfilWatch struct {
	e         *Engine
	uploaders *bounded.Table[address, uploader]
	weight    weighing
}

func newExfilWatch(e *Engine) *exfilWatch {
	w := &exfilWatch{e: e}
	w.uploaders = bounded.New[address](max(e.cfg.Limit.Windows/4, 1), func(u *uploader) int64 {
		return rank(int64(min(u.most/(1<<20), 7)), u.at)
	})
	return w
}

// resolved implements sensor.
func (w *exfilWatch) resolved(k findingKey) {
	if _, x := w.e.edges.table.Find(contactKey{k.host, k.peer, k.service}); x != nil {
		x.upload = upload{at: w.e.clock.now}
	}
}

// edge implements edgeSensor.
func (w *exfilWatch) edge(ev *edgeEvent) {
	r := ev.r
	if r.Source == flow.SourceTap || r.Bytes == 0 {
		return
	}
	u := &ev.edge.upload
	bytes := r.ScaledBytes()
	u.net -= float64(ev.now-u.at) / 1e9 * w.e.cfg.Exfil.Drain
	if ev.up {
		u.net = max(u.net, 0) + bytes
	} else {
		u.net = max(u.net-w.e.cfg.Exfil.Return*bytes, 0)
	}
	u.at = ev.now
	// A log tells of the upload before it tells of the answer.
	if u.net < w.e.cfg.Exfil.Odd || r.Source == flow.SourceLog && ev.up || ev.now-u.told < int64(time.Second) {
		return
	}
	u.told = ev.now
	w.weigh(ev)
}

// concerns reports whether an edge can carry data away: not calls and video,
// nor what guests upload, nor inside what backups, files and mail go by.
func (w *exfilWatch) concerns(k contactKey) bool {
	inside := w.e.inside(k.dst)
	switch {
	case w.e.inside(k.src) == inside && !inside && w.e.cfg.Inside != nil, !w.e.inside(k.src) && inside:
		return false
	case k.proto() == flow.ProtoUDP:
		return k.port() == 443
	case k.proto() != flow.ProtoTCP:
		return false
	}
	return !inside || habitOf(k) != habitClock && !isBulk(k.port())
}

// isBulk lists services that are there to be sent much to: copies, backups,
// file and object stores, measurements of speed.
func isBulk(p uint16) bool {
	switch p {
	case 20, 21, 22, 989, 990, 5001, 5201, 8400, 9000, 9101, 9102, 9103, 10000, 10001, 13724, 13782:
		return true
	}
	return false
}

// bound is the upload that is tolerated on an edge.
func (w *exfilWatch) bound(k contactKey, u usage) (bytes float64, odd bool) {
	c := &w.e.cfg.Exfil
	inside := w.e.inside(k.dst)
	switch {
	case u.clients >= manyClients:
		bytes = c.Common
	case inside && u.few() && u.age < int64(c.Young) && u.news, !inside && u.clients == 1 && habitOf(k) == habitUnknown:
		bytes, odd = c.Odd, true
	default:
		bytes = c.Usual
	}
	if _, h := w.uploaders.Find(k.src); h != nil {
		bytes += c.Habit * min(w.faded(h), c.HabitCap)
	}
	return bytes, odd
}

func (w *exfilWatch) faded(h *uploader) float64 {
	return h.most * math.Exp2(-float64(w.e.clock.now-h.at)/float64(w.e.cfg.Exfil.HabitHalfLife))
}

// weigh decides whether an upload is one too many, or learns from it.
func (w *exfilWatch) weigh(ev *edgeEvent) {
	k, u := ev.key, &ev.edge.upload
	if !w.concerns(k) {
		return
	}
	use := w.e.familiar.usage(k)
	bound, odd := w.bound(k, use)
	// A single sample stands for much when packets are sampled thinly.
	const samples, size = 16, 1500
	both := ev.edge.exchanged()
	if u.net < max(bound, samples*size*ev.r.Rate) || both.ratio() < w.e.cfg.Exfil.Ratio {
		w.learn(k.src, u.net)
		return
	}
	v := w.weight.begin(-1)
	v.add("upload_bytes", u.net, bound, 1+min(math.Log2(u.net/bound), 3))
	v.add("out_in_ratio", both.ratio(), w.e.cfg.Exfil.Ratio, 0.5)
	if odd {
		v.add("odd_destinations", 1, 0, 1)
	}
	if !w.e.inside(k.dst) {
		v.add("servers_outside", 1, 0, 0.5)
	}
	r := report{
		key:   findingKey{kind: KindExfiltration, host: k.src, peer: k.dst, service: k.service},
		state: StateFiring, first: ev.edge.first, owner: w, host: k.src, victims: []address{k.dst},
		proto: k.proto(), port: k.port(), score: v.score(), confidence: sampleConfidence(ev.edge.up.samples),
		severity: SeverityLow, evidence: v.evidence(), records: int64(ev.edge.up.samples), technique: "T1048",
		limits: []Limit{{"upload_bytes", bound}},
	}
	if habitOf(k) == habitWeb || habitOf(k) == habitAltWeb {
		r.technique = "T1048.002"
	}
	if r.score >= beaconMedium {
		r.severity = SeverityMedium
	}
	w.e.ledger.report(&r)
}

// sampleConfidence says how well so many samples tell a volume: their number
// is Poisson distributed.
func sampleConfidence(n uint32) float64 { return 1 - 1/math.Sqrt(float64(max(n, 1))+1) }

// learn keeps the largest upload of a client. Nothing is learned of one that a
// finding names.
func (w *exfilWatch) learn(client address, bytes float64) {
	if w.e.ledger.suspicious(client) {
		return
	}
	now := w.e.clock.now
	_, h, fresh := w.uploaders.Put(client, rank(0, now))
	if h == nil {
		return
	}
	if fresh || now-h.lateAt > int64(settled) {
		if faded := w.faded(h); h.late >= faded {
			h.most, h.at = h.late, h.lateAt
		}
		h.late, h.lateAt = 0, now
	}
	h.late = max(h.late, bytes)
}

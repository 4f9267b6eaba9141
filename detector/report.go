package detector

import (
	"math"

	"github.com/platelet-sdn/platelet/flowcollector/flow"
)

// A finding is a vote when its score is at least corroborating and sampling
// leaves that score a confidence of at least confident: two votes of different
// families may contain.
const (
	corroborating = 0.95
	confident     = 0.8
)

// report is all that a detector says of what it found. The ledger makes,
// promotes, refreshes and emits the finding.
type report struct {
	key   findingKey
	state State
	first int64 // engine time of the first evidence
	owner sensor

	// host is the attacker, zero when none is believed; where it sends
	// from is taken from what is known of the host unless said here.
	host     address
	mac      flow.MAC
	exporter uint16
	inPort   uint32
	spoofed  bool
	origin   address // whom the attack came to the attacker from
	victims  []address
	proto    uint8
	port     uint16 // destination port, 0 when many

	score      float64  // calibrated probability of an attack, in [0,1]
	confidence float64  // of that score, given sampling
	severity   Severity // empty: the kind's
	technique  string   // empty: the kind's
	sequential bool
	evidence   []Evidence
	limits     []Limit // up to which it would not have fired
	records    int64
	rate       float64 // packets per second
	baseline   float64 // normal packets per second
}

// justBelow is the limit where a finding takes at least x.
func justBelow(x float64) float64 { return (math.Ceil(x*1000) - 1) / 1000 }

// report makes or refreshes a finding, and emits it when its state is new or
// when it comes to be corroborated. It returns nil when it must not be made.
func (l *ledger) report(r *report) *active {
	a, changed := l.raise(r.owner, r.key, r.state, r.first, r.host)
	if a == nil {
		return nil
	}
	for _, v := range r.victims {
		a.victim(v)
	}
	f := &a.finding
	f.Score, f.Confidence = r.score, r.confidence
	f.Records, f.Rate, f.Baseline = r.records, r.rate, r.baseline
	a.explain(r.evidence...)
	for _, x := range r.limits {
		a.bound(x.Feature, x.Value)
	}
	if changed {
		l.place(f, r)
		f.Origin = r.origin.netip()
		f.Spoofed, f.Proto, f.DstPort, f.Sequential = r.spoofed, r.proto, r.port, r.sequential
		if r.severity != "" {
			f.Severity = r.severity
		}
		if r.technique != "" {
			f.Technique = r.technique
		}
	}
	if l.corroborate(a) || changed {
		l.emit(a)
	}
	return a
}

// place says whom a finding names and where it enters.
func (l *ledger) place(f *Finding, r *report) {
	f.Host, f.HostMAC = r.host.netip(), r.mac
	exporter, inPort := r.exporter, r.inPort
	if _, h := l.e.hosts.Find(r.host); h != nil {
		if f.HostMAC.IsZero() {
			f.HostMAC = h.mac
		}
		if inPort == 0 {
			exporter, inPort = h.exporter, h.inPort
		}
	}
	f.Exporter, f.InPort = l.e.exporters.at(exporter), inPort
}

// corroborate looks for findings of other families about the same host. It
// returns true when a firing finding has got its first vote. The other finding
// gets its vote as well, and is emitted.
func (l *ledger) corroborate(a *active) bool {
	if !a.votes() || a.finding.Sequential || len(a.agrees) > 0 {
		return false
	}
	for _, b := range l.byHost[a.who] {
		if b == a || !b.votes() || b.finding.Family == a.finding.Family {
			continue
		}
		a.agree(b)
		if !b.finding.Sequential && len(b.agrees) == 0 {
			b.agree(a)
			l.emit(b)
		}
	}
	return len(a.agrees) > 0
}

// votes reports whether a finding can corroborate others.
func (a *active) votes() bool {
	f := &a.finding
	return f.State == StateFiring && a.who != (address{}) && !f.Spoofed && f.Score >= corroborating && f.Confidence >= confident
}

func (a *active) agree(b *active) {
	if len(a.agrees) < maxExcerpt {
		a.agrees = append(a.agrees, Vote{b.finding.ID, b.finding.Kind, b.finding.Family, b.finding.Score})
	}
}

// suspicious reports whether any finding, pending ones too, names a host:
// nothing is learned from it meanwhile.
func (l *ledger) suspicious(who address) bool { return len(l.byHost[who]) > 0 }

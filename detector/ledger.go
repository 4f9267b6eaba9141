package detector

import (
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"slices"

	"github.com/platelet-sdn/platelet/flowcollector/flow"
)

// findingKey is what a finding is about. Host is the scanner, or the victim
// of a flood; a sweep of addresses is keyed by mac.
type findingKey struct {
	kind     Kind
	host     address
	mac      flow.MAC
	inPort   uint32
	exporter uint16
}

const (
	maxVictims  = 16
	maxEvidence = 4
	// paceFactor is how many of its own intervals an attack must be quiet
	// for; see Config.KeepFiring.
	paceFactor = 8
)

// active is a finding that is not resolved.
type active struct {
	key      findingKey
	finding  Finding // without Victims and Evidence
	last     int64   // latest evidence
	pace     float64 // smoothed interval between evidence, nanoseconds
	victims  [maxVictims]address
	filled   int
	next     int
	evidence [maxEvidence]Evidence
	reasons  int
}

// victim remembers the latest distinct victims.
func (a *active) victim(v address) {
	if slices.Contains(a.victims[:a.filled], v) {
		return
	}
	a.victims[a.next] = v
	a.next = (a.next + 1) % maxVictims
	a.filled = min(a.filled+1, maxVictims)
}

// explain sets pieces of evidence, by feature.
func (a *active) explain(list ...Evidence) {
	for _, ev := range list {
		i := slices.IndexFunc(a.evidence[:a.reasons], func(x Evidence) bool { return x.Feature == ev.Feature })
		if i < 0 {
			if a.reasons == maxEvidence {
				continue
			}
			i = a.reasons
			a.reasons++
		}
		a.evidence[i] = ev
	}
}

func (a *active) snapshot() Finding {
	f := a.finding
	for i := range a.filled { // the latest first
		f.Victims = append(f.Victims, a.victims[(a.next+maxVictims-1-i)%maxVictims].netip())
	}
	f.Evidence = slices.Clone(a.evidence[:a.reasons])
	return f
}

// ledger keeps the life of findings.
type ledger struct {
	e     *Engine
	byKey map[findingKey]*active
	next  int64 // when findings are next looked through
}

func newLedger(e *Engine) *ledger {
	return &ledger{e: e, byKey: map[findingKey]*active{}}
}

// raise makes, promotes or refreshes a finding. changed says that its state is
// new, in which case the caller completes it and calls emit. It returns nil
// when the finding must not be made. who is the attacker, zero if unknown.
func (l *ledger) raise(k findingKey, state State, first int64, who address) (a *active, changed bool) {
	now := l.e.clock.now
	a = l.byKey[k]
	if a == nil {
		if len(l.byKey) >= l.e.cfg.Limit.Findings {
			l.e.stats.Crowded++
			return nil, false
		}
		if l.e.cfg.Ignore != nil && who != (address{}) && l.e.cfg.Ignore(who.netip()) {
			l.e.stats.Ignored++
			return nil, false
		}
		// What it took to raise the finding is the first guess at its pace:
		// about four pieces of evidence.
		a = &active{key: k, last: now, pace: float64(now-first) / 4}
		a.finding = Finding{Kind: k.kind, FirstSeen: l.e.clock.outside(first)}
		a.finding.ID = identify(k, a.finding.FirstSeen, l.e.exporters.at(k.exporter))
		l.byKey[k] = a
	}
	l.refresh(a, now)
	if a.finding.State == state || a.finding.State == StateFiring {
		return a, false
	}
	a.finding.State = state
	a.finding.Time = l.e.clock.outside(now)
	if state == StateFiring {
		l.e.stats.Findings++
	}
	return a, true
}

// refresh notes evidence and learns how often it comes.
func (l *ledger) refresh(a *active, now int64) {
	gap := float64(now - a.last)
	a.pace += (gap - a.pace) / 8
	a.pace = max(a.pace, gap/2)
	a.last = now
}

func (l *ledger) emit(a *active) {
	if l.e.cfg.Emit != nil {
		l.e.cfg.Emit(a.snapshot())
	}
}

// expire resolves what has been quiet for long enough.
func (l *ledger) expire(now int64) {
	if now < l.next {
		return
	}
	const every = int64(50e6)
	l.next = now + every
	for _, a := range l.quiet(now) {
		delete(l.byKey, a.key)
		fired := a.finding.State == StateFiring
		a.finding.State = StateResolved
		a.finding.Time = l.e.clock.outside(now)
		if fired {
			l.e.resolved(a.key)
		}
		l.emit(a)
	}
}

// quiet lists the findings whose evidence has ceased, in a fixed order, so that
// a replay tells the same story twice.
func (l *ledger) quiet(now int64) []*active {
	var list []*active
	for _, a := range l.byKey {
		keep := min(max(int64(paceFactor*a.pace), int64(l.e.cfg.KeepFiring)), int64(l.e.cfg.MaxKeepFiring))
		if now-a.last >= keep {
			list = append(list, a)
		}
	}
	slices.SortFunc(list, func(a, b *active) int { return cmp.Compare(a.finding.ID, b.finding.ID) })
	return list
}

// dropped keeps findings alive by what our own rules drop: it is evidence that
// an attack goes on, never that there is one.
func (l *ledger) dropped(r *flow.Record) {
	src, dst := address{}, address{}
	if r.Src.IsValid() && r.Dst.IsValid() {
		src, dst = addressOf(r.Src), addressOf(r.Dst)
	}
	for _, a := range l.byKey {
		if l.matches(a, r, src, dst) {
			a.finding.Records++
			l.refresh(a, l.e.clock.now)
		}
	}
}

// matches reports whether a dropped packet belongs to a finding.
func (l *ledger) matches(a *active, r *flow.Record, src, dst address) bool {
	k := &a.key
	switch k.kind {
	case KindPortScan, KindHostSweep:
		return k.host == src
	case KindARPSweep:
		return k.mac == r.SrcMAC
	default:
		return k.host == dst && (k.inPort == r.InPort || k.inPort == 0) && a.finding.Proto == r.Proto
	}
}

func (l *ledger) snapshots() []Finding {
	list := make([]Finding, 0, len(l.byKey))
	for _, a := range l.byKey {
		list = append(list, a.snapshot())
	}
	slices.SortFunc(list, func(a, b Finding) int {
		return cmp.Or(cmp.Compare(a.FirstSeen, b.FirstSeen), cmp.Compare(a.ID, b.ID))
	})
	return list
}

// identify derives an ID from what the finding is about and when it began: the
// same in every replay, another one after a restart.
func identify(k findingKey, first int64, x flow.Exporter) string {
	h := sha256.New()
	h.Write([]byte(k.kind))
	b := make([]byte, 0, 64)
	b = binary.BigEndian.AppendUint64(b, k.host.hi)
	b = binary.BigEndian.AppendUint64(b, k.host.lo)
	b = append(b, k.mac[:]...)
	b = binary.BigEndian.AppendUint32(b, k.inPort)
	b = binary.BigEndian.AppendUint64(b, uint64(first))
	b = binary.BigEndian.AppendUint32(b, x.Domain)
	h.Write(b)
	h.Write(x.Addr.AsSlice())
	return "f-" + hex.EncodeToString(h.Sum(nil)[:8])
}

// resolved lets the detector that made a finding start afresh.
func (e *Engine) resolved(k findingKey) {
	switch k.kind {
	case KindPortScan, KindHostSweep:
		e.scan.resolved(k)
	case KindARPSweep:
		e.arp.resolved(k)
	default:
		e.flood.resolved(k)
	}
}

package detector

import (
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"slices"

	"github.com/platelet-sdn/platelet/flowcollector/flow"
)

// findingKey is what a finding is about. Host is the attacker, or the victim
// of a flood; a sweep of addresses is keyed by mac. Peer and service are set
// where a host can be found several times for what it does to several.
type findingKey struct {
	kind     Kind
	host     address
	peer     address
	service  uint64 // as in contactKey
	mac      flow.MAC
	inPort   uint32
	exporter uint16
}

const (
	maxVictims  = 16
	maxEvidence = 8
	maxExcerpt  = 8
	// paceFactor is how many of its own intervals an attack must be quiet
	// for; see Config.KeepFiring.
	paceFactor = 8
)

// active is a finding that is not resolved.
type active struct {
	key      findingKey
	owner    sensor  // hears that it is resolved
	finding  Finding // without Victims, Evidence, Agrees and Excerpt
	who      address // the attacker that byHost knows it by
	last     int64   // latest evidence
	pace     float64 // smoothed interval between evidence, nanoseconds
	victims  [maxVictims]address
	filled   int
	next     int
	evidence [maxEvidence]Evidence
	reasons  int
	agrees   []Vote
	limits   []Limit
	excerpt  [maxExcerpt]flow.Record
	records  uint64 // ever put into the excerpt
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
	f.Agrees, f.Limits = slices.Clone(a.agrees), slices.Clone(a.limits)
	for n := a.records - min(a.records, maxExcerpt); n < a.records; n++ {
		f.Excerpt = append(f.Excerpt, a.excerpt[n%maxExcerpt])
	}
	return f
}

// quote keeps a record for the explanation.
func (a *active) quote(r *flow.Record) {
	if r == nil {
		return
	}
	a.excerpt[a.records%maxExcerpt] = *r
	a.records++
	f := &a.finding
	if f.SampledTo = max(f.SampledTo, r.Rate); f.SampledFrom == 0 || r.Rate < f.SampledFrom {
		f.SampledFrom = r.Rate
	}
}

// bound says up to which value of a feature the finding would not have fired.
func (a *active) bound(feature string, value float64) {
	for i := range a.limits {
		if a.limits[i].Feature == feature {
			a.limits[i].Value = value
			return
		}
	}
	if len(a.limits) < maxEvidence {
		a.limits = append(a.limits, Limit{feature, value})
	}
}

// recentRecords is how many records are kept for the excerpts of findings that
// are yet to come.
const recentRecords = 256

// recent holds the latest records that open, answer or end something.
type recent struct {
	ring [recentRecords]flow.Record
	n    uint64
}

func (x *recent) keep(r *flow.Record) {
	if r.Signal == flow.SignalNone || r.Signal == flow.SignalDropped || r.Signal == flow.SignalForged {
		return
	}
	x.ring[x.n%recentRecords] = *r
	x.n++
}

// quote puts the latest records of a finding's host, or of its victim or
// station, into the excerpt, in order; not the current one, which follows.
func (x *recent) quote(a *active, current *flow.Record) {
	var found [maxExcerpt]uint64
	k := 0
	for n := x.n; n > 0 && x.n-n < recentRecords && k < maxExcerpt; n-- {
		r := &x.ring[(n-1)%recentRecords]
		if (current == nil || *r != *current) && a.concerns(r) {
			found[k] = n - 1
			k++
		}
	}
	for ; k > 0; k-- {
		a.quote(&x.ring[found[k-1]%recentRecords])
	}
}

// concerns reports whether a record is of the host, victim or station that a
// finding is about.
func (a *active) concerns(r *flow.Record) bool {
	if a.key.mac != (flow.MAC{}) {
		return a.key.mac == r.SrcMAC
	}
	who := a.who
	if who == (address{}) {
		who = a.key.host
	}
	return r.Src.IsValid() && addressOf(r.Src) == who || r.Dst.IsValid() && addressOf(r.Dst) == who
}

// ledger keeps the life of findings.
type ledger struct {
	e     *Engine
	byKey map[findingKey]*active
	// byHost holds the findings that name a host as their attacker.
	byHost map[address][]*active
	next   int64 // when findings are next looked through
}

func newLedger(e *Engine) *ledger {
	return &ledger{e: e, byKey: map[findingKey]*active{}, byHost: map[address][]*active{}}
}

// raise makes, promotes or refreshes a finding. changed says that its state is
// new, in which case the caller completes it and calls emit. It returns nil
// when the finding must not be made. who is the attacker, zero if unknown;
// owner hears when the finding is over.
func (l *ledger) raise(owner sensor, k findingKey, state State, first int64, who address) (a *active, changed bool) {
	now := l.e.clock.now
	a = l.byKey[k]
	if a == nil {
		if len(l.byKey) >= l.e.cfg.Limit.Findings {
			l.e.stats.Crowded++
			return nil, false
		}
		if l.e.cfg.Ignore != nil && who != (address{}) && l.e.cfg.Ignore(who.netip(), k.kind) {
			l.e.stats.Ignored++
			return nil, false
		}
		// What it took to raise the finding is the first guess at its pace:
		// about four pieces of evidence.
		a = &active{key: k, owner: owner, last: now, pace: float64(now-first) / 4}
		info, _ := k.kind.Info()
		a.finding = Finding{Kind: k.kind, FirstSeen: l.e.clock.outside(first), Severity: info.Severity,
			Technique: info.Technique, ICS: info.ICS, Family: info.Family}
		a.finding.ID = identify(k, a.finding.FirstSeen, l.e.exporters.at(k.exporter))
		if about := cmp.Or(who, k.host); about != (address{}) {
			a.finding.Usual = l.e.anomaly.profile(about)
		}
		l.byKey[k] = a
		if who != (address{}) {
			a.who = who
			l.byHost[who] = append(l.byHost[who], a)
		}
		l.e.recent.quote(a, l.e.current)
	}
	a.quote(l.e.current)
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
		l.remove(a)
		fired := a.finding.State == StateFiring
		a.finding.State = StateResolved
		a.finding.Time = l.e.clock.outside(now)
		if fired {
			a.owner.resolved(a.key)
		}
		l.emit(a)
	}
}

func (l *ledger) remove(a *active) {
	delete(l.byKey, a.key)
	if a.who == (address{}) {
		return
	}
	rest := slices.DeleteFunc(l.byHost[a.who], func(x *active) bool { return x == a })
	if len(rest) == 0 {
		delete(l.byHost, a.who)
		return
	}
	l.byHost[a.who] = rest
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
// an attack goes on, never that there is one. It returns false for what belongs
// to no finding.
func (l *ledger) dropped(r *flow.Record) (known bool) {
	src, dst := address{}, address{}
	if r.Src.IsValid() && r.Dst.IsValid() {
		src, dst = addressOf(r.Src), addressOf(r.Dst)
	}
	for _, a := range l.byKey {
		if l.matches(a, r, src, dst) {
			a.finding.Records++
			l.refresh(a, l.e.clock.now)
			known = true
		}
	}
	return known
}

// matches reports whether a dropped packet belongs to a finding.
func (l *ledger) matches(a *active, r *flow.Record, src, dst address) bool {
	k := &a.key
	switch {
	case k.kind == KindAmplification && k.host == src:
		return uint64(r.Proto)<<16|uint64(r.DstPort) == k.service // asked in its name
	case k.kind.flood():
		return k.host == dst && (k.inPort == r.InPort || k.inPort == 0) && a.finding.Proto == r.Proto
	case k.kind == KindMACFlood:
		return k.inPort == r.InPort
	case k.mac != (flow.MAC{}):
		return k.mac == r.SrcMAC
	case a.who != (address{}):
		return a.who == src && !l.honest(k.kind, r, src, dst)
	}
	return k.inPort != 0 && k.inPort == r.InPort // a port is all that is known
}

// honest reports whether a packet of a scanner is one of those that it sent
// before: to a service that answered it. A host in quarantine goes on with its
// honest business as long as nobody tells its programs, and that is no scan.
func (l *ledger) honest(kind Kind, r *flow.Record, src, dst address) bool {
	if kind != KindPortScan && kind != KindHostSweep && kind != KindWorm {
		return false
	}
	for _, k := range [...]contactKey{contactKeyOf(src, dst, r.DstPort, r.Proto), contactKeyOf(dst, src, r.SrcPort, r.Proto)} {
		if _, x := l.e.edges.table.Find(k); x != nil && x.answered() {
			return true
		}
	}
	return false
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
	b := make([]byte, 0, 96)
	b = binary.BigEndian.AppendUint64(b, k.host.hi)
	b = binary.BigEndian.AppendUint64(b, k.host.lo)
	b = append(b, k.mac[:]...)
	if k.peer != (address{}) || k.service != 0 {
		b = binary.BigEndian.AppendUint64(b, k.peer.hi)
		b = binary.BigEndian.AppendUint64(b, k.peer.lo)
		b = binary.BigEndian.AppendUint64(b, k.service)
	}
	b = binary.BigEndian.AppendUint32(b, k.inPort)
	b = binary.BigEndian.AppendUint64(b, uint64(first))
	b = binary.BigEndian.AppendUint32(b, x.Domain)
	h.Write(b)
	h.Write(x.Addr.AsSlice())
	return "f-" + hex.EncodeToString(h.Sum(nil)[:8])
}

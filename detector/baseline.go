package detector

import (
	"math"
	"time"
)

// vectorSize is the features of a window and, last, the surprise of the edges
// that the host began in it.
const (
	featureSurprise = NumFeatures
	vectorSize      = NumFeatures + 1
)

// vector holds a value per feature, transformed or standardised.
type vector [vectorSize]float64

// Learning of baselines. What a host does is compared with its own median and
// spread, which are followed so slowly that a ramp of one percent a minute
// outruns them, and not at all while the host is suspicious: estimates that
// adapt quickly, robust ones too, can be taught anything by going slowly.
const (
	// apprenticeFor is how many windows a host's baseline needs before the host
	// is judged by it, settledAfter how many, of a day, before it is held to it:
	// before, nights and days are still being learned.
	apprenticeFor = 60
	settledAfter  = 1440
	// slowest is the gain that learning comes down to.
	slowest = 0.004
	// spreadQuantile of the deviations is taken for the spread: the median
	// one would be that of the idle minutes of a host that works an hour.
	spreadQuantile = 0.9
	normalQuantile = 1.6449 // of |x| for a normal distribution, the same quantile
	// cusumDrift and cusumStep are k of the CUSUM and the most that one
	// window adds, in spreads.
	cusumDrift, cusumStep = 1, 4
	// A standardised value is clipped: less than usual is no attack.
	clipBelow, clipAbove = -2, 8
)

// baseline is what is normal for one host, and how far it is from it.
type baseline struct {
	location, spread [vectorSize]float32 // of transformed features
	shift            [vectorSize]float32 // CUSUM upwards, in spreads
	first, seen      int64               // windows learned: the first, the latest
	raised           int64               // since when the CUSUM is, 0 if it is not
	told             bool                // that it is
	partial          bool                // sampling hid some features of the latest window
	windows          uint32              // learned, saturating
	edges            uint16              // scored in the window under way
	role             hostRole
	wanted           hostRole // by the latest look, to be confirmed by the next
	surprise         float32  // of the window under way
	hour             bestOfHour
	voted            int64 // latest vote in the role's baseline
}

// bestOfHour gathers the highest scores of a host within an hour, which is the unit
// that alert rates are promised for.
type bestOfHour struct {
	number  int64 // hours since 1970
	best    [numModels]float32
	windows uint8
	tainted bool // the host was suspicious
	found   bool // there was a finding of ours
}

func (b *baseline) worth() int64 {
	return rank(int64(min(b.windows/apprenticeFor, 4)), b.seen)
}

// spreadFloors are the least spreads of a feature: smaller deviations are of no interest
// however regular a host is.
func spreadFloors(infos []FeatureInfo) (floors vector) {
	for i, f := range infos {
		floors[i] = 0.1
		if f.Log {
			floors[i] = 0.5 // a factor of 1.6, or one more than none
		}
	}
	floors[featureSurprise] = 1
	return floors
}

// gain is the step of learning, in spreads.
func (b *baseline) gain() float64 {
	return max(min(0.5, 4/float64(b.windows+1)), slowest)
}

// learn moves the baseline towards a window by stochastic approximation of
// quantiles (Robbins and Monro, Ann. Math. Stat. 22, 1951): no window, however
// extreme, moves it by more than one step. Above its cap a settled host's
// location does not grow. hidden features are left alone.
func (b *baseline) learn(y *vector, floors, caps *vector, hidden *[vectorSize]bool) {
	if b.windows == 0 {
		b.first = b.seen
		for i := range y {
			b.location[i], b.spread[i] = float32(y[i]), float32(floors[i])
		}
	}
	g := b.gain()
	for i, v := range y {
		if hidden[i] {
			continue
		}
		m, s := float64(b.location[i]), max(float64(b.spread[i]), floors[i])
		d := math.Abs(v - m)
		step := min(g*s, d)
		switch {
		case v < m:
			m -= step
		case v > m && (b.windows < settledAfter || m < caps[i]):
			m += step
		}
		b.location[i] = float32(m)
		if d > s*normalQuantile {
			s *= 1 + g*spreadQuantile
		} else {
			s *= 1 - g*(1-spreadQuantile)
		}
		b.spread[i] = float32(max(s, floors[i]))
	}
	b.windows = min(b.windows+1, math.MaxUint32/2)
}

// expect is the location of a feature at an hour of the week.
func (b *baseline) expect(i int, usual *vector) float64 { return float64(b.location[i]) + usual[i] }

// standardise says how far a window is from the baseline, in spreads.
func (b *baseline) standardise(y, usual *vector, hidden *[vectorSize]bool, z *vector) {
	for i, v := range y {
		z[i] = 0
		if !hidden[i] {
			z[i] = min(max((v-b.expect(i, usual))/float64(b.spread[i]), clipBelow), clipAbove)
		}
	}
}

// accumulate is the CUSUM (Page, Biometrika 41, 1954) of every feature against
// the baseline. It returns the highest.
func (b *baseline) accumulate(z *vector) (highest float64) {
	for i, v := range z {
		s := max(0, float64(b.shift[i])+min(v, cusumStep)-cusumDrift)
		b.shift[i] = float32(s)
		highest = max(highest, s)
	}
	return highest
}

// forget starts a baseline afresh.
func (b *baseline) forget() {
	*b = baseline{seen: b.seen, role: b.role, wanted: b.wanted, voted: b.voted}
}

// hostRole is a group of hosts that behave alike. Rules tell them apart, so that it
// can be said why a host is in one.
type hostRole uint8

const (
	roleNone    hostRole = iota // too little is known
	roleClient                  // begins conversations
	roleServer                  // is asked more than it asks
	roleScanner                 // asks many hosts or services for a living: a monitor
	roleDevice                  // asks few, regularly
	hostRoles
)

func (r hostRole) String() string {
	return [...]string{"unknown", "client", "server", "scanner-like", "device"}[r]
}

// behaviour is the role that a baseline looks like.
func (b *baseline) behaviour() hostRole {
	usual := func(f int) float64 { return math.Expm1(float64(b.location[f])) }
	opens, servers := usual(FeatureOpens), usual(FeatureServers)
	switch {
	case b.windows < apprenticeFor:
		return roleNone
	case usual(FeatureServices) >= 30 || usual(FeatureNewEdges) >= 10:
		return roleScanner
	case usual(FeatureClients) >= 1 && usual(FeatureServed) >= opens:
		return roleServer
	case servers <= 3 && b.location[FeatureRegularity] >= 0.7 && b.location[FeatureOutside] < 0.1:
		return roleDevice
	}
	return roleClient
}

// assign follows a change of behaviour once it was seen twice.
func (b *baseline) assign() {
	now := b.behaviour()
	if now == b.wanted {
		b.role = now
	}
	b.wanted = now
}

// population is what hosts of a role do. A host votes once an hour with its own
// location, and its vote counts one step whatever it says; hosts behind the
// same port share a vote.
type population struct {
	location, spread [vectorSize]float32
	votes            uint32
	week             [hoursOfWeek]season
}

const hoursOfWeek = 24 * 7

// season is how an hour of the week differs from the rest, for hosts of a role.
type season struct {
	offset [vectorSize]float32
	votes  uint16
	weeks  uint16 // in which there were votes
	week   int32  // the latest of these, since 1970
}

// census is how many votes make a population that hosts are held to.
const census = 8 * 24

// vote lets a host's location count.
func (p *population) vote(b *baseline, floors *vector) {
	g := max(4/float64(p.votes+8), slowest)
	for i := range p.location {
		if p.votes == 0 {
			p.location[i], p.spread[i] = b.location[i], float32(floors[i])
			continue
		}
		m, s, v := float64(p.location[i]), max(float64(p.spread[i]), floors[i]), float64(b.location[i])
		d := math.Abs(v - m)
		p.location[i] = float32(m + math.Copysign(min(g*s, d), v-m))
		if d > s*normalQuantile {
			s *= 1 + g*spreadQuantile
		} else {
			s *= 1 - g*(1-spreadQuantile)
		}
		p.spread[i] = float32(max(s, floors[i]))
	}
	p.votes = min(p.votes+1, math.MaxUint32/2)
}

// caps are the locations above which a settled host learns nothing more: four
// spreads of the population, or no limit while there is none.
func (p *population) caps(caps *vector) {
	for i := range caps {
		caps[i] = math.Inf(1)
		if p.votes >= census {
			caps[i] = float64(p.location[i]) + 4*float64(p.spread[i])
		}
	}
}

// season returns the one that a time is in.
func (p *population) season(at int64) *season {
	t := time.Unix(0, at).UTC()
	return &p.week[int(t.Weekday())*24+t.Hour()]
}

const (
	// An hour of the week is believed to differ after so many windows in so
	// many weeks.
	seasonVotes, seasonWeeks = 240, 2
	seasonGain               = 0.02
)

// usual fills in the offsets of an hour, zeros when too little is known of it.
func (s *season) usual(offsets *vector) (known bool) {
	*offsets = vector{}
	if s.votes < seasonVotes || s.weeks < seasonWeeks {
		return false
	}
	for i := range offsets {
		offsets[i] = float64(s.offset[i])
	}
	return true
}

// vote moves the offsets one step towards a window.
func (s *season) vote(b *baseline, y, floors *vector, hidden *[vectorSize]bool, at int64) {
	for i, v := range y {
		if hidden[i] {
			continue
		}
		off := float64(s.offset[i])
		d := v - float64(b.location[i]) - off
		step := min(seasonGain*max(float64(b.spread[i]), floors[i]), math.Abs(d))
		s.offset[i] = float32(off + math.Copysign(step, d))
	}
	if s.votes < math.MaxUint16 {
		s.votes++
	}
	if week := int32(at / int64(hoursOfWeek*time.Hour)); s.weeks == 0 || week != s.week {
		s.week = week
		s.weeks = min(s.weeks+1, seasonWeeks)
	}
}

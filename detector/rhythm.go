package detector

import (
	"math"
	"slices"
)

const (
	// rhythmGaps is how many intervals between check-ins are kept.
	rhythmGaps = 16
	// pause is the silence after which a client that speaks again checks in
	// again: what belongs to one check-in comes at once.
	pause = int64(250e6)
	// gapScale codes an interval as its binary logarithm in milliseconds, to
	// 0.03 %.
	gapScale = 2048
)

// rhythm is when a client turned to a service.
type rhythm struct {
	begun int64              // latest check-in
	stir  uint32             // milliseconds from then to the client's latest activity
	count uint16             // intervals ever, saturating
	gaps  [rhythmGaps]uint16 // coded, the latest is at count-1 modulo their number
}

// note takes an activity of the client; true when it began a check-in after an
// interval that was noted.
func (y *rhythm) note(now int64) bool {
	since := now - y.begun
	if y.begun != 0 && since-int64(y.stir)*1e6 < pause {
		y.stir = uint32(min(since/1e6, math.MaxUint32))
		return false
	}
	first := y.begun == 0
	y.begun, y.stir = now, 0
	if first {
		return false
	}
	y.gaps[y.count%rhythmGaps] = codeGap(since)
	if y.count++; y.count == 0 {
		y.count = math.MaxUint16 - math.MaxUint16%rhythmGaps
	}
	return true
}

// codeGap codes an interval in nanoseconds.
func codeGap(d int64) uint16 {
	return uint16(min(gapScale*math.Log2(max(float64(d)/1e6, 1)), math.MaxUint16))
}

// gapSeconds decodes an interval.
func gapSeconds(code uint16) float64 { return math.Exp2(float64(code)/gapScale) / 1e3 }

// regularity is what intervals tell.
type regularity struct {
	// evidence is the log likelihood ratio of regular intervals against those
	// of chance, in nats.
	evidence float64
	// period is the middle of the regular ones in seconds, jitter how far the
	// outermost of them are from it, relative.
	period, jitter float64
	gaps           int
}

// plausible reports whether enough intervals are near the latest one for a test
// to be worth its time: those of most clients are not.
func (y *rhythm) plausible() bool {
	n := min(int(y.count), rhythmGaps)
	latest, near := int(y.gaps[(int(y.count)-1)%rhythmGaps]), 0
	for _, g := range y.gaps[:n] {
		if d := int(g) - latest; d <= spread && d >= -spread {
			near++
		}
	}
	return near >= n-2*mostAstray
}

// judge tests the intervals that are held.
func (y *rhythm) judge() regularity {
	n := min(int(y.count), rhythmGaps)
	var gaps [rhythmGaps]float64
	for i := range n {
		gaps[i] = gapSeconds(y.gaps[i])
	}
	return regularityOf(gaps[:n])
}

const (
	// astray is the share of intervals that a regular client may get wrong:
	// it slept, a check-in was lost, a person meddled. Up to mostAstray are
	// tried to be left out at each end.
	astray, mostAstray = 0.1, 2
	// fewestGaps is how few intervals can tell anything.
	fewestGaps = 6
	// widest jitter that is a rhythm still: malware offers 50 %.
	widest = 0.55
	// spread is, in codes, how far intervals of that jitter are apart at most:
	// the logarithm of (1 + widest) / (1 - widest).
	spread = 1785 * gapScale / 1000
	// clockwork is the jitter below which intervals count as equal: timers
	// are not better.
	clockwork = 0.01
)

// regularityOf compares two hypotheses about intervals, which it sorts. By the
// first, they are uniform within bounds, but for a share of strays: that is
// what a sleep with jitter makes. By the second, the exponential distribution,
// they come by chance, at the pace of the same intervals. The bounds are those
// of all but the outermost intervals, widened by what the range of a sample
// falls short of that of its distribution; whether 0, 1 or 2 at each end are
// strays is maximised over (a generalised likelihood ratio, Wilks 1938). Of
// 10^4 windows of 16 intervals by chance the highest gave 9.5 nats, sessions
// of people (half a second apart, with breaks of a minute) 10.7.
func regularityOf(gaps []float64) regularity {
	slices.Sort(gaps)
	best := regularity{gaps: len(gaps), evidence: math.Inf(-1)}
	for out := 0; out <= mostAstray && len(gaps)-2*out >= fewestGaps; out++ {
		in := gaps[out : len(gaps)-out]
		low, high := in[0], in[len(in)-1]
		jitter := (high - low) / (high + low)
		if jitter > widest {
			continue
		}
		if e := regularEvidence(in, low, high) + 2*float64(out)*math.Log(astray); e > best.evidence {
			best.evidence, best.period, best.jitter = e, (low+high)/2, jitter
		}
	}
	return best
}

func regularEvidence(in []float64, low, high float64) float64 {
	n, mean := float64(len(in)), 0.0
	for _, g := range in {
		mean += g / n
	}
	width := max(high-low, 2*clockwork*mean) * (n + 1) / (n - 1)
	e := 0.0
	for _, g := range in {
		chance := math.Exp(-g/mean) / mean
		e += math.Log(astray + (1-astray)/(width*chance))
	}
	return e
}

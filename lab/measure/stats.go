package measure

import (
	"math"
	"slices"
)

// level is the confidence that intervals are asked for.
const level = 0.95

// Interval is a confidence interval.
type Interval struct {
	Low  float64 `json:"low"`
	High float64 `json:"high"`
	// Level is the confidence that it has: at least 0.95 where it is exact.
	Level float64 `json:"level"`
}

// Distribution sums samples up in milliseconds. The quantiles are order
// statistics by the nearest rank, so that each is a figure that was measured;
// of fewer than 100 samples the 99th percentile is the largest.
type Distribution struct {
	N   int     `json:"n"`
	Min float64 `json:"min"`
	P50 float64 `json:"p50"`
	P95 float64 `json:"p95"`
	P99 float64 `json:"p99"`
	Max float64 `json:"max"`
	// The confidence intervals are nil where there are too few samples for
	// one: a median needs 6, the 95th percentile 59, the 99th 299.
	P50CI *Interval `json:"p50_ci"`
	P95CI *Interval `json:"p95_ci"`
	P99CI *Interval `json:"p99_ci"`
}

// NewDistribution sums samples up. The order of the samples does not matter,
// and they are not changed.
func NewDistribution(samples []float64) Distribution {
	n := len(samples)
	if n == 0 {
		return Distribution{}
	}
	sorted := slices.Clone(samples)
	slices.Sort(sorted)
	return Distribution{
		N: n, Min: sorted[0], Max: sorted[n-1],
		P50: quantile(sorted, 0.50), P95: quantile(sorted, 0.95), P99: quantile(sorted, 0.99),
		P50CI: quantileInterval(sorted, 0.50), P95CI: quantileInterval(sorted, 0.95), P99CI: quantileInterval(sorted, 0.99),
	}
}

// quantile is the nearest rank: the smallest sample that at least the share q
// of all samples does not exceed.
func quantile(sorted []float64, q float64) float64 {
	i := int(math.Ceil(q*float64(len(sorted)))) - 1
	return sorted[max(0, min(i, len(sorted)-1))]
}

// quantileInterval is the exact, distribution-free interval between two order
// statistics: the number of samples below the true quantile q is binomial
// (n, q), so that [x(l), x(u)] covers it with the probability that this number
// is at least l and less than u. The ranks that leave at most half the
// remaining probability on either side are taken, which makes the interval
// conservative. Source: H. A. David and H. N. Nagaraja, Order Statistics, 3rd
// edition, 2003, section 7.1. It assumes nothing but independent samples. Nil
// when even the whole range does not reach the level.
func quantileInterval(sorted []float64, q float64) *Interval {
	n := len(sorted)
	below := make([]float64, n+1) // below[k]: the probability of at most k
	sum := 0.0
	for k := range below {
		sum += binomial(n, k, q)
		below[k] = sum
	}
	cover := func(l, u int) float64 { return below[u-1] - below[l-1] }
	if cover(1, n) < level {
		return nil
	}
	const tail = (1 - level) / 2
	l := 1
	for l < n && below[l] <= tail {
		l++
	}
	u := n
	for u > l+1 && 1-below[u-2] <= tail {
		u--
	}
	// Where one side cannot have so small a tail, the other makes up for it.
	for cover(l, u) < level && l > 1 {
		l--
	}
	for cover(l, u) < level && u < n {
		u++
	}
	return &Interval{Low: sorted[l-1], High: sorted[u-1], Level: cover(l, u)}
}

// binomial is the probability of k successes of n with probability p each.
func binomial(n, k int, p float64) float64 {
	lgamma := func(x int) float64 { v, _ := math.Lgamma(float64(x)); return v }
	return math.Exp(lgamma(n+1) - lgamma(k+1) - lgamma(n-k+1) + float64(k)*math.Log(p) + float64(n-k)*math.Log1p(-p))
}

// Share is how many of how many.
type Share struct {
	K  int       `json:"k"`
	N  int       `json:"n"`
	CI *Interval `json:"ci"` // of the share K/N; nil when N is 0
}

// NewShare counts k of n, with Wilson's score interval for the share: E. B.
// Wilson, "Probable inference, the law of succession, and statistical
// inference", JASA 22 (1927); recommended for small n by L. D. Brown, T. T.
// Cai and A. DasGupta, "Interval estimation for a binomial proportion",
// Statistical Science 16 (2001). Its confidence is approximately 0.95.
func NewShare(k, n int) Share {
	s := Share{K: k, N: n}
	if n == 0 {
		return s
	}
	const z = 1.959963984540054 // the normal distribution's 0.975 quantile
	N, p := float64(n), float64(k)/float64(n)
	centre := (p + z*z/(2*N)) / (1 + z*z/N)
	half := z / (1 + z*z/N) * math.Sqrt(p*(1-p)/N+z*z/(4*N*N))
	s.CI = &Interval{Low: max(0, centre-half), High: min(1, centre+half), Level: level}
	// Rounding must not exclude what was seen.
	if k == 0 {
		s.CI.Low = 0
	}
	if k == n {
		s.CI.High = 1
	}
	return s
}

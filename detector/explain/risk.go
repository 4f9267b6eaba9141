package explain

import (
	"cmp"
	"net/netip"
	"slices"

	"github.com/platelet-sdn/platelet/detector"
)

// Risk is the probability that a host attacks, per kind and in all.
type Risk struct {
	Host string `json:"host"`
	// Probability joins the families: 1 - Π(1 - p), with the highest p of
	// each family, since detectors of one family err together. Each p is
	// shrunk towards one half by what sampling leaves of its confidence.
	Probability float64    `json:"probability"`
	Kinds       []KindRisk `json:"kinds"`
}

// KindRisk is what one kind of finding adds.
type KindRisk struct {
	Kind        detector.Kind   `json:"kind"`
	Family      detector.Family `json:"family"`
	Probability float64         `json:"probability"`
}

// RiskOf joins all that fires about a host. Findings that do not believe in
// the address say nothing about it.
func RiskOf(host netip.Addr, all []detector.Finding) Risk {
	r := Risk{Kinds: []KindRisk{}}
	if !host.IsValid() {
		return r
	}
	r.Host = host.String()
	best := map[detector.Kind]KindRisk{}
	families := map[detector.Family]float64{}
	for _, f := range all {
		if f.Host != host || f.Spoofed || f.State != detector.StateFiring {
			continue
		}
		p := f.Score
		if p > 0.5 {
			p = 0.5 + (p-0.5)*f.Confidence
		}
		if k := best[f.Kind]; p >= k.Probability {
			best[f.Kind] = KindRisk{f.Kind, f.Family, p}
		}
		families[f.Family] = max(families[f.Family], p)
	}
	miss := 1.0
	for _, p := range families {
		miss *= 1 - p
	}
	r.Probability = 1 - miss
	for _, k := range best {
		r.Kinds = append(r.Kinds, k)
	}
	slices.SortFunc(r.Kinds, func(a, b KindRisk) int {
		return cmp.Or(cmp.Compare(b.Probability, a.Probability), cmp.Compare(a.Kind, b.Kind))
	})
	return r
}

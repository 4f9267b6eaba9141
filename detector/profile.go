package detector

import (
	"math"
	"net/netip"
)

// Profile is what was normal for a host when a finding was made, by its own
// baseline and by that of its role.
type Profile struct {
	Host netip.Addr
	// Inside is false for a host that has no baseline because it is not of the
	// guarded network.
	Inside bool
	// Minutes is how many minutes of the host were learned, Since when the
	// first of them was (Unix nanoseconds, 0 when there is none).
	Minutes int
	Since   int64
	// Role is what the host behaves like: client, server, device,
	// scanner-like, or unknown.
	Role string
	// At is the time that the figures are for, Unix nanoseconds. Seasonal is
	// true when enough is known of that hour of the week to take it into account.
	At       int64
	Seasonal bool
	// Features are nil until Minutes suffice, see Enough.
	Features []Usual
}

// Usual is what was normal of a feature, in its unit.
type Usual struct {
	Feature string
	Unit    string
	// Value is the middle; nine minutes of ten are between Low and High.
	Value, Low, High float64
	// Peers is the middle of hosts of the same role; NaN when too few are known.
	Peers float64
}

// Enough is how many minutes must be learned of a host before it has a
// baseline.
func (p *Profile) Enough() int { return apprenticeFor }

// profile takes what is normal for a host now.
func (w *anomalyWatch) profile(h address) *Profile {
	now := w.e.clock.outside(w.e.clock.now)
	p := &Profile{Host: h.netip(), Inside: w.e.inside(h), At: now, Role: roleNone.String()}
	_, b := w.hosts.Find(h)
	if b == nil || b.windows == 0 {
		return p
	}
	p.Minutes, p.Since, p.Role = int(b.windows), w.e.clock.outside(b.first), b.role.String()
	if b.windows < apprenticeFor {
		return p
	}
	var offsets vector
	role := &w.roles[b.role]
	p.Seasonal = role.season(now).usual(&offsets)
	for i, f := range w.infos[:NumFeatures] {
		if b.partial && w.hides[i] {
			continue // never seen in full
		}
		u := Usual{Feature: f.Name, Unit: f.Unit, Peers: math.NaN()}
		middle, width := b.expect(i, &offsets), normalQuantile*float64(b.spread[i])
		u.Value, u.Low, u.High = w.natural(i, middle), w.natural(i, middle-width), w.natural(i, middle+width)
		if role.votes >= census {
			u.Peers = w.natural(i, float64(role.location[i])+offsets[i])
		}
		p.Features = append(p.Features, u)
	}
	return p
}

// natural takes the logarithm of a feature back. None is negative.
func (w *anomalyWatch) natural(feature int, y float64) float64 {
	if w.log[feature] {
		y = math.Expm1(y)
	}
	return max(y, 0)
}

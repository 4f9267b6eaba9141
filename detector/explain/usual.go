package explain

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/platelet-sdn/platelet/detector"
)

// Usual is what was normal for the host that a finding is about, or for its
// victim where the attacker is not known, by its own baseline when the finding
// was made.
type Usual struct {
	Host string `json:"host"`
	// Role is what it behaves like, Minutes what was learned of it since Since
	// (RFC 3339; empty when nothing was).
	Role    string `json:"role"`
	Minutes int    `json:"minutes_learned"`
	Since   string `json:"known_since,omitempty"`
	// At is the hour of the week (UTC) that the figures are for, Seasonal
	// whether enough is known of that hour to take it into account.
	At       string         `json:"at"`
	Seasonal bool           `json:"seasonal"`
	Features []UsualFeature `json:"features"` // empty until enough was learned
}

// UsualFeature is what was normal of one feature of a minute, in its unit: nine of
// ten minutes are between Low and High.
type UsualFeature struct {
	Feature string  `json:"feature"`
	Unit    string  `json:"unit"`
	Value   float64 `json:"usual"`
	Low     float64 `json:"low"`
	High    float64 `json:"high"`
	// Peers is what is usual for hosts of its role; absent while too few are
	// known.
	Peers *float64 `json:"peers,omitempty"`
}

func usualOf(p *detector.Profile) *Usual {
	if p == nil {
		return nil
	}
	u := &Usual{Host: p.Host.String(), Role: p.Role, Minutes: p.Minutes, At: hourOf(p.At), Seasonal: p.Seasonal,
		Features: make([]UsualFeature, 0, len(p.Features))}
	if p.Since != 0 {
		u.Since = time.Unix(0, p.Since).UTC().Format(time.RFC3339)
	}
	for _, f := range p.Features {
		x := UsualFeature{Feature: f.Feature, Unit: f.Unit, Value: f.Value, Low: f.Low, High: f.High}
		if !math.IsNaN(f.Peers) {
			peers := f.Peers
			x.Peers = &peers
		}
		u.Features = append(u.Features, x)
	}
	return u
}

// hourOf names an hour of the week.
func hourOf(t int64) string { return time.Unix(0, t).UTC().Format("Monday 15:00 UTC") }

// usual says in sentences what is known of the host, or that nothing is.
func usual(f detector.Finding) []string {
	p := f.Usual
	switch {
	case p == nil:
		return []string{"It is about no host of which anything could be known."}
	case !p.Inside:
		return []string{fmt.Sprintf("What is normal for %s is not known: it is not of the guarded network.", p.Host)}
	case p.Minutes == 0:
		return []string{fmt.Sprintf("What is normal for %s is not known: nothing was learned of it before.", p.Host)}
	case len(p.Features) == 0:
		return []string{fmt.Sprintf("What is normal for %s is not known yet: %s of %d were learned.", p.Host,
			count(float64(p.Minutes), "minute", "minutes"), p.Enough())}
	}
	who := "no role that could be told"
	if p.Role != "unknown" {
		who = "the role of a " + p.Role
	}
	when := "at any time"
	if p.Seasonal {
		when = "at this hour of the week"
	}
	list := []string{fmt.Sprintf("%s has %s; %s of it were learned since %s.", p.Host, who,
		count(float64(p.Minutes), "minute", "minutes"), time.Unix(0, p.Since).UTC().Format("2006-01-02 15:04 MST"))}
	for _, x := range p.Features {
		if !slices.Contains(relevant(f), x.Feature) {
			continue
		}
		s := fmt.Sprintf("%s: usually %s%s %s (%s to %s in nine minutes of ten)", words(x.Feature), number(x.Value), unit(x.Unit), when,
			number(x.Low), number(x.High))
		if !math.IsNaN(x.Peers) {
			s += fmt.Sprintf("; others of its role %s", number(x.Peers))
		}
		list = append(list, s+".")
	}
	return list
}

// unit writes a unit behind a number; shares have none.
func unit(u string) string {
	if u == "1" {
		return ""
	}
	return " " + strings.Replace(u, "1/min", "a minute", 1)
}

// relevant lists the features of a minute that a kind of finding is about; for
// the models, those of the evidence.
func relevant(f detector.Finding) []string {
	switch f.Kind {
	case detector.KindPortScan, detector.KindHostSweep, detector.KindARPSweep, detector.KindWorm:
		return []string{"opens", "failed", "servers", "services", "new_edges"}
	case detector.KindSYNFlood, detector.KindACKFlood:
		return []string{"served", "clients", "packets_in", "packets_out"}
	case detector.KindUDPFlood, detector.KindICMPFlood, detector.KindAmplification:
		return []string{"packets_in", "bytes_in", "udp_share", "icmp_share"}
	case detector.KindBruteForce, detector.KindLateralMovement, detector.KindPolicyViolation:
		return []string{"opens", "failed", "services", "new_edges", "admin_services"}
	case detector.KindBeacon:
		return []string{"opens", "servers", "outside_share", "regularity"}
	case detector.KindExfiltration:
		return []string{"bytes_out", "bytes_in", "out_share", "outside_share"}
	case detector.KindDNSTunnel:
		return []string{"dns_queries", "dns_query_bytes", "dns_failed"}
	case detector.KindARPSpoof, detector.KindIPSpoof, detector.KindMACFlood, detector.KindRogueDHCP:
		return []string{"packets_out", "ttls", "macs"}
	case detector.KindDeviceSilent, detector.KindRhythmBreak, detector.KindAsymmetricLoss, detector.KindLinkFlap:
		return []string{"opens", "served", "packets_out", "packets_in", "regularity"}
	case detector.KindAnomaly, detector.KindLearnedThreat:
	}
	list := []string{"opens", "services", "bytes_out"}
	for _, e := range f.Evidence {
		list = append(list, e.Feature)
	}
	return list
}

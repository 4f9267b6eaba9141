package config

import (
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/platelet-sdn/platelet/controller/response"
	"github.com/platelet-sdn/platelet/detector"
	"github.com/platelet-sdn/platelet/segmentation"
)

// Response bounds what is done.
type Response struct {
	// action by kind of finding: observe, alert, mirror (copies to who looks at them), rate-limit, scrub (floods, by a scrubber), segment (from the service or the peer alone), reroute (to the honeypot) or quarantine; a kind left out keeps its default
	Actions map[detector.Kind]response.Action `yaml:"actions"`
	// how long the switch keeps an emergency rule that is not renewed
	TTL time.Duration `yaml:"ttl"`
	// least time of containment; doubles with each relapse
	MinHold time.Duration `yaml:"min_hold"`
	// most that it can grow to
	MaxHold time.Duration `yaml:"max_hold"`
	// how long a released target counts as relapsing
	RelapseWindow time.Duration `yaml:"relapse_window"`
	// how long an attack must be over before release
	QuietFor time.Duration `yaml:"quiet_for"`
	// deadline of the proof after an action
	VerifyWithin time.Duration `yaml:"verify_within"`
	// how long a proposal waits for approval in mode advise
	ApprovalWithin time.Duration `yaml:"approval_within"`
	// share of dropped packets that is still reported, 0 to 1
	Sample float64 `yaml:"sample"`
	// who is left alone, and from what: licensed scanners, maintenance windows
	Exempt []Exempt `yaml:"exempt"`
	// addresses that stand for many hosts (address translation, terminal servers): never quarantined, only kept from what they abuse
	Shared []Prefix `yaml:"shared"`
	// hosts of which only so many may be in quarantine at once, by name: `cameras: {addresses: [10.1.0.0/24], max: 2}`
	Groups map[string]Group `yaml:"groups"`
	// share of the ports with clients above which a host that serves them is only quarantined with approval, whatever the mode; 0 never asks
	AskAbove float64 `yaml:"ask_above"`
	// takes what is rerouted (action reroute): a host on the same switch that answers for any address
	Honeypot netip.Addr `yaml:"honeypot"`
	// take floods (action scrub) and send the clean rest on: hosts that forward, one on each switch
	Scrubbers  []netip.Addr `yaml:"scrubbers"`
	Mirror     Mirror       `yaml:"mirror"`
	Quarantine Quarantine   `yaml:"quarantine"`
	Probation  Probation    `yaml:"probation"`
	RateLimit  RateLimit    `yaml:"rate_limit"`
	Learning   Learning     `yaml:"learning"`
}

// Exempt says who is left alone.
type Exempt struct {
	// addresses and prefixes; none is everybody
	Hosts []Prefix `yaml:"hosts"`
	// kinds of findings; none is all, which needs until, days or hours
	Kinds []detector.Kind `yaml:"kinds"`
	// only findings about one of these services, as tcp/22
	Services []response.Service `yaml:"services"`
	// RFC 3339
	From  time.Time `yaml:"from"`
	Until time.Time `yaml:"until"`
	// a window that recurs: sun, mon, tue, wed, thu, fri, sat
	Days []string `yaml:"days"`
	// its hours, as 22:00-04:00
	Hours string `yaml:"hours"`
	// their time zone, as Europe/Berlin; the machine's without
	Zone string `yaml:"zone"`
	// for people
	Why string `yaml:"why"`
}

// Group is a set of hosts that must not all be gone at once.
type Group struct {
	Addresses []Prefix `yaml:"addresses"`
	Max       int      `yaml:"max"`
}

// Quarantine bounds quarantines.
type Quarantine struct {
	// hosts in quarantine at once
	Max int `yaml:"max"`
	// containments of any kind begun within a minute
	MaxPerMinute int `yaml:"max_per_minute"`
	// share of the network's traffic, before the attack, that hosts in quarantine may have had together; above it somebody has to approve, whatever the mode; 0 never asks
	MaxTraffic float64 `yaml:"max_traffic"`
	// how far back that is looked at, from the first evidence: 5m to 1h
	TrafficWindow time.Duration `yaml:"traffic_window"`
	// hosts that stay reachable from quarantine
	Remediation []netip.Addr `yaml:"remediation"`
}

// Mirror is where copies of suspicious traffic go (action mirror).
type Mirror struct {
	// interface by which copies leave, by bridge: `ports: {br0: analysis0}`
	Ports map[string]string `yaml:"ports"`
	// copies per second of one suspect
	PktPS uint32 `yaml:"pktps"`
	// packets
	Burst uint32 `yaml:"burst"`
	// suspects that are mirrored at once
	Max int `yaml:"max"`
}

// Probation is the way back from quarantine when the attack is over.
type Probation struct {
	// how long the host may then do everything, slowly; 0 leaves this out
	Limited time.Duration `yaml:"limited"`
	// how long it is then free, while a relapse is still one of the same containment; 0 leaves this out
	Watched time.Duration `yaml:"watched"`
	// packets per second while limited
	PktPS uint32 `yaml:"pktps"`
	// packets
	Burst uint32 `yaml:"burst"`
}

// RateLimit is what a flood is limited to at its ingress port.
type RateLimit struct {
	// packets per second
	PktPS uint32 `yaml:"pktps"`
	// packets
	Burst uint32 `yaml:"burst"`
	// times the learned baseline, where that is more
	Margin float64 `yaml:"margin"`
}

// Learning says how far a learned policy may choose among the rungs that playbooks
// and guards leave open; what was chosen and what came of it is kept in any case.
type Learning struct {
	// off (the playbook's rung), shadow (the same, and what the policy would choose is written down), explore (the same, but a few decisions try a rung beside it), or live (the policy's choice, once `platelet learn promote` let it; shadow until then)
	Mode response.LearningMode `yaml:"mode"`
	// share of what the playbooks' rungs earn that may be risked, above 0 to 0.5
	Alpha float64 `yaml:"alpha"`
	// share of decisions that try a rung beside the one that is preferred, in modes explore and live, 0 to 0.05
	Explore float64 `yaml:"explore"`
	// how often the policy must have been tried where it differs from the playbook before it can be promoted
	MinSamples int `yaml:"min_samples"`
	// what chance is drawn from; 0 takes another at each start, and the log says which
	Seed uint64 `yaml:"seed"`
}

func (l *Learning) check(want func(ok bool, path, format string, args ...any)) {
	want(slices.Contains(response.LearningModes(), l.Mode), "response.learning.mode", "%q is not one of %v", l.Mode, response.LearningModes())
	want(l.Alpha > 0 && l.Alpha <= 0.5, "response.learning.alpha", "%v is outside 0 to 0.5, 0 excluded", l.Alpha)
	want(l.Explore >= 0 && l.Explore <= 0.05, "response.learning.explore", "%v is outside 0 to 0.05", l.Explore)
	want(l.MinSamples >= 10, "response.learning.min_samples", "%d is less than 10", l.MinSamples)
	want(l.Seed < 1<<53, "response.learning.seed", "%d has more than 53 bits", l.Seed)
}

// check calls bad for each value that cannot work, with its path.
func (r *Response) check(want func(ok bool, path, format string, args ...any)) {
	want(r.Sample >= 0 && r.Sample <= 1, "response.sample", "%v is outside 0 to 1", r.Sample)
	r.Learning.check(want)
	want(r.RateLimit.Margin >= 0, "response.rate_limit.margin", "%v is negative", r.RateLimit.Margin)
	for k, a := range r.Actions {
		_, known := Default().Response.Actions[k]
		want(known, "response.actions."+string(k), "there is no finding of this kind")
		want(slices.Contains(response.Ladder(), a), "response.actions."+string(k), "%q is not one of %v", a, response.Ladder())
	}
	for i := range r.Exempt {
		_, err := r.Exempt[i].exemption()
		want(err == nil, fmt.Sprintf("response.exempt[%d]", i), "%v", err)
	}
	for name, g := range r.Groups {
		want(len(g.Addresses) > 0, "response.groups."+name, "names no addresses")
		want(g.Max >= 0, "response.groups."+name+".max", "%d is negative", g.Max)
	}
	want(r.AskAbove >= 0 && r.AskAbove <= 1, "response.ask_above", "%v is outside 0 to 1", r.AskAbove)
	for i, a := range r.Scrubbers {
		want(a.IsValid(), fmt.Sprintf("response.scrubbers[%d]", i), "is not an address")
	}
	for name, port := range r.Mirror.Ports {
		want(port != "", "response.mirror.ports."+name, "needs the name of an interface")
	}
	for i, a := range r.Quarantine.Remediation {
		want(a.IsValid(), fmt.Sprintf("response.quarantine.remediation[%d]", i), "is not an address")
	}
}

var weekdays = []string{"sun", "mon", "tue", "wed", "thu", "fri", "sat"}

// exemption checks what is written, and reads days, hours and zone.
func (e *Exempt) exemption() (response.Exemption, error) {
	x := response.Exemption{Hosts: prefixes(e.Hosts), Kinds: e.Kinds, Services: e.Services, From: e.From, Until: e.Until, Why: e.Why}
	for _, k := range e.Kinds {
		if _, ok := k.Info(); !ok {
			return x, fmt.Errorf("there is no finding of kind %q", k)
		}
	}
	if len(e.Kinds) == 0 && e.Until.IsZero() && len(e.Days) == 0 && e.Hours == "" {
		return x, errors.New("names neither kinds of findings nor an end: a host that is taken over would never be contained")
	}
	if !e.Until.IsZero() && !e.Until.After(e.From) {
		return x, fmt.Errorf("until %s is not after from", e.Until.Format(time.RFC3339))
	}
	for _, name := range e.Days {
		day := slices.Index(weekdays, name)
		if day < 0 {
			return x, fmt.Errorf("day %q is not one of %s", name, strings.Join(weekdays, ", "))
		}
		x.Days = append(x.Days, time.Weekday(day))
	}
	if e.Hours != "" {
		from, to, ok := strings.Cut(e.Hours, "-")
		begin, err1 := time.Parse("15:04", from)
		end, err2 := time.Parse("15:04", to)
		if !ok || err1 != nil || err2 != nil || begin.Equal(end) {
			return x, fmt.Errorf("hours %q: want two different times, as in 22:00-04:00", e.Hours)
		}
		x.Begin, x.End = begin.Hour()*60+begin.Minute(), end.Hour()*60+end.Minute()
	}
	x.Zone = time.Local
	if e.Zone != "" {
		zone, err := time.LoadLocation(e.Zone)
		if err != nil {
			return x, fmt.Errorf("zone %q: %w", e.Zone, err)
		}
		x.Zone = zone
	}
	return x, nil
}

// exemptions are those of a file that was checked.
func (r *Response) exemptions() []response.Exemption {
	var list []response.Exemption
	for i := range r.Exempt {
		if x, err := r.Exempt[i].exemption(); err == nil {
			list = append(list, x)
		}
	}
	return list
}

// groups are in the order of their names, so that refusals read the same.
func (r *Response) groups() []response.Group {
	var list []response.Group
	for _, name := range slices.Sorted(maps.Keys(r.Groups)) {
		list = append(list, response.Group{Name: name, Addresses: prefixes(r.Groups[name].Addresses), Max: r.Groups[name].Max})
	}
	return list
}

// ResponseConfig is the part that the response needs.
func (f *File) ResponseConfig() response.Config {
	r := &f.Response
	return response.Config{
		Mode: f.Mode, Actions: r.Actions, Protected: segmentation.NewProtected(prefixes(f.Protected)),
		Exempt: r.exemptions(), Shared: prefixes(r.Shared), Groups: r.groups(), AskAbove: r.AskAbove, Honeypot: r.Honeypot,
		Scrubbers: r.Scrubbers, Mirror: response.Mirror{Ports: r.Mirror.Ports, Max: r.Mirror.Max,
			Limit: segmentation.Limit{PacketsPerSecond: r.Mirror.PktPS, Burst: r.Mirror.Burst}},
		Remediation: r.Quarantine.Remediation, MaxQuarantines: r.Quarantine.Max, MaxActions: r.Quarantine.MaxPerMinute,
		MaxTraffic: r.Quarantine.MaxTraffic, TrafficWindow: r.Quarantine.TrafficWindow,
		TTL: r.TTL, MinHold: r.MinHold, MaxHold: r.MaxHold, RelapseWindow: r.RelapseWindow, QuietFor: r.QuietFor,
		Probation: response.Probation{Limited: r.Probation.Limited, Watched: r.Probation.Watched,
			Limit: segmentation.Limit{PacketsPerSecond: r.Probation.PktPS, Burst: r.Probation.Burst}},
		VerifyWithin: r.VerifyWithin, ApprovalWithin: r.ApprovalWithin,
		Limit:  segmentation.Limit{PacketsPerSecond: r.RateLimit.PktPS, Burst: r.RateLimit.Burst},
		Margin: r.RateLimit.Margin, Sample: probability(r.Sample),
	}
}

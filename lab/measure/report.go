package measure

import (
	"slices"
	"time"

	"github.com/platelet-sdn/platelet/lab/attack"
)

// Schema names the form of a Report.
const Schema = "platelet-measure/1"

// Report is everything that was measured in one session.
type Report struct {
	Schema  string  `json:"schema"`
	Machine Machine `json:"machine"`
	// Command is the command line, as far as it says what was measured.
	Command []string `json:"command"`
	Seed    uint64   `json:"seed"`
	// Interrupted is true when the session ended before its end.
	Interrupted bool  `json:"interrupted"`
	Labs        []Lab `json:"labs"`
}

// Lab is what was measured on one lab.
type Lab struct {
	Name string `json:"name"`
	// Nodes and Bridges are how many there are, Datapath the bridges' kind:
	// netdev is Open vSwitch's in user space, system the kernel's.
	Nodes    int    `json:"nodes"`
	Bridges  int    `json:"bridges"`
	Datapath string `json:"datapath"`
	// Benign is the profile of honest traffic.
	Benign  string   `json:"benign"`
	Method  Method   `json:"method"`
	Attacks []Attack `json:"attacks"`
	// Error says why not everything was measured.
	Error string `json:"error,omitempty"`
}

// Method is how it was measured; durations in seconds.
type Method struct {
	Hold          float64 `json:"hold_s"`
	Patience      float64 `json:"patience_s"`
	BlindPatience float64 `json:"blind_patience_s"`
	WarmUp        float64 `json:"warm_up_s"`
	ReleaseWithin float64 `json:"release_within_s"`
}

// Attack is what was measured of one attack: the raw outcome of each run, and
// their sum.
type Attack struct {
	Name      string `json:"name"`
	About     string `json:"about"`
	Technique string `json:"technique,omitempty"` // MITRE ATT&CK
	// Expected is the kind of finding that it must raise, Action what the
	// default playbook answers it with.
	Expected string `json:"expected_finding"`
	Action   string `json:"expected_action"`
	Flood    bool   `json:"flood,omitempty"`
	// Blind is true when the controller has no detector for it.
	Blind   bool      `json:"no_detector,omitempty"`
	Summary Summary   `json:"summary"`
	Runs    []Outcome `json:"runs"`
	// Error says why there are fewer runs than asked for.
	Error string `json:"error,omitempty"`
}

// Summary sums the runs of an attack up; durations in milliseconds. It is
// computed from the runs alone, by Summarise.
type Summary struct {
	Detected  Share `json:"detected"`
	Named     Share `json:"named_right"`
	Contained Share `json:"contained"`
	// Released is of the runs that waited for it and contained something.
	Released Share        `json:"released"`
	TTD      Distribution `json:"ttd_ms"`
	TTN      Distribution `json:"time_to_name_ms"`
	TTC      Distribution `json:"ttc_ms"`
	Verified Distribution `json:"verified_ms"`
	Release  Distribution `json:"release_ms"`
	// OtherKinds counts in how many runs findings of other kinds were raised
	// about the attack.
	OtherKinds map[string]int `json:"other_kinds"`
	Actions    map[string]int `json:"actions"`
	Sent       uint64         `json:"sent"`
	Delivered  int            `json:"delivered"`
	// Through is the distribution of the runs' delivered packets.
	Through Distribution `json:"delivered_per_run"`
	Missed  int          `json:"missed_by_captures"`
	Benign  Benign       `json:"benign"`
	// False counts containments of what did not attack, Strange findings.
	False   int `json:"false_containments"`
	Strange int `json:"false_findings"`
}

// Summarise sums runs up.
func Summarise(runs []Outcome, expected string) Summary {
	s := Summary{OtherKinds: map[string]int{}, Actions: map[string]int{}}
	var ttd, ttn, ttc, verified, release, through []float64
	awaited, detected, named := 0, 0, 0
	for _, r := range runs {
		if len(r.Kinds) > 0 {
			detected++
		}
		if r.Right || slices.Contains(r.Kinds, expected) {
			named++
		}
		ttd, ttn, ttc = r.TTD.appendTo(ttd), r.Named.appendTo(ttn), r.TTC.appendTo(ttc)
		verified, release = r.Verified.appendTo(verified), r.Release.appendTo(release)
		through = append(through, float64(r.Delivered))
		if r.Awaited.OK && len(r.Actions) > 0 {
			awaited++
		}
		for _, k := range r.Kinds {
			if k != expected {
				s.OtherKinds[k]++
			}
		}
		for _, a := range r.Actions {
			s.Actions[a]++
		}
		s.Sent, s.Delivered, s.Missed = s.Sent+r.Sent, s.Delivered+r.Delivered, s.Missed+r.Missed
		s.False, s.Strange = s.False+len(r.False), s.Strange+len(r.Strange)
		s.Benign.add(r.Benign)
	}
	n := len(runs)
	s.Detected, s.Named, s.Contained = NewShare(detected, n), NewShare(named, n), NewShare(len(ttc), n)
	s.Released = NewShare(min(len(release), awaited), awaited)
	s.TTD, s.TTN, s.TTC, s.Through = NewDistribution(ttd), NewDistribution(ttn), NewDistribution(ttc), NewDistribution(through)
	s.Verified, s.Release = NewDistribution(verified), NewDistribution(release)
	return s
}

// appendTo appends the milliseconds of a span that there is.
func (s Span) appendTo(list []float64) []float64 {
	if !s.OK {
		return list
	}
	return append(list, s.Millis())
}

func (b *Benign) add(o Benign) {
	b.Before.add(o.Before)
	b.During.add(o.During)
	b.After.add(o.After)
	b.Attackers.add(o.Attackers)
}

func (h *Harm) add(o Harm) {
	h.Seconds += o.Seconds
	h.Flows += o.Flows
	h.Harmed += o.Harmed
	h.Lost += o.Lost
	for k, n := range o.By {
		if h.By == nil {
			h.By = map[string]int{}
		}
		h.By[k] += n
	}
}

// Total is the harm of all three periods, without that of attackers.
func (b Benign) Total() Harm {
	var h Harm
	h.add(b.Before)
	h.add(b.During)
	h.add(b.After)
	return h
}

// newAttack describes an attack without runs.
func newAttack(a attack.Attack, blind bool) Attack {
	return Attack{
		Name: a.Name, About: a.About(), Technique: a.Technique, Expected: a.Finding, Action: a.Action, Flood: a.Flood, Blind: blind,
		Summary: Summarise(nil, a.Finding), Runs: []Outcome{},
	}
}

// Slim drops what only pictures of single runs need, except for the run in
// the middle: samples stay. It is for reports that are kept.
func (r Report) Slim() Report {
	r.Labs = slices.Clone(r.Labs)
	for i := range r.Labs {
		r.Labs[i].Attacks = slices.Clone(r.Labs[i].Attacks)
		for j := range r.Labs[i].Attacks {
			a := &r.Labs[i].Attacks[j]
			keep := a.Middle()
			a.Runs = slices.Clone(a.Runs)
			for k := range a.Runs {
				if k != keep {
					a.Runs[k].Steps, a.Runs[k].Zoom, a.Runs[k].Whole = nil, nil, nil
				}
			}
		}
	}
	return r
}

// Middle is the number of the run with the median time to contain, of those
// whose release was waited for if there are any, or of the first run; -1 when
// there is none.
func (a Attack) Middle() int {
	var order []int
	awaited := slices.ContainsFunc(a.Runs, func(o Outcome) bool { return o.Release.OK && o.TTC.OK })
	for i, r := range a.Runs {
		if r.TTC.OK && (r.Release.OK || !awaited) {
			order = append(order, i)
		}
	}
	if len(order) == 0 {
		return min(0, len(a.Runs)-1)
	}
	slices.SortFunc(order, func(i, j int) int { return int(a.Runs[i].TTC.D - a.Runs[j].TTC.D) })
	return order[(len(order)-1)/2]
}

// method writes down how a lab is measured.
func (c Config) method() Method {
	s := time.Duration.Seconds
	return Method{Hold: s(c.Hold), Patience: s(c.Patience), BlindPatience: s(c.BlindPatience), WarmUp: s(c.WarmUp), ReleaseWithin: s(c.ReleaseWithin)}
}

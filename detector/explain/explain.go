// Package explain puts a finding into words: what happened, what would have
// been normal, what carried the score, what would have kept it from firing,
// and what is not known. It invents nothing: every sentence is made from the
// finding's own numbers.
package explain

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/platelet-sdn/platelet/detector"
	"github.com/platelet-sdn/platelet/flowcollector/flow"
)

// Explanation is what `platelet explain` says.
type Explanation struct {
	ID      string         `json:"id"`
	Kind    detector.Kind  `json:"kind"`
	About   string         `json:"about"`
	Summary string         `json:"summary"`
	State   detector.State `json:"state"`
	// Score is the calibrated probability, Confidence what sampling leaves
	// of it; Evidence, Limits and Agrees are the finding's own.
	Score      float64             `json:"score"`
	Confidence float64             `json:"confidence"`
	Evidence   []detector.Evidence `json:"evidence"`
	Limits     []detector.Limit    `json:"limits"`
	Agrees     []detector.Vote     `json:"agrees"`
	Severity   detector.Severity   `json:"severity"`
	// Technique and ICS are MITRE ATT&CK techniques, Source the paper or RFC
	// that the detector follows.
	Technique string `json:"technique,omitempty"`
	ICS       string `json:"technique_ics,omitempty"`
	Source    string `json:"source"`
	// Usual is what was normal for the host; absent when the finding is about
	// none.
	Usual *Usual `json:"usual,omitempty"`
	// Happened, Normal, Carried, NotFiring and Unknown are sentences.
	Happened  []string `json:"happened"`
	Normal    []string `json:"normal"`
	Carried   []string `json:"carried"`
	NotFiring []string `json:"would_not_have_fired"`
	Unknown   []string `json:"not_known"`
	// Risk is the host's, from all that fires about it.
	Risk    Risk     `json:"risk"`
	Excerpt []Record `json:"records"`
}

// Of explains a finding. All lists what fires at the same time, the finding
// itself too; those about the same host make its risk.
func Of(f detector.Finding, all []detector.Finding) Explanation {
	info, _ := f.Kind.Info()
	x := Explanation{
		ID: f.ID, Kind: f.Kind, About: info.About, Source: info.Source, State: f.State, Severity: f.Severity,
		Technique: f.Technique, ICS: f.ICS, Summary: summary(f),
		Score: f.Score, Confidence: f.Confidence, Evidence: f.Evidence, Limits: f.Limits, Agrees: f.Agrees,
		Usual: usualOf(f.Usual), Happened: happened(f), Normal: append(normal(f), usual(f)...), Carried: carried(f), NotFiring: notFiring(f), Unknown: unknown(f),
		Risk: RiskOf(f.Host, all), Excerpt: make([]Record, 0, len(f.Excerpt)),
	}
	for _, r := range f.Excerpt {
		x.Excerpt = append(x.Excerpt, excerpt(r))
	}
	return x
}

// Actor names whom a finding is about.
func Actor(f detector.Finding) string {
	switch {
	case f.Host.IsValid():
		return f.Host.String()
	case f.Spoofed:
		return "forged sources"
	case !f.HostMAC.IsZero():
		return f.HostMAC.String()
	case f.InPort != 0:
		return fmt.Sprintf("whoever is behind interface %d", f.InPort)
	}
	return "someone unknown"
}

func summary(f detector.Finding) string {
	s := fmt.Sprintf("%s by %s", f.Kind, Actor(f))
	switch n := len(f.Victims); {
	case n == 1:
		s += " against " + f.Victims[0].String()
	case n > 1:
		s += fmt.Sprintf(" against %s and %s", f.Victims[0], count(float64(n-1), "other", "others"))
	}
	likely := "over 99.9"
	if f.Score < 0.999 {
		likely = fmt.Sprintf("%.1f", 100*f.Score)
	}
	return fmt.Sprintf("%s, %s %% likely, %s", s, likely, severity(f))
}

func severity(f detector.Finding) string {
	switch {
	case f.Sequential:
		return string(f.Severity) + " severity; a sequential test decided, which may contain by itself"
	case len(f.Agrees) > 0:
		return string(f.Severity) + " severity; detectors of different families agree, which together may contain"
	}
	return string(f.Severity) + " severity; one vote, which only alerts"
}

func happened(f detector.Finding) []string {
	first, last := time.Unix(0, f.FirstSeen).UTC(), time.Unix(0, f.Time).UTC()
	list := []string{fmt.Sprintf("It began at %s and was %s %s later, from %s.", first.Format(time.RFC3339Nano), f.State,
		last.Sub(first).Round(time.Microsecond), count(float64(f.Records), "record", "records"))}
	if f.InPort != 0 {
		list = append(list, fmt.Sprintf("It enters by interface %d of %s.", f.InPort, f.Exporter.Addr))
	}
	switch {
	case f.Proto != 0 && f.DstPort != 0:
		list = append(list, fmt.Sprintf("It goes to %s port %d.", flow.ProtoName(f.Proto), f.DstPort))
	case f.Proto == flow.ProtoTCP || f.Proto == flow.ProtoUDP:
		list = append(list, fmt.Sprintf("It goes to several %s ports.", flow.ProtoName(f.Proto)))
	}
	if f.Rate > 0 {
		list = append(list, fmt.Sprintf("Its rate is about %s packets per second.", number(f.Rate)))
	}
	for _, e := range f.Evidence {
		list = append(list, fmt.Sprintf("%s: %s.", words(e.Feature), number(e.Value)))
	}
	return list
}

func normal(f detector.Finding) []string {
	var list []string
	for _, e := range f.Evidence {
		if e.Baseline != 0 || e.Contribution > 0 {
			list = append(list, fmt.Sprintf("%s: up to %s would be expected.", words(e.Feature), number(e.Baseline)))
		}
	}
	if f.Baseline > 0 {
		list = append(list, fmt.Sprintf("The same target usually gets %s packets per second here.", number(f.Baseline)))
	}
	if len(list) == 0 {
		list = append(list, "None of this is ever normal: the detector knows no baseline.")
	}
	return list
}

func carried(f detector.Finding) []string {
	ev := slices.DeleteFunc(slices.Clone(f.Evidence), func(e detector.Evidence) bool { return e.Contribution <= 0 })
	slices.SortStableFunc(ev, func(a, b detector.Evidence) int { return cmp.Compare(b.Contribution, a.Contribution) })
	list := make([]string, 0, len(ev))
	for _, e := range ev {
		list = append(list, fmt.Sprintf("%s carries %.0f %% of the score.", words(e.Feature), 100*e.Contribution))
	}
	for _, v := range f.Agrees {
		list = append(list, fmt.Sprintf("%s (%s, family %s) says the same of this host with %.2f.", v.Kind, v.ID, v.Family, v.Score))
	}
	return list
}

func notFiring(f detector.Finding) []string {
	list := make([]string, 0, len(f.Limits)+1)
	rest := "all else equal"
	if f.Kind == detector.KindAnomaly && len(f.Limits) > 1 {
		rest = "if the others in this list were within theirs too"
	}
	for _, l := range f.Limits {
		list = append(list, fmt.Sprintf("%s of at most %s, %s.", words(l.Feature), number(down(l.Value)), rest))
	}
	if advice := honest(f.Kind); advice != "" {
		list = append(list, advice)
	}
	return list
}

func unknown(f detector.Finding) []string {
	var list []string
	switch {
	case f.SampledTo > 1 && f.SampledFrom == f.SampledTo:
		list = append(list, fmt.Sprintf("Only one packet in %s was seen; the numbers are estimates.", number(f.SampledTo)))
	case f.SampledTo > 1:
		list = append(list, fmt.Sprintf("Part of the records are samples of up to %s packets; the numbers are estimates.", number(f.SampledTo)))
	}
	if f.Confidence < 0.99 {
		list = append(list, fmt.Sprintf("The score itself is trusted to %.0f %%.", 100*f.Confidence))
	}
	if f.Spoofed {
		list = append(list, "Who sends it: the source addresses are not believed.")
	} else if !f.Host.IsValid() {
		list = append(list, "The attacker's IP address.")
	}
	if f.InPort == 0 {
		list = append(list, "Where it enters: the telemetry names no ingress port.")
	}
	if len(f.Excerpt) == 0 {
		list = append(list, "The packets themselves: it fired because something did not come.")
	}
	if doubt := doubts(f.Kind); doubt != "" {
		list = append(list, doubt)
	}
	return list
}

// words turns the name of a feature into the begin of a sentence.
func words(feature string) string {
	s := strings.ReplaceAll(feature, "_", " ")
	if s == "" {
		return s
	}
	return strings.ToUpper(s[:1]) + s[1:]
}

func count(n float64, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return number(n) + " " + many
}

// number writes a value with three or so digits, thousands apart.
func number(x float64) string {
	switch abs := math.Abs(x); {
	case x == math.Trunc(x) && abs < 1e15, abs >= 1000:
		return grouped(int64(math.Round(x)))
	case abs >= 1:
		return strconv.FormatFloat(x, 'g', 3, 64)
	}
	return strconv.FormatFloat(x, 'g', 2, 64)
}

// down rounds to three digits or a whole number, never upwards.
func down(x float64) float64 {
	if x == math.Trunc(x) || x <= 0 {
		return x
	}
	unit := math.Pow(10, min(math.Floor(math.Log10(x))-2, 0))
	return math.Floor(x/unit) * unit
}

func grouped(n int64) string {
	s := strconv.FormatInt(n, 10)
	start := 0
	if n < 0 {
		start = 1
	}
	for i := len(s) - 3; i > start; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

package playbook

import (
	"fmt"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/platelet-sdn/platelet/controller/response"
	"github.com/platelet-sdn/platelet/detector"
)

// severities, the lowest first.
func severities() []detector.Severity {
	return []detector.Severity{detector.SeverityLow, detector.SeverityMedium, detector.SeverityHigh, detector.SeverityCritical}
}

// rank orders severities; one that is not known, or not given, is 0.
func rank(s detector.Severity) int {
	switch s {
	case detector.SeverityLow:
		return 1
	case detector.SeverityMedium:
		return 2
	case detector.SeverityHigh:
		return 3
	case detector.SeverityCritical:
		return 4
	}
	return 0
}

func anyOf(kinds []detector.Kind, k detector.Kind) bool {
	return len(kinds) == 0 || slices.Contains(kinds, k)
}

// clause is a part of a trigger, by its key.
type clause string

// mismatch is the first clause that a finding does not meet; empty when it
// meets all. It is on the way to containment, and makes no text.
func (t *Trigger) mismatch(f *detector.Finding, at response.Circumstances) clause {
	switch {
	case !anyOf(t.Kinds, f.Kind):
		return "kinds"
	case rank(f.Severity) < rank(t.Severity):
		return "severity"
	case f.Score < t.Score:
		return "score"
	case f.Confidence < t.Confidence:
		return "confidence"
	}
	for k, v := range t.Tags {
		if have, ok := at.Tags[k]; !ok || have != v {
			return "tags"
		}
	}
	if len(t.Within) > 0 || len(t.Outside) > 0 {
		a := subject(f)
		if len(t.Within) > 0 && !holds(t.Within, a) {
			return "within"
		}
		if holds(t.Outside, a) {
			return "outside"
		}
	}
	if len(t.Times) > 0 && !slices.ContainsFunc(t.Times, func(p Period) bool { return p.holds(at.Now) }) {
		return "times"
	}
	return ""
}

// subject is the address that prefixes are about.
func subject(f *detector.Finding) netip.Addr {
	if f.Host.IsValid() && !f.Spoofed || len(f.Victims) == 0 {
		return f.Host
	}
	return f.Victims[0]
}

func holds(prefixes []netip.Prefix, a netip.Addr) bool {
	for _, p := range prefixes {
		if p.Contains(a) {
			return true
		}
	}
	return false
}

// why puts a mismatch into words.
func (t *Trigger) why(c clause, f *detector.Finding, at response.Circumstances) string {
	switch c {
	case "":
		return "matches"
	case "kinds":
		return fmt.Sprintf("kind %s is not among %v", f.Kind, t.Kinds)
	case "severity":
		return fmt.Sprintf("severity %s is below %s", f.Severity, t.Severity)
	case "score":
		return fmt.Sprintf("score %.3g is below %.3g", f.Score, t.Score)
	case "confidence":
		return fmt.Sprintf("confidence %.3g is below %.3g", f.Confidence, t.Confidence)
	case "tags":
		return fmt.Sprintf("the port's tags are %v, not %v", at.Tags, t.Tags)
	case "within":
		return fmt.Sprintf("%s is not within %v", subject(f), t.Within)
	case "outside":
		return fmt.Sprintf("%s is within %v", subject(f), t.Outside)
	}
	return fmt.Sprintf("%s is at none of its times", at.Now.Format("Mon 15:04 MST"))
}

var dayNames = [...]string{"sun", "mon", "tue", "wed", "thu", "fri", "sat"}

// clock is the time of the day that a text such as 08:30 gives; 24:00 ends it.
func clock(s string) (time.Duration, error) {
	if s == "24:00" {
		return 24 * time.Hour, nil
	}
	t, err := time.Parse("15:04", s)
	if err != nil || len(s) != len("15:04") {
		return 0, fmt.Errorf("%q is not a time such as 08:30", s)
	}
	return time.Duration(t.Hour())*time.Hour + time.Duration(t.Minute())*time.Minute, nil
}

// holds reports whether the period is now. Wall clocks decide, also where they
// are put forward or back.
func (p *Period) holds(now time.Time) bool {
	now = now.In(p.zone)
	t := time.Duration(now.Hour())*time.Hour + time.Duration(now.Minute())*time.Minute
	today := now.Weekday()
	if p.from < p.to {
		return t >= p.from && t < p.to && p.on(today)
	}
	return t >= p.from && p.on(today) || t < p.to && p.on((today+6)%7)
}

func (p *Period) on(day time.Weekday) bool {
	return len(p.Days) == 0 || slices.ContainsFunc(p.Days, func(d string) bool { return strings.EqualFold(d, dayNames[day]) })
}

// covers reports whether every finding of a kind that other matches is matched
// by t as well.
func (t *Trigger) covers(other *Trigger, kind detector.Kind) bool {
	if !anyOf(t.Kinds, kind) || rank(t.Severity) > rank(other.Severity) || t.Score > other.Score || t.Confidence > other.Confidence {
		return false
	}
	for k, v := range t.Tags {
		if have, ok := other.Tags[k]; !ok || have != v {
			return false
		}
	}
	if len(t.Within) > 0 && (len(other.Within) == 0 || !inside(other.Within, t.Within)) {
		return false
	}
	if !inside(t.Outside, other.Outside) {
		return false
	}
	return len(t.Times) == 0 || reflect.DeepEqual(t.Times, other.Times)
}

// inside reports whether each prefix lies in one of the others.
func inside(these, those []netip.Prefix) bool {
	for _, a := range these {
		if !slices.ContainsFunc(those, func(b netip.Prefix) bool { return b.Bits() <= a.Bits() && b.Contains(a.Addr()) }) {
			return false
		}
	}
	return true
}

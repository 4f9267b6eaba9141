package evaluate

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"sort"
	"time"

	"github.com/platelet-sdn/platelet/controller/response"
	"github.com/platelet-sdn/platelet/detector"
	"github.com/platelet-sdn/platelet/flowcollector/flow"
	"github.com/platelet-sdn/platelet/flowcollector/replay"
)

const (
	// enough is how many flows an attacker must have sent to be owed a
	// finding.
	enough = 10
	// promptSeconds and promptFlows are what scans and floods are owed.
	promptSeconds, promptFlows = 60.0, 10
	// slack is how much earlier than an attacker's first flow a finding may
	// be: logs round their times.
	slack = int64(time.Second)
	// maxListed bounds the lists of a report.
	maxListed = 200
)

// alarm is a finding, or what a rule says.
type alarm struct {
	time     int64
	host     Host // neither address nor MAC when the sources are forged
	mac      flow.MAC
	kind     detector.Kind
	severity detector.Severity
	victims  []netip.Addr
	why      string
	// action is what would be done about it, limited whose traffic.
	contains bool
	target   response.Target
}

// Spread is a distribution.
type Spread struct {
	N   int     `json:"n"`
	P50 float64 `json:"p50"`
	P95 float64 `json:"p95"`
	Max float64 `json:"max"`
}

func spreadOf(all []float64) Spread {
	if len(all) == 0 {
		return Spread{}
	}
	sort.Float64s(all)
	at := func(q float64) float64 { return all[min(int(q*float64(len(all))), len(all)-1)] }
	return Spread{N: len(all), P50: at(0.5), P95: at(0.95), Max: all[len(all)-1]}
}

// Kind is the result for a class of attacks, as the labels name them. Attackers
// counts those owed a finding; Named those that a finding of the right kind
// names; As counts the attackers by the kinds of findings that name them.
type Kind struct {
	Attackers int            `json:"attackers"`
	Found     int            `json:"found"`
	Named     int            `json:"named"`
	As        map[string]int `json:"as,omitempty"`
}

// Missed is an attacker that nothing named.
type Missed struct {
	Host Host   `json:"host"`
	Kind string `json:"kind"`
	Look string `json:"look"`
}

// Wrong is a finding about somebody who is no attacker.
type Wrong struct {
	Time     time.Time         `json:"time"`
	Host     Host              `json:"host"`
	Kind     detector.Kind     `json:"kind"`
	Severity detector.Severity `json:"severity"`
	Why      string            `json:"why,omitempty"`
	Contains bool              `json:"contains,omitempty"`
	Unjudged bool              `json:"unjudged,omitempty"`
}

// Result is what one detector, or rule, made of one set or of all.
type Result struct {
	Attackers       int `json:"attackers"`
	Found           int `json:"found"`
	AttackersOwed   int `json:"attackers_owed"` // with at least 10 malicious flows
	FoundOwed       int `json:"found_owed"`
	PromptOwed      int `json:"prompt_owed"` // of these, scans and floods
	Prompt          int `json:"prompt"`      // found within 60 s or 10 flows
	AttackersNamed  int `json:"attackers_named"`
	AttackersNaming int `json:"attackers_with_kind"` // owed, whose label says what they do
	// DelaySeconds and DelayFlows are of the attackers found that are owed it.
	DelaySeconds Spread          `json:"delay_s"`
	DelayFlows   Spread          `json:"delay_flows"`
	Kinds        map[string]Kind `json:"kinds,omitempty"`

	Hours     float64 `json:"hours"`
	HostHours float64 `json:"benign_host_hours"`
	// BenignHosts began flows and are benign; FalseHosts of them were found,
	// ContainedHosts would have been contained.
	BenignHosts    int `json:"benign_hosts"`
	FalseHosts     int `json:"false_hosts"`
	ContainedHosts int `json:"contained_benign_hosts"`
	// False counts false findings by severity.
	False             map[detector.Severity]int `json:"false"`
	FalseContainments int                       `json:"false_containments"`
	Containments      int                       `json:"containments"`
	Unjudged          int                       `json:"unjudged"`
	Findings          int                       `json:"findings"`

	Missed []Missed `json:"missed,omitempty"`
	Wrong  []Wrong  `json:"wrong,omitempty"`

	seconds, flows []float64
}

// Falses is the number of false findings.
func (r *Result) Falses() int {
	n := 0
	for _, k := range r.False {
		n += k
	}
	return n
}

// PerHostHour is how many false findings of a severity, or of all when it is
// empty, came per benign host and hour.
func (r *Result) PerHostHour(s detector.Severity) float64 {
	n := r.Falses()
	if s != "" {
		n = r.False[s]
	}
	if r.HostHours == 0 {
		return 0
	}
	return float64(n) / r.HostHours
}

// verdict on an alarm.
type verdict uint8

const (
	verdictUnjudged verdict = iota
	verdictTrue
	verdictFalse
)

// judgeAlarm says whether an alarm is true, and about which attacker.
func (t *truth) judgeAlarm(a *alarm) (verdict, Host) {
	if !a.host.Addr.IsValid() && a.host.MAC.IsZero() {
		return t.judgeVictims(a.victims), Host{}
	}
	for _, h := range []Host{a.host, {MAC: a.mac}} {
		if p := t.parties[h]; p != nil && p.attack != nil && a.time >= p.attack.begins[0]-slack {
			return verdictTrue, h
		}
	}
	p := t.parties[a.host]
	if p == nil || p.class == replay.ClassUnknown {
		return verdictUnjudged, a.host
	}
	return verdictFalse, a.host
}

// judgeVictims judges an alarm that names nobody but victims.
func (t *truth) judgeVictims(victims []netip.Addr) verdict {
	v := verdictUnjudged
	for _, a := range victims {
		if t.victims[a] {
			return verdictTrue
		}
		if p := t.parties[Host{Addr: a}]; p != nil && p.class == replay.ClassBenign {
			v = verdictFalse
		}
	}
	return v
}

// falseContainment reports whether what would be done hurts a benign host.
func (t *truth) falseContainment(a *alarm) (Host, bool) {
	if !a.contains {
		return Host{}, false
	}
	if h := (Host{Addr: a.target.Host}); a.target.Host.IsValid() {
		p := t.parties[h]
		guilty := p != nil && p.attack != nil && a.time >= p.attack.begins[0]-slack
		return h, !guilty && p != nil && p.class != replay.ClassUnknown
	}
	if a.target.Victim.IsValid() {
		return Host{}, t.judgeVictims([]netip.Addr{a.target.Victim}) == verdictFalse
	}
	v, h := t.judgeAlarm(a)
	return h, v == verdictFalse
}

// score holds alarms, in the order of time, against the truth.
func (t *truth) score(alarms []alarm) Result {
	r := Result{Kinds: map[string]Kind{}, False: map[detector.Severity]int{}, Findings: len(alarms),
		Hours: float64(t.end-t.begin) / float64(hour), HostHours: t.hostHours()}
	first := map[Host]int64{}
	as := map[Host]map[detector.Kind]bool{}
	falseHosts, contained := map[Host]bool{}, map[Host]bool{}
	for i := range alarms {
		a := &alarms[i]
		v, h := t.judgeAlarm(a)
		if a.contains {
			r.Containments++
		}
		if c, wrong := t.falseContainment(a); wrong {
			r.FalseContainments++
			contained[c] = true
		}
		switch {
		case v == verdictTrue && h != (Host{}):
			if _, had := first[h]; !had {
				first[h], as[h] = a.time, map[detector.Kind]bool{}
			}
			as[h][a.kind] = true
			continue
		case v == verdictTrue:
			continue
		case v == verdictFalse:
			r.False[a.severity]++
			falseHosts[h] = true
		default:
			r.Unjudged++
		}
		if len(r.Wrong) < maxListed {
			r.Wrong = append(r.Wrong, Wrong{Time: time.Unix(0, a.time).UTC(), Host: a.host, Kind: a.kind, Severity: a.severity,
				Why: a.why, Contains: a.contains, Unjudged: v == verdictUnjudged})
		}
	}
	for h, p := range t.parties {
		if p.attack != nil {
			r.attacker(h, p.attack, first, as[h])
		} else if p.class == replay.ClassBenign && p.opened > 0 {
			r.BenignHosts++
		}
	}
	r.FalseHosts, r.ContainedHosts = len(falseHosts), len(contained)
	r.finish()
	return r
}

// attacker adds one attacker to the result.
func (r *Result) attacker(h Host, a *attack, first map[Host]int64, as map[detector.Kind]bool) {
	at, found := first[h]
	class := a.mainKind()
	owed := len(a.begins) >= enough
	r.Attackers++
	if found {
		r.Found++
	}
	if !owed {
		return
	}
	r.AttackersOwed++
	k := r.Kinds[class]
	k.Attackers++
	if k.As == nil {
		k.As = map[string]int{}
	}
	seconds := float64(max(0, at-a.begins[0])) / 1e9
	flows := sort.Search(len(a.begins), func(i int) bool { return a.begins[i] > at })
	if quick(class) {
		r.PromptOwed++
		if found && (seconds <= promptSeconds || flows <= promptFlows) {
			r.Prompt++
		}
	}
	if class != other {
		r.AttackersNaming++
	}
	right := false
	for kind := range as {
		k.As[string(kind)]++
		right = right || named(class, kind)
	}
	if right {
		k.Named++
		r.AttackersNamed++
	}
	if found {
		k.Found++
		r.FoundOwed++
		r.seconds = append(r.seconds, seconds)
		r.flows = append(r.flows, float64(max(1, flows)))
	} else {
		r.Missed = append(r.Missed, Missed{Host: h, Kind: class, Look: a.look()})
	}
	r.Kinds[class] = k
}

// mainKind is the class of most of an attacker's malicious flows.
func (a *attack) mainKind() string {
	best := other
	for k, n := range a.kinds {
		if n > a.kinds[best] || n == a.kinds[best] && k < best {
			best = k
		}
	}
	return best
}

// finish makes the distributions, and the lists the same every time.
func (r *Result) finish() {
	r.DelaySeconds, r.DelayFlows = spreadOf(r.seconds), spreadOf(r.flows)
	slices.SortFunc(r.Missed, func(a, b Missed) int { return cmp.Compare(a.Host.String(), b.Host.String()) })
	r.Missed = r.Missed[:min(len(r.Missed), maxListed)]
}

// add sums results of different sets.
func (r *Result) add(o *Result) {
	for _, f := range []struct {
		to   *int
		more int
	}{
		{&r.Attackers, o.Attackers}, {&r.Found, o.Found}, {&r.AttackersOwed, o.AttackersOwed}, {&r.FoundOwed, o.FoundOwed},
		{&r.PromptOwed, o.PromptOwed}, {&r.Prompt, o.Prompt}, {&r.AttackersNamed, o.AttackersNamed}, {&r.AttackersNaming, o.AttackersNaming},
		{&r.BenignHosts, o.BenignHosts}, {&r.FalseHosts, o.FalseHosts}, {&r.ContainedHosts, o.ContainedHosts},
		{&r.FalseContainments, o.FalseContainments}, {&r.Containments, o.Containments}, {&r.Unjudged, o.Unjudged}, {&r.Findings, o.Findings},
	} {
		*f.to += f.more
	}
	r.Hours += o.Hours
	r.HostHours += o.HostHours
	if r.False == nil {
		r.False, r.Kinds = map[detector.Severity]int{}, map[string]Kind{}
	}
	for s, n := range o.False {
		r.False[s] += n
	}
	for name, k := range o.Kinds {
		sum := r.Kinds[name]
		sum.Attackers, sum.Found, sum.Named = sum.Attackers+k.Attackers, sum.Found+k.Found, sum.Named+k.Named
		if sum.As == nil {
			sum.As = map[string]int{}
		}
		for as, n := range k.As {
			sum.As[as] += n
		}
		r.Kinds[name] = sum
	}
	r.seconds, r.flows = append(r.seconds, o.seconds...), append(r.flows, o.flows...)
}

// describe says what carried a finding.
func describe(f detector.Finding) string {
	text := ""
	for _, e := range f.Evidence {
		text += fmt.Sprintf("%s=%.4g (%.3g) ", e.Feature, e.Value, e.Baseline)
	}
	if len(f.Victims) > 0 {
		text += fmt.Sprintf("against %v and %d more ", f.Victims[0], len(f.Victims)-1)
	}
	return fmt.Sprintf("%sproto %d port %d, %d records, score %.2f", text, f.Proto, f.DstPort, f.Records, f.Score)
}

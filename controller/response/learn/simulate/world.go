package simulate

import (
	"math/rand/v2"
	"net/netip"
	"time"

	"github.com/platelet-sdn/platelet/controller/response"
	"github.com/platelet-sdn/platelet/controller/response/learn"
	"github.com/platelet-sdn/platelet/detector"
)

// World is where incidents happen. Shares are from 0 to 1.
type World struct {
	Name    string
	About   string
	Attacks []Attack
	// Rule is the rung that the playbook asks for.
	Rule func(detector.Kind) response.Action
	// Busy is the share of attacking hosts that have work of their own, Served
	// the share of those on whom others depend.
	Busy, Served float64
	// Wrong is the share of findings that are wrong; they are doubtful ones.
	Wrong float64
}

// Worlds are those that the simulation knows: one whose rule is too hard for many
// incidents, one whose rule is what the program brings along, and one in which
// that rule is the best there is.
func Worlds(attacks []Attack) []World {
	defaults := response.DefaultConfig().Actions
	rule := func(k detector.Kind) response.Action { return defaults[k] }
	hard := func(k detector.Kind) response.Action {
		if defaults[k].Contains() {
			return response.ActionQuarantine
		}
		return defaults[k]
	}
	return []World{
		{"harsh", "every kind is answered with quarantine; half of the hosts have work, a third of those serve others, a tenth of the findings is wrong", attacks, hard, 0.5, 0.33, 0.1},
		{"default", "the rungs that the program brings along; hosts and findings as above", attacks, rule, 0.5, 0.33, 0.1},
		{"rule-is-best", "the rung that is best for each kind; hosts do nothing else, findings are right", attacks, bestByKind(attacks), 0, 0, 0},
	}
}

// bestByKind is the rule of somebody who knows all about idle hosts.
func bestByKind(attacks []Attack) func(detector.Kind) response.Action {
	sums := map[detector.Kind]map[response.Action]float64{}
	defaults := response.DefaultConfig().Actions
	for _, a := range attacks {
		in := Incident{Attack: a, Rule: defaults[a.Kind], pTurns: turnsElsewhere(learn.ClassOf(a.Kind))}
		if in.open(); len(in.Open) == 1 { // only what can be chosen counts
			continue
		}
		if sums[a.Kind] == nil {
			sums[a.Kind] = map[response.Action]float64{}
		}
		for _, r := range rungs() {
			sums[a.Kind][r] += in.expected(r)
		}
	}
	return func(k detector.Kind) response.Action {
		if s := sums[k]; s != nil && defaults[k].Contains() {
			return highest(s)
		}
		return defaults[k]
	}
}

// rungs are those that there is something to choose from.
func rungs() []response.Action {
	return []response.Action{response.ActionRateLimit, response.ActionSegment, response.ActionQuarantine}
}

// Incident is one that a rung is chosen for.
type Incident struct {
	Attack  Attack
	Context learn.Context
	Rule    response.Action
	Open    []response.Action
	// own and served are of the host, wrong and turns what chance decides:
	// whether the finding is wrong, and whether the attacker turns elsewhere
	// when it is stopped in one place, with their probabilities.
	own            int
	served         float64
	pWrong, pTurns float64
	wrong, turns   bool
}

// limit is what a flood is limited to, in packets per second.
const limit = 200

// turnsElsewhere is how likely an attacker is to go on otherwise when it is kept
// from one peer or service.
func turnsElsewhere(c learn.Class) float64 {
	switch c {
	case learn.ClassScan:
		return 0.4
	case learn.ClassSpread:
		return 0.8
	case learn.ClassFlood:
		return 0.3
	}
	return 0.1
}

// incident draws one.
func (w *World) incident(draw *rand.Rand) Incident {
	var in Incident
	for {
		in.Attack = w.Attacks[draw.IntN(len(w.Attacks))]
		if in.Rule = w.Rule(in.Attack.Kind); in.Rule.Contains() {
			break
		}
	}
	score := 0.9 + 0.1*draw.Float64()
	in.pTurns = turnsElsewhere(learn.ClassOf(in.Attack.Kind))
	if draw.Float64() < 2*w.Wrong { // doubtful, and half of those wrong
		score, in.pWrong = 0.5+0.3*draw.Float64(), 0.5
	}
	var impact response.Impact
	impact.Known = 10
	if !in.Attack.Spoofed && draw.Float64() < w.Busy {
		in.own = 1 + draw.IntN(20)
		if draw.Float64() < w.Served {
			impact.Served = 1 + draw.IntN(5) // above that a person is asked
		}
	}
	in.served = impact.Share()
	in.wrong, in.turns = draw.Float64() < in.pWrong, draw.Float64() < in.pTurns
	in.open()
	in.Context = learn.ContextOf(response.Question{
		Finding: detector.Finding{Kind: in.Attack.Kind, Score: score, Confidence: 1, Severity: severity(in.Attack.Kind), Spoofed: in.Attack.Spoofed,
			Rate: in.Attack.Rate, Victims: make([]netip.Addr, 1)},
		Impact: impact, Cost: response.Cost{Own: in.own},
	})
	return in
}

func severity(k detector.Kind) detector.Severity {
	info, _ := k.Info()
	return info.Severity
}

// open is what a playbook may leave open: all that contains, and of forged sources
// and stations what there is against them.
func (in *Incident) open() {
	switch {
	case in.Attack.Spoofed:
		in.Rule = response.ActionRateLimit
		in.Open = []response.Action{in.Rule}
	case learn.ClassOf(in.Attack.Kind) == learn.ClassForgery:
		in.Open = []response.Action{in.Rule}
	default:
		in.Open = rungs()
	}
}

// reward is what a rung earns when chance has decided.
func (in *Incident) reward(a response.Action, wrong, turns bool) float64 {
	const verify = 3 * time.Second
	d := response.Decision{Action: a, State: response.StateReleased, Applied: time.Unix(0, 0), Cost: &response.Cost{Own: in.own}}
	d.Proof = response.Proof{Installed: true, Effective: true, Harmless: true}
	proven := time.Duration(in.Attack.Proof * float64(time.Second))
	if proven == 0 {
		proven = 300 * time.Millisecond
	}
	sent := uint64(in.Attack.Rate * 10)
	pass := uint64(0)
	elsewhere := false
	switch a {
	case response.ActionRateLimit:
		pass = min(sent, limit*10)
		elsewhere = pass == sent // never proven
	case response.ActionSegment:
		if turns && !wrong {
			elsewhere = true
			pass = sent / 2
		}
	case response.ActionQuarantine:
		d.Cost.Cut = in.own
		d.Cost.Others = in.served
	}
	d.Proof.Dropped, d.Proof.Passed = sent-pass, pass
	d.Verified = d.Applied.Add(proven)
	if elsewhere {
		d.Verified, d.Successor = time.Time{}, "d-next"
	}
	if wrong && a != response.ActionRateLimit {
		d.Overruled = "somebody"
	}
	parts, _ := learn.PartsOf(&d, a, verify)
	return parts.Reward()
}

// earned is the reward that a rung earns.
func (in *Incident) earned(a response.Action) float64 { return in.reward(a, in.wrong, in.turns) }

// expected is the mean over what chance decides.
func (in *Incident) expected(a response.Action) (sum float64) {
	for _, wrong := range []bool{false, true} {
		for _, turns := range []bool{false, true} {
			p := 1.0
			for _, x := range []struct {
				is bool
				p  float64
			}{{wrong, in.pWrong}, {turns, in.pTurns}} {
				if x.is {
					p *= x.p
				} else {
					p *= 1 - x.p
				}
			}
			sum += p * in.reward(a, wrong, turns)
		}
	}
	return sum
}

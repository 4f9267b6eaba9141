package report

import (
	"strings"

	"github.com/platelet-sdn/platelet/lab/measure"
)

// budget is what containment of an attack may take, in milliseconds.
type budget struct{ p50, p99 float64 }

// budgetOf is what the design allows, from the first packet sent to the last
// one delivered. Attacks that it does not mention have none.
func budgetOf(name string) (budget, bool) {
	name = strings.TrimPrefix(strings.TrimPrefix(name, "nmap-"), "hping3-")
	b, ok := map[string]budget{
		"port-scan":        {5, 20},
		"port-scan-silent": {70, 120},
		"syn-flood":        {25, 60},
		"syn-flood-direct": {25, 60},
		"udp-flood":        {40, 100},
		"icmp-flood":       {40, 100},
		"host-sweep":       {5, 20},
		"arp-sweep":        {210, 250},
	}[name]
	return b, ok
}

// verdict says whether an attack kept its budget.
type verdict struct {
	Budget string // such as "5 / 20"; empty where there is none
	Met    bool
	// Known is true when there is something to compare with the budget.
	Known bool
}

// judge compares with the budget. One run that was not contained misses it.
func judge(a measure.Attack) verdict {
	b, ok := budgetOf(a.Name)
	if !ok {
		return verdict{}
	}
	s := a.Summary
	return verdict{
		Budget: number(b.p50) + " / " + number(b.p99), Known: s.Contained.N > 0,
		Met: s.Contained.K == s.Contained.N && s.TTC.P50 <= b.p50 && s.TTC.P99 <= b.p99,
	}
}

package detector

import "github.com/platelet-sdn/platelet/flowcollector/flow"

// guarded reports a port by which a packet came in whose source is none of the
// addresses that the port has, as the switch knows for certain. The finding is
// about the port and its owner; the address that was forged is its victim, if
// it is anybody's.
func (w *linkWatch) guarded(r *flow.Record) {
	ask := w.e.cfg.Policy.Guarded
	if ask == nil || r.InPort == 0 {
		return
	}
	owner, about, ok := ask(r.InPort)
	if !ok {
		return
	}
	exporter := w.e.exporters.number(r.Exporter)
	rep := report{
		key:   findingKey{kind: KindIPSpoof, inPort: r.InPort, exporter: exporter},
		state: StateFiring, first: w.e.clock.now, owner: w, host: addressOf(owner), exporter: exporter, inPort: r.InPort,
		score: 0.99, confidence: 0.99, records: 1,
		evidence: []Evidence{
			{"source guard " + about, 1, 0, 0},
			{"forged_packets_per_report", r.Rate, 0, 1},
		},
		limits: []Limit{{"forged_packets", 0}},
	}
	if src := addressOf(r.Src); r.Src.IsValid() && src.unicast() {
		rep.victims = []address{src}
	}
	w.e.ledger.report(&rep)
}

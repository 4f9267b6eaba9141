package pipeline

import (
	"time"

	"github.com/platelet-sdn/platelet/controller/openflow"
	"github.com/platelet-sdn/platelet/segmentation"
)

// FlowsFor returns what a bridge called "br" with these intents, tap and
// ports would have on its switch, and which intent each flow comes from, by
// cookie.
func FlowsFor(intents []segmentation.Intent, tap TapConfig, numbers map[string]uint32) (openflow.Tx, map[uint64]string, error) {
	b, err := New(Config{Name: "br"})
	if err != nil {
		return openflow.Tx{}, nil, err
	}
	b.tap = tap
	for name, n := range numbers {
		b.ports.add(openflow.Port{Name: name, Number: n})
	}
	now := time.Now()
	rules, err := b.rules.build("br", "test", intents, now)
	if err != nil {
		return openflow.Tx{}, nil, err
	}
	b.rules.replace("test", rules)
	var tx openflow.Tx
	for i, r := range rules {
		if r.limited() {
			r.meter = meterOf(r.intent.Limit)
			r.meter.ID = uint32(i) + 1
			tx.AddMeters = append(tx.AddMeters, r.meter)
		}
	}
	want, _, err := b.desiredFlows(now)
	sources := map[uint64]string{}
	for _, d := range want {
		tx.Flows = append(tx.Flows, openflow.FlowMod{Flow: d.flow})
		if d.rule != nil {
			sources[d.flow.Cookie] = d.rule.intent.ID
		}
	}
	return tx, sources, err
}

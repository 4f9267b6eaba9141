package pipeline

import (
	"context"
	"time"

	"github.com/platelet-sdn/platelet/controller/openflow"
)

// leaveMargin is how much longer than the last rule the frame stays: a rule
// must never be there without the way that leads to it.
const leaveMargin = 2 * time.Second

// Leave prepares the switch for a time without us. The tap goes; rules stay
// for as long as their TTL, and the frame, the policies and all rules without a TTL get one
// that ends with the last of those, so that the switch cleans up by itself;
// with keep, policies and the frame that leads to them stay for good instead.
// A Bridge that adopts the rules before then takes everything over without a
// gap. Nothing is to be asked of this Bridge afterwards. Not connected, it is
// as with Apply.
func (b *Bridge) Leave(ctx context.Context, keep bool) error {
	return b.reframe(ctx, func() {
		b.tap, b.overrides, b.leaving = TapConfig{}, map[tapKey]TapOverride{}, true
		b.staying, b.spare = keep, spare{}
	})
}

// bound gives everything that would stay for ever an end, when we leave.
func (b *Bridge) bound(flows map[openflow.FlowKey]desired, now time.Time) {
	last := now
	for _, r := range b.rules.objects {
		if r.expiry.After(last) {
			last = r.expiry
		}
	}
	left := uint16(min(65535, (last.Sub(now)+leaveMargin)/time.Second))
	for key, d := range flows {
		if d.flow.HardTimeout == 0 {
			d.flow.HardTimeout = left
			flows[key] = d
		}
	}
}

package pipeline

import (
	"context"
	"net/netip"

	"github.com/platelet-sdn/platelet/controller/openflow"
	"github.com/platelet-sdn/platelet/flowcollector/flow"
	"github.com/platelet-sdn/platelet/segmentation"
)

// maxFlush bounds how many hosts' connections one operation flushes; each is
// a walk over the zone.
const maxFlush = 64

// void returns the connections that newly quarantined hosts opened.
// Enforcement does not depend on it: quarantine stands before conntrack, and
// policy is checked on every packet. It frees the room that they take.
// Connections that others opened to the host stay, so that after its release
// they are known for what they are. The caller holds mu.
func (b *Bridge) void(next []*rule) []openflow.CTFlush {
	if !b.policy.tracks() {
		return nil // the zone is empty
	}
	zone := b.cfg.Layout.Zone
	var out []openflow.CTFlush
	seen := map[netip.Addr]bool{}
	for _, r := range next {
		src := r.intent.Match.Src
		if r.intent.Tier != segmentation.TierEmergency || r.intent.Action != segmentation.ActionDeny || r.placed != nil ||
			r.intent.Match.EtherType == flow.EtherARP || !src.IsSingleIP() || seen[src.Addr()] || len(out) == maxFlush {
			continue
		}
		seen[src.Addr()] = true
		out = append(out, openflow.CTFlush{Zone: &zone, Orig: openflow.CTTuple{Src: src.Addr()}})
	}
	return out
}

// voidZone returns the whole zone when nobody is under policy any more and a
// heal takes the way to it away.
func (b *Bridge) voidZone(p *picture, want map[openflow.FlowKey]desired) []openflow.CTFlush {
	b.mu.Lock()
	used := b.policy.tracks()
	b.mu.Unlock()
	if used {
		return nil
	}
	for i := range p.own {
		f := &p.own[i]
		if _, wanted := want[f.Key()]; !wanted && cookieCategory(f.Cookie) == CategoryState {
			return []openflow.CTFlush{{Zone: &b.cfg.Layout.Zone}}
		}
	}
	return nil
}

// flush removes void connections. A switch that cannot (by address, before
// Open vSwitch 3.1) keeps them until they time out.
func (b *Bridge) flush(ctx context.Context, conn *openflow.Conn, void []openflow.CTFlush) {
	for _, f := range void {
		if err := conn.FlushConntrack(ctx, f); err != nil {
			b.log.WithField("connections", f.String()).WithError(err).Warn("void connections stay until they time out")
			return
		}
	}
}

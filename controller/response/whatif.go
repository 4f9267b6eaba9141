package response

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"math"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/platelet-sdn/platelet/controller/response/exposure"
	"github.com/platelet-sdn/platelet/detector"
	"github.com/platelet-sdn/platelet/flowcollector/flow"
	"github.com/platelet-sdn/platelet/segmentation"
	"github.com/platelet-sdn/platelet/topology"
)

// WhatIf is what an action would have hit in the last hour, had its rules stood: a
// conversation of which they stop or limit either direction is hit as a whole.
type WhatIf struct {
	// Since and Until are what is known of the hour; both are zero where
	// nothing is.
	Since time.Time `json:"since,omitzero"`
	Until time.Time `json:"until,omitzero"`
	// Sampling is how many packets one sample stood for: 1 where all were
	// seen, 0 where connections alone were, so that bytes are too few.
	Sampling float64 `json:"sampling"`
	// Error is the relative error of the packets in Rest, at 95 % confidence,
	// that comes from sampling (Phaal and Panchen, "Packet Sampling Basics").
	Error float64 `json:"error"`
	// Limits: what is hit is slowed down or scrubbed, not cut off.
	Limits bool `json:"limits,omitempty"`
	// Hosts would lose something besides the attack: Rest.
	Hosts int              `json:"hosts"`
	Rest  exposure.Traffic `json:"rest"`
	// Attack is what looks like the attack: since the minute of its first
	// evidence what the finding names, and what nobody answered.
	Attack exposure.Traffic `json:"attack"`
	// Peers are those hosts that have the most to lose, in bytes; More is how
	// many are not listed.
	Peers []Peer `json:"peers,omitempty"`
	More  int    `json:"more,omitempty"`
	// Unlisted is the most that there can have been besides, of conversations
	// for which there was no room.
	Unlisted exposure.Traffic `json:"unlisted,omitzero"`
}

// Peer is somebody who would lose something.
type Peer struct {
	Host netip.Addr `json:"host"`
	// Uses are the services that it uses of the target, Serves those that the
	// target uses of it, as "tcp/443".
	Uses    []string         `json:"uses,omitempty"`
	Serves  []string         `json:"serves,omitempty"`
	Traffic exposure.Traffic `json:"traffic"`
}

// maxPeers is how many peers are listed.
const maxPeers = 16

// whatIf holds the rules of a decision against the last hour; nil where they hold
// nothing up.
func (m *Manager) whatIf(d *Decision) *WhatIf {
	if !d.Action.Contains() || len(d.Intents) == 0 {
		return nil
	}
	c := m.watch.traffic.Coverage()
	w := &WhatIf{Since: utc(c.Since), Until: utc(c.Until), Sampling: c.Sampling, Limits: d.Action == ActionRateLimit || d.Action == ActionScrub}
	moment := int64(math.MaxInt64) // of an order there is no evidence
	if !d.FirstSeen.IsZero() {
		moment = d.FirstSeen.UnixNano()
	}
	x := m.crossing(d)
	peers := map[netip.Addr]*Peer{}
	for _, t := range m.watch.traffic.Conversations(x.hits, moment) {
		rest := t.Before
		if d.attacks(&t) {
			w.Attack.Add(t.Since)
		} else {
			rest.Add(t.Since)
		}
		if rest == (exposure.Traffic{}) {
			continue
		}
		w.Rest.Add(rest)
		x.note(peers, &t, rest)
	}
	w.Error = samplingError(w.Rest.Packets, c.Sampling)
	w.Rest, w.Attack, w.Unlisted = w.Rest.Round(), w.Attack.Round(), m.watch.traffic.Unlisted(d.centre()).Round()
	w.list(peers)
	return w
}

// samplingError is the relative error of a number of packets that was estimated from
// one sample in so many, at 95 % confidence.
func samplingError(packets, rate float64) float64 {
	if rate <= 1 || packets == 0 {
		return 0
	}
	return min(1, 1.96*math.Sqrt((1-1/rate)*rate/packets))
}

// centre is whose conversations an action is about; invalid where it is about a
// station or a port.
func (d *Decision) centre() netip.Addr {
	if d.Target.Host.IsValid() {
		return d.Target.Host
	}
	return d.Target.Victim
}

// note adds what somebody would lose.
func (x *crossing) note(peers map[netip.Addr]*Peer, t *exposure.Conversation, rest exposure.Traffic) {
	who, uses := t.Client, true
	if slices.Contains(x.own, who) {
		who, uses = t.Server, false
	}
	p := peers[who]
	if p == nil {
		p = &Peer{Host: who}
		peers[who] = p
	}
	p.Traffic.Add(rest)
	name := flow.ProtoName(t.Proto)
	if t.Service != 0 {
		name += fmt.Sprintf("/%d", t.Service)
	}
	list := &p.Serves
	if uses {
		list = &p.Uses
	}
	if !slices.Contains(*list, name) {
		*list = append(*list, name)
	}
}

// maxServices is how many services are named of each peer.
const maxServices = 8

func (w *WhatIf) list(peers map[netip.Addr]*Peer) {
	all := slices.SortedFunc(maps.Values(peers), func(a, b *Peer) int {
		return cmp.Or(cmp.Compare(b.Traffic.Bytes, a.Traffic.Bytes), a.Host.Compare(b.Host))
	})
	for _, p := range all {
		if p.Host.IsMulticast() {
			continue // nobody in particular
		}
		w.Hosts++
		if len(w.Peers) == maxPeers {
			w.More++
			continue
		}
		p.Traffic = p.Traffic.Round()
		p.Uses, p.Serves = p.Uses[:min(len(p.Uses), maxServices)], p.Serves[:min(len(p.Serves), maxServices)]
		w.Peers = append(w.Peers, *p)
	}
}

// attacks reports whether what was said in a conversation since the first evidence
// looks like the attack.
func (d *Decision) attacks(t *exposure.Conversation) bool {
	if d.Finding == "" || d.Target.Host.IsValid() && t.Client != d.Target.Host {
		return false
	}
	if (d.Action == ActionRateLimit || d.Action == ActionScrub) && d.Target.Host.IsValid() { // one known sender, towards its victim
		return t.Server == d.Target.Victim
	}
	if !t.Answered || d.Target.Reflector != 0 && t.Service == d.Target.Reflector {
		return true
	}
	named := d.Target
	if d.Narrow != nil {
		named = *d.Narrow
	}
	switch {
	case !named.segments(), named.Service == 0 && d.Kind != detector.KindBeacon && d.Kind != detector.KindExfiltration:
		return false
	case named.Peer.IsValid() && named.Peer != t.Server:
		return false
	}
	return named.Service == 0 || named.Service == t.Service && named.Proto == t.Proto
}

// crossing holds conversations against rules.
type crossing struct {
	snap *topology.Snapshot
	d    *Decision
	own  []netip.Addr // of whom the rules are about
	all  bool         // some rule names none of them
}

func (m *Manager) crossing(d *Decision) *crossing {
	x := &crossing{snap: m.where.Snapshot(), d: d}
	c := d.centre()
	if !c.IsValid() {
		x.all = true
		return x
	}
	x.own = append(x.own, c)
	for _, h := range x.snap.HostsAt(topology.PortID{Switch: d.Target.Switch, Port: d.Target.Port}) {
		if !d.Target.MAC.IsZero() && h.MAC == d.Target.MAC && h.Addr != c {
			x.own = append(x.own, h.Addr) // another one of the same station
		}
	}
	for i := range d.Intents {
		r := &d.Intents[i].Match
		x.all = x.all || r.EtherType != flow.EtherARP && holdsUp(d.Intents[i].Action) && !r.Src.IsValid() && !r.Dst.IsValid()
	}
	return x
}

// packet is a direction of a conversation, as rules see it.
type packet struct {
	at               topology.PortID // where it enters; zero where that is not known
	mac              flow.MAC
	src, dst         netip.Addr
	proto            uint8
	srcPort, dstPort uint16
}

// hits reports whether the decision's rules stop or limit either direction.
func (x *crossing) hits(k exposure.Key) bool {
	if c := x.d.centre(); !x.all && k.Client != c && k.Server != c {
		return false // no need to look
	}
	forth := packet{src: k.Client, dst: k.Server, proto: k.Proto, dstPort: k.Service}
	back := packet{src: k.Server, dst: k.Client, proto: k.Proto, srcPort: k.Service}
	if p, ok := x.snap.PortByIndex(k.Port); ok && k.Port != 0 {
		forth.at = p.ID
	}
	return x.stops(&forth) || x.stops(&back)
}

// stops finds the first rule that a packet meets.
func (x *crossing) stops(p *packet) bool {
	if h, ok := x.snap.Host(p.src); ok {
		p.mac = h.MAC
		if p.at == (topology.PortID{}) || h.Bound {
			p.at = h.Port
		}
	}
	if slices.Contains(x.own, p.src) && x.d.Target.Host.IsValid() { // that is where it is contained
		p.at = topology.PortID{Switch: x.d.Target.Switch, Port: x.d.Target.Port}
	}
	var first *segmentation.Intent
	for i := range x.d.Intents {
		in := &x.d.Intents[i]
		if meets(in, p) && (first == nil || in.Rank < first.Rank) {
			first = in
		}
	}
	return first != nil && holdsUp(first.Action)
}

// holdsUp reports whether packets that meet a rule do not all go on as before.
func holdsUp(a segmentation.Action) bool {
	return a != segmentation.ActionAllow && a != segmentation.ActionMirror
}

// meets reports whether a packet of a conversation meets a rule. TCP flags are left
// out: what stops a connection from being opened stops all of it.
func meets(in *segmentation.Intent, p *packet) bool {
	r := &in.Match
	switch {
	case r.InPort != "" && p.at != topology.PortID{Switch: in.Switch, Port: r.InPort}:
		return false
	case r.EtherType == flow.EtherARP, r.EtherType == flow.EtherIPv4 && !p.src.Is4(), r.EtherType == flow.EtherIPv6 && p.src.Is4():
		return false
	case !r.SrcMAC.IsZero() && r.SrcMAC != p.mac, r.HasICMPType, r.NDTarget.IsValid():
		return false
	case r.Src.IsValid() && !r.Src.Contains(p.src), r.Dst.IsValid() && !r.Dst.Contains(p.dst):
		return false
	case r.Proto != 0 && r.Proto != p.proto:
		return false
	}
	return (r.SrcPort == 0 || r.SrcPort == p.srcPort) && (r.DstPort == 0 || r.DstPort == p.dstPort)
}

// Look returns a decision as it is now. Of one that is proposed or waits for approval
// it says what the rules would have hit by now, not when they were proposed.
func (m *Manager) Look(ctx context.Context, id string) (out Decision, err error) {
	err = m.do(ctx, func(context.Context, func()) error {
		d, err := m.find(id)
		if err != nil {
			return err
		}
		out = *d
		if d.State == StateAwaitingApproval || d.State == StateProposed && !d.Committed {
			out.WhatIf = m.whatIf(&out)
		}
		return nil
	})
	return out, err
}

// String says it in a sentence.
func (w *WhatIf) String() string {
	if w.Since.IsZero() {
		return "nothing is known of the last hour"
	}
	var b strings.Builder
	does := "cut off"
	if w.Limits {
		does = "limited"
	}
	if w.Hosts == 0 {
		fmt.Fprintf(&b, "nobody would have been %s", does)
	} else {
		fmt.Fprintf(&b, "%s would have been %s: %s", many(w.Hosts, "host"), does, amount(w.Rest))
	}
	if w.Attack != (exposure.Traffic{}) {
		fmt.Fprintf(&b, "; the attack %s", amount(w.Attack))
	}
	if w.Unlisted != (exposure.Traffic{}) {
		fmt.Fprintf(&b, "; at most %s besides", amount(w.Unlisted))
	}
	fmt.Fprintf(&b, "; of the last %s", span(w.Until.Sub(w.Since)))
	switch {
	case w.Sampling == 0:
		b.WriteString(", from connections alone: bytes are too few")
	case w.Sampling > 1:
		fmt.Fprintf(&b, ", sampled 1:%.3g", w.Sampling)
		if w.Error > 0 {
			fmt.Fprintf(&b, ", packets to %.0f %%", math.Ceil(100*w.Error))
		}
	}
	return b.String()
}

// Short is a few words for a table.
func (w *WhatIf) Short() string {
	if w.Since.IsZero() {
		return "unknown"
	}
	return fmt.Sprintf("%s, %s", many(w.Hosts, "host"), size(w.Rest.Bytes))
}

func span(d time.Duration) string {
	if d < 2*time.Minute {
		return fmt.Sprintf("%.0f s", d.Seconds())
	}
	return fmt.Sprintf("%.0f min", d.Minutes())
}

// amount says it in words; where connections were sampled, that they are an estimate.
func amount(t exposure.Traffic) string {
	connections := many(int(t.Connections), "connection")
	if t.Seen > 0 && t.Seen < t.Connections {
		connections = fmt.Sprintf("about %s (%.0f seen)", connections, t.Seen)
	}
	return fmt.Sprintf("%s, %s", connections, size(t.Bytes))
}

func many(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

// size writes a number of bytes.
func size(v float64) string {
	unit := "B"
	for _, u := range []string{"kB", "MB", "GB", "TB"} {
		if v < 1000 {
			break
		}
		v, unit = v/1000, u
	}
	return fmt.Sprintf("%.3g %s", v, unit)
}

package segmentation

import (
	"errors"
	"fmt"
	"net/netip"
	"time"

	"github.com/platelet-sdn/platelet/flowcollector/flow"
)

// Segment asks for a host to be kept from one service, from one peer, or from one
// service of one peer, where it attaches; all else goes on.
type Segment struct {
	Owner        string // decision ID; prefix of every intent ID
	Switch, Port string // edge port
	Host         netip.Addr
	// Peer narrows the rule to one other end; invalid for all.
	Peer netip.Addr
	// Proto and Service narrow it to what the host asks of a service, the
	// port being zero for protocols without; Proto zero is everything.
	Proto   uint8
	Service uint16
	TTL     time.Duration
	// Sample is the thin sample in the drop rule, of 65535.
	Sample uint16
	Why    string
}

// Segment turns a segment into intents, or refuses it.
func (p Protected) Segment(s Segment) ([]Intent, error) {
	b := builder{owner: s.Owner, sw: s.Switch, ttl: s.TTL, sample: s.Sample, why: s.Why}
	if err := p.checkHost(&b, s.Port, s.Host, nil); err != nil {
		return nil, fmt.Errorf("segment %s: %w", s.Host, err)
	}
	switch {
	case !s.Peer.IsValid() && s.Proto == 0:
		return nil, fmt.Errorf("segment %s: neither a peer nor a service is known; that would be a quarantine", s.Host)
	case s.Service != 0 && s.Proto != flow.ProtoTCP && s.Proto != flow.ProtoUDP && s.Proto != flow.ProtoSCTP:
		return nil, fmt.Errorf("segment %s: protocol %d has no ports", s.Host, s.Proto)
	case s.Peer.IsValid() && s.Peer.Is4() != s.Host.Is4():
		return nil, fmt.Errorf("segment %s: %s is of another family", s.Host, s.Peer)
	}
	b.add(rankSegment, ActionDeny, Match{
		InPort: s.Port, EtherType: etherType(s.Host), Src: host(s.Host), Dst: host(s.Peer), Proto: s.Proto, DstPort: s.Service,
	})
	return b.intents, nil
}

// HostLimit asks for all that a host sends to be limited where it attaches: the
// way back from quarantine.
type HostLimit struct {
	Owner        string // decision ID; prefix of every intent ID
	Switch, Port string // edge port
	Host         netip.Addr
	// Remediation hosts stay reachable without limit.
	Remediation []netip.Addr
	Limit       Limit
	TTL         time.Duration
	Why         string
}

// LimitHost turns a host limit into intents, or refuses it.
func (p Protected) LimitHost(l HostLimit) ([]Intent, error) {
	b := builder{owner: l.Owner, sw: l.Switch, ttl: l.TTL, why: l.Why}
	if err := p.checkHost(&b, l.Port, l.Host, l.Remediation); err != nil {
		return nil, fmt.Errorf("limit %s: %w", l.Host, err)
	}
	if l.Limit.PacketsPerSecond == 0 {
		return nil, fmt.Errorf("limit %s: a limit of 0 packets/s is a drop; ask for one", l.Host)
	}
	m := Match{InPort: l.Port, EtherType: etherType(l.Host), Src: host(l.Host)}
	b.free(m, l.Host, l.Remediation, rankCarveOut)
	b.add(rankLimit, ActionRateLimit, m)
	b.intents[len(b.intents)-1].Limit = l.Limit
	return b.intents, nil
}

// Reroute asks for all that a host sends to be handed to a decoy where it
// attaches: a station on the same switch that answers for any address.
type Reroute struct {
	Owner        string // decision ID; prefix of every intent ID
	Switch, Port string // edge port
	Host         netip.Addr
	To           flow.MAC // the decoy's
	// Remediation hosts stay reachable.
	Remediation []netip.Addr
	TTL         time.Duration
	Why         string
}

// Reroute turns a reroute into intents, or refuses it. Addresses stay as they are:
// the decoy has to take packets for addresses that are not its own, and answers in
// their name.
func (p Protected) Reroute(r Reroute) ([]Intent, error) {
	b := builder{owner: r.Owner, sw: r.Switch, ttl: r.TTL, why: r.Why}
	if err := p.checkHost(&b, r.Port, r.Host, r.Remediation); err != nil {
		return nil, fmt.Errorf("reroute %s: %w", r.Host, err)
	}
	if r.To.IsZero() {
		return nil, fmt.Errorf("reroute %s: the decoy's MAC is not known", r.Host)
	}
	m := Match{InPort: r.Port, EtherType: etherType(r.Host), Src: host(r.Host)}
	b.free(m, r.Host, r.Remediation, rankQuarantineAllow)
	b.add(rankReroute, ActionReroute, m)
	b.intents[len(b.intents)-1].To = r.To
	return b.intents, nil
}

// checkHost refuses what no rule on a host at a port may be.
func (p Protected) checkHost(b *builder, port string, host netip.Addr, remediation []netip.Addr) error {
	if err := checkPlace(b.owner, b.sw, port, b.ttl); err != nil {
		return err
	}
	switch {
	case !host.IsValid():
		return errors.New("the host is not known")
	case len(remediation) > maxRemediation:
		return fmt.Errorf("%d remediation hosts, at most %d", len(remediation), maxRemediation)
	}
	return p.refuse(host)
}

// free lets what a rule on a host selects pass to the remediation hosts.
func (b *builder) free(m Match, of netip.Addr, remediation []netip.Addr, rank uint16) {
	for _, r := range remediation {
		if r.Is4() == of.Is4() && r != of {
			m.Dst = host(r)
			b.add(rank, ActionAllow, m)
		}
	}
}

package segmentation

import (
	"errors"
	"fmt"
	"net/netip"
	"time"

	"github.com/platelet-sdn/platelet/flowcollector/flow"
)

// Ranks within the emergency tier: a quarantine is decided before a limit, so
// that the honest addresses that a limit carves out cannot free a host that
// is in quarantine or kept from a service.
const (
	rankQuarantineAllow = 100
	rankQuarantineDeny  = 200
	rankSegment         = 250
	rankReroute         = 260
	rankScrubbed        = 265
	rankCarveOut        = 300
	rankScrub           = 390
	rankLimit           = 400
	rankMirror          = 500 // what nothing else decides about
)

// limits of one containment, so that a finding cannot write rules without
// bound.
const (
	maxRemediation = 16
	maxCarveOuts   = 32
	minTTL         = time.Second
	maxTTL         = 65535 * time.Second // OpenFlow's hard timeout is 16 bits
)

// ARP operations (RFC 826).
const (
	arpRequest = 1
	arpReply   = 2
)

// Quarantine asks for a host to be cut off at the port where it attaches.
type Quarantine struct {
	Owner        string // decision ID; prefix of every intent ID
	Switch, Port string // edge port
	// Host may be invalid when only the MAC is known (an ARP sweep).
	Host netip.Addr
	MAC  flow.MAC
	// ByMAC cuts off everything that the MAC sends, whatever address it
	// takes next. Only for a MAC that is this one host's, never a router's.
	ByMAC bool
	// Spared are addresses that go on although ByMAC is set.
	Spared []netip.Addr
	// Sweep is set when the MAC was caught asking for absent neighbours: its
	// questions are dropped, whatever address they are asked for.
	Sweep bool
	// Claims is set when the MAC was caught claiming addresses of others:
	// nothing that it says in ARP and neighbour discovery passes but answers
	// for its own address.
	Claims bool
	// Attached is set when the address is known to live at the port. A
	// source address that another host owns is denied only where it enters:
	// whoever forges it must not be able to cut its owner off.
	Attached bool
	// Remediation hosts stay reachable, in both directions.
	Remediation []netip.Addr
	TTL         time.Duration
	// Sample is the thin sample in the drop rules, of 65535.
	Sample uint16
	Why    string
}

// FloodLimit asks for the traffic towards a victim to be limited where
// it enters, without believing its source addresses.
type FloodLimit struct {
	Owner        string
	Switch, Port string // edge port where the flood enters
	Victim       netip.Addr
	Proto        uint8
	// Source narrows the rule to one sender; invalid when spoofed.
	Source netip.Addr
	// Segments limits TCP segments that open nothing, rather than those that
	// do.
	Segments bool
	// Reflector narrows the rule to what a service at this port answers or,
	// if Asking is set, to what it is asked in the victim's name: only where
	// the victim does not live, so that all of it is dropped.
	Reflector uint16
	Asking    bool
	// Sample is the thin sample in a drop rule, of 65535.
	Sample uint16
	// Honest addresses are bound to the port and stay unlimited when the
	// flood is spoofed: only the forged rest is slowed down.
	Honest []netip.Addr
	Limit  Limit
	TTL    time.Duration
	Why    string
}

// Quarantine turns a quarantine into intents, or refuses it. A host keeps
// answering ARP and neighbour solicitations and keeps its path to the
// remediation hosts; all else from and to it is dropped, and thinly sampled
// so that the attack stays visible.
func (p Protected) Quarantine(q Quarantine) ([]Intent, error) {
	if err := checkPlace(q.Owner, q.Switch, q.Port, q.TTL); err != nil {
		return nil, fmt.Errorf("quarantine %s: %w", q.Host, err)
	}
	if !q.Host.IsValid() && q.MAC == (flow.MAC{}) {
		return nil, errors.New("quarantine: neither address nor MAC is known")
	}
	if (q.ByMAC || q.Sweep || q.Claims) && q.MAC == (flow.MAC{}) {
		return nil, fmt.Errorf("quarantine %s by MAC: the MAC is not known", q.Host)
	}
	if q.Host.IsValid() {
		if err := p.refuse(q.Host); err != nil {
			return nil, fmt.Errorf("quarantine: %w", err)
		}
	}
	if len(q.Spared) > maxCarveOuts {
		return nil, fmt.Errorf("quarantine %s: %d addresses to spare, at most %d", q.Host, len(q.Spared), maxCarveOuts)
	}
	if len(q.Remediation) > maxRemediation {
		return nil, fmt.Errorf("quarantine %s: %d remediation hosts, at most %d", q.Host, len(q.Remediation), maxRemediation)
	}
	b := builder{owner: q.Owner, sw: q.Switch, ttl: q.TTL, sample: q.Sample, why: q.Why}
	if q.Host.IsValid() {
		b.keepRemediation(q)
		b.keepResolution(q)
	}
	b.cutOff(q)
	return b.intents, nil
}

// LimitFlood turns a flood limit into intents. It may protect a protected
// victim, but never limits traffic that a protected address is known to send.
func (p Protected) LimitFlood(f FloodLimit) ([]Intent, error) {
	if err := checkPlace(f.Owner, f.Switch, f.Port, f.TTL); err != nil {
		return nil, fmt.Errorf("limit flood on %s: %w", f.Victim, err)
	}
	if !f.Victim.IsValid() {
		return nil, errors.New("limit flood: the victim is not known")
	}
	if f.Limit.PacketsPerSecond == 0 {
		return nil, fmt.Errorf("limit flood on %s: a limit of 0 packets/s is a drop; ask for one", f.Victim)
	}
	if f.Source.IsValid() {
		if err := p.refuse(f.Source); err != nil {
			return nil, fmt.Errorf("limit flood on %s: %w", f.Victim, err)
		}
		if f.Source.Is4() != f.Victim.Is4() {
			return nil, fmt.Errorf("limit flood on %s: source %s is of another family", f.Victim, f.Source)
		}
	}
	if f.Asking {
		if err := p.refuse(f.Victim); err != nil {
			return nil, fmt.Errorf("limit questions in its name: %w", err)
		}
	}
	m := Match{InPort: f.Port, EtherType: etherType(f.Victim), Dst: host(f.Victim), Proto: f.Proto, Src: host(f.Source)}
	switch {
	case f.Asking:
		m.Src, m.Dst, m.DstPort = m.Dst, netip.Prefix{}, f.Reflector
	case f.Reflector != 0:
		m.SrcPort = f.Reflector
	case f.Proto == flow.ProtoTCP && f.Segments:
		m.TCPFlagsMask = flow.SYN
	case f.Proto == flow.ProtoTCP:
		m.TCPFlags, m.TCPFlagsMask = flow.SYN, flow.SYN|flow.ACK
	}
	b := builder{owner: f.Owner, sw: f.Switch, ttl: f.TTL, sample: f.Sample, why: f.Why}
	if !f.Source.IsValid() && !f.Asking {
		for i, a := range f.Honest {
			if i == maxCarveOuts {
				break
			}
			if a.Is4() == f.Victim.Is4() {
				b.add(rankCarveOut, ActionAllow, Match{InPort: f.Port, EtherType: etherType(a), Src: host(a)})
			}
		}
	}
	if f.Asking { // none is honest, and each is answered many times over
		b.add(rankLimit, ActionDeny, m)
		return b.intents, nil
	}
	b.add(rankLimit, ActionRateLimit, m)
	b.intents[len(b.intents)-1].Limit = f.Limit
	return b.intents, nil
}

// Guard returns the rules that let a protected address pass unhindered from
// the port to which two-way evidence binds it, before any emergency rule.
func (p Protected) Guard(owner, sw, port string, a netip.Addr) ([]Intent, error) {
	if _, ok := p.Covers(a); !ok {
		return nil, fmt.Errorf("guard %s: it is not protected", a)
	}
	return []Intent{{
		ID: fmt.Sprintf("%s/%s", owner, a), Owner: owner, Switch: sw, Tier: TierGuard, Rank: rankQuarantineAllow,
		Match:  Match{InPort: port, EtherType: etherType(a), Src: host(a)},
		Action: ActionAllow, Why: fmt.Sprintf("%s is protected and attaches at %s", a, port),
	}}, nil
}

// builder collects the intents of one containment.
type builder struct {
	owner, sw, why string
	ttl            time.Duration
	sample         uint16
	intents        []Intent
}

func (b *builder) add(rank uint16, action Action, m Match) {
	in := Intent{
		ID: fmt.Sprintf("%s/%d", b.owner, len(b.intents)), Owner: b.owner, Switch: b.sw,
		Tier: TierEmergency, Rank: rank, Match: m, Action: action, TTL: b.ttl, Why: b.why,
	}
	if action == ActionDeny {
		in.Sample = b.sample
	}
	b.intents = append(b.intents, in)
}

// keepRemediation leaves the path to and from the remediation hosts open.
func (b *builder) keepRemediation(q Quarantine) {
	et := etherType(q.Host)
	for _, r := range q.Remediation {
		if r.Is4() != q.Host.Is4() || r == q.Host {
			continue
		}
		b.add(rankQuarantineAllow, ActionAllow, Match{InPort: q.Port, EtherType: et, Src: host(q.Host), Dst: host(r)})
		b.add(rankQuarantineAllow, ActionAllow, Match{EtherType: et, Src: host(r), Dst: host(q.Host)})
		if q.Host.Is4() {
			b.add(rankQuarantineAllow, ActionAllow, Match{InPort: q.Port, EtherType: flow.EtherARP, ARPOp: arpRequest, Src: host(q.Host), Dst: host(r)})
			continue
		}
		b.add(rankQuarantineAllow, ActionAllow, Match{InPort: q.Port, EtherType: et, Src: host(q.Host), Proto: flow.ProtoICMPv6,
			HasICMPType: true, ICMPType: icmp6Solicit, NDTarget: r})
	}
}

// Neighbour discovery (RFC 4861, section 4).
const (
	icmp6Solicit   = 135
	icmp6Advertise = 136
)

// keepResolution lets the host answer who it is, so that peers do not lose
// its address while it is away; its own questions stay with the drop rules,
// or a sweep would go on from quarantine.
func (b *builder) keepResolution(q Quarantine) {
	if q.Host.Is4() {
		b.add(rankQuarantineAllow, ActionAllow, Match{InPort: q.Port, EtherType: flow.EtherARP, ARPOp: arpReply, Src: host(q.Host)})
		return
	}
	b.add(rankQuarantineAllow, ActionAllow, Match{InPort: q.Port, EtherType: flow.EtherIPv6, Src: host(q.Host), Proto: flow.ProtoICMPv6,
		HasICMPType: true, ICMPType: icmp6Advertise})
}

// cutOff drops what the host sends and what is sent to it.
func (b *builder) cutOff(q Quarantine) {
	switch {
	case q.ByMAC && len(q.Spared) > 0: // behind what one of them may come to deserve
		m := Match{InPort: q.Port, SrcMAC: q.MAC}
		b.spare(m, q.Spared, rankCarveOut)
		b.add(rankLimit, ActionDeny, m)
	case q.ByMAC:
		b.add(rankQuarantineDeny, ActionDeny, Match{InPort: q.Port, SrcMAC: q.MAC})
	case q.Claims:
		b.add(rankQuarantineDeny, ActionDeny, Match{InPort: q.Port, SrcMAC: q.MAC, EtherType: flow.EtherARP})
		for _, t := range []uint8{flow.ICMPv6RouterAdvertisement, icmp6Solicit, icmp6Advertise} {
			b.add(rankQuarantineDeny, ActionDeny, Match{InPort: q.Port, SrcMAC: q.MAC, EtherType: flow.EtherIPv6, Proto: flow.ProtoICMPv6,
				HasICMPType: true, ICMPType: t})
		}
	case q.Sweep || !q.Host.IsValid(): // only the sweep that was seen
		b.add(rankQuarantineDeny, ActionDeny, Match{InPort: q.Port, SrcMAC: q.MAC, EtherType: flow.EtherARP, ARPOp: arpRequest})
		b.add(rankQuarantineDeny, ActionDeny, Match{InPort: q.Port, SrcMAC: q.MAC, EtherType: flow.EtherIPv6, Proto: flow.ProtoICMPv6,
			HasICMPType: true, ICMPType: icmp6Solicit})
	}
	if !q.Host.IsValid() {
		return
	}
	et := etherType(q.Host)
	b.add(rankQuarantineDeny, ActionDeny, Match{InPort: q.Port, EtherType: et, Src: host(q.Host)})
	if q.Attached {
		b.add(rankQuarantineDeny, ActionDeny, Match{EtherType: et, Dst: host(q.Host)})
	}
	if q.Host.Is4() {
		b.add(rankQuarantineDeny, ActionDeny, Match{InPort: q.Port, EtherType: flow.EtherARP, ARPOp: arpRequest, Src: host(q.Host)})
	}
}

func checkPlace(owner, sw, port string, ttl time.Duration) error {
	switch {
	case owner == "":
		return errors.New("no owner")
	case sw == "" || port == "":
		return errors.New("the switch port where it attaches is not known")
	case ttl < minTTL || ttl > maxTTL:
		return fmt.Errorf("TTL %s is outside %s to %s", ttl, minTTL, maxTTL)
	}
	return nil
}

func etherType(a netip.Addr) uint16 {
	if a.Is4() {
		return flow.EtherIPv4
	}
	return flow.EtherIPv6
}

// host is the prefix of one address; the zero prefix, which matches
// everything, for an invalid one.
func host(a netip.Addr) netip.Prefix {
	if !a.IsValid() {
		return netip.Prefix{}
	}
	return netip.PrefixFrom(a, a.BitLen())
}

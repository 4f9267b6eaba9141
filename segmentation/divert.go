package segmentation

import (
	"errors"
	"fmt"
	"net/netip"
	"time"

	"github.com/platelet-sdn/platelet/flowcollector/flow"
)

// Mirror asks for copies of what a host sends, or of what enters a port towards
// a victim, at a port where somebody looks at them. The packets themselves go on
// as they were.
type Mirror struct {
	Owner        string // decision ID; prefix of every intent ID
	Switch, Port string // edge port where the traffic enters
	// Host is whose packets are copied; without one, those towards Victim, of
	// protocol Proto (0 is any), whoever claims to send them.
	Host, Victim netip.Addr
	Proto        uint8
	// To is the interface by which the copies leave the same switch.
	To string
	// Limit is that of the copies: what is above it is not copied.
	Limit Limit
	TTL   time.Duration
	Why   string
}

// Mirror turns a mirror into intents, or refuses it. It comes behind every other
// rule on the same packets: what is dropped, limited or rerouted is not copied.
func (p Protected) Mirror(m Mirror) ([]Intent, error) {
	b := builder{owner: m.Owner, sw: m.Switch, ttl: m.TTL, why: m.Why}
	match := Match{InPort: m.Port}
	switch {
	case m.Host.IsValid():
		if err := p.checkHost(&b, m.Port, m.Host, nil); err != nil {
			return nil, fmt.Errorf("mirror %s: %w", m.Host, err)
		}
		match.EtherType, match.Src = etherType(m.Host), host(m.Host)
	case m.Victim.IsValid():
		if err := checkPlace(m.Owner, m.Switch, m.Port, m.TTL); err != nil {
			return nil, fmt.Errorf("mirror what is sent to %s: %w", m.Victim, err)
		}
		match.EtherType, match.Dst, match.Proto = etherType(m.Victim), host(m.Victim), m.Proto
	default:
		return nil, errors.New("mirror: neither a host nor a victim is known")
	}
	switch {
	case m.To == "":
		return nil, errors.New("mirror: the port of the copies is not known")
	case m.To == m.Port:
		return nil, fmt.Errorf("mirror: copies would go back to %s, where the packets come from", m.To)
	case m.Limit.PacketsPerSecond == 0:
		return nil, errors.New("mirror: without a limit copies could double a flood")
	}
	b.add(rankMirror, ActionMirror, match)
	b.intents[0].ToPort, b.intents[0].Limit = m.To, m.Limit
	return b.intents, nil
}

// Scrub asks for what enters a port towards a victim to be handed to a scrubber: a
// station on the same switch that drops the attack and forwards the rest.
type Scrub struct {
	Owner        string // decision ID; prefix of every intent ID
	Switch, Port string // edge port where the flood enters
	Victim       netip.Addr
	Proto        uint8 // 0 is any
	// Source narrows the rule to one sender; invalid when spoofed.
	Source netip.Addr
	// Reflector narrows it to what a service at this port answers.
	Reflector uint16
	// Station is the scrubber, and StationPort the interface where it attaches.
	Station     flow.MAC
	StationPort string
	TTL         time.Duration
	Why         string
}

// Scrub turns a scrub into intents, or refuses it. Only packets that enter by the
// port of the flood are handed over, and the scrubber is at another one: what it
// sends on goes to the victim and never back to it. It should send with its own
// MAC, as a router does, so that switches do not learn others' at its port.
func (p Protected) Scrub(s Scrub) ([]Intent, error) {
	if err := checkPlace(s.Owner, s.Switch, s.Port, s.TTL); err != nil {
		return nil, fmt.Errorf("scrub what is sent to %s: %w", s.Victim, err)
	}
	switch {
	case !s.Victim.IsValid():
		return nil, errors.New("scrub: the victim is not known")
	case s.Station.IsZero() || s.StationPort == "":
		return nil, fmt.Errorf("scrub what is sent to %s: it is not known where the scrubber is", s.Victim)
	case s.StationPort == s.Port:
		return nil, fmt.Errorf("scrub what is sent to %s: the scrubber is at %s, where it enters: it would go round in circles", s.Victim, s.Port)
	case s.Source.IsValid() && s.Source.Is4() != s.Victim.Is4():
		return nil, fmt.Errorf("scrub what is sent to %s: source %s is of another family", s.Victim, s.Source)
	}
	if s.Source.IsValid() {
		if err := p.refuse(s.Source); err != nil {
			return nil, fmt.Errorf("scrub what is sent to %s: %w", s.Victim, err)
		}
	}
	b := builder{owner: s.Owner, sw: s.Switch, ttl: s.TTL, why: s.Why}
	m := Match{InPort: s.StationPort, EtherType: etherType(s.Victim), Dst: host(s.Victim), Proto: s.Proto}
	b.add(rankScrubbed, ActionAllow, m) // counts what comes back
	m.InPort, m.Src, m.SrcPort = s.Port, host(s.Source), s.Reflector
	b.add(rankScrub, ActionReroute, m)
	b.intents[1].To = s.Station
	return b.intents, nil
}

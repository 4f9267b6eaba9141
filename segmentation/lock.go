package segmentation

import (
	"errors"
	"fmt"
	"net/netip"
	"time"

	"github.com/platelet-sdn/platelet/flowcollector/flow"
)

// PortLock asks for a port at which somebody invents stations to be closed for
// all but those that are known there. No rule on an address could do it: each
// frame has another.
type PortLock struct {
	Owner        string // decision ID; prefix of every intent ID
	Switch, Port string // edge port
	// Known are the stations that go on as before.
	Known []flow.MAC
	TTL   time.Duration
	// Sample is the thin sample in the drop rule, of 65535.
	Sample uint16
	Why    string
}

// LockPort turns a port lock into intents, or refuses it. What is under
// quarantine there stays under quarantine.
func LockPort(l PortLock) ([]Intent, error) {
	if err := checkPlace(l.Owner, l.Switch, l.Port, l.TTL); err != nil {
		return nil, fmt.Errorf("lock port: %w", err)
	}
	if len(l.Known) > maxCarveOuts {
		return nil, fmt.Errorf("lock %s: %d stations are known there, at most %d may be spared", l.Port, len(l.Known), maxCarveOuts)
	}
	b := builder{owner: l.Owner, sw: l.Switch, ttl: l.TTL, sample: l.Sample, why: l.Why}
	for _, m := range l.Known {
		if m.IsZero() {
			return nil, errors.New("lock port: a station without a MAC cannot be spared")
		}
		b.add(rankCarveOut, ActionAllow, Match{InPort: l.Port, SrcMAC: m})
	}
	b.add(rankLimit, ActionDeny, Match{InPort: l.Port})
	return b.intents, nil
}

// StationCut asks for a station that sends in the names of others to be cut off at
// its port, whatever names it takes.
type StationCut struct {
	Owner        string // decision ID; prefix of every intent ID
	Switch, Port string // edge port
	MAC          flow.MAC
	// Spared are addresses that are known to be behind the station, as behind a
	// router: they go on.
	Spared []netip.Addr
	TTL    time.Duration
	// Sample is the thin sample in the drop rule, of 65535.
	Sample uint16
	Why    string
}

// CutStation turns a station cut into intents, or refuses it. What is under
// quarantine there stays under quarantine.
func CutStation(c StationCut) ([]Intent, error) {
	if err := checkPlace(c.Owner, c.Switch, c.Port, c.TTL); err != nil {
		return nil, fmt.Errorf("cut off station: %w", err)
	}
	switch {
	case c.MAC.IsZero():
		return nil, errors.New("cut off station: its MAC is not known")
	case len(c.Spared) > maxCarveOuts:
		return nil, fmt.Errorf("cut off %s: %d addresses are known behind it, at most %d may be spared", c.MAC, len(c.Spared), maxCarveOuts)
	}
	b := builder{owner: c.Owner, sw: c.Switch, ttl: c.TTL, sample: c.Sample, why: c.Why}
	m := Match{InPort: c.Port, SrcMAC: c.MAC}
	b.spare(m, c.Spared, rankCarveOut)
	b.add(rankLimit, ActionDeny, m)
	return b.intents, nil
}

// spare lets what a rule on a station selects pass where it comes from certain
// addresses, and their answers to who has them.
func (b *builder) spare(m Match, addrs []netip.Addr, rank uint16) {
	for _, a := range addrs {
		m.EtherType, m.Src = etherType(a), host(a)
		b.add(rank, ActionAllow, m)
		if a.Is4() {
			m.EtherType = flow.EtherARP
			b.add(rank, ActionAllow, m)
		}
	}
}

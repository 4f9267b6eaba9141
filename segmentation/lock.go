package segmentation

import (
	"errors"
	"fmt"
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

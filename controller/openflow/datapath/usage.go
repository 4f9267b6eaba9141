package datapath

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// Usage is what a bridge's datapath carries. Bridges of one type share a
// datapath, and so these numbers, except for the zone's.
type Usage struct {
	// Datapath is its name, for example "netdev@ovs-netdev".
	Datapath string `json:"datapath"`
	// Megaflows is the number of flows that the switch has cached there, of
	// MegaflowLimit that it allows itself at present. Near the limit, packets
	// go through the slow path.
	Megaflows     uint64 `json:"megaflows"`
	MegaflowLimit uint64 `json:"megaflow_limit"`
	// Connections is the number of tracked connections in all zones. Absent
	// where the datapath does not count them (the kernel's).
	Connections *uint64 `json:"connections,omitempty"`
	// ZoneConnections is the number in our zone, of ZoneLimit; absent while
	// the zone has no limit, as then it is not counted.
	ZoneConnections *uint64 `json:"zone_connections,omitempty"`
	ZoneLimit       uint64  `json:"zone_limit,omitempty"`
}

// ErrNoBridge says that ovs-vswitchd has no bridge of that name.
var ErrNoBridge = errors.New("no such bridge in any datapath")

// Usage reads what the bridge's datapath carries, and the connections of a
// conntrack zone. It costs the daemon no walk over flows or connections.
func (l Local) Usage(ctx context.Context, bridge string, zone uint16) (Usage, error) {
	text, err := l.Call(ctx, "dpif/show")
	if err != nil {
		return Usage{}, err
	}
	u := Usage{Datapath: datapathOf(text, bridge)}
	if u.Datapath == "" {
		return Usage{}, fmt.Errorf("bridge %s: %w", bridge, ErrNoBridge)
	}
	if text, err = l.Call(ctx, "upcall/show"); err != nil {
		return Usage{}, err
	}
	u.Megaflows, u.MegaflowLimit = megaflows(text, u.Datapath)
	var refused *CallError
	switch text, err = l.Call(ctx, "dpctl/ct-get-nconns", u.Datapath); {
	case err == nil:
		if n, err := strconv.ParseUint(strings.TrimSpace(text), 10, 64); err == nil {
			u.Connections = &n
		}
	case !errors.As(err, &refused):
		return Usage{}, err
	}
	switch text, err = l.Call(ctx, "dpctl/ct-get-limits", u.Datapath, fmt.Sprintf("zone=%d", zone)); {
	case err == nil:
		if limit, count, ok := zoneLimit(text, zone); ok {
			u.ZoneLimit, u.ZoneConnections = limit, &count
		}
	case !errors.As(err, &refused):
		return Usage{}, err
	}
	return u, nil
}

// LimitZone bounds the connections of a conntrack zone: beyond the limit, new
// ones are not entered. Open vSwitch forgets it when it restarts. 0 takes the
// limit away.
func (l Local) LimitZone(ctx context.Context, datapath string, zone uint16, limit uint32) error {
	method, arg := "dpctl/ct-set-limits", fmt.Sprintf("zone=%d,limit=%d", zone, limit)
	if limit == 0 {
		method, arg = "dpctl/ct-del-limits", fmt.Sprintf("zone=%d", zone)
	}
	_, err := l.Call(ctx, method, datapath, arg)
	return err
}

// datapathOf finds the datapath that a bridge is in, in what dpif/show
// prints: datapaths at the margin, bridges two spaces in, ports four.
func datapathOf(text, bridge string) string {
	var dp string
	for line := range strings.Lines(text) {
		line = strings.TrimRight(line, "\n")
		switch indent := len(line) - len(strings.TrimLeft(line, " ")); indent {
		case 0:
			dp, _, _ = strings.Cut(line, ": ")
		case 2:
			if strings.TrimSpace(line) == bridge+":" {
				return dp
			}
		}
	}
	return ""
}

// megaflows reads a datapath's current number and limit of flows out of what
// upcall/show prints; zeros when it does not say.
func megaflows(text, datapath string) (current, limit uint64) {
	_, rest, _ := strings.Cut("\n"+text, "\n"+datapath+":")
	_, rest, _ = strings.Cut(rest, "(current ")
	return number(rest), numberAfter(rest, "(limit ")
}

// zoneLimit reads "zone=Z,limit=N,count=M"; 0 is no limit.
func zoneLimit(text string, zone uint16) (limit, count uint64, ok bool) {
	_, rest, found := strings.Cut("\n"+text, fmt.Sprintf("\nzone=%d,limit=", zone))
	if !found {
		return 0, 0, false
	}
	rest, _, _ = strings.Cut(rest, "\n")
	limit = number(rest)
	return limit, numberAfter(rest, ",count="), limit != 0
}

func numberAfter(text, prefix string) uint64 {
	_, rest, _ := strings.Cut(text, prefix)
	return number(rest)
}

// number reads the digits that a text begins with.
func number(text string) uint64 {
	end := 0
	for end < len(text) && text[end] >= '0' && text[end] <= '9' {
		end++
	}
	n, err := strconv.ParseUint(text[:end], 10, 64)
	if err != nil {
		return 0
	}
	return n
}

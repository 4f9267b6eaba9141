package runner

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/vishvananda/netlink"
)

const (
	// settleTimeout bounds the wait for spanning trees. Rapid spanning tree
	// between Open vSwitch bridges needs a few seconds at worst, the kernel's
	// plain one with the timers below about ten.
	settleTimeout = 60 * time.Second
	// settlePoll is how often the state of the ports is asked for.
	settlePoll = 100 * time.Millisecond
	// Timers of the kernel's spanning tree, in clock ticks of 1/100 s: as
	// short as IEEE 802.1D lets them be.
	stpHello, stpMaxAge, stpForwardDelay = 100, 600, 400
)

// bridgePair is a link between two bridges of the lab, by their positions.
type bridgePair struct{ a, b, link int }

// bridgePairs lists the links whose ends are both ports of bridges.
func (s *state) bridgePairs() []bridgePair {
	at := map[string]int{}
	for i, b := range s.Bridges {
		if b.Namespace == "" {
			at[b.Name] = i
		}
	}
	var out []bridgePair
	for i, l := range s.Links {
		a, okA := at[l.A.Bridge]
		b, okB := at[l.B.Bridge]
		if okA && okB && l.A.Namespace+l.B.Namespace == "" {
			out = append(out, bridgePair{a, b, i})
		}
	}
	return out
}

// markLoops marks the bridges that stand in a loop: those with a link to
// another bridge that could be cut without parting any two bridges.
func (s *state) markLoops() {
	pairs := s.bridgePairs()
	for i, cut := range pairs {
		if connected(len(s.Bridges), pairs, i) {
			s.Bridges[cut.a].Loop, s.Bridges[cut.b].Loop = true, true
		}
	}
}

// connected reports whether the ends of one pair hang together without it.
func connected(bridges int, pairs []bridgePair, without int) bool {
	group := groups(bridges, slices.Concat(pairs[:without], pairs[without+1:]))
	return group[pairs[without].a] == group[pairs[without].b]
}

// groups numbers the bridges such that those that hang together share a
// number.
func groups(bridges int, pairs []bridgePair) []int {
	out := make([]int, bridges)
	for i := range out {
		out[i] = i
	}
	for _, p := range pairs {
		from, to := out[p.a], out[p.b]
		for i := range out {
			if out[i] == from {
				out[i] = to
			}
		}
	}
	return out
}

// loopPort reports whether a port leads to another bridge, so that its
// spanning tree has to talk before it forwards. All others lead to hosts,
// and forward at once.
func (s *state) loopPort(name string) bool {
	for _, p := range s.bridgePairs() {
		if l := s.Links[p.link]; l.A.Name == name || l.B.Name == name {
			return true
		}
	}
	return false
}

// settle waits until the spanning trees of the bridges in loops are built:
// every port forwards, or has been told to discard, and per group of bridges
// exactly as many links are in use as a tree has.
func (s *state) settle(ctx context.Context, h *netlink.Handle) error {
	if !slices.ContainsFunc(s.Bridges, func(b bridge) bool { return b.Loop }) {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, settleTimeout)
	defer cancel()
	tick := time.NewTicker(settlePoll)
	defer tick.Stop()
	for {
		waiting, err := s.unsettled(ctx, h)
		if err == nil && waiting == "" {
			return nil
		}
		select {
		case <-ctx.Done():
			if err != nil {
				return fmt.Errorf("wait for spanning trees: %w", err)
			}
			return fmt.Errorf("wait for spanning trees: %s: %w", waiting, ctx.Err())
		case <-tick.C:
		}
	}
}

// unsettled says what of the spanning trees is not built yet.
func (s *state) unsettled(ctx context.Context, h *netlink.Handle) (string, error) {
	ports, err := s.rstpPorts(ctx)
	if err != nil {
		return "", err
	}
	forwards := map[string]bool{}
	for _, l := range s.Links {
		for _, e := range []end{l.A, l.B} {
			b := s.bridgeNamed(e.Bridge)
			if b == nil || !b.Loop {
				continue
			}
			role, state := ports[e.Name].Role, ports[e.Name].State
			if !b.OVS {
				if role, state, err = stpPort(h, e.Name); err != nil {
					return "", err
				}
			}
			settledOff := state == "Discarding" && (role == "Alternate" || role == "Backup")
			if state != "Forwarding" && !settledOff {
				return fmt.Sprintf("port %s of bridge %s is %s as %s", e.Name, e.Bridge, state, role), nil
			}
			forwards[e.Name] = state == "Forwarding"
		}
	}
	return s.notATree(forwards), nil
}

// notATree compares the number of links in use with that of a tree.
func (s *state) notATree(forwards map[string]bool) string {
	var inLoop, used []bridgePair
	for _, p := range s.bridgePairs() {
		if !s.Bridges[p.a].Loop || !s.Bridges[p.b].Loop {
			continue
		}
		inLoop = append(inLoop, p)
		if l := s.Links[p.link]; forwards[l.A.Name] && forwards[l.B.Name] {
			used = append(used, p)
		}
	}
	group := groups(len(s.Bridges), inLoop)
	size, edges := map[int]int{}, map[int]int{}
	for i, b := range s.Bridges {
		if b.Loop {
			size[group[i]]++
		}
	}
	for _, p := range used {
		edges[group[p.a]]++
	}
	for g, n := range size {
		if edges[g] != n-1 {
			return fmt.Sprintf("%d links are in use around bridge %s, a tree of %d bridges has %d", edges[g], s.Bridges[g].Name, n, n-1)
		}
	}
	return ""
}

func (s *state) bridgeNamed(name string) *bridge {
	for i := range s.Bridges {
		if name != "" && s.Bridges[i].Name == name {
			return &s.Bridges[i]
		}
	}
	return nil
}

// portTree is what a port says of its spanning tree, in the words of Open
// vSwitch's rstp_status column.
type portTree struct{ Role, State string }

// rstpPorts reads the spanning tree state of all ports of Open vSwitch.
func (s *state) rstpPorts(ctx context.Context) (map[string]portTree, error) {
	if !slices.ContainsFunc(s.Bridges, func(b bridge) bool { return b.OVS && b.Loop }) {
		return map[string]portTree{}, nil
	}
	out, err := s.vsctl(ctx, 10, "--format=json", "--columns=name,rstp_status", "list", "port")
	if err != nil {
		return nil, err
	}
	var table struct {
		Data [][]json.RawMessage `json:"data"`
	}
	if err := json.Unmarshal([]byte(out), &table); err != nil {
		return nil, fmt.Errorf("spanning tree state: %w", err)
	}
	ports := map[string]portTree{}
	for _, row := range table.Data {
		var name string
		var status [2]json.RawMessage // ["map", [[key, value], ...]]
		var pairs [][2]string
		if len(row) != 2 || json.Unmarshal(row[0], &name) != nil || json.Unmarshal(row[1], &status) != nil ||
			json.Unmarshal(status[1], &pairs) != nil {
			return nil, fmt.Errorf("spanning tree state: unexpected row %s", row)
		}
		var p portTree
		for _, kv := range pairs {
			switch kv[0] {
			case "rstp_port_role":
				p.Role = kv[1]
			case "rstp_port_state":
				p.State = kv[1]
			}
		}
		ports[name] = p
	}
	return ports, nil
}

// stpPort translates the kernel's state of a bridge port into those words.
func stpPort(h *netlink.Handle, name string) (role, state string, err error) {
	l, err := h.LinkByName(name)
	if err != nil {
		return "", "", fmt.Errorf("port %s: %w", name, err)
	}
	// 0 disabled, 1 listening, 2 learning, 3 forwarding, 4 blocking.
	raw, err := os.ReadFile("/sys/class/net/" + l.Attrs().Name + "/brport/state")
	if err != nil {
		return "", "", fmt.Errorf("port %s: %w", name, err)
	}
	switch strings.TrimSpace(string(raw)) {
	case "3":
		return "Designated", "Forwarding", nil
	case "4":
		return "Alternate", "Discarding", nil
	}
	return "", "kernel state " + strings.TrimSpace(string(raw)), nil
}

// enableSTP turns the kernel's spanning tree on, with short timers. That
// has to happen before the first port is attached.
func enableSTP(name string) error {
	dir := "/sys/class/net/" + name + "/bridge/"
	values := map[string]int{"hello_time": stpHello, "max_age": stpMaxAge, "forward_delay": stpForwardDelay, "stp_state": 1}
	for _, key := range slices.Sorted(maps.Keys(values)) {
		if err := os.WriteFile(dir+key, []byte(strconv.Itoa(values[key])), 0o644); err != nil {
			return fmt.Errorf("spanning tree of bridge %s: %w", name, err)
		}
	}
	return nil
}

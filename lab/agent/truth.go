package agent

import (
	"bufio"
	"encoding/json"
	"io"
	"net/netip"
	"slices"
	"sync"
	"time"
)

// Role says on which side an agent's action is.
type Role string

// The roles of an agent.
const (
	Attack Role = "attack"
	Benign Role = "benign"
	// Reflector is a host that an attacker lets answer in its place: it sends
	// what hurts, and yet is no attacker.
	Reflector Role = "reflector"
)

// Action is one line of ground truth: who did what, when and to whom.
type Action struct {
	// Time is when it began.
	Time time.Time `json:"time"`
	// Agent is the node that acted, Role its side.
	Agent string `json:"agent"`
	Role  Role   `json:"role"`
	// Behaviour is the attack's or the benign behaviour's name, Action the
	// step of it, such as "probe", "burst", "login", "infected", "request".
	Behaviour string `json:"behaviour"`
	Action    string `json:"action"`
	// From is the source address that was used, which may be forged; To the
	// destination. Either is zero where the action has none.
	From netip.Addr `json:"from,omitzero"`
	To   netip.Addr `json:"to,omitzero"`
	// Proto is tcp, udp, icmp, icmp6, arp or ethernet.
	Proto string `json:"proto,omitempty"`
	Port  uint16 `json:"port,omitempty"` // destination port
	// Packets and Bytes are what the action sent, Bytes as frames on the wire
	// where the agent builds frames, as payload where the kernel does.
	Packets uint64 `json:"packets,omitempty"`
	Bytes   uint64 `json:"bytes,omitempty"`
	// Seconds is how long it went on, of actions that are no single packet.
	Seconds float64 `json:"seconds,omitempty"`
	Note    string  `json:"note,omitempty"`
}

// Truth collects what agents did. Its methods are safe for concurrent use,
// and a nil Truth takes everything and keeps nothing.
type Truth struct {
	mu    sync.Mutex
	out   *bufio.Writer
	enc   *json.Encoder
	err   error
	first map[string]time.Time // first attack action by agent
	addrs map[string][]netip.Addr
}

// NewTruth writes each action as a line of JSON to w; nil keeps only the sums.
func NewTruth(w io.Writer) *Truth {
	t := &Truth{first: map[string]time.Time{}, addrs: map[string][]netip.Addr{}}
	if w != nil {
		t.out = bufio.NewWriterSize(w, 64<<10)
		t.enc = json.NewEncoder(t.out)
	}
	return t
}

// Record adds an action. An action without a time happened now.
func (t *Truth) Record(a Action) {
	if t == nil {
		return
	}
	if a.Time.IsZero() {
		a.Time = time.Now()
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if a.Role == Attack {
		if first, ok := t.first[a.Agent]; !ok || a.Time.Before(first) {
			t.first[a.Agent] = a.Time
		}
	}
	if t.enc != nil && t.err == nil {
		t.err = t.enc.Encode(a)
	}
}

// Attackers lists the nodes that have attacked so far, with the time of their
// first attack action: those of a worm are more than it was started on.
func (t *Truth) Attackers() map[string]time.Time {
	out := map[string]time.Time{}
	if t == nil {
		return out
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	for node, at := range t.first {
		out[node] = at
	}
	return out
}

// Own notes further addresses that an attacker goes by, such as those that a
// distributed scan takes for itself: acting against them is right.
func (t *Truth) Own(node string, addrs ...netip.Addr) {
	if t == nil {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, a := range addrs {
		if !slices.Contains(t.addrs[node], a) {
			t.addrs[node] = append(t.addrs[node], a)
		}
	}
}

// Addrs lists what Own noted of a node.
func (t *Truth) Addrs(node string) []netip.Addr {
	if t == nil {
		return nil
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	return slices.Clone(t.addrs[node])
}

// Flush writes out what is buffered, and reports the first error of writing.
func (t *Truth) Flush() error {
	if t == nil || t.out == nil {
		return nil
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.err != nil {
		return t.err
	}
	return t.out.Flush()
}

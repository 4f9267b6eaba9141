// Package sourceguard says at which switch ports who may send from which
// addresses: what policies call source guards, resolved for an inventory at a
// time. Egress rules and groups by address are only worth what the addresses
// are; without a guard, whoever forges his own leaves his group.
//
// It is RFC 2827 and RFC 7039 (SAVI) for the ports of a virtual switch. What
// is declared of a workload decides; what was merely seen of it counts only
// where a guard says so, because who forges would otherwise guard himself.
package sourceguard

import (
	"cmp"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"time"

	"github.com/platelet-sdn/platelet/flowcollector/flow"
	"github.com/platelet-sdn/platelet/segmentation/policy"
)

// MaxLearned is the most addresses that may be taken from what was seen at a
// port: behind one with more there is a router rather than a host.
const MaxLearned = 8

// Port is a switch port at which sources are guarded.
type Port struct {
	Switch string `json:"switch"`
	Port   string `json:"port"` // interface name
	// Workload is the one that attaches there; several are joined by commas.
	Workload string `json:"workload"`
	Guard    string `json:"guard"`
	// Enforce drops what is forged; else it is counted and reported.
	Enforce bool `json:"enforce"`
	// MACs are the Ethernet addresses that may send, sorted; none is any.
	MACs []flow.MAC `json:"macs,omitempty"`
	// Addrs are the addresses that may send, sorted. Those of one family alone
	// leave nothing of the other but link-local ones.
	Addrs []netip.Addr `json:"addrs"`
}

// Open is a workload that a guard applies to and that is not restricted.
type Open struct {
	Workload string `json:"workload"`
	Switch   string `json:"switch,omitempty"`
	Port     string `json:"port,omitempty"`
	Guard    string `json:"guard"`
	Why      string `json:"why"`
}

// Plan is what guards come to.
type Plan struct {
	// Ports are sorted by switch and name.
	Ports []Port
	Open  []Open
}

// At returns the guarded port, nil if there is none.
func (p *Plan) At(sw, port string) *Port {
	i, ok := slices.BinarySearchFunc(p.Ports, [2]string{sw, port}, func(x Port, at [2]string) int {
		return cmp.Or(cmp.Compare(x.Switch, at[0]), cmp.Compare(x.Port, at[1]))
	})
	if !ok {
		return nil
	}
	return &p.Ports[i]
}

// Same reports whether two ports are guarded alike.
func (p *Port) Same(q *Port) bool {
	return p.Switch == q.Switch && p.Port == q.Port && p.Workload == q.Workload && p.Guard == q.Guard && p.Enforce == q.Enforce &&
		slices.Equal(p.MACs, q.MACs) && slices.Equal(p.Addrs, q.Addrs)
}

// Owns reports whether packets from an address may enter there. The
// unspecified address is nobody's; see the implied rules for what may be sent
// from it.
func (p *Port) Owns(a netip.Addr) bool {
	a = a.Unmap()
	return slices.ContainsFunc(p.Sources(), func(x netip.Prefix) bool { return x.Contains(a) })
}

// Sources are the addresses that may send: those of the port, and the
// link-local ones of its stations where none is declared. Where no station is
// known either, that is every link-local address.
func (p *Port) Sources() []netip.Prefix {
	var out []netip.Prefix
	declared := false
	for _, a := range p.Addrs {
		out = append(out, netip.PrefixFrom(a, a.BitLen()))
		declared = declared || a.Is6() && a.IsLinkLocalUnicast()
	}
	if declared {
		return out
	}
	for _, m := range p.MACs {
		a := LinkLocal(m)
		out = append(out, netip.PrefixFrom(a, a.BitLen()))
	}
	if len(p.MACs) == 0 {
		out = append(out, netip.PrefixFrom(netip.AddrFrom16([16]byte{0xfe, 0x80}), 10))
	}
	return out
}

// LinkLocal is the link-local address that a station makes of its Ethernet
// address (RFC 4291, appendix A).
func LinkLocal(m flow.MAC) netip.Addr {
	return netip.AddrFrom16([16]byte{0: 0xfe, 1: 0x80, 8: m[0] ^ 2, 9: m[1], 10: m[2], 11: 0xff, 12: 0xfe, 13: m[3], 14: m[4], 15: m[5]})
}

// Resolve says what the guards of a set come to.
func Resolve(set *policy.Set, inv policy.Inventory, now time.Time) Plan {
	var out Plan
	if len(set.SourceGuards) == 0 {
		return out
	}
	m := members{set: set, inv: &inv, now: now}
	at := map[[2]string][]*policy.Workload{}
	for i := range inv.Workloads {
		w := &inv.Workloads[i]
		if w.Port != "" {
			at[[2]string{w.Switch, w.Port}] = append(at[[2]string{w.Switch, w.Port}], w)
		} else if g := m.guard(w); g != nil {
			out.Open = append(out.Open, Open{Workload: w.Name, Guard: g.Name, Why: "its port is not known"})
		}
	}
	for _, place := range slices.SortedFunc(maps.Keys(at), func(x, y [2]string) int { return cmp.Or(cmp.Compare(x[0], y[0]), cmp.Compare(x[1], y[1])) }) {
		m.resolve(place, at[place], &out)
	}
	return out
}

// resolve says what becomes of a port with these workloads, which is guarded
// where a guard applies to one of them: the packets of the others come by it
// as well, and so their addresses count, too.
func (m *members) resolve(place [2]string, at []*policy.Workload, out *Plan) {
	var guard *policy.SourceGuard
	name := ""
	for _, w := range at {
		guard = stricter(guard, m.guard(w))
		if name != "" {
			name += ","
		}
		name += w.Name
	}
	if guard == nil {
		return
	}
	p := Port{Switch: place[0], Port: place[1], Workload: name, Guard: guard.Name, Enforce: guard.Mode == policy.ModeEnforce}
	why := ""
	for _, w := range at {
		if a, ok := m.protects(w); ok {
			why = fmt.Sprintf("%s is protected", a)
		}
		p.take(w)
	}
	if why == "" && len(p.Addrs) == 0 {
		why = p.learn(guard, at)
	}
	if why == "" && p.Switch == "" {
		why = "its switch is not known"
	}
	if why != "" {
		out.Open = append(out.Open, Open{Workload: name, Switch: p.Switch, Port: p.Port, Guard: p.Guard, Why: why})
		return
	}
	slices.SortFunc(p.Addrs, netip.Addr.Compare)
	p.Addrs = slices.Compact(p.Addrs)
	slices.SortFunc(p.MACs, func(a, b flow.MAC) int { return slices.Compare(a[:], b[:]) })
	p.MACs = slices.Compact(p.MACs)
	out.Ports = append(out.Ports, p)
}

// take adds what is declared of a workload.
func (p *Port) take(w *policy.Workload) {
	seen := w.Learned
	if seen == nil || !seen.Addrs {
		for _, a := range w.Addrs {
			p.Addrs = append(p.Addrs, a.Unmap())
		}
	}
	if !w.MAC.IsZero() && (seen == nil || !seen.MAC) {
		p.MACs = append(p.MACs, w.MAC)
	}
}

// learn takes what was seen of the port where the guard says so, and says why
// not. Ethernet addresses that were seen restrict nobody: one more of them is
// a second interface as often as it is a lie.
func (p *Port) learn(guard *policy.SourceGuard, at []*policy.Workload) string {
	if !guard.Learned {
		return "its addresses are not declared"
	}
	for _, w := range at {
		if w.Learned == nil {
			continue
		}
		switch l := w.Learned; {
		case l.Trunk:
			return "its port is a trunk"
		case l.Stations > 1:
			return fmt.Sprintf("%d stations are behind its port", l.Stations)
		case len(l.Bound) > MaxLearned:
			return fmt.Sprintf("%d addresses are behind its port, which is more than a host's", len(l.Bound))
		}
		p.Addrs = append(p.Addrs, w.Learned.Bound...)
	}
	if len(p.Addrs) == 0 {
		return "no address is bound to its port"
	}
	return ""
}

// stricter is the guard that decides where two apply.
func stricter(a, b *policy.SourceGuard) *policy.SourceGuard {
	if a == nil || b != nil && b.Mode > a.Mode {
		return b
	}
	return a
}

// members knows whom peers hold, workload by workload.
type members struct {
	set *policy.Set
	inv *policy.Inventory
	now time.Time
}

// guard finds the guard of a workload: an enforced one before one that is
// staged, and the first of several.
func (m *members) guard(w *policy.Workload) (out *policy.SourceGuard) {
	for i := range m.set.SourceGuards {
		g := &m.set.SourceGuards[i]
		if slices.ContainsFunc(g.AppliesTo, func(p policy.Peer) bool { return m.includes(p, w) }) {
			out = stricter(out, g)
		}
	}
	return out
}

// includes reports whether a peer holds a workload, by one of its addresses if
// it has any.
func (m *members) includes(p policy.Peer, w *policy.Workload) bool {
	if len(w.Addrs) == 0 {
		return m.holds(p, w, netip.Addr{}, nil)
	}
	return slices.ContainsFunc(w.Addrs, func(a netip.Addr) bool { return m.holds(p, w, a.Unmap(), nil) })
}

// protects finds an address of a workload, or of its port, that is protected.
// A port by which a gateway or a server of addresses sends is never restricted,
// whoever else is there.
func (m *members) protects(w *policy.Workload) (netip.Addr, bool) {
	all := w.Addrs
	if w.Learned != nil {
		all = slices.Concat(w.Addrs, w.Learned.Bound)
	}
	for _, a := range all {
		a = a.Unmap()
		for _, p := range m.set.Protected {
			if prefixes, ok := m.inv.Assets[p.Group]; ok && slices.Contains(policy.AssetClasses(), p.Group) {
				if slices.ContainsFunc(prefixes, func(x netip.Prefix) bool { return x.Contains(a) }) {
					return a, true
				}
			} else if m.holds(p, w, a, nil) {
				return a, true
			}
		}
	}
	return netip.Addr{}, false
}

// holds reports whether a peer holds an address of a workload; an invalid one
// stands for a workload without any. Within are the groups that led here.
func (m *members) holds(p policy.Peer, w *policy.Workload, a netip.Addr, within []string) bool {
	if p.IsAny() {
		return true
	}
	if p.Group == "" {
		return p.Prefix.Contains(a)
	}
	g, known := m.set.Groups[p.Group]
	if !known || slices.Contains(within, p.Group) {
		return false
	}
	within = append(within[:len(within):len(within)], p.Group)
	in := func(x policy.Prefix) bool { return x.Contains(a) }
	joined := func(name string) bool { return m.holds(policy.Peer{Group: name}, w, a, within) }
	feed := func(x netip.Prefix) bool { return x.Contains(a) }
	return g.Selects(w, m.now) && !slices.ContainsFunc(g.Except, in) &&
		(len(g.CIDRs) == 0 || slices.ContainsFunc(g.CIDRs, in)) &&
		(len(g.Groups) == 0 || slices.ContainsFunc(g.Groups, joined)) &&
		(g.Intel == "" || slices.ContainsFunc(m.inv.Feeds[g.Intel], feed))
}

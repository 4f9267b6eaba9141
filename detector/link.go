package detector

import (
	"net/netip"

	"github.com/platelet-sdn/platelet/detector/bounded"
	"github.com/platelet-sdn/platelet/flowcollector/flow"
)

// LinkConfig tunes what watches the link layer: whose an address is, how many
// stations a port has, who configures hosts.
type LinkConfig struct {
	// DHCPServer says whether an address is that of a DHCP server that may be
	// there; then every other one is a rogue. Nil means that servers are
	// learned.
	DHCPServer func(src netip.Addr) bool
	// Trunk says whether a port (kernel interface index) leads to another
	// switch. Nil means that every port does of which Config.Edge denies that
	// it leads to hosts.
	Trunk func(inPort uint32) bool
	// NewStations is how many new stations of a port, beyond what is normal,
	// are a flood, and StationRate how many new ones per second always are
	// normal.
	NewStations, StationRate float64
	// Limits of tables, in entries.
	Stations int // 170 bytes each
	Bindings int // addresses of links, 154 bytes each
	Ports    int // 122 bytes each
	Servers  int // those that configure hosts, and segments that have some, 112 bytes each
}

func defaultLink() LinkConfig {
	return LinkConfig{NewStations: 512, StationRate: 5, Stations: 1 << 16, Bindings: 1 << 16, Ports: 1 << 12, Servers: 1 << 10}
}

func (c *LinkConfig) valid() bool {
	return c.NewStations >= 1 && c.StationRate > 0 && min(c.Stations, c.Bindings, c.Ports, c.Servers) > 0
}

const (
	// settling is for how long much is new because we are: what was there
	// before cannot be told from what comes.
	settling = int64(60e9)
	// routing is how long a station must have been a router to be believed to
	// be one: a station that has put itself in the middle is one too, for now.
	routing = int64(60e9)
)

// stationKey names a station. One that two exporters see stands twice.
type stationKey struct {
	mac      flow.MAC
	exporter uint16
}

// neighbour is what is remembered of a station of a link.
type neighbour struct {
	first, last int64
	inPort      uint32
	own4, own6  address // the address of each family that it was first bound to
	// routed is since when others send it what is for addresses that are not
	// its own; 0 is never.
	routed int64
	spoof  spoofing
	// contests are the stations whose addresses it claims while they live.
	contests [2]flow.MAC
	firing   bool
	cleared  int64 // when a finding of it was last over
}

// linkWatch follows the stations of the links that are guarded. Ports that
// lead to other switches say nothing of where a station is, and are left out.
type linkWatch struct {
	e        *Engine
	stations *bounded.Table[stationKey, neighbour]
	bindings *bounded.Table[bindingKey, binding]
	ports    *bounded.Table[portKey, portStations]
	servers  *bounded.Table[configurerKey, server]
	lans     *bounded.Table[lanKey, lan]
	// contested is until when addresses are looked up in traffic, because
	// somebody claims one that is another's.
	contested int64
	slot      uint32 // of the latest station
}

func newLinkWatch(e *Engine) *linkWatch {
	w := &linkWatch{e: e}
	l := &e.cfg.Link
	w.stations = bounded.New[stationKey](l.Stations, func(n *neighbour) int64 {
		switch {
		case n.firing:
			return rank(3, n.last)
		case n.own4 != (address{}) || n.own6 != (address{}):
			return rank(2, n.last)
		case n.last-n.first > novelty:
			return rank(1, n.last)
		}
		return rank(0, n.last)
	})
	w.bindings = bounded.New[bindingKey](l.Bindings, func(b *binding) int64 {
		switch {
		case b.firing:
			return rank(2, b.shown)
		case b.shown-b.since > novelty:
			return rank(1, b.shown)
		}
		return rank(0, b.shown)
	})
	w.ports = bounded.New[portKey](l.Ports, func(p *portStations) int64 { return rank(0, p.last) })
	w.servers = bounded.New[configurerKey](l.Servers, func(s *server) int64 { return s.worth() })
	w.lans = bounded.New[lanKey](l.Servers, func(s *lan) int64 { return rank(0, s.last) })
	return w
}

// observe takes any record that shows the station that sent it.
func (w *linkWatch) observe(r *flow.Record) {
	if r.SrcMAC.IsZero() || group(r.SrcMAC) {
		return
	}
	n := w.station(r)
	if n == nil {
		return
	}
	switch r.Signal {
	case flow.SignalARPRequest, flow.SignalARPReply:
		if r.Src.IsValid() && r.Dst.IsValid() {
			w.claim(r, n)
		}
		return
	}
	if r.Claim.Flags != 0 {
		w.configures(r, n)
	}
	if r.Source != flow.SourceCopy && r.Src.IsValid() && r.Dst.IsValid() {
		w.traffic(r, n)
	}
}

// station finds or makes the station that sent a record; nil when it came from
// another switch, or there is no room for it.
func (w *linkWatch) station(r *flow.Record) *neighbour {
	now := w.e.clock.now
	k := stationKey{r.SrcMAC, w.e.exporters.number(r.Exporter)}
	if held, ok := w.stations.Key(w.slot); ok && held == k {
		n := w.stations.At(w.slot)
		if n.inPort == r.InPort {
			n.last = now
			return n
		}
	}
	slot, n := w.stations.Find(k)
	if n != nil && n.inPort == r.InPort {
		w.slot, n.last = slot, now
		return n
	}
	if w.trunk(r.InPort) {
		return nil
	}
	slot, n, fresh := w.stations.Put(k, rank(0, now))
	if fresh || n == nil {
		w.arrived(r)
	}
	if n == nil {
		return nil
	}
	if fresh {
		n.first = now
	}
	w.slot, n.last, n.inPort = slot, now, r.InPort
	return n
}

// trunk reports whether a port leads to another switch.
func (w *linkWatch) trunk(inPort uint32) bool {
	if trunk := w.e.cfg.Link.Trunk; trunk != nil {
		return inPort != 0 && trunk(inPort)
	}
	return w.e.link(inPort)
}

// find returns a station that is known by its Ethernet address.
func (w *linkWatch) find(mac flow.MAC, exporter uint16) *neighbour {
	_, n := w.stations.Find(stationKey{mac, exporter})
	return n
}

// own is the station's own address of the family of another.
func (n *neighbour) own(like address) address {
	if like.is4() {
		return n.own4
	}
	return n.own6
}

// has notes that an address was found to be the station's.
func (n *neighbour) has(a address) {
	if own := &n.own6; a.is4() && n.own4 == (address{}) {
		n.own4 = a
	} else if !a.is4() && *own == (address{}) {
		*own = a
	}
}

// ownsOther reports whether the station has an address of its own other than
// this one. Those who claim what is another's do; the second interface of a
// bond does not.
func (n *neighbour) ownsOther(a address) bool {
	if n == nil {
		return false
	}
	own := n.own(a)
	return own != (address{}) && own != a
}

// routes reports whether the station has been a router for long.
func (n *neighbour) routes(now int64) bool {
	return n != nil && n.routed != 0 && (now-n.routed > routing || n.routed-n.first < settling && now-n.first > routing)
}

// passesOn reports whether a record comes from a station that is a router.
func (w *linkWatch) passesOn(r *flow.Record) bool {
	n := w.find(r.SrcMAC, w.e.exporters.number(r.Exporter))
	return n != nil && n.routed != 0
}

// name is the address by which people know a station: its own, IPv4 first,
// and not one of those that it claims.
func (n *neighbour) name() address {
	if n == nil {
		return address{}
	}
	if n.own4 != (address{}) {
		return n.own4
	}
	return n.own6
}

// traffic learns from an IP packet who routes, that the holder of a contested
// address lives, and who sends from addresses that are not his.
func (w *linkWatch) traffic(r *flow.Record, n *neighbour) {
	src := addressOf(r.Src)
	if w.e.clock.now < w.contested {
		w.used(r, src)
	}
	if r.Signal == flow.SignalNone || r.Source == flow.SourceLog {
		return // long conversations: what they begin and end with will do
	}
	w.routed(r)
	w.spoofed(r, n, src)
}

// routed notes that a packet was sent to a station that it is not for.
func (w *linkWatch) routed(r *flow.Record) {
	dst := addressOf(r.Dst)
	if r.DstMAC.IsZero() || group(r.DstMAC) || !dst.unicast() {
		return
	}
	exporter := w.e.exporters.number(r.Exporter)
	n := w.find(r.DstMAC, exporter)
	if n == nil || n.routed != 0 || !n.ownsOther(dst) {
		return
	}
	_, b := w.bindings.Find(bindingKey{dst, r.VLAN, exporter})
	if b == nil || b.mac != r.DstMAC {
		n.routed = w.e.clock.now
		w.lan(r).router = r.DstMAC
	}
}

// resolved forgets what made a finding.
func (w *linkWatch) resolved(k findingKey) {
	switch k.kind {
	case KindMACFlood:
		if _, p := w.ports.Find(portKey{k.inPort, k.exporter}); p != nil {
			p.s, p.astray, p.firing = 0, 0, false
		}
	case KindRogueDHCP:
		if _, s := w.servers.Find(configurerKey{k.mac, k.exporter}); s != nil {
			s.excess, s.firing, s.cleared = 0, false, w.e.clock.now
		}
	case KindIPSpoof:
		if n := w.find(k.mac, k.exporter); n != nil {
			n.spoof = spoofing{}
		}
	case KindARPSpoof:
		if n := w.find(k.mac, k.exporter); n != nil {
			n.contests, n.firing, n.cleared = [2]flow.MAC{}, false, w.e.clock.now
		}
	}
}

func (w *linkWatch) rejected() uint64 {
	return w.stations.Rejected() + w.bindings.Rejected() + w.ports.Rejected() + w.servers.Rejected() + w.lans.Rejected()
}

func (w *linkWatch) evicted() uint64 {
	return w.stations.Evicted() + w.bindings.Evicted() + w.ports.Evicted() + w.servers.Evicted() + w.lans.Evicted()
}

package segment

import (
	"cmp"
	"maps"
	"net"
	"net/netip"
	"slices"
	"strings"

	"github.com/platelet-sdn/platelet/flowcollector/flow"
	"github.com/platelet-sdn/platelet/segmentation/policy"
	"github.com/platelet-sdn/platelet/topology"
)

// AddressKey is the key of an interface's external_ids that names the
// workload's addresses, parted by commas or spaces. Where it is set, nothing
// that is learned of addresses at the port counts: nobody joins a group by
// claiming an address.
const AddressKey = "platelet-ips"

// MACKey is the key of an interface's external_ids that names the Ethernet
// address of who attaches there: OpenStack, OVN and libvirt set it.
const MACKey = "attached-mac"

// maxPerPort bounds the addresses that count at one port: whoever forges
// sources must not grow the inventory.
const maxPerPort = 64

// World is what an inventory is made of.
type World struct {
	Snapshot *topology.Snapshot
	// Hosts are those of each edge port, those first that cannot be forged.
	Hosts map[topology.PortID][]topology.Host
	// Known are workloads that people told of, in files. What they say of
	// labels and addresses wins.
	Known []policy.Workload
	// Risk is the worst severity of what fires against an address.
	Risk map[netip.Addr]policy.Risk
	// RiskVersion changes with Risk.
	RiskVersion uint64
	Feeds       map[string][]netip.Prefix
}

// Inventory lists the workloads: each edge port with its external_ids and the
// addresses that were seen behind it, and what files say, which is joined with
// a port by place, MAC or address. The order is stable.
func (w *World) Inventory() policy.Inventory {
	out := policy.Inventory{Feeds: w.Feeds}
	known := w.index()
	for _, sw := range slices.Sorted(maps.Keys(w.Snapshot.Switches)) {
		ports := w.Snapshot.Switches[sw].Ports
		for _, name := range slices.Sorted(maps.Keys(ports)) {
			if p := ports[name]; p.Type == topology.PortEdge {
				x := w.atPort(p)
				known.join(&x)
				out.Workloads = append(out.Workloads, x)
			}
		}
	}
	out.Workloads = append(out.Workloads, known.rest()...)
	for i := range out.Workloads {
		x := &out.Workloads[i]
		for _, a := range x.Addrs {
			x.Risk = max(x.Risk, w.Risk[a])
		}
	}
	return out
}

// atPort is the workload behind an edge port.
func (w *World) atPort(p topology.Port) policy.Workload {
	x := policy.Workload{Name: p.ID.Switch + "/" + p.ID.Port, Switch: p.ID.Switch, Port: p.ID.Port, Labels: p.Labels}
	hosts := w.Hosts[p.ID]
	for i := range hosts {
		x.Addrs = append(x.Addrs, hosts[i].Addr)
	}
	if len(hosts) > 0 {
		x.MAC = hosts[0].MAC
	}
	x.Learned = learned(p, hosts)
	if fixed := addresses(p.Labels[AddressKey]); len(fixed) > 0 {
		x.Addrs, x.Learned.Addrs = fixed, false
	}
	if m, err := net.ParseMAC(p.Labels[MACKey]); err == nil && len(m) == len(x.MAC) {
		x.MAC, x.Learned.MAC = flow.MAC(m), false
	}
	slices.SortFunc(x.Addrs, netip.Addr.Compare)
	return x
}

// learned is what was seen at a port, as long as nobody declares anything.
func learned(p topology.Port, hosts []topology.Host) *policy.Learned {
	out := &policy.Learned{Addrs: true, MAC: true, Trunk: p.Trunk}
	stations := map[flow.MAC]bool{}
	for i := range hosts {
		if hosts[i].Bound {
			out.Bound = append(out.Bound, hosts[i].Addr)
			stations[hosts[i].MAC] = true
		}
	}
	out.Stations = len(stations)
	return out
}

// addresses reads those that are addresses.
func addresses(text string) (out []netip.Addr) {
	for _, word := range strings.FieldsFunc(text, func(r rune) bool { return r == ',' || r == ' ' }) {
		if a, err := netip.ParseAddr(word); err == nil && a.Zone() == "" {
			out = append(out, a.Unmap())
		}
	}
	return out
}

// index finds what files say of a workload.
type index struct {
	list   []policy.Workload
	joined []bool
}

func (w *World) index() *index { return &index{w.Known, make([]bool, len(w.Known))} }

// join adds to a port's workload what files say of it.
func (k *index) join(x *policy.Workload) {
	for i := range k.list {
		if !k.same(i, x) {
			continue
		}
		k.joined[i] = true
		declared := k.declares(i, x) // before it has the addresses
		labels := maps.Clone(x.Labels)
		if labels == nil {
			labels = map[string]string{}
		}
		maps.Copy(labels, k.list[i].Labels)
		x.Labels, x.Name = labels, k.list[i].Name
		if len(k.list[i].Addrs) > 0 {
			x.Addrs = k.list[i].Addrs
			x.Learned.Addrs = x.Learned.Addrs && !declared
		}
		if m := k.list[i].MAC; !m.IsZero() && declared {
			x.MAC, x.Learned.MAC = m, false
		}
		return
	}
}

func (k *index) same(i int, x *policy.Workload) bool {
	switch y := &k.list[i]; {
	case k.joined[i]:
		return false
	case y.Port != "":
		return y.Port == x.Port && (y.Switch == "" || y.Switch == x.Switch)
	case !y.MAC.IsZero():
		return y.MAC == x.MAC
	default:
		return slices.ContainsFunc(y.Addrs, func(a netip.Addr) bool { return slices.Contains(x.Addrs, a) })
	}
}

// declares reports whether what a file says of a workload is declared of the
// port that it was joined with: by its place, by what the port itself declares,
// or by two-way evidence. Who forges an address must not be joined with its
// owner.
func (k *index) declares(i int, x *policy.Workload) bool {
	y := &k.list[i]
	has := func(list []netip.Addr) bool {
		return slices.ContainsFunc(y.Addrs, func(a netip.Addr) bool { return slices.Contains(list, a) })
	}
	return y.Port != "" || !x.Learned.MAC && y.MAC == x.MAC || !x.Learned.Addrs && has(x.Addrs) || has(x.Learned.Bound)
}

// rest are the workloads of files that are at no port.
func (k *index) rest() (out []policy.Workload) {
	for i := range k.list {
		if !k.joined[i] {
			out = append(out, k.list[i])
		}
	}
	slices.SortFunc(out, func(a, b policy.Workload) int { return cmp.Compare(a.Name, b.Name) })
	return out
}

package runner

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"

	"github.com/platelet-sdn/platelet/lab/clab"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// mgmtKey begins the alias of a management bridge of ours. The bridge may be
// several labs', so it does not carry the name of one.
const mgmtKey = "platelet-mgmt"

// mgmtIface is a node's interface in the management network.
const mgmtIface = "eth0"

// mgmtNet is the management network of a lab: a Linux bridge with an address
// of its own, which is the nodes' gateway.
type mgmtNet struct {
	Network string       `json:"network"`
	Bridge  string       `json:"bridge"`
	IPv4    netip.Prefix `json:"ipv4,omitzero"` // the gateway's address
	IPv6    netip.Prefix `json:"ipv6,omitzero"`
	MTU     int          `json:"mtu"`
}

// family is one address family of a management network while addresses are
// given out.
type family struct {
	subnet, pool netip.Prefix
	gateway      netip.Addr
	used         map[netip.Addr]string // by whom
}

// mgmt plans the management network and the links to it. A lab none of whose
// nodes is in it has none.
func (p *planner) mgmt() {
	used := false
	for i, n := range p.t.Nodes {
		if p.t.UsesMgmt(n) {
			used = true
			ns := p.Nodes[i].Namespace
			p.Links = append(p.Links, link{Type: clab.LinkMgmtNet, MTU: p.t.Mgmt.MTU,
				A: end{Node: n.Name, Interface: mgmtIface, Name: mgmtIface, Namespace: ns},
				B: end{Interface: mgmtIface, Name: rename(p.Lab, "mgmt-"+n.Name), MAC: stableMAC(p.Lab, n.Name, mgmtIface).String()}})
		}
	}
	for _, l := range p.t.Links {
		used = used || l.Type == clab.LinkMgmtNet
	}
	if !used {
		return
	}
	p.Mgmt = &mgmtNet{Network: p.t.Mgmt.Network, Bridge: p.t.Mgmt.Bridge, MTU: p.t.Mgmt.MTU}
	if p.Mgmt.Bridge == "" {
		sum := sha256.Sum256([]byte(p.Mgmt.Network))
		p.Mgmt.Bridge = "br-" + hex.EncodeToString(sum[:6]) // as Docker names its own
	}
	for i := range p.Links {
		if l := &p.Links[i]; l.Type == clab.LinkMgmtNet {
			l.B.Bridge = p.Mgmt.Bridge
		}
	}
	for i := range p.Nodes {
		p.Nodes[i].Marks["clab-mgmt-net-bridge"] = p.Mgmt.Bridge
	}
}

// allocate gives the nodes their addresses: the static ones first, then the
// first free ones, none that another lab has. The caller holds the lock.
func (s *state) allocate(t *clab.Topology, labs []*state) error {
	if s.Mgmt == nil {
		return nil
	}
	gateway4, gateway6 := t.Mgmt.IPv4Gateway, t.Mgmt.IPv6Gateway
	if s.Mgmt.IPv4.IsValid() { // an adopted bridge's
		gateway4 = s.Mgmt.IPv4.Addr().String()
	}
	if s.Mgmt.IPv6.IsValid() {
		gateway6 = s.Mgmt.IPv6.Addr().String()
	}
	four, err := newFamily(t.Mgmt.IPv4Subnet, t.Mgmt.IPv4Range, gateway4)
	if err != nil {
		return fmt.Errorf("management network: %w", err)
	}
	six, err := newFamily(t.Mgmt.IPv6Subnet, t.Mgmt.IPv6Range, gateway6)
	if err != nil {
		return fmt.Errorf("management network: %w", err)
	}
	for _, other := range labs {
		if err := s.reserve(other, four, six); err != nil {
			return err
		}
	}
	for _, static := range []bool{true, false} {
		for i, n := range t.Nodes {
			if !t.UsesMgmt(n) || (n.MgmtIPv4 != "" || n.MgmtIPv6 != "") != static {
				continue
			}
			if s.Nodes[i].IPv4, err = four.take(n.MgmtIPv4, s.Lab+"/"+n.Name); err != nil {
				return fmt.Errorf("node %s: %w", n.Name, err)
			}
			if s.Nodes[i].IPv6, err = six.take(n.MgmtIPv6, s.Lab+"/"+n.Name); err != nil {
				return fmt.Errorf("node %s: %w", n.Name, err)
			}
		}
	}
	s.Mgmt.IPv4, s.Mgmt.IPv6 = four.gatewayPrefix(), six.gatewayPrefix()
	for i := range s.Links {
		l := &s.Links[i]
		if n, err := s.node(l.A.Node); err == nil && l.Type == clab.LinkMgmtNet && l.A.Interface == mgmtIface && l.A.MAC == "" {
			l.A.MAC = mgmtMAC(s.Lab, n).String()
		}
	}
	return nil
}

// reserve takes the addresses of another lab in the same network. Another
// network in the same subnet would catch the first one's packets.
func (s *state) reserve(other *state, four, six *family) error {
	m := other.Mgmt
	if m == nil {
		return nil
	}
	if m.Network != s.Mgmt.Network {
		for _, pair := range []struct {
			f      *family
			theirs netip.Prefix
		}{{four, m.IPv4}, {six, m.IPv6}} {
			if pair.f != nil && pair.theirs.IsValid() && pair.f.subnet.Overlaps(pair.theirs.Masked()) {
				return fmt.Errorf("management network %s: subnet %s overlaps that of network %s of lab %s", s.Mgmt.Network, pair.f.subnet, m.Network, other.Lab)
			}
		}
		return nil
	}
	if four.gatewayPrefix() != m.IPv4 || six.gatewayPrefix() != m.IPv6 || s.Mgmt.Bridge != m.Bridge {
		return fmt.Errorf("management network %s is there already, with other settings: lab %s has bridge %s, %s and %s", m.Network, other.Lab, m.Bridge, m.IPv4, m.IPv6)
	}
	for _, n := range other.Nodes {
		four.mark(n.IPv4, other.Lab+"/"+n.Name)
		six.mark(n.IPv6, other.Lab+"/"+n.Name)
	}
	return nil
}

// newFamily reads one family's settings; it is nil when there is none.
func newFamily(subnet, pool, gateway string) (*family, error) {
	if subnet == "" {
		return nil, nil
	}
	f := &family{used: map[netip.Addr]string{}}
	var err error
	if f.subnet, err = netip.ParsePrefix(subnet); err != nil {
		return nil, err
	}
	f.subnet = f.subnet.Masked()
	f.pool = f.subnet
	if pool != "" {
		if f.pool, err = netip.ParsePrefix(pool); err != nil {
			return nil, err
		}
		f.pool = f.pool.Masked()
	}
	f.gateway = f.pool.Addr()
	if f.gateway == f.subnet.Addr() {
		f.gateway = f.gateway.Next()
	}
	if gateway != "" {
		if f.gateway, err = netip.ParseAddr(gateway); err != nil {
			return nil, err
		}
	}
	if !f.subnet.Contains(f.gateway) {
		return nil, fmt.Errorf("gateway %s is not in %s", f.gateway, f.subnet)
	}
	f.used[f.gateway] = "the gateway"
	return f, nil
}

func (f *family) gatewayPrefix() netip.Prefix {
	if f == nil {
		return netip.Prefix{}
	}
	return netip.PrefixFrom(f.gateway, f.subnet.Bits())
}

func (f *family) mark(p netip.Prefix, by string) {
	if f != nil && p.IsValid() {
		f.used[p.Addr()] = by
	}
}

// take gives out one address: the static one, or else the first free one.
func (f *family) take(static, by string) (netip.Prefix, error) {
	if f == nil {
		if static != "" {
			return netip.Prefix{}, fmt.Errorf("%s: the management network has no such addresses", static)
		}
		return netip.Prefix{}, nil
	}
	if static != "" {
		a, err := netip.ParseAddr(static)
		if err != nil {
			return netip.Prefix{}, err
		}
		if !f.subnet.Contains(a) {
			return netip.Prefix{}, fmt.Errorf("%s is not in the management network %s", a, f.subnet)
		}
		if who, ok := f.used[a]; ok {
			return netip.Prefix{}, fmt.Errorf("%s is already the address of %s", a, who)
		}
		f.used[a] = by
		return netip.PrefixFrom(a, f.subnet.Bits()), nil
	}
	for a := f.pool.Addr(); f.pool.Contains(a); a = a.Next() {
		if _, ok := f.used[a]; ok || a == f.subnet.Addr() || a.Is4() && !f.subnet.Contains(a.Next()) {
			continue // taken, the network's own, or its broadcast address
		}
		f.used[a] = by
		return netip.PrefixFrom(a, f.subnet.Bits()), nil
	}
	return netip.Prefix{}, fmt.Errorf("the management network %s has no free address", f.pool)
}

// mgmtMAC is Docker's: made of the IPv4 address, so that neighbours' caches
// stay right when a lab comes up again.
func mgmtMAC(lab string, n node) net.HardwareAddr {
	if !n.IPv4.IsValid() {
		return stableMAC(lab, n.Name, mgmtIface, "node")
	}
	a := n.IPv4.Addr().As4()
	return net.HardwareAddr{0x02, 0x42, a[0], a[1], a[2], a[3]}
}

// adopt takes the addresses of a bridge that the user made for the management
// network: they are the gateways, as for Docker.
func (s *state) adopt(h *netlink.Handle) error {
	if s.Mgmt == nil {
		return nil
	}
	l, err := h.LinkByName(s.Mgmt.Bridge)
	var missing netlink.LinkNotFoundError
	if errors.As(err, &missing) || err == nil && strings.HasPrefix(l.Attrs().Alias, mgmtKey+"=") {
		return nil // ours to make, or made by us
	}
	if err != nil {
		return fmt.Errorf("management bridge %s: %w", s.Mgmt.Bridge, err)
	}
	addrs, err := addrList(h, l)
	if err != nil {
		return fmt.Errorf("addresses of %s: %w", s.Mgmt.Bridge, err)
	}
	for _, a := range addrs {
		ip, ok := netip.AddrFromSlice(a.IP)
		bits, _ := a.Mask.Size()
		switch ip = ip.Unmap(); {
		case !ok || ip.IsLinkLocalUnicast():
		case ip.Is4() && !s.Mgmt.IPv4.IsValid():
			s.Mgmt.IPv4 = netip.PrefixFrom(ip, bits)
		case ip.Is6() && !s.Mgmt.IPv6.IsValid():
			s.Mgmt.IPv6 = netip.PrefixFrom(ip, bits)
		}
	}
	return nil
}

// makeMgmt makes the management bridge unless it is there. The caller holds
// the lock.
func (s *state) makeMgmt(h *netlink.Handle) error {
	if s.Mgmt == nil {
		return nil
	}
	name := s.Mgmt.Bridge
	l, err := h.LinkByName(name)
	var missing netlink.LinkNotFoundError
	switch {
	case err == nil && l.Type() != "bridge":
		return fmt.Errorf("management bridge %s: there is an interface of the name, a %s", name, l.Type())
	case err == nil:
		return nil // another lab's of the same network, or the user's own
	case !errors.As(err, &missing):
		return fmt.Errorf("management bridge %s: %w", name, err)
	}
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.MTU = name, s.Mgmt.MTU
	if err := h.LinkAdd(&netlink.Bridge{LinkAttrs: attrs}); err != nil {
		return fmt.Errorf("make management bridge %s: %w", name, err)
	}
	if err := up(h, name, mgmtKey+"="+s.Mgmt.Network); err != nil {
		return err
	}
	if l, err = h.LinkByName(name); err != nil {
		return fmt.Errorf("management bridge %s: %w", name, err)
	}
	for _, p := range []netip.Prefix{s.Mgmt.IPv4, s.Mgmt.IPv6} {
		if err := addAddr(h, l, p); err != nil {
			return fmt.Errorf("management bridge %s: %w", name, err)
		}
	}
	// LLDP between nodes, as containerlab lets it pass (IEEE 802.1D group
	// address 0e). A kernel that does not know the file forwards without.
	_ = os.WriteFile("/sys/class/net/"+name+"/bridge/group_fwd_mask", []byte("16384"), 0o644)
	return nil
}

func addAddr(h *netlink.Handle, l netlink.Link, p netip.Prefix) error {
	if !p.IsValid() {
		return nil
	}
	bits := p.Addr().BitLen()
	a := &netlink.Addr{IPNet: &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), bits)}}
	if p.Addr().Is6() {
		a.Flags = unix.IFA_F_NODAD // its uniqueness is known; nobody should wait
	}
	if err := h.AddrAdd(l, a); err != nil && !errors.Is(err, os.ErrExist) {
		return fmt.Errorf("address %s: %w", p, err)
	}
	return nil
}

// addressMgmt gives a node its addresses and its way out, as Docker would.
func (s *state) addressMgmt(n node) error {
	if s.Mgmt == nil || !n.IPv4.IsValid() && !n.IPv6.IsValid() {
		return nil
	}
	err := inside(n.Namespace, mgmtIface, func(h *netlink.Handle, l netlink.Link) error {
		for _, f := range []struct{ own, gateway netip.Prefix }{{n.IPv4, s.Mgmt.IPv4}, {n.IPv6, s.Mgmt.IPv6}} {
			if !f.own.IsValid() {
				continue
			}
			if err := addAddr(h, l, f.own); err != nil {
				return err
			}
			route := &netlink.Route{LinkIndex: l.Attrs().Index, Gw: f.gateway.Addr().AsSlice()}
			if err := h.RouteAdd(route); err != nil {
				return fmt.Errorf("default route by %s: %w", f.gateway.Addr(), err)
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("node %s: %w", n.Name, err)
	}
	return nil
}

// removeMgmt removes the management bridge with the last lab that has ports
// at it. The caller holds the lock.
func removeMgmt(h *netlink.Handle, network string) error {
	links, err := linkList(h)
	if err != nil {
		return fmt.Errorf("list interfaces: %w", err)
	}
	var errs []error
	for _, l := range links {
		of, ours := strings.CutPrefix(l.Attrs().Alias, mgmtKey+"=")
		if !ours || l.Type() != "bridge" || network != "" && of != network {
			continue
		}
		inUse := false
		for _, port := range links {
			inUse = inUse || port.Attrs().MasterIndex == l.Attrs().Index
		}
		if !inUse {
			if err := h.LinkDel(l); err != nil {
				errs = append(errs, fmt.Errorf("remove management bridge %s: %w", l.Attrs().Name, err))
			}
		}
	}
	return errors.Join(errs...)
}

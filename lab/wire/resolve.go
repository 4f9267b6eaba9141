package wire

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"time"

	"github.com/platelet-sdn/platelet/lab/agent"
	"github.com/vishvananda/netlink"
)

// Resolver finds who takes a station's packets next. The kernel does the
// work: its routes, its neighbour table, its ARP and neighbour discovery.
type Resolver struct {
	station *agent.Station
	handle  *netlink.Handle
}

// NewResolver opens a resolver; its socket stays inside the namespace.
func NewResolver(s *agent.Station) (*Resolver, error) {
	r := &Resolver{station: s}
	err := s.Do(func() (err error) {
		r.handle, err = netlink.NewHandle()
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("resolve at %s: %w", s.Node, err)
	}
	return r, nil
}

// Close closes the resolver.
func (r *Resolver) Close() { r.handle.Close() }

// patience is how long an address may take to be resolved: the kernel itself
// gives up after three seconds.
const patience = 4 * time.Second

// usable are the states of a neighbour whose hardware address can be used.
const usable = netlink.NUD_REACHABLE | netlink.NUD_STALE | netlink.NUD_DELAY | netlink.NUD_PROBE | netlink.NUD_PERMANENT | netlink.NUD_NOARP

// NextHop is the hardware address that packets to an address go to: the
// address's own on the station's link, otherwise the gateway's. It waits for
// the kernel to resolve it.
func (r *Resolver) NextHop(ctx context.Context, to netip.Addr) (net.HardwareAddr, error) {
	to = to.Unmap()
	switch {
	case to == netip.AddrFrom4([4]byte{255, 255, 255, 255}):
		return Broadcast(), nil
	case to.IsMulticast():
		return groupMAC(to), nil
	}
	hop, err := r.hop(to)
	if err != nil {
		return nil, err
	}
	deadline := time.Now().Add(patience)
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for asked := false; ; asked = true {
		n, err := r.neighbour(hop)
		if err != nil {
			return nil, err
		}
		switch {
		case n != nil && n.State&usable != 0 && len(n.HardwareAddr) == 6:
			return n.HardwareAddr, nil
		case n != nil && asked && n.State&netlink.NUD_FAILED != 0, time.Now().After(deadline):
			return nil, fmt.Errorf("%s: nobody answers for %v", r.station.Node, hop)
		case !asked:
			use := &netlink.Neigh{LinkIndex: r.station.Index, IP: hop.AsSlice(), Flags: netlink.NTF_USE}
			if err := r.handle.NeighSet(use); err != nil {
				return nil, fmt.Errorf("%s: resolve %v: %w", r.station.Node, hop, err)
			}
		}
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("%s: resolve %v: %w", r.station.Node, hop, ctx.Err())
		case <-tick.C:
		}
	}
}

// hop is the address to resolve.
func (r *Resolver) hop(to netip.Addr) (netip.Addr, error) {
	routes, err := r.handle.RouteGet(to.AsSlice())
	if err != nil {
		return netip.Addr{}, fmt.Errorf("%s: route to %v: %w", r.station.Node, to, err)
	}
	if len(routes) == 0 || routes[0].LinkIndex != r.station.Index {
		return netip.Addr{}, fmt.Errorf("%s: %v is not reached by %s", r.station.Node, to, r.station.Iface)
	}
	if gw, ok := netip.AddrFromSlice(routes[0].Gw); ok {
		return gw.Unmap(), nil
	}
	return to, nil
}

// neighbour is an entry of the kernel's table; nil when there is none.
func (r *Resolver) neighbour(a netip.Addr) (*netlink.Neigh, error) {
	family := netlink.FAMILY_V4
	if a.Is6() {
		family = netlink.FAMILY_V6
	}
	list, err := r.handle.NeighList(r.station.Index, family)
	if err != nil {
		return nil, fmt.Errorf("%s: neighbours: %w", r.station.Node, err)
	}
	for i, n := range list {
		if ip, ok := netip.AddrFromSlice(n.IP); ok && ip.Unmap() == a {
			return &list[i], nil
		}
	}
	return nil, nil
}

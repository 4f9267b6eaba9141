package attack

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"

	"github.com/platelet-sdn/platelet/lab/namespace"
	"github.com/platelet-sdn/platelet/lab/runner"
	"github.com/vishvananda/netlink"
)

// Prepare sets up what an attack needs besides its tool, and returns how to
// undo it.
func (a Attack) Prepare(ctx context.Context, lab *runner.Lab, r Roles) (undo func(context.Context) error, err error) {
	if a.prepare == nil {
		return func(context.Context) error { return nil }, nil
	}
	return a.prepare(ctx, lab, r)
}

// silentNeighbour lets the attacker, and the routers on the victim's link,
// believe that an address nobody has lives at the victim. Probes are then
// delivered to the victim's interface, and its network stack, which has no
// such address and does not forward, drops them without a word, as a firewall
// that drops would.
func silentNeighbour(_ context.Context, lab *runner.Lab, r Roles) (func(context.Context) error, error) {
	mac, err := lab.MAC(r.Victim, r.VictimIface)
	if err != nil {
		return nil, err
	}
	ip := net.ParseIP(octets(silent, silent)(r))
	believers := append([]string{r.Attacker}, Equipment(lab)...)
	change := func(act func(h *netlink.Handle, n *netlink.Neigh) error) error {
		var errs []error
		for _, node := range believers {
			h, err := onLink(lab, []string{node}, netip.PrefixFrom(r.VictimAddr, r.Subnet.Bits()))
			if err != nil || h.Node == "" {
				errs = append(errs, err)
				continue
			}
			errs = append(errs, onInterface(lab, h.Node, h.Iface, func(h *netlink.Handle, l netlink.Link) error {
				return act(h, &netlink.Neigh{LinkIndex: l.Attrs().Index, IP: ip, HardwareAddr: mac, State: netlink.NUD_PERMANENT})
			}))
		}
		return errors.Join(errs...)
	}
	if err := change((*netlink.Handle).NeighSet); err != nil {
		return nil, fmt.Errorf("silent address: %w", err)
	}
	return func(context.Context) error { return change((*netlink.Handle).NeighDel) }, nil
}

// liveAddresses spreads the swept addresses over the victim and the
// bystanders of its subnet, so that every one of them answers. An attacker on
// the same link knows their hardware addresses already: its probes must go on
// leaving when containment stops address resolution, or nothing would show
// that containment holds.
func liveAddresses(ctx context.Context, lab *runner.Lab, r Roles) (func(context.Context) error, error) {
	used, err := taken(lab)
	if err != nil {
		return nil, err
	}
	live := &living{lab: lab, roles: r, targets: free(r.Subnet, used, sweepFrom, sweepTo)}
	for _, node := range append([]string{r.Victim}, r.Bystanders...) {
		h, err := onLink(lab, []string{node}, netip.PrefixFrom(r.Subnet.Addr(), r.Subnet.Bits()))
		if err != nil {
			return nil, err
		}
		if h.Node != "" {
			live.hosts = append(live.hosts, h)
		}
	}
	undo := func(context.Context) error {
		return live.spread((*netlink.Handle).AddrDel, (*netlink.Handle).NeighDel)
	}
	if err := live.spread((*netlink.Handle).AddrReplace, (*netlink.Handle).NeighSet); err != nil {
		return nil, errors.Join(fmt.Errorf("live addresses: %w", err), undo(ctx))
	}
	return undo, nil
}

// living are addresses that hosts take on.
type living struct {
	lab     *runner.Lab
	roles   Roles
	targets []netip.Addr
	hosts   []Host
}

// spread applies addr to each address at one of the hosts in turn, and neigh
// to its entry at an attacker on the link.
func (v *living) spread(addr func(*netlink.Handle, netlink.Link, *netlink.Addr) error, neigh func(*netlink.Handle, *netlink.Neigh) error) error {
	var errs []error
	for i, h := range v.hosts {
		mac, err := v.lab.MAC(h.Node, h.Iface)
		if err != nil {
			return err
		}
		each := func(f func(ip net.IP) error) error {
			var errs []error
			for n := i; n < len(v.targets); n += len(v.hosts) {
				errs = append(errs, f(v.targets[n].AsSlice()))
			}
			return errors.Join(errs...)
		}
		errs = append(errs, onInterface(v.lab, h.Node, h.Iface, func(h *netlink.Handle, l netlink.Link) error {
			return each(func(ip net.IP) error { return addr(h, l, single(ip)) })
		}))
		if !v.roles.Subnet.Contains(v.roles.AttackerAddr) {
			continue
		}
		errs = append(errs, onInterface(v.lab, v.roles.Attacker, v.roles.AttackerIface, func(h *netlink.Handle, l netlink.Link) error {
			return each(func(ip net.IP) error {
				return neigh(h, &netlink.Neigh{LinkIndex: l.Attrs().Index, IP: ip, HardwareAddr: mac, State: netlink.NUD_PERMANENT})
			})
		}))
	}
	return errors.Join(errs...)
}

// single is an address without a subnet: the subnet's route is there already.
func single(ip net.IP) *netlink.Addr {
	return &netlink.Addr{IPNet: &net.IPNet{IP: ip, Mask: net.CIDRMask(32, 32)}}
}

// moreSources gives the attacking nodes further addresses of their subnets,
// until there are as many as a distributed attack comes from.
func moreSources(ctx context.Context, lab *runner.Lab, r Roles) (func(context.Context) error, error) {
	used, err := taken(lab)
	if err != nil {
		return nil, err
	}
	parties := r.Attackers[:min(len(r.Attackers), sources)]
	extra := map[string][]netip.Addr{}
	for n := len(parties); n < sources; n++ {
		p := parties[n%len(parties)]
		own, err := lab.Addr(p.Node, p.Iface)
		if err != nil {
			return nil, err
		}
		// Beyond what sweeps take on; anywhere where that is not enough.
		for _, a := range append(free(own.Masked(), used, sweepTo+1, silent-1), free(own.Masked(), used, 1, sweepTo)...) {
			if !used[a] {
				used[a] = true
				extra[p.Node] = append(extra[p.Node], a)
				break
			}
		}
	}
	change := func(act func(*netlink.Handle, netlink.Link, *netlink.Addr) error) error {
		var errs []error
		for _, p := range parties {
			errs = append(errs, onInterface(lab, p.Node, p.Iface, func(h *netlink.Handle, l netlink.Link) error {
				var errs []error
				for _, a := range extra[p.Node] {
					errs = append(errs, act(h, l, single(a.AsSlice())))
				}
				return errors.Join(errs...)
			}))
		}
		return errors.Join(errs...)
	}
	undo := func(context.Context) error { return change((*netlink.Handle).AddrDel) }
	if err := change((*netlink.Handle).AddrReplace); err != nil {
		return nil, errors.Join(fmt.Errorf("further sources: %w", err), undo(ctx))
	}
	return undo, nil
}

// onInterface runs f inside a node with its interface.
func onInterface(lab *runner.Lab, node, iface string, f func(h *netlink.Handle, l netlink.Link) error) error {
	if err := lab.Do(node, func() error { return namespace.OnLink(iface, f) }); err != nil {
		return fmt.Errorf("node %s: %w", node, err)
	}
	return nil
}

// Counter reads how many packets have left the attacker's interface.
type Counter struct {
	handle *netlink.Handle
	index  int
}

// NewCounter opens a counter; its socket stays inside the attacker's node.
func NewCounter(lab *runner.Lab, r Roles) (*Counter, error) {
	c := &Counter{}
	err := lab.Do(r.Attacker, func() (err error) {
		if c.handle, err = netlink.NewHandle(); err != nil {
			return err
		}
		l, err := c.handle.LinkByName(r.AttackerIface)
		if err != nil {
			c.handle.Close()
			return err
		}
		c.index = l.Attrs().Index
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("packet counter of %s:%s: %w", r.Attacker, r.AttackerIface, err)
	}
	return c, nil
}

// Sent is the number of packets so far.
func (c *Counter) Sent() (uint64, error) {
	l, err := c.handle.LinkByIndex(c.index)
	if err != nil {
		return 0, fmt.Errorf("packet counter: %w", err)
	}
	return l.Attrs().Statistics.TxPackets, nil
}

// Close closes the counter.
func (c *Counter) Close() { c.handle.Close() }

package attack

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"

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

// silentNeighbour lets the attacker believe that an address nobody has lives
// at the victim. Probes are then delivered to the victim's interface, and
// its network stack, which has no such address and does not forward, drops
// them without a word, as a firewall that drops would.
func silentNeighbour(_ context.Context, lab *runner.Lab, r Roles) (func(context.Context) error, error) {
	mac, err := lab.MAC(r.Victim, r.VictimIface)
	if err != nil {
		return nil, err
	}
	ip := net.ParseIP(octets(silent, silent)(r))
	change := func(act func(h *netlink.Handle, n *netlink.Neigh) error) error {
		return onInterface(lab, r.Attacker, r.AttackerIface, func(h *netlink.Handle, l netlink.Link) error {
			return act(h, &netlink.Neigh{LinkIndex: l.Attrs().Index, IP: ip, HardwareAddr: mac, State: netlink.NUD_PERMANENT})
		})
	}
	if err := change((*netlink.Handle).NeighSet); err != nil {
		return nil, fmt.Errorf("silent address: %w", err)
	}
	return func(context.Context) error { return change((*netlink.Handle).NeighDel) }, nil
}

// liveAddresses spreads the swept addresses over the victim and the
// bystanders, so that every one of them answers. The attacker knows their
// hardware addresses already: its probes must go on leaving when containment
// stops address resolution, or nothing would show that containment holds.
func liveAddresses(ctx context.Context, lab *runner.Lab, r Roles) (func(context.Context) error, error) {
	hosts := append([]string{r.Victim}, r.Bystanders...)
	undo := func(context.Context) error {
		return spread(lab, r, hosts, (*netlink.Handle).AddrDel, (*netlink.Handle).NeighDel)
	}
	if err := spread(lab, r, hosts, (*netlink.Handle).AddrReplace, (*netlink.Handle).NeighSet); err != nil {
		return nil, errors.Join(fmt.Errorf("live addresses: %w", err), undo(ctx))
	}
	return undo, nil
}

// spread applies addr to each swept address at one of the hosts in turn, and
// neigh to its entry at the attacker.
func spread(lab *runner.Lab, r Roles, hosts []string,
	addr func(*netlink.Handle, netlink.Link, *netlink.Addr) error, neigh func(*netlink.Handle, *netlink.Neigh) error) error {
	var errs []error
	for i, node := range hosts {
		iface, err := lab.Interface(node)
		if err != nil {
			return err
		}
		mac, err := lab.MAC(node, iface)
		if err != nil {
			return err
		}
		each := func(f func(ip net.IP) error) error {
			var errs []error
			for octet := sweepFrom + i; octet <= sweepTo; octet += len(hosts) {
				b := r.Subnet.Addr().As4()
				b[3] = byte(octet)
				errs = append(errs, f(netip.AddrFrom4(b).AsSlice()))
			}
			return errors.Join(errs...)
		}
		errs = append(errs, onInterface(lab, node, iface, func(h *netlink.Handle, l netlink.Link) error {
			return each(func(ip net.IP) error {
				// A single address: the subnet's route is there already.
				return addr(h, l, &netlink.Addr{IPNet: &net.IPNet{IP: ip, Mask: net.CIDRMask(32, 32)}})
			})
		}), onInterface(lab, r.Attacker, r.AttackerIface, func(h *netlink.Handle, l netlink.Link) error {
			return each(func(ip net.IP) error {
				return neigh(h, &netlink.Neigh{LinkIndex: l.Attrs().Index, IP: ip, HardwareAddr: mac, State: netlink.NUD_PERMANENT})
			})
		}))
	}
	return errors.Join(errs...)
}

// onInterface runs f inside a node with its interface.
func onInterface(lab *runner.Lab, node, iface string, f func(h *netlink.Handle, l netlink.Link) error) error {
	return lab.Do(node, func() error {
		h, err := netlink.NewHandle()
		if err != nil {
			return fmt.Errorf("netlink: %w", err)
		}
		defer h.Close()
		l, err := h.LinkByName(iface)
		if err != nil {
			return fmt.Errorf("%s:%s: %w", node, iface, err)
		}
		return f(h, l)
	})
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

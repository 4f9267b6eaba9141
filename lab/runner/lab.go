package runner

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"

	"github.com/platelet-sdn/platelet/lab/namespace"
	"github.com/vishvananda/netlink"
)

// Lab is a running lab.
type Lab struct {
	state   *state
	options Options
}

// Open finds a running lab by name.
func Open(lab string, o Options) (*Lab, error) {
	o = o.withDefaults()
	s, err := load(o.StateDir, lab)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("lab %s is not up: %w", lab, fs.ErrNotExist)
	}
	if err != nil {
		return nil, err
	}
	return &Lab{state: s, options: o}, nil
}

// Name is the lab's name.
func (l *Lab) Name() string { return l.state.Lab }

// DB is the OVSDB endpoint that the lab's bridges are in.
func (l *Lab) DB() string { return l.state.DB }

// Down takes the lab down.
func (l *Lab) Down(ctx context.Context) error { return Down(ctx, l.state.Lab, l.options) }

// Nodes lists the nodes' names in the file's order.
func (l *Lab) Nodes() []string {
	out := make([]string, len(l.state.Nodes))
	for i, n := range l.state.Nodes {
		out[i] = n.Name
	}
	return out
}

// Select lists the nodes that carry a label, in the file's order.
func (l *Lab) Select(key, value string) []string {
	var out []string
	for _, n := range l.state.Nodes {
		if v, ok := n.Labels[key]; ok && v == value {
			out = append(out, n.Name)
		}
	}
	return out
}

// Bridges lists the interface names of the lab's bridges.
func (l *Lab) Bridges() []string {
	out := make([]string, len(l.state.Bridges))
	for i, b := range l.state.Bridges {
		out[i] = b.Name
	}
	return out
}

// Bridge is the interface name of a bridge node, which differs from the
// node's name when the lab runs under another name than its file's.
func (l *Lab) Bridge(node string) (string, error) {
	for _, b := range l.state.Bridges {
		if b.Node == node {
			return b.Name, nil
		}
	}
	return "", fmt.Errorf("lab %s has no bridge %q", l.state.Lab, node)
}

// Command prepares a program to run in a node, with the node's view of the
// machine, and with our environment and the node's.
func (l *Lab) Command(ctx context.Context, node, program string, args ...string) (*namespace.Cmd, error) {
	n, err := l.state.node(node)
	if err != nil {
		return nil, err
	}
	if n.Namespace != "" && !namespace.Exists(n.Namespace) {
		return nil, fmt.Errorf("node %s of lab %s is not running", node, l.state.Lab)
	}
	words := l.options.program(append([]string{program}, args...))
	cmd := namespace.Command(ctx, n.Namespace, words[0], words[1:]...)
	cmd.View = l.state.view(n, l.options)
	cmd.Env = append(os.Environ(), n.Env...)
	return cmd, nil
}

// Do runs f on a thread inside a node, see namespace.Do.
func (l *Lab) Do(node string, f func() error) error {
	n, err := l.state.node(node)
	if err != nil {
		return err
	}
	return namespace.Do(n.Namespace, f)
}

// HostSide is the interface at the other end of a node's, as the kernel
// names it: for a host at a switch, the switch port.
func (l *Lab) HostSide(node, iface string) (string, error) {
	near, far, err := l.state.ends(node, iface)
	if err != nil {
		return "", err
	}
	if far.Namespace != "" {
		return "", fmt.Errorf("lab %s: %s:%s leads to a node, not to a switch", l.state.Lab, near.Node, near.Interface)
	}
	return far.Name, nil
}

// MAC is the hardware address of a node's interface.
func (l *Lab) MAC(node, iface string) (net.HardwareAddr, error) {
	near, _, err := l.state.ends(node, iface)
	if err != nil {
		return nil, err
	}
	mac, err := net.ParseMAC(near.MAC)
	if err != nil {
		return nil, fmt.Errorf("lab %s: %w", l.state.Lab, err)
	}
	return mac, nil
}

// Addr is the first global IPv4 address of a node's interface, with the
// length of its subnet's prefix.
func (l *Lab) Addr(node, iface string) (netip.Prefix, error) {
	addrs, err := l.Addrs(node, iface)
	if err != nil {
		return netip.Prefix{}, err
	}
	for _, a := range addrs {
		if a.Addr().Is4() && a.Addr().IsGlobalUnicast() {
			return a, nil
		}
	}
	return netip.Prefix{}, fmt.Errorf("lab %s: %s:%s has no IPv4 address", l.state.Lab, node, iface)
}

// Addrs lists the addresses of a node's interface, global and link-local; of
// all interfaces when it is not named.
func (l *Lab) Addrs(node, iface string) ([]netip.Prefix, error) {
	var out []netip.Prefix
	err := l.Do(node, func() error {
		h, err := netlink.NewHandle()
		if err != nil {
			return err
		}
		defer h.Close()
		var on netlink.Link
		if iface != "" {
			if on, err = h.LinkByName(iface); err != nil {
				return err
			}
		}
		list, err := addrList(h, on)
		if err != nil {
			return err
		}
		for _, a := range list {
			ip, ok := netip.AddrFromSlice(a.IP)
			bits, _ := a.Mask.Size()
			if ip = ip.Unmap(); ok && (ip.IsGlobalUnicast() || ip.IsLinkLocalUnicast()) {
				out = append(out, netip.PrefixFrom(ip, bits))
			}
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("addresses of %s:%s: %w", node, iface, err)
	}
	return out, nil
}

// ends finds a node's interface and what it is linked to.
func (s *state) ends(node, iface string) (near, far end, err error) {
	for _, l := range s.Links {
		switch {
		case l.A.Node == node && l.A.Interface == iface:
			return l.A, l.B, nil
		case l.B.Node == node && l.B.Interface == iface:
			return l.B, l.A, nil
		}
	}
	return end{}, end{}, fmt.Errorf("lab %s has no interface %s:%s", s.Lab, node, iface)
}

package agent

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"slices"
	"syscall"
	"time"

	"github.com/platelet-sdn/platelet/lab/namespace"
	"github.com/platelet-sdn/platelet/lab/runner"
	"github.com/vishvananda/netlink"
)

// Station is where an agent stands: one interface inside a namespace that a
// lab made. All its traffic goes through the fence.
type Station struct {
	// Node is the lab node's name.
	Node string
	// Iface is the interface's name inside the namespace, Index its number.
	Iface string
	Index int
	MAC   net.HardwareAddr
	// Prefixes are the interface's global addresses with their subnets, as
	// they were when the station was opened.
	Prefixes []netip.Prefix
	Fence    *Fence

	enter func(func() error) error
}

// In opens a station at a node's first interface. The fence is drawn round
// the subnets of every node of the lab.
func In(lab *runner.Lab, node string) (*Station, error) {
	iface, err := lab.Interface(node)
	if err != nil {
		return nil, err
	}
	fence, err := Around(lab)
	if err != nil {
		return nil, err
	}
	return open(node, iface, fence, func(f func() error) error { return lab.Do(node, f) })
}

// Around draws a fence round the subnets on the lab's own links.
func Around(lab *runner.Lab) (*Fence, error) {
	var all []netip.Prefix
	for _, node := range lab.Nodes() {
		if !lab.Isolated(node) {
			continue
		}
		for _, iface := range lab.Interfaces(node) {
			prefixes, err := lab.Addrs(node, iface)
			if err != nil {
				return nil, err
			}
			for _, p := range prefixes {
				if !p.Addr().IsLinkLocalUnicast() {
					all = append(all, p)
				}
			}
		}
	}
	return NewFence(all...)
}

// open makes sure that this is no network of the machine's, and looks at the
// interface.
func open(node, iface string, fence *Fence, enter func(func() error) error) (*Station, error) {
	if err := enter(notTheMachine); err != nil {
		return nil, fmt.Errorf("station %s:%s: %w", node, iface, err)
	}
	return look(node, iface, fence, enter)
}

// globals lists an interface's global addresses with their subnets.
func globals(h *netlink.Handle, l netlink.Link) ([]netip.Prefix, error) {
	list, err := h.AddrList(l, netlink.FAMILY_ALL)
	if err != nil {
		return nil, fmt.Errorf("addresses of %s: %w", l.Attrs().Name, err)
	}
	var out []netip.Prefix
	for _, a := range list {
		ip, ok := netip.AddrFromSlice(a.IP)
		bits, _ := a.Mask.Size()
		if ip = ip.Unmap(); ok && ip.IsGlobalUnicast() {
			out = append(out, netip.PrefixFrom(ip, bits))
		}
	}
	return out, nil
}

// look looks at the interface from inside.
func look(node, iface string, fence *Fence, enter func(func() error) error) (*Station, error) {
	s := &Station{Node: node, Iface: iface, Fence: fence, enter: enter}
	read := func(h *netlink.Handle, l netlink.Link) error {
		s.Index, s.MAC = l.Attrs().Index, l.Attrs().HardwareAddr
		var err error
		s.Prefixes, err = globals(h, l)
		return err
	}
	if err := enter(func() error { return namespace.OnLink(iface, read) }); err != nil {
		return nil, fmt.Errorf("station %s:%s: %w", node, iface, err)
	}
	return s, nil
}

// initialOnly is a setting that the kernel shows in the network namespace it
// started with, and in no other (net/core/sysctl_net_core.c).
const initialOnly = "/proc/sys/net/core/netdev_budget"

// notTheMachine refuses the namespace of the machine's first process, and the
// one that the kernel started with: those are never ones that a lab made. Two
// checks, because a container's first process is its own, and because not
// every machine lets even root look at the first.
func notTheMachine() error {
	if err := notInitial(); err != nil {
		return err
	}
	return notFirst()
}

// notInitial refuses the namespace that the kernel started with.
func notInitial() error {
	if _, err := os.Stat(initialOnly); err == nil {
		return fmt.Errorf("%w: this is the machine's own network", ErrOutside)
	} else if !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("cannot tell the lab's namespace from the machine's: %w", err)
	}
	return nil
}

// notFirst refuses the namespace of the first process that we see.
func notFirst() error {
	own, err := os.Stat("/proc/thread-self/ns/net")
	if err != nil {
		return fmt.Errorf("own namespace: %w", err)
	}
	first, err := os.Stat("/proc/1/ns/net")
	if errors.Is(err, fs.ErrPermission) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("the machine's namespace: %w", err)
	}
	if os.SameFile(own, first) {
		return fmt.Errorf("%w: this is the network of the machine's first process", ErrOutside)
	}
	return nil
}

// Do runs f on a thread inside the station's namespace. Sockets made by f
// stay inside, whoever uses them later.
func (s *Station) Do(f func() error) error { return s.enter(f) }

// Addr is the station's first IPv4 address; the zero Addr when it has none.
func (s *Station) Addr() netip.Addr { return s.first(netip.Addr.Is4) }

// Addr6 is the station's first global IPv6 address; the zero Addr when it has
// none.
func (s *Station) Addr6() netip.Addr { return s.first(netip.Addr.Is6) }

func (s *Station) first(is func(netip.Addr) bool) netip.Addr {
	i := slices.IndexFunc(s.Prefixes, func(p netip.Prefix) bool { return is(p.Addr()) })
	if i < 0 {
		return netip.Addr{}
	}
	return s.Prefixes[i].Addr()
}

// Listen listens on a TCP address of the station.
func (s *Station) Listen(at netip.AddrPort) (l net.Listener, err error) {
	err = s.enter(func() error {
		l, err = net.ListenTCP("tcp", net.TCPAddrFromAddrPort(at))
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("station %s: %w", s.Node, err)
	}
	return l, nil
}

// ListenUDP opens a UDP socket at an address of the station. What it sends
// goes through the fence.
func (s *Station) ListenUDP(at netip.AddrPort) (*UDPConn, error) {
	var c *net.UDPConn
	err := s.enter(func() (err error) {
		c, err = net.ListenUDP("udp", net.UDPAddrFromAddrPort(at))
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("station %s: %w", s.Node, err)
	}
	return &UDPConn{c, s.Fence}, nil
}

// UDPConn is a UDP socket that sends to the lab only.
type UDPConn struct {
	conn  *net.UDPConn
	fence *Fence
}

// WriteTo sends a datagram; it is ErrOutside for an address that is not the
// lab's.
func (c *UDPConn) WriteTo(b []byte, to netip.AddrPort) (int, error) {
	if err := c.fence.Check(to.Addr()); err != nil {
		return 0, err
	}
	return c.conn.WriteToUDPAddrPort(b, to)
}

// ReadFrom receives a datagram.
func (c *UDPConn) ReadFrom(b []byte) (int, netip.AddrPort, error) {
	n, from, err := c.conn.ReadFromUDPAddrPort(b)
	return n, netip.AddrPortFrom(from.Addr().Unmap(), from.Port()), err
}

// SetReadDeadline bounds ReadFrom.
func (c *UDPConn) SetReadDeadline(t time.Time) error { return c.conn.SetReadDeadline(t) }

// LocalAddr is the socket's own address.
func (c *UDPConn) LocalAddr() netip.AddrPort {
	a := c.conn.LocalAddr().(*net.UDPAddr).AddrPort()
	return netip.AddrPortFrom(a.Addr().Unmap(), a.Port())
}

// SyscallConn gives access to the socket's options.
func (c *UDPConn) SyscallConn() (syscall.RawConn, error) { return c.conn.SyscallConn() }

// Close closes the socket.
func (c *UDPConn) Close() error { return c.conn.Close() }

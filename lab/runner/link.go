package runner

import (
	"errors"
	"fmt"
	"net"
	"os"

	"github.com/platelet-sdn/platelet/lab/clab"
	"github.com/platelet-sdn/platelet/lab/namespace"
	"github.com/safchain/ethtool"
	"github.com/vishvananda/netlink"
)

// makeLink makes a link, each end born in its namespace under its final
// name, so that nothing half-named is ever seen.
func (s *state) makeLink(root *netlink.Handle, l link) error {
	fds, release, err := openNamespaces(l.A.Namespace, l.B.Namespace)
	if err != nil {
		return fmt.Errorf("link %s: %w", l, err)
	}
	defer release()
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.MTU = l.A.Name, l.MTU
	if attrs.HardwareAddr, err = net.ParseMAC(l.A.MAC); err != nil {
		return fmt.Errorf("link %s: %w", l, err)
	}
	if fds[0] != nil {
		attrs.Namespace = netlink.NsFd(fds[0].Fd())
	}
	var made netlink.Link
	switch l.Type {
	case clab.LinkDummy:
		made = &netlink.Dummy{LinkAttrs: attrs}
	case clab.LinkMacvlan:
		parent, err := root.LinkByName(l.B.Name)
		if err != nil {
			return fmt.Errorf("link %s: parent interface %s: %w", l, l.B.Name, err)
		}
		attrs.ParentIndex, attrs.MTU = parent.Attrs().Index, 0
		made = &netlink.Macvlan{LinkAttrs: attrs, Mode: macvlanMode(l.Mode)}
	case clab.LinkVxlan:
		if made, err = l.VXLAN.link(root, attrs); err != nil {
			return fmt.Errorf("link %s: %w", l, err)
		}
	default:
		veth := &netlink.Veth{LinkAttrs: attrs, PeerName: l.B.Name, PeerMTU: uint32(l.MTU)}
		if veth.PeerHardwareAddr, err = net.ParseMAC(l.B.MAC); err != nil {
			return fmt.Errorf("link %s: %w", l, err)
		}
		if fds[1] != nil {
			veth.PeerNamespace = netlink.NsFd(fds[1].Fd())
		}
		made = veth
	}
	if err := root.LinkAdd(made); err != nil {
		return fmt.Errorf("link %s: %w", l, err)
	}
	return nil
}

// link is the tunnel's interface. Its packets travel in the host's own
// namespace, over the parent interface.
func (v *vxlan) link(root *netlink.Handle, attrs netlink.LinkAttrs) (netlink.Link, error) {
	attrs.TxQLen = 1000
	out := &netlink.Vxlan{LinkAttrs: attrs, VxlanId: v.VNI, Group: v.Remote.AsSlice(), Port: v.DstPort, Learning: true}
	if v.SrcPort != 0 {
		out.PortLow, out.PortHigh = v.SrcPort, v.SrcPort+1
	}
	if v.Parent == "" {
		routes, err := root.RouteGet(v.Remote.AsSlice())
		if err != nil || len(routes) == 0 {
			return nil, fmt.Errorf("no route to %s: %w", v.Remote, err)
		}
		out.VtepDevIndex = routes[0].LinkIndex
		return out, nil
	}
	parent, err := root.LinkByName(v.Parent)
	if err != nil {
		return nil, fmt.Errorf("parent interface %s: %w", v.Parent, err)
	}
	out.VtepDevIndex = parent.Attrs().Index
	return out, nil
}

// openNamespaces opens two namespaces; nil stands for the host's own.
func openNamespaces(a, b string) (fds [2]*os.File, release func(), err error) {
	release = func() {
		for _, f := range fds {
			if f != nil {
				_ = f.Close()
			}
		}
	}
	for i, name := range []string{a, b} {
		if name == "" {
			continue
		}
		if fds[i], err = os.Open(namespace.Path(name)); err != nil {
			release()
			return fds, func() {}, err
		}
	}
	return fds, release, nil
}

func macvlanMode(mode string) netlink.MacvlanMode {
	switch mode {
	case "vepa":
		return netlink.MACVLAN_MODE_VEPA
	case "passthru":
		return netlink.MACVLAN_MODE_PASSTHRU
	case "private":
		return netlink.MACVLAN_MODE_PRIVATE
	case "source":
		return netlink.MACVLAN_MODE_SOURCE
	}
	return netlink.MACVLAN_MODE_BRIDGE
}

// String is "node:interface -- node:interface".
func (l link) String() string {
	return l.A.Node + ":" + l.A.Interface + " -- " + l.B.Node + ":" + l.B.Interface
}

// finish prepares ends that stand in one namespace, and brings them up.
func (s *state) finish(ns string, ends []placed) error {
	if len(ends) == 0 {
		return nil
	}
	return namespace.Do(ns, func() error {
		h, err := netlink.NewHandle()
		if err != nil {
			return fmt.Errorf("netlink: %w", err)
		}
		defer h.Close()
		tool, err := ethtool.NewEthtool()
		if err != nil {
			return fmt.Errorf("ethtool: %w", err)
		}
		defer tool.Close()
		for _, e := range ends {
			if err := s.finishEnd(h, tool, e); err != nil {
				return err
			}
		}
		return nil
	})
}

// placed is an end with what kind of link it belongs to.
type placed struct {
	*end
	kind clab.LinkType
}

func (s *state) finishEnd(h *netlink.Handle, tool *ethtool.Ethtool, e placed) error {
	switch e.kind {
	case clab.LinkDummy, clab.LinkVxlan:
	case clab.LinkMacvlan:
		l, err := h.LinkByName(e.Name)
		if err != nil {
			return fmt.Errorf("interface %s: %w", e.Name, err)
		}
		if err := h.SetPromiscOn(l); err != nil {
			return fmt.Errorf("interface %s: %w", e.Name, err)
		}
	default:
		// Checksums left to hardware that a veth does not have arrive
		// wrong behind a userspace switch: ping passes and TCP hangs.
		if err := tool.Change(e.Name, map[string]bool{"tx-checksum-ip-generic": false}); err != nil {
			return fmt.Errorf("switch transmit checksums of %s off: %w", e.Name, err)
		}
	}
	if err := up(h, e.Name, s.alias(*e.end)); err != nil {
		return err
	}
	if e.Bridge == "" || s.isOVS(e.Bridge) {
		return nil
	}
	return attach(h, e.Name, e.Bridge)
}

// attach makes an interface a port of a Linux bridge.
func attach(h *netlink.Handle, port, bridge string) error {
	master, err := h.LinkByName(bridge)
	if err != nil {
		return fmt.Errorf("bridge %s: %w", bridge, err)
	}
	l, err := h.LinkByName(port)
	if err != nil {
		return fmt.Errorf("port %s: %w", port, err)
	}
	if err := h.LinkSetMaster(l, master); err != nil {
		return fmt.Errorf("attach %s to bridge %s: %w", port, bridge, err)
	}
	return nil
}

func (s *state) isOVS(name string) bool {
	b := s.bridgeNamed(name)
	return b != nil && b.OVS
}

// alias marks an interface in the host's own namespace as ours.
func (s *state) alias(e end) string {
	if e.Namespace != "" {
		return ""
	}
	return markKey + "=" + s.Lab
}

func up(h *netlink.Handle, name, alias string) error {
	l, err := h.LinkByName(name)
	if err != nil {
		return fmt.Errorf("interface %s: %w", name, err)
	}
	if alias != "" {
		if err := h.LinkSetAlias(l, alias); err != nil {
			return fmt.Errorf("mark interface %s: %w", name, err)
		}
	}
	if err := h.LinkSetUp(l); err != nil {
		return fmt.Errorf("bring interface %s up: %w", name, err)
	}
	return nil
}

// move takes an interface to another namespace, and gives it its name there.
func move(from, name, to, newName string) error {
	target := "/proc/thread-self/ns/net"
	if to != "" {
		target = namespace.Path(to)
	}
	fd, err := os.Open(target)
	if err != nil {
		return fmt.Errorf("move %s: %w", name, err)
	}
	defer fd.Close()
	if err := inside(from, name, func(h *netlink.Handle, l netlink.Link) error { return h.LinkSetNsFd(l, int(fd.Fd())) }); err != nil {
		return fmt.Errorf("move %s to %q: %w", name, to, err)
	}
	if err := inside(to, name, func(h *netlink.Handle, l netlink.Link) error { return h.LinkSetName(l, newName) }); err != nil {
		return fmt.Errorf("rename %s to %s: %w", name, newName, err)
	}
	return nil
}

// inside works on an interface in its namespace.
func inside(ns, name string, f func(*netlink.Handle, netlink.Link) error) error {
	return namespace.Do(ns, func() error { return namespace.OnLink(name, f) })
}

// removeLink removes an interface of the host's own namespace, and with it
// the other end. One that is not ours stays.
func removeLink(h *netlink.Handle, lab, name string) error {
	l, err := h.LinkByName(name)
	var missing netlink.LinkNotFoundError
	if errors.As(err, &missing) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("interface %s: %w", name, err)
	}
	// A crash may come before the mark; the plan made sure then that the
	// name was free.
	if alias := l.Attrs().Alias; alias != "" && alias != markKey+"="+lab || alias == "" && l.Type() != "veth" && l.Type() != "dummy" && l.Type() != "macvlan" && l.Type() != "vxlan" {
		return nil
	}
	if err := h.LinkDel(l); err != nil && !errors.As(err, &missing) {
		return fmt.Errorf("remove interface %s: %w", name, err)
	}
	return nil
}

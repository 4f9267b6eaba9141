package runner

import (
	"errors"
	"fmt"
	"net"
	"os"

	"github.com/platelet-sdn/platelet/lab/namespace"
	"github.com/safchain/ethtool"
	"github.com/vishvananda/netlink"
)

// makeLink makes a veth pair, each end born in its namespace under its final
// name, so that nothing half-named is ever seen.
func (s *state) makeLink(root *netlink.Handle, l link) error {
	macA, err := net.ParseMAC(l.A.MAC)
	if err != nil {
		return fmt.Errorf("link %s: %w", l, err)
	}
	macB, err := net.ParseMAC(l.B.MAC)
	if err != nil {
		return fmt.Errorf("link %s: %w", l, err)
	}
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.MTU, attrs.HardwareAddr = l.A.Name, l.MTU, macA
	veth := &netlink.Veth{LinkAttrs: attrs, PeerName: l.B.Name, PeerHardwareAddr: macB}
	for _, e := range []struct {
		name string
		set  func(netlink.NsFd)
	}{
		{l.A.Namespace, func(fd netlink.NsFd) { veth.Namespace = fd }},
		{l.B.Namespace, func(fd netlink.NsFd) { veth.PeerNamespace = fd }},
	} {
		if e.name == "" {
			continue
		}
		f, err := os.Open(namespace.Path(e.name))
		if err != nil {
			return fmt.Errorf("link %s: %w", l, err)
		}
		defer f.Close()
		e.set(netlink.NsFd(f.Fd()))
	}
	if err := root.LinkAdd(veth); err != nil {
		return fmt.Errorf("link %s: %w", l, err)
	}
	return nil
}

// String is "node:interface -- node:interface".
func (l link) String() string {
	return l.A.Node + ":" + l.A.Interface + " -- " + l.B.Node + ":" + l.B.Interface
}

// finish prepares the interfaces of one namespace, and brings them up.
func (s *state) finish(ns string) error {
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
		if ns != "" {
			if err := up(h, "lo", ""); err != nil {
				return err
			}
		}
		for _, l := range s.Links {
			for _, e := range []end{l.A, l.B} {
				if e.Namespace != ns {
					continue
				}
				// Checksums left to hardware that a veth does not have
				// arrive wrong behind a userspace switch: ping passes
				// and TCP hangs.
				if err := tool.Change(e.Name, map[string]bool{"tx-checksum-ip-generic": false}); err != nil {
					return fmt.Errorf("switch transmit checksums of %s off: %w", e.Name, err)
				}
				if err := up(h, e.Name, s.alias(e)); err != nil {
					return err
				}
			}
		}
		return nil
	})
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
	if alias := l.Attrs().Alias; l.Type() != "veth" || alias != "" && alias != markKey+"="+lab {
		return nil
	}
	if err := h.LinkDel(l); err != nil && !errors.As(err, &missing) {
		return fmt.Errorf("remove interface %s: %w", name, err)
	}
	return nil
}

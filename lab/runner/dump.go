package runner

import (
	"errors"

	"github.com/vishvananda/netlink"
)

// dumpTries bounds how often a list is asked for again that others changed
// while the kernel wrote it.
const dumpTries = 1000

// whole asks the kernel for a list until nothing came between.
func whole[T any](list func() ([]T, error)) ([]T, error) {
	for range dumpTries {
		out, err := list()
		if !errors.Is(err, netlink.ErrDumpInterrupted) {
			return out, err
		}
	}
	return list()
}

func linkList(h *netlink.Handle) ([]netlink.Link, error) { return whole(h.LinkList) }

func addrList(h *netlink.Handle, of netlink.Link) ([]netlink.Addr, error) {
	return whole(func() ([]netlink.Addr, error) { return h.AddrList(of, netlink.FAMILY_ALL) })
}

package flowcollector

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// receiveBuffer is the socket buffer asked for, in bytes: 32 MiB, which the
// kernel doubles for its own overhead. It holds about what arrives in 20 ms at
// a million datagrams per second.
const receiveBuffer = 32 << 20

// listener is a bound socket and the means to interrupt its receiver.
type listener struct {
	protocol Protocol
	fd       int
	// wakeFD is an eventfd that becomes readable to stop the receiver.
	wakeFD  int
	address netip.AddrPort
	// buffer is the size of the socket buffer as read back.
	buffer int
	drops  atomic.Uint64
}

// listen binds a socket; others may be bound to the same address if all reuse it.
func listen(p Protocol, a netip.AddrPort, reuse bool) (_ *listener, err error) {
	l := &listener{protocol: p, fd: -1, wakeFD: -1}
	defer func() {
		if err != nil {
			err = errors.Join(err, l.close())
		}
	}()
	family, sa := sockaddr(a)
	if l.fd, err = unix.Socket(family, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, unix.IPPROTO_UDP); err != nil {
		return nil, fmt.Errorf("socket: %w", err)
	}
	if err := l.configure(family, a, reuse); err != nil {
		return nil, err
	}
	if err := unix.Bind(l.fd, sa); err != nil {
		return nil, fmt.Errorf("bind: %w", err)
	}
	bound, err := unix.Getsockname(l.fd)
	if err != nil {
		return nil, fmt.Errorf("getsockname: %w", err)
	}
	l.address = addrPort(bound)
	if l.wakeFD, err = unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK); err != nil {
		return nil, fmt.Errorf("eventfd: %w", err)
	}
	return l, nil
}

func (l *listener) configure(family int, a netip.AddrPort, reuse bool) error {
	if reuse {
		if err := unix.SetsockoptInt(l.fd, unix.SOL_SOCKET, unix.SO_REUSEPORT, 1); err != nil {
			return fmt.Errorf("SO_REUSEPORT: %w", err)
		}
	}
	if err := unix.SetsockoptInt(l.fd, unix.SOL_SOCKET, unix.SO_RXQ_OVFL, 1); err != nil {
		return fmt.Errorf("SO_RXQ_OVFL: %w", err)
	}
	if family == unix.AF_INET6 {
		only := 1
		if a.Addr().IsUnspecified() {
			only = 0 // "::" is every address, as usual
		}
		if err := unix.SetsockoptInt(l.fd, unix.IPPROTO_IPV6, unix.IPV6_V6ONLY, only); err != nil {
			return fmt.Errorf("IPV6_V6ONLY: %w", err)
		}
	}
	// Beyond net.core.rmem_max takes CAP_NET_ADMIN; without it the kernel
	// gives what it may, and the size read back says how much that was.
	if unix.SetsockoptInt(l.fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, receiveBuffer) != nil {
		if err := unix.SetsockoptInt(l.fd, unix.SOL_SOCKET, unix.SO_RCVBUF, receiveBuffer); err != nil {
			return fmt.Errorf("SO_RCVBUF: %w", err)
		}
	}
	size, err := unix.GetsockoptInt(l.fd, unix.SOL_SOCKET, unix.SO_RCVBUF)
	if err != nil {
		return fmt.Errorf("SO_RCVBUF: %w", err)
	}
	l.buffer = size
	return nil
}

// wake stops the receiver.
func (l *listener) wake() error {
	var one [8]byte
	binary.NativeEndian.PutUint64(one[:], 1)
	if _, err := unix.Write(l.wakeFD, one[:]); err != nil {
		return fmt.Errorf("wake receiver of %v: %w", l.address, err)
	}
	return nil
}

// close releases what listen has opened.
func (l *listener) close() error {
	var errs []error
	for _, fd := range []*int{&l.fd, &l.wakeFD} {
		if *fd >= 0 {
			errs = append(errs, unix.Close(*fd))
			*fd = -1
		}
	}
	return errors.Join(errs...)
}

func sockaddr(a netip.AddrPort) (family int, sa unix.Sockaddr) {
	ip := a.Addr().Unmap()
	if ip.Is4() {
		return unix.AF_INET, &unix.SockaddrInet4{Port: int(a.Port()), Addr: ip.As4()}
	}
	return unix.AF_INET6, &unix.SockaddrInet6{Port: int(a.Port()), Addr: ip.As16(), ZoneId: zone(ip.Zone())}
}

func addrPort(sa unix.Sockaddr) netip.AddrPort {
	switch sa := sa.(type) {
	case *unix.SockaddrInet4:
		return netip.AddrPortFrom(netip.AddrFrom4(sa.Addr), uint16(sa.Port))
	case *unix.SockaddrInet6:
		return netip.AddrPortFrom(netip.AddrFrom16(sa.Addr), uint16(sa.Port))
	}
	return netip.AddrPort{}
}

package agent

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Dial connects from inside the station to an address and port; names are
// not resolved. The network is tcp or udp; the local address may be zero.
//
// Only the making of the socket needs a thread inside the namespace. The
// connecting, a round trip or a long timeout, waits in the runtime's poller,
// so that a scan with thousands of open attempts costs thousands of sockets
// and not of threads.
func (s *Station) Dial(ctx context.Context, network string, from, to netip.AddrPort) (net.Conn, error) {
	if err := s.Fence.Check(to.Addr()); err != nil {
		return nil, err
	}
	c, err := s.dial(ctx, network, from, to)
	if err != nil {
		// In the shape that callers of package net know.
		return nil, &net.OpError{Op: "dial", Net: network, Addr: net.TCPAddrFromAddrPort(to), Err: err}
	}
	return c, nil
}

func (s *Station) dial(ctx context.Context, network string, from, to netip.AddrPort) (net.Conn, error) {
	kind := 0
	switch {
	case strings.HasPrefix(network, "tcp"):
		kind = unix.SOCK_STREAM
	case strings.HasPrefix(network, "udp"):
		kind = unix.SOCK_DGRAM
	default:
		return nil, fmt.Errorf("network %q is neither tcp nor udp", network)
	}
	family, remote := sockaddr(to, s.Index)
	fd := -1
	err := s.enter(func() (err error) {
		fd, err = unix.Socket(family, kind|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
		return os.NewSyscallError("socket", err)
	})
	if err != nil {
		return nil, err
	}
	f := os.NewFile(uintptr(fd), network) // joins the poller: the socket does not block
	defer f.Close()
	if from.IsValid() {
		if f, _ := sockaddr(from, s.Index); f != family {
			return nil, fmt.Errorf("from %v to %v: of different families", from, to)
		}
		_, local := sockaddr(from, s.Index)
		if err := unix.Bind(fd, local); err != nil {
			return nil, os.NewSyscallError("bind", err)
		}
	}
	if err := connect(ctx, f, remote); err != nil {
		return nil, err
	}
	return net.FileConn(f)
}

// connect connects a socket that does not block.
func connect(ctx context.Context, f *os.File, to unix.Sockaddr) error {
	raw, err := f.SyscallConn()
	if err != nil {
		return err
	}
	// The end of the context ends the wait.
	stop := context.AfterFunc(ctx, func() { _ = f.SetWriteDeadline(time.Unix(1, 0)) })
	defer stop()
	started, failed := false, error(nil)
	err = raw.Write(func(fd uintptr) (done bool) {
		if !started {
			started = true
			failed = unix.Connect(int(fd), to)
			if errors.Is(failed, unix.EINPROGRESS) || errors.Is(failed, unix.EINTR) {
				failed = nil
				return false
			}
			return true
		}
		code, err := unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_ERROR)
		if err != nil {
			failed = err
		} else if code != 0 {
			failed = unix.Errno(code)
		} else if _, err := unix.Getpeername(int(fd)); err != nil {
			return false // woken too early: not connected yet
		}
		return true
	})
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case err != nil:
		return err
	}
	return os.NewSyscallError("connect", failed)
}

// sockaddr translates an address; index is the interface that link-local
// addresses are on.
func sockaddr(at netip.AddrPort, index int) (family int, sa unix.Sockaddr) {
	if a := at.Addr().Unmap(); a.Is4() {
		return unix.AF_INET, &unix.SockaddrInet4{Port: int(at.Port()), Addr: a.As4()}
	}
	sa6 := &unix.SockaddrInet6{Port: int(at.Port()), Addr: at.Addr().As16()}
	if at.Addr().IsLinkLocalUnicast() || at.Addr().IsLinkLocalMulticast() {
		sa6.ZoneId = uint32(index)
	}
	return unix.AF_INET6, sa6
}

package flowcollector

import (
	"encoding/binary"
	"errors"
	"net"
	"net/netip"
	"strconv"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

const (
	batchSize = 64
	// bufferSize holds the largest datagram that exporters send, which is
	// that of a jumbo frame. A longer one is cut and counted.
	bufferSize = 9216
	// controlSize holds one control message of 32 bits (SO_RXQ_OVFL).
	controlSize = 64
)

// mmsghdr is struct mmsghdr of recvmmsg(2).
type mmsghdr struct {
	hdr unix.Msghdr
	len uint32
}

// batch is the memory of one receiver, laid out for recvmmsg. It is made once;
// the kernel keeps no pointers into it between calls.
type batch struct {
	messages [batchSize]mmsghdr
	iovecs   [batchSize]unix.Iovec
	names    [batchSize]unix.RawSockaddrInet6 // the larger of both
	control  [batchSize][controlSize]byte
	buffers  [batchSize][bufferSize]byte
}

func newBatch() *batch {
	b := new(batch)
	for i := range b.messages {
		b.iovecs[i].Base = &b.buffers[i][0]
		b.iovecs[i].SetLen(bufferSize)
		h := &b.messages[i].hdr
		h.Name = (*byte)(unsafe.Pointer(&b.names[i]))
		h.Iov = &b.iovecs[i]
		h.SetIovlen(1)
		h.Control = &b.control[i][0]
	}
	return b
}

// receive takes the datagrams that are there, up to batchSize, without waiting.
func (b *batch) receive(fd int) (n int, err error) {
	for i := range b.messages {
		h := &b.messages[i].hdr
		// The kernel overwrites these with the lengths that it has used.
		h.Namelen = unix.SizeofSockaddrInet6
		h.SetControllen(controlSize)
	}
	r, _, errno := unix.Syscall6(unix.SYS_RECVMMSG, uintptr(fd),
		uintptr(unsafe.Pointer(&b.messages[0])), batchSize, unix.MSG_DONTWAIT, 0, 0)
	if errno != 0 {
		return 0, errno
	}
	return int(r), nil
}

// datagram returns the i-th datagram and its sender; ok is false when it did
// not fit into the buffer.
func (b *batch) datagram(i int) (data []byte, from netip.AddrPort, ok bool) {
	m := &b.messages[i]
	return b.buffers[i][:m.len], b.sender(i), m.hdr.Flags&unix.MSG_TRUNC == 0
}

func (b *batch) sender(i int) netip.AddrPort {
	sa := &b.names[i]
	port := binary.BigEndian.Uint16((*[2]byte)(unsafe.Pointer(&sa.Port))[:])
	if sa.Family == unix.AF_INET {
		sa4 := (*unix.RawSockaddrInet4)(unsafe.Pointer(sa))
		return netip.AddrPortFrom(netip.AddrFrom4(sa4.Addr), port)
	}
	return netip.AddrPortFrom(netip.AddrFrom16(sa.Addr).Unmap(), port)
}

// overflow returns the socket's drop counter as of the i-th datagram; ok is
// false when the kernel has not attached it, because it is still 0.
func (b *batch) overflow(i int) (drops uint32, ok bool) {
	c := b.control[i][:b.messages[i].hdr.Controllen]
	if len(c) < unix.SizeofCmsghdr {
		return 0, false
	}
	h := (*unix.Cmsghdr)(unsafe.Pointer(&c[0]))
	data := unix.CmsgLen(0)
	if h.Level != unix.SOL_SOCKET || h.Type != unix.SO_RXQ_OVFL || len(c) < data+4 {
		return 0, false
	}
	return binary.NativeEndian.Uint32(c[data:]), true
}

// wait returns when the listener has datagrams or is to stop, at the latest
// after timeout (never, if negative). ppoll, unlike SO_RCVTIMEO, is not
// rounded up to the kernel's ticks of 1 to 10 ms.
func (l *listener) wait(timeout time.Duration) (stop bool, err error) {
	fds := [2]unix.PollFd{
		{Fd: int32(l.fd), Events: unix.POLLIN},
		{Fd: int32(l.wakeFD), Events: unix.POLLIN},
	}
	var ts *unix.Timespec
	if timeout >= 0 {
		t := unix.NsecToTimespec(int64(timeout))
		ts = &t
	}
	_, err = unix.Ppoll(fds[:], ts, nil)
	if err != nil && !errors.Is(err, unix.EINTR) {
		return false, err
	}
	return fds[1].Revents != 0, nil
}

// pause returns after a time, or when the listener is to stop, whatever
// arrives meanwhile.
func (l *listener) pause(d time.Duration) (stop bool, err error) {
	fds := [1]unix.PollFd{{Fd: int32(l.wakeFD), Events: unix.POLLIN}}
	ts := unix.NsecToTimespec(int64(d))
	_, err = unix.Ppoll(fds[:], &ts, nil)
	if err != nil && !errors.Is(err, unix.EINTR) {
		return false, err
	}
	return fds[0].Revents != 0, nil
}

// zone returns the index of an IPv6 zone, which is its name or number, 0 for
// none.
func zone(name string) uint32 {
	if name == "" {
		return 0
	}
	if i, err := net.InterfaceByName(name); err == nil {
		return uint32(i.Index)
	}
	n, err := strconv.ParseUint(name, 10, 32)
	if err != nil {
		return 0 // bind then fails, and says so
	}
	return uint32(n)
}

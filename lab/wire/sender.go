package wire

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"runtime"
	"time"
	"unsafe"

	"github.com/platelet-sdn/platelet/lab/agent"
	"golang.org/x/sys/unix"
)

// Batch is how many frames go to the kernel with one call.
const Batch = 32

// Sender sends frames from a station's interface by a raw socket. Its frames
// pass the queueing discipline, so that captures on the interface see them as
// they see those of the kernel. A Sender is for one goroutine at a time.
type Sender struct {
	// Station is where it sends from.
	Station *agent.Station

	budget *agent.Budget
	fd     int
	// last is the destination that the fence let pass last: a flood has one.
	last netip.Addr
	msgs [Batch]mmsghdr
	iov  [Batch]unix.Iovec
}

// mmsghdr is struct mmsghdr of sendmmsg(2).
type mmsghdr struct {
	hdr unix.Msghdr
	len uint32
}

// NewSender opens a sender at a station. Everything that it sends is charged
// to the budget.
func NewSender(s *agent.Station, budget *agent.Budget) (*Sender, error) {
	w := &Sender{Station: s, budget: budget, fd: -1}
	err := s.Do(func() (err error) {
		// Protocol 0: nothing is received.
		w.fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
		return err
	})
	if err == nil {
		err = unix.Bind(w.fd, &unix.SockaddrLinklayer{Ifindex: s.Index})
	}
	if err == nil {
		// A full buffer must not hold the sender up for long.
		err = unix.SetsockoptTimeval(w.fd, unix.SOL_SOCKET, unix.SO_SNDTIMEO, &unix.Timeval{Usec: 100_000})
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("raw socket at %s:%s: %w", s.Node, s.Iface, err), w.Close())
	}
	for i := range w.msgs {
		w.msgs[i].hdr.Iov, w.msgs[i].hdr.Iovlen = &w.iov[i], 1
	}
	return w, nil
}

// Close closes the socket.
func (w *Sender) Close() error {
	if w.fd < 0 {
		return nil
	}
	fd := w.fd
	w.fd = -1
	return unix.Close(fd)
}

// Send sends frames, and reports how many left: fewer than asked with an
// error that wraps agent.ErrSpent at the end of the budget, none with
// agent.ErrOutside when one of them is not for the lab.
func (w *Sender) Send(frames ...[]byte) (sent int, err error) {
	for _, f := range frames {
		if err := w.allow(f); err != nil {
			return 0, err
		}
	}
	for sent < len(frames) {
		batch := frames[sent:min(len(frames), sent+Batch)]
		granted, err := w.budget.Take(len(batch))
		if err != nil {
			return sent, err
		}
		n, octets, err := w.hand(batch[:granted])
		w.budget.Refund(granted - n)
		w.budget.Weigh(octets)
		sent += n
		if err != nil {
			return sent, fmt.Errorf("send at %s:%s: %w", w.Station.Node, w.Station.Iface, err)
		}
	}
	return sent, nil
}

// hand gives a batch to the kernel.
func (w *Sender) hand(batch [][]byte) (sent, octets int, err error) {
	for i, f := range batch {
		w.iov[i].Base = unsafe.SliceData(f)
		w.iov[i].SetLen(len(f))
	}
	var deadline time.Time
	for sent < len(batch) {
		n, _, errno := unix.Syscall6(unix.SYS_SENDMMSG, uintptr(w.fd), uintptr(unsafe.Pointer(&w.msgs[sent])), uintptr(len(batch)-sent), 0, 0, 0)
		switch errno {
		case 0:
			for _, f := range batch[sent : sent+int(n)] {
				octets += len(f)
			}
			sent += int(n)
			continue
		case unix.EINTR:
			continue
		case unix.ENOBUFS, unix.EAGAIN:
			// The queue is full: it empties within moments, or never.
			if deadline.IsZero() {
				deadline = time.Now().Add(time.Second)
			}
			if time.Now().Before(deadline) {
				runtime.Gosched()
				continue
			}
		}
		return sent, octets, errno
	}
	return sent, octets, nil
}

// allow is agent.ErrOutside for a frame that must not leave: one whose
// destination is behind the fence, or hidden from it. Below IP, ARP is
// allowed: it goes no further than the interface's own network.
func (w *Sender) allow(f []byte) error {
	if len(f) < offL3 {
		return fmt.Errorf("%d octets are no frame", len(f))
	}
	var to netip.Addr
	switch kind := binary.BigEndian.Uint16(f[offType:]); {
	case kind == typeARP:
		return nil
	case kind == type4 && len(f) >= offL3+header4:
		if f[offL3] != 0x45 {
			return fmt.Errorf("%w: options of IPv4 can name further destinations", agent.ErrOutside)
		}
		to = netip.AddrFrom4([4]byte(f[off4Dst:]))
	case kind == type6 && len(f) >= offL3+header6:
		switch f[off6Next] {
		case protoTCP, protoUDP, protoIC:
		default:
			return fmt.Errorf("%w: extension headers of IPv6 can name further destinations", agent.ErrOutside)
		}
		to = netip.AddrFrom16([16]byte(f[off6Dst:]))
	default:
		return fmt.Errorf("%w: frames of type %#04x have no destination to check", agent.ErrOutside, kind)
	}
	if to == w.last {
		return nil
	}
	if err := w.Station.Fence.Check(to); err != nil {
		return err
	}
	w.last = to
	return nil
}

// Flood sends one frame after the other at a pace, from as many templates as
// fit into a batch, until the context ends (nil), the budget is spent
// (agent.ErrSpent) or limit frames have left (nil; no limit when 0). Before
// each, vary is told the number of the frame, counted from 0, and may change
// the template; after each batch, report, unless nil, is told when
// and how much left.
func (w *Sender) Flood(ctx context.Context, pace *Pace, t *Template, limit uint64,
	vary func(n uint64, t *Template), report func(at time.Time, packets, octets int)) error {
	var slots [Batch]*Template
	var frames [Batch][]byte
	for i := range slots {
		slots[i] = t.Clone()
		frames[i] = slots[i].Frame()
	}
	for n := uint64(0); limit == 0 || n < limit; {
		most := Batch
		if limit > 0 {
			most = int(min(uint64(most), limit-n))
		}
		due, err := pace.Wait(ctx, most)
		if err != nil {
			return nil //nolint:nilerr // stopped, as every flood is
		}
		octets := 0
		for i := range due {
			if vary != nil {
				vary(n+uint64(i), slots[i])
			}
			octets += len(frames[i])
		}
		at := time.Now()
		sent, err := w.Send(frames[:due]...)
		n += uint64(sent)
		if report != nil && sent > 0 {
			report(at, sent, octets/due*sent)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

package wire

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/platelet-sdn/platelet/lab/agent"
	"golang.org/x/sys/unix"
)

// Receiver takes frames that arrive at a station's interface, whether or not
// the kernel has a use for them. A Receiver is for one goroutine at a time.
type Receiver struct {
	file *os.File
	buf  []byte
}

// NewReceiver opens a receiver for frames of one Ethernet type, such as
// 0x0806; of all types when 0.
func NewReceiver(s *agent.Station, kind uint16) (*Receiver, error) {
	if kind == 0 {
		kind = unix.ETH_P_ALL
	}
	fd := -1
	err := s.Do(func() (err error) {
		fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
		return err
	})
	if err == nil {
		err = unix.SetsockoptInt(fd, unix.SOL_PACKET, unix.PACKET_IGNORE_OUTGOING, 1)
	}
	if err == nil {
		// Only now does it receive anything.
		err = unix.Bind(fd, &unix.SockaddrLinklayer{Ifindex: s.Index, Protocol: network(kind)})
	}
	if err != nil {
		if fd >= 0 {
			_ = unix.Close(fd)
		}
		return nil, fmt.Errorf("receive at %s:%s: %w", s.Node, s.Iface, err)
	}
	return &Receiver{os.NewFile(uintptr(fd), "packets"), make([]byte, 65536)}, nil
}

// Next waits for the next frame that is wanted. The frame is valid until the
// next call.
func (r *Receiver) Next(ctx context.Context, want func(frame []byte) bool) ([]byte, error) {
	if err := r.file.SetReadDeadline(time.Time{}); err != nil {
		return nil, fmt.Errorf("receive: %w", err)
	}
	stop := context.AfterFunc(ctx, func() { _ = r.file.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	for {
		n, err := r.file.Read(r.buf)
		switch {
		case ctx.Err() != nil:
			return nil, ctx.Err()
		case errors.Is(err, unix.ENETDOWN): // the interface comes back, or the context ends
			continue
		case err != nil:
			return nil, fmt.Errorf("receive: %w", err)
		}
		if frame := r.buf[:n]; want == nil || want(frame) {
			return frame, nil
		}
	}
}

// Close closes the receiver.
func (r *Receiver) Close() error { return r.file.Close() }

// network is a number in network byte order.
func network(n uint16) uint16 {
	var b [2]byte
	binary.BigEndian.PutUint16(b[:], n)
	return binary.NativeEndian.Uint16(b[:])
}

package openflow

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"
)

// writeQueue bounds the pieces of output, of about bufferSize each, that wait
// for a switch that takes its time: 2 MiB.
const writeQueue = 32

// messageWriter collects the messages of one call, and passes them on in
// pieces. After the first error it does nothing more.
type messageWriter struct {
	c      *Conn
	ctx    context.Context
	buf    []byte
	encode error // a message could not be built; nothing of it was sent
	write  error // the connection or the context ended
}

// add sends a message that cannot fail to encode.
func (w *messageWriter) add(build func(b []byte) []byte) {
	w.try(func(b []byte) ([]byte, error) { return build(b), nil })
}

// try sends a message that may fail to encode.
func (w *messageWriter) try(build func(b []byte) ([]byte, error)) {
	if w.encode != nil || w.write != nil {
		return
	}
	b, err := build(w.buf)
	if err != nil {
		w.encode = err
		return
	}
	if w.buf = b; len(b) >= bufferSize {
		w.pass()
		w.buf = make([]byte, 0, bufferSize+bufferSize/8)
	}
}

// pass hands what was collected to the goroutine that writes.
func (w *messageWriter) pass() {
	if w.write != nil || len(w.buf) == 0 {
		return
	}
	select {
	case w.c.out <- w.buf:
	case <-w.ctx.Done():
		w.write = fmt.Errorf("write to the switch: %w", w.ctx.Err())
	case <-w.c.done:
		w.write = w.c.Err()
	}
}

// write sends what fill adds, in order and with nobody else's messages in
// between. It returns when everything is on its way: whether it arrived shows
// in the answer, or in the connection's end. A switch that does not take it
// holds us up until the context ends, which leaves whole messages behind and
// the connection usable.
func (c *Conn) write(ctx context.Context, fill func(*messageWriter)) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	ctx, cancel := withDeadline(ctx, c.timeout)
	defer cancel()
	select {
	case c.writing <- struct{}{}:
		defer func() { <-c.writing }()
	case <-ctx.Done():
		return fmt.Errorf("write to the switch: %w", ctx.Err())
	case <-c.done:
		return c.Err()
	}
	w := &messageWriter{c: c, ctx: ctx}
	fill(w)
	if w.pass(); w.write != nil {
		return w.write
	}
	return w.encode
}

// writeOut writes until the connection ends. One goroutine does so for all:
// a caller whose context ends can leave at once, and never leaves half a
// message on the wire.
func (c *Conn) writeOut() {
	defer c.running.Done()
	for {
		var b []byte
		select {
		case <-c.done:
			return
		case b = <-c.control:
		case b = <-c.out:
		}
		// A piece is small: who takes none of it for this long is gone.
		err := c.nc.SetWriteDeadline(time.Now().Add(c.timeout))
		if err == nil {
			_, err = c.nc.Write(b)
		}
		if errors.Is(err, os.ErrDeadlineExceeded) {
			err = fmt.Errorf("%w: it takes nothing: %w", ErrDead, err)
		}
		if err != nil {
			c.fail(fmt.Errorf("write to switch: %w", err))
			return
		}
	}
}

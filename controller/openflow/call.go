package openflow

import (
	"context"
	"errors"
	"fmt"
)

// call is a request that waits for its reply.
type call struct {
	xid     uint32
	want    Type
	replies []Message
	size    int // bytes of replies
	err     error
	done    chan struct{}
}

func (k *call) finish(err error) {
	k.err = err
	close(k.done)
}

// span collects the errors that answer a run of transaction IDs: messages
// that have no reply of their own, such as the members of a bundle.
type span struct {
	first, last uint32
	errs        []*Error
}

// begin registers a request; nothing is sent.
func (c *Conn) begin(want Type) (*call, error) {
	k := &call{want: want, done: make(chan struct{})}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err != nil {
		return nil, c.err
	}
	k.xid = c.xids(1)
	for c.pending[k.xid] != nil { // 1<<32 messages ago
		k.xid = c.xids(1)
	}
	c.pending[k.xid] = k
	return k, nil
}

// wait returns the replies to a call, or forgets it when the context ends.
func (c *Conn) wait(ctx context.Context, k *call) ([]Message, error) {
	select {
	case <-k.done:
	case <-ctx.Done():
		if c.forget(k) {
			return nil, fmt.Errorf("wait for the switch: %w", ctx.Err())
		}
		<-k.done // the answer came at the last moment
	}
	return k.replies, k.err
}

// forget ends the wait for a call's reply, and reports whether there was one.
func (c *Conn) forget(k *call) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.pending[k.xid] != k {
		return false
	}
	delete(c.pending, k.xid)
	c.held -= k.size
	return true
}

// abandon forgets a call whose request was not sent.
func (c *Conn) abandon(k *call, err error) error {
	c.forget(k)
	return err
}

// beginSpan starts collecting errors for n transaction IDs.
func (c *Conn) beginSpan(n int) *span {
	first := c.xids(n)
	s := &span{first: first, last: first + uint32(n) - 1}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.spans = append(c.spans, s)
	return s
}

// endSpan stops collecting and returns what came.
func (c *Conn) endSpan(s *span) []*Error {
	c.mu.Lock()
	defer c.mu.Unlock()
	for i := range c.spans {
		if c.spans[i] == s {
			c.spans = append(c.spans[:i], c.spans[i+1:]...)
			break
		}
	}
	return s.errs
}

// peekSpan returns what came so far.
func (c *Conn) peekSpan(s *span) []*Error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return s.errs
}

// deliver hands a message to the call or span that waits for it.
func (c *Conn) deliver(m Message) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	k := c.pending[m.XID]
	switch {
	case k == nil:
		return m.Type == TypeError && c.deliverError(m)
	case m.Type != k.want && m.Type != TypeError && asynchronous(m):
		return false // the switch numbers these as it likes
	}
	before := k.size
	more, err := k.take(m)
	if c.held += k.size - before; err == nil && c.held > c.maxReply {
		more, err = false, ErrTooLarge
	}
	if !more {
		delete(c.pending, m.XID)
		c.held -= k.size
		k.finish(err)
	}
	return true
}

func (c *Conn) deliverError(m Message) bool {
	for _, s := range c.spans {
		if m.XID < s.first || m.XID > s.last {
			continue
		}
		e, err := decodeError(m)
		if err != nil {
			e = &Error{Type: errorExperimenter, XID: m.XID}
		}
		// The request is known here, and members are many.
		e.Data = nil
		// One error for each member is all an honest switch has to say.
		if uint32(len(s.errs)) <= s.last-s.first {
			s.errs = append(s.errs, e)
		}
		return true
	}
	return false
}

// take adds a reply; more says that another is to come.
func (k *call) take(m Message) (more bool, err error) {
	if m.Type == TypeError {
		e, err := decodeError(m)
		if err != nil {
			return false, err
		}
		return false, e
	}
	if m.Type != k.want {
		return false, malformed("reply of type %d, not %d", m.Type, k.want)
	}
	if m.Type == TypeMultipartReply {
		if _, more, _, err = parseMultipart(m.Body); err != nil {
			return false, err
		}
	}
	k.size += messageOverhead + len(m.Body)
	k.replies = append(k.replies, m)
	return more, nil
}

// callOne sends one request and returns its single reply.
func (c *Conn) callOne(ctx context.Context, want Type, build func(b []byte, xid uint32) []byte) (Message, error) {
	replies, err := c.call(ctx, want, build)
	if err != nil {
		return Message{}, err
	}
	return replies[0], nil
}

// call sends one request and returns all parts of its reply, at least one.
func (c *Conn) call(ctx context.Context, want Type, build func(b []byte, xid uint32) []byte) ([]Message, error) {
	ctx, cancel := withDeadline(ctx, c.timeout)
	defer cancel()
	k, err := c.begin(want)
	if err != nil {
		return nil, err
	}
	if err := c.write(ctx, func(w *messageWriter) {
		w.add(func(b []byte) []byte { return build(b, k.xid) })
	}); err != nil {
		return nil, c.abandon(k, err)
	}
	return c.wait(ctx, k)
}

// sendChecked sends n messages that have no reply, and a barrier behind them,
// and returns the errors that came back, in order (section 7.3.7).
func (c *Conn) sendChecked(ctx context.Context, n int, build func(b []byte, i int, xid uint32) []byte) ([]*Error, error) {
	ctx, cancel := withDeadline(ctx, c.timeout)
	defer cancel()
	k, err := c.begin(TypeBarrierReply)
	if err != nil {
		return nil, err
	}
	s := c.beginSpan(max(n, 1))
	defer c.endSpan(s)
	if err := c.write(ctx, func(w *messageWriter) {
		for i := range n {
			w.add(func(b []byte) []byte { return build(b, i, s.first+uint32(i)) })
		}
		w.add(func(b []byte) []byte { return appendMessage(b, TypeBarrierRequest, k.xid, nil) })
	}); err != nil {
		return nil, c.abandon(k, err)
	}
	if _, err := c.wait(ctx, k); err != nil {
		return nil, err
	}
	return c.peekSpan(s), nil
}

// joined returns the errors as one, nil when there is none.
func joined(errs []*Error) error {
	all := make([]error, len(errs))
	for i, e := range errs {
		all[i] = e
	}
	return errors.Join(all...)
}

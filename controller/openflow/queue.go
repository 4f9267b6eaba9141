package openflow

import "sync/atomic"

// asyncBytes bounds what the messages in an asyncQueue hold; each counts
// messageOverhead more than its body.
const (
	asyncBytes      = 16 << 20
	messageOverhead = 64
)

// Asynchronous messages that this package does not decode.
const (
	typeExperimenter   Type = 4 // Open vSwitch sends some events as its own
	typeTableStatus    Type = 31
	typeRequestForward Type = 32
)

// asyncQueue holds asynchronous messages until somebody reads them. It is
// bounded in messages and in bytes; one goroutine adds to it.
type asyncQueue struct {
	ch      chan Message
	sizes   []int // of the messages added last, at least of those in ch
	bytes   int   // their sum
	dropped atomic.Uint64
}

func newAsyncQueue(n int) asyncQueue { return asyncQueue{ch: make(chan Message, n)} }

// add appends a message or drops it. Old messages stay: a gap behind them is
// noticed by who counts the drops, while the order of what is left holds.
func (q *asyncQueue) add(m Message) {
	for len(q.sizes) > len(q.ch) { // these were read
		q.bytes -= q.sizes[0]
		q.sizes = q.sizes[1:]
	}
	size := messageOverhead + len(m.Body)
	if q.bytes+size > asyncBytes {
		q.dropped.Add(1)
		return
	}
	select {
	case q.ch <- m:
		q.sizes, q.bytes = append(q.sizes, size), q.bytes+size
	default:
		q.dropped.Add(1)
	}
}

// asynchronous reports whether a message is one that a switch sends by itself
// (section 6.1.2); the others are replies.
func asynchronous(m Message) bool {
	switch m.Type {
	case TypeError, TypePacketIn, TypeFlowRemoved, TypePortStatus, TypeRoleStatus, typeTableStatus, typeRequestForward, typeExperimenter:
		return true
	case TypeMultipartReply:
		t, _, _, err := parseMultipart(m.Body)
		return err == nil && t == multipartFlowMonitor
	}
	return false
}

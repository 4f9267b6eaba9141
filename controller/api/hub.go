package api

import (
	"encoding/json"
	"sync"
	"sync/atomic"
)

// Hub hands events to whoever watches. A watcher that does not keep up loses
// events, which are counted; it never holds the controller up.
type Hub struct {
	mu   sync.Mutex
	subs map[*Subscription]struct{}
	lost atomic.Uint64
}

// NewHub returns a hub without watchers.
func NewHub() *Hub { return &Hub{subs: map[*Subscription]struct{}{}} }

// Subscription receives events as JSON without a newline.
type Subscription struct {
	C   <-chan []byte
	c   chan []byte
	hub *Hub
}

// queue is how many events a slow watcher may be behind.
const queue = 1024

// Subscribe starts to receive events.
func (h *Hub) Subscribe() *Subscription {
	c := make(chan []byte, queue)
	s := &Subscription{C: c, c: c, hub: h}
	h.mu.Lock()
	h.subs[s] = struct{}{}
	h.mu.Unlock()
	return s
}

// Close ends the subscription.
func (s *Subscription) Close() {
	s.hub.mu.Lock()
	delete(s.hub.subs, s)
	s.hub.mu.Unlock()
}

// Publish sends an event to all watchers; it does not block.
func (h *Hub) Publish(event any) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.subs) == 0 {
		return nil
	}
	line, err := json.Marshal(event)
	if err != nil {
		return err
	}
	for s := range h.subs {
		select {
		case s.c <- line:
		default:
			h.lost.Add(1)
		}
	}
	return nil
}

// Lost is how many events watchers missed.
func (h *Hub) Lost() uint64 { return h.lost.Load() }

package ovsdb

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/url"
	"sync"
	"time"

	"github.com/ovn-kubernetes/libovsdb/client"
	"github.com/sirupsen/logrus"
)

// LockState says who holds a lock.
type LockState int

// States of a lock.
const (
	LockUnknown LockState = iota // the database is away
	LockHeld                     // we
	LockOthers                   // another client, whose connection lives
)

const (
	// courtesy is how long a client that did not hold a lock waits after the
	// database has been away before it asks for it: who held it comes first.
	courtesy = 1500 * time.Millisecond
	// lockProbe is how often an idle session is checked; it has ended when
	// nothing came for three times as long.
	lockProbe = 5 * time.Second
	// maxLockMessage bounds a message of the server's, in bytes.
	maxLockMessage = 64 << 10
	// lockWrite bounds one write to the server.
	lockWrite = 5 * time.Second
)

// Locks holds locks of a database (RFC 7047, sections 4.1.8 to 4.1.10). A lock
// ends with the connection of who holds it, and so with its process, however
// that ends; the database then gives it to the next who waits.
type Locks struct {
	dial func(context.Context) (net.Conn, error)
	log  logrus.FieldLogger
	poke chan struct{} // something is to be asked for

	mu    sync.Mutex
	locks map[string]*Lock
}

// Lock is one lock of a database.
type Lock struct {
	set     *Locks
	name    string
	changed chan struct{}

	// What follows is guarded by set.mu.
	state  LockState
	since  time.Time
	asked  bool      // on the present connection, and not to be asked again
	open   bool      // a request that unlock has to end before the next
	steal  bool      // is to be taken from whoever has it
	wanted time.Time // when it may be asked for
}

// NewLocks checks the configuration. Nothing is dialled before Run.
func NewLocks(cfg Config) (*Locks, error) {
	c, err := New(cfg)
	if err != nil {
		return nil, err
	}
	u, err := url.Parse(c.cfg.Endpoint)
	if err != nil {
		return nil, fmt.Errorf("database endpoint: %w", err)
	}
	dial := func(ctx context.Context) (net.Conn, error) {
		switch u.Scheme {
		case client.UNIX:
			return (&net.Dialer{}).DialContext(ctx, "unix", u.Path)
		case client.SSL:
			return (&tls.Dialer{Config: cfg.TLS}).DialContext(ctx, "tcp", u.Opaque)
		}
		return (&net.Dialer{}).DialContext(ctx, "tcp", u.Opaque)
	}
	return &Locks{dial: dial, log: c.log, poke: make(chan struct{}, 1), locks: map[string]*Lock{}}, nil
}

// Lock asks for a lock from now on, and goes on waiting while another has it.
// Its name has letters, digits and underscores, and no digit first.
func (s *Locks) Lock(name string) *Lock {
	s.mu.Lock()
	defer s.mu.Unlock()
	l := s.locks[name]
	if l == nil {
		l = &Lock{set: s, name: name, changed: make(chan struct{}, 1), since: time.Now()}
		s.locks[name] = l
		signal(s.poke)
	}
	return l
}

// State says who holds the lock, and since when.
func (l *Lock) State() (LockState, time.Time) {
	l.set.mu.Lock()
	defer l.set.mu.Unlock()
	return l.state, l.since
}

// Steal takes the lock from whoever holds it; it returns at once.
func (l *Lock) Steal() {
	l.set.mu.Lock()
	defer l.set.mu.Unlock()
	l.steal = true
	signal(l.set.poke)
}

// Changed receives after a change of state.
func (l *Lock) Changed() <-chan struct{} { return l.changed }

// become records a state; the caller holds set.mu.
func (l *Lock) become(s LockState) {
	if l.state == s {
		return
	}
	l.state, l.since = s, time.Now()
	signal(l.changed)
}

// Run keeps the locks until ctx ends, and then returns nil. It must be called
// once only.
func (s *Locks) Run(ctx context.Context) error {
	wait := backoffMin
	for {
		began := time.Now()
		err := s.session(ctx)
		s.lost()
		if ctx.Err() != nil {
			return nil
		}
		s.log.WithError(err).Debug("locks of the database are lost; retrying")
		if time.Since(began) > settled {
			wait = backoffMin
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(wait/2 + rand.N(wait)/2):
		}
		wait = min(2*wait, backoffMax)
	}
}

// lost forgets what the ended connection held.
func (s *Locks) lost() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, l := range s.locks {
		if l.asked && l.state != LockHeld {
			l.wanted = time.Now().Add(courtesy)
		}
		l.asked, l.open = false, false
		l.become(LockUnknown)
	}
}

// lockMessage is a JSON-RPC 1.0 message, of either direction.
type lockMessage struct {
	ID     json.RawMessage   `json:"id"`
	Method string            `json:"method,omitempty"`
	Params []json.RawMessage `json:"params,omitempty"`
	Result json.RawMessage   `json:"result,omitempty"`
	Error  json.RawMessage   `json:"error,omitempty"`
}

// lockSession is one connection.
type lockSession struct {
	set  *Locks
	nc   net.Conn
	next int
	sent map[int]string // lock by request
}

func (s *Locks) session(ctx context.Context) error {
	dialing, cancel := context.WithTimeout(ctx, connectTimeout)
	nc, err := s.dial(dialing)
	cancel()
	if err != nil {
		return err
	}
	received, failed := make(chan lockMessage), make(chan error, 1)
	var reading sync.WaitGroup
	ended := make(chan struct{})
	reading.Go(func() { failed <- readMessages(nc, received, ended) })
	defer reading.Wait()
	defer nc.Close()
	defer close(ended)
	k := &lockSession{set: s, nc: nc, sent: map[int]string{}}
	probe := time.NewTicker(lockProbe)
	defer probe.Stop()
	heard := time.Now()
	for {
		due, err := k.ask()
		if err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case err := <-failed:
			return err
		case m := <-received:
			heard = time.Now()
			if err := k.handle(m); err != nil {
				return err
			}
		case <-s.poke:
		case <-due:
		case <-probe.C:
			if time.Since(heard) > 3*lockProbe {
				return errors.New("the database does not answer")
			}
			if err := k.send(map[string]any{"id": "probe", "method": "echo", "params": []string{}}); err != nil {
				return err
			}
		}
	}
}

// readMessages reads until the connection or the session ends.
func readMessages(nc net.Conn, out chan<- lockMessage, ended <-chan struct{}) error {
	limited := &boundedReader{r: nc, left: maxLockMessage}
	dec := json.NewDecoder(limited)
	for {
		var m lockMessage
		if err := dec.Decode(&m); err != nil {
			return fmt.Errorf("read from the database: %w", err)
		}
		limited.left = maxLockMessage
		select {
		case out <- m:
		case <-ended:
			return nil
		}
	}
}

// boundedReader fails when too much comes without a whole message in it.
type boundedReader struct {
	r    net.Conn
	left int
}

func (b *boundedReader) Read(p []byte) (int, error) {
	if b.left <= 0 {
		return 0, errors.New("message too large")
	}
	n, err := b.r.Read(p[:min(len(p), b.left)])
	b.left -= n
	return n, err
}

// ask sends what is to be asked for now, and returns what to wait for when
// something is to be asked for later.
func (k *lockSession) ask() (later <-chan time.Time, err error) {
	s := k.set
	s.mu.Lock()
	defer s.mu.Unlock()
	next := time.Duration(0)
	for _, l := range s.locks {
		method := "lock"
		l.steal = l.steal && l.state != LockHeld
		switch {
		case l.steal:
			method = "steal"
		case l.asked:
			continue
		}
		wait := time.Until(l.wanted)
		if method == "lock" && wait > 0 {
			if next == 0 || wait < next {
				next = wait
			}
			continue
		}
		if l.open {
			if err := k.request("unlock", l.name); err != nil {
				return nil, err
			}
		}
		l.asked, l.open, l.steal = true, true, false
		if err := k.request(method, l.name); err != nil {
			return nil, err
		}
	}
	if next > 0 {
		return time.After(next), nil
	}
	return nil, nil
}

// request sends a lock, steal or unlock; the answer to the last is of no
// interest.
func (k *lockSession) request(method, name string) error {
	k.next++
	if method != "unlock" {
		k.sent[k.next] = name
	}
	return k.send(map[string]any{"id": k.next, "method": method, "params": []string{name}})
}

func (k *lockSession) send(m any) error {
	raw, err := json.Marshal(m)
	if err != nil {
		return fmt.Errorf("encode a request: %w", err)
	}
	if err := k.nc.SetWriteDeadline(time.Now().Add(lockWrite)); err != nil {
		return fmt.Errorf("write to the database: %w", err)
	}
	if _, err := k.nc.Write(raw); err != nil {
		return fmt.Errorf("write to the database: %w", err)
	}
	return nil
}

// handle takes an answer or a notification of the server's.
func (k *lockSession) handle(m lockMessage) error {
	var name string
	if len(m.Params) > 0 {
		_ = json.Unmarshal(m.Params[0], &name) // else it names no lock of ours
	}
	switch m.Method {
	case "echo":
		return k.send(map[string]any{"id": m.ID, "result": m.Params, "error": nil})
	case "locked":
		k.became(name, LockHeld)
		return nil
	case "stolen":
		k.became(name, LockOthers)
		k.askAgain(name)
		return nil
	case "":
	default:
		return nil
	}
	var id int
	if json.Unmarshal(m.ID, &id) != nil {
		return nil // the answer to a probe
	}
	name, ours := k.sent[id]
	if !ours {
		return nil
	}
	delete(k.sent, id)
	var answer struct{ Locked *bool }
	if err := json.Unmarshal(m.Result, &answer); err != nil || answer.Locked == nil {
		k.set.log.WithField("lock", name).Warnf("the database refuses a lock: %.200s", m.Error)
		return nil
	}
	if *answer.Locked {
		k.became(name, LockHeld)
	} else {
		k.became(name, LockOthers)
	}
	return nil
}

func (k *lockSession) became(name string, s LockState) {
	k.set.mu.Lock()
	defer k.set.mu.Unlock()
	if l := k.set.locks[name]; l != nil {
		l.become(s)
	}
}

// askAgain waits for a lock that was stolen: the server has forgotten us.
func (k *lockSession) askAgain(name string) {
	k.set.mu.Lock()
	defer k.set.mu.Unlock()
	if l := k.set.locks[name]; l != nil {
		l.asked = false
	}
}

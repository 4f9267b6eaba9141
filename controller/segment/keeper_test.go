package segment_test

import (
	"bytes"
	"context"
	"fmt"
	"net/netip"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/platelet-sdn/platelet/controller/intel"
	"github.com/platelet-sdn/platelet/controller/segment"
	"github.com/platelet-sdn/platelet/segmentation/compile"
	"github.com/platelet-sdn/platelet/segmentation/policy"
	"github.com/platelet-sdn/platelet/segmentation/sourceguard"
	"github.com/platelet-sdn/platelet/topology"
)

// kept is a store that remembers how often it was written.
type kept struct {
	mu    sync.Mutex
	value []byte
	times int
}

func (s *kept) Load(context.Context) ([]byte, error) { return nil, nil }

func (s *kept) Save(_ context.Context, value []byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.value, s.times = value, s.times+1
	return nil
}

func (s *kept) saved() (string, int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return string(s.value), s.times
}

// noSwitches are none.
type noSwitches struct{}

func (noSwitches) Names() []string { return nil }

func (noSwitches) SetPolicy(context.Context, string, *compile.Program) error { return nil }

func (noSwitches) SetSources(context.Context, string, []sourceguard.Port) error { return nil }

// noFiles says nothing.
type noFiles struct{}

func (noFiles) LoadPolicies() (*segment.Policies, error) {
	return &segment.Policies{Set: &policy.Set{}}, nil
}
func (noFiles) PolicyFiles() ([]string, error)                     { return nil, nil }
func (noFiles) FeedNames() []string                                { return nil }
func (noFiles) FeedFiles(string) ([]string, error)                 { return nil, nil }
func (noFiles) LoadFeed(string, time.Time) (f intel.Feed, _ error) { return f, nil }

// What is learned after a time of quiet is written down at once, as the controller
// may be killed the moment after; what is learned again and again, once a second.
func TestLearnedAddressesAreWrittenAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		world := segment.World{Snapshot: snapshot()}
		learn := func(a netip.Addr) {
			mu.Lock()
			defer mu.Unlock()
			next := snapshot()
			for was, h := range world.Snapshot.Hosts {
				next.Hosts[was] = h
			}
			next.Hosts[a] = topology.Host{Addr: a, Port: topology.PortID{Switch: "br0", Port: "web"}, Bound: true, LastSeen: time.Now().UnixNano()}
			world.Snapshot = next
		}
		log := logrus.New()
		log.SetOutput(t.Output())
		k, err := segment.New(segment.Config{
			Source:   noFiles{},
			World:    func() segment.World { mu.Lock(); defer mu.Unlock(); return world },
			Switches: noSwitches{}, Log: log,
		})
		if err != nil {
			t.Fatal(err)
		}
		var store kept
		if err := k.Load(t.Context(), &store); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { defer close(done); _ = k.Run(ctx) }()
		defer func() { cancel(); <-done }()
		time.Sleep(10*time.Second + 300*time.Millisecond)
		learn(addr("10.0.0.2"))
		time.Sleep(100 * time.Millisecond)
		if value, n := store.saved(); n != 1 || !bytes.Contains([]byte(value), []byte("10.0.0.2")) {
			t.Errorf("0.1 s later %d saves: %s", n, value)
		}
		for i := range 30 { // for three seconds
			learn(netip.AddrFrom4([4]byte{10, 0, 1, byte(i)}))
			time.Sleep(100 * time.Millisecond)
		}
		if _, n := store.saved(); n < 3 || n > 5 {
			t.Errorf("%d saves in three seconds", n)
		}
		time.Sleep(time.Second)
		if value, _ := store.saved(); !bytes.Contains([]byte(value), []byte("10.0.1.29")) {
			t.Errorf("the last one is missing: %s", value)
		}
	})
}

// slow are two switches, of which the first hangs until it is let go.
type slow struct {
	letGo chan struct{}
	mu    sync.Mutex
	got   map[string]int // rules of the latest program
	calls map[string]int
}

func (s *slow) Names() []string { return []string{"br0", "br1"} }

func (s *slow) SetPolicy(ctx context.Context, sw string, p *compile.Program) error {
	if sw == "br0" {
		select {
		case <-s.letGo:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.got[sw], s.calls[sw] = len(p.Rules), s.calls[sw]+1
	return nil
}

func (s *slow) SetSources(context.Context, string, []sourceguard.Port) error { return nil }

// had returns how many rules a switch was given last, and how often it was.
func (s *slow) had(sw string) (rules, calls int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.got[sw], s.calls[sw]
}

// oneMore says policies of one rule for web, and after more of two.
type oneMore struct {
	noFiles
	mu    sync.Mutex
	rules int
}

func (o *oneMore) more() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.rules++
}

func (o *oneMore) LoadPolicies() (*segment.Policies, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	text := "apiVersion: segmentation/v1\npolicies:\n- name: p\n  tier: baseline\n  priority: 1\n  mode: enforce\n  appliesTo: [10.0.0.0/24]\n  ingress:\n"
	for i := range o.rules {
		text += fmt.Sprintf("  - {name: r%d, action: deny, from: [any], services: [{proto: tcp, ports: [%d]}]}\n", i, 1000+i)
	}
	set, err := policy.Read(policy.Source{Name: "p.yaml", Data: []byte(text)})
	return &segment.Policies{Set: set}, err
}

// A switch that takes long delays no other one, and has what is wanted then when
// it is done.
func TestSlowSwitchDelaysNoOther(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := logrus.New()
		log.SetOutput(t.Output())
		switches := &slow{letGo: make(chan struct{}), got: map[string]int{}, calls: map[string]int{}}
		files := &oneMore{rules: 1}
		k, err := segment.New(segment.Config{Source: files, World: func() segment.World { return segment.World{Snapshot: snapshot()} }, Switches: switches, Log: log})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { defer close(done); _ = k.Run(ctx) }()
		defer func() { cancel(); <-done }()
		for want := 1; want <= 3; want++ {
			time.Sleep(2 * time.Second)
			if n, _ := switches.had("br1"); n != want {
				t.Errorf("%d rules in place of %d, while the other switch hangs", n, want)
			}
			if want < 3 {
				files.more()
				if err := k.Reload(ctx); err != nil {
					t.Fatal(err)
				}
			}
		}
		if _, calls := switches.had("br0"); calls != 0 {
			t.Fatal("the other switch does not hang")
		}
		close(switches.letGo)
		time.Sleep(time.Second)
		if n, calls := switches.had("br0"); n != 3 || calls != 2 {
			t.Errorf("%d rules in %d programs, want the first and the last", n, calls)
		}
	})
}

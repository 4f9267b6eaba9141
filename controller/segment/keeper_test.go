package segment_test

import (
	"bytes"
	"context"
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

package telemetry

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/platelet-sdn/platelet/controller/ovsdb"
	"github.com/platelet-sdn/platelet/controller/ovsdb/internal/ovstest"
)

// managed runs a manager on a site until the test, or stop, ends it.
type managed struct {
	*Manager
	stop func()

	mu   sync.Mutex
	news []Applied
}

func manage(t *testing.T, s *site, wanted map[string]Settings) *managed {
	t.Helper()
	m := &managed{Manager: NewManager(s.db, ovstest.Log(t))}
	m.OnApplied(func(bridge string, a Applied) {
		if bridge != s.bridge {
			t.Errorf("told of %s", bridge)
		}
		m.mu.Lock()
		defer m.mu.Unlock()
		m.news = append(m.news, a)
	})
	m.Want(wanted)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- m.Run(ctx) }()
	m.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	t.Cleanup(m.stop)
	return m
}

// told waits for the n-th callback and returns it.
func (m *managed) told(t *testing.T, n int) Applied {
	t.Helper()
	ovstest.Until(t, "the callback", func() bool {
		m.mu.Lock()
		defer m.mu.Unlock()
		return len(m.news) >= n
	})
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.news[n-1]
}

// setUp reports whether the bridge carries all that is ours.
func (s *site) setUp(tables *ovsdb.Tables) bool {
	b, ok := tables.Bridge(s.bridge)
	if !ok {
		return false
	}
	row := sFlowOf(tables, b)
	return row != nil && ours(row.ExternalIDs) && len(setsOf(tables, b)) == 1
}

func TestManagerRepairsDrift(t *testing.T) {
	s := newSite(t)
	m := manage(t, s, map[string]Settings{s.bridge: settings(), "nosuch": settings()})
	if a := m.told(t, 1); !a.SFlow || a.CollectorSetID != 77 || !a.Created {
		t.Fatalf("applied: %+v", a)
	}
	began := time.Now()
	s.ctl(t, "--no-wait", "clear", "bridge", s.bridge, "sflow", "--", "--all", "destroy", "flow_sample")
	if a := m.told(t, 2); !a.Created {
		t.Errorf("after the deletion: %+v", a)
	}
	s.until(t, "the repair", s.setUp)
	t.Logf("repaired %v after ovs-vsctl was started", time.Since(began))

	// The second repair within a minute has to wait, but comes.
	s.ctl(t, "--no-wait", "--all", "destroy", "flow_sample")
	m.told(t, 3)
	s.until(t, "the second repair", s.setUp)

	// A collector set keeps the row of a deleted bridge, and with it its
	// name: unless the manager is quick, add-br fails.
	s.ctl(t, "del-br", s.bridge)
	deleted := time.Now()
	ovstest.Until(t, "the name of the bridge to be free", func() bool {
		return s.AddBridge(ovstest.Context(t), s.bridge, "netdev") == nil
	})
	t.Logf("bridge re-created %v after its deletion", time.Since(deleted))
	if a := m.told(t, 4); !a.Created || a.CollectorSetID != 77 {
		t.Errorf("after the bridge came back: %+v", a)
	}
	s.until(t, "the set-up of the new bridge", s.setUp)
}

func TestManagerRestoresWhatIsNoLongerWanted(t *testing.T) {
	s := newSite(t)
	before := s.config(t)
	m := manage(t, s, map[string]Settings{s.bridge: settings()})
	m.told(t, 1)
	m.Want(nil)
	s.until(t, "the restoration", func(tables *ovsdb.Tables) bool { return len(marked(tables)) == 0 })
	if got := s.config(t); got != before {
		t.Errorf("restored\n%s\nwant\n%s", got, before)
	}
	m.Want(map[string]Settings{s.bridge: settings()})
	m.told(t, 2)
	m.stop()
	if err := m.RestoreAll(ovstest.Context(t)); err != nil {
		t.Fatal(err)
	}
	if got := s.config(t); got != before {
		t.Errorf("restored\n%s\nwant\n%s", got, before)
	}
}

// The process that set telemetry up was killed. The next one finds it as
// wanted, but its collector has no templates: they are sent again.
func TestManagerAdoptsAndRefreshes(t *testing.T) {
	s, c, send, want := tapped(t)
	s.ensure(t, want)
	send()
	c.receive(t, send)
	s.newProcess(t)
	m := manage(t, s, map[string]Settings{s.bridge: want})
	if a := m.told(t, 1); a.Created || a.CollectorSetID != 77 || !a.SFlow {
		t.Errorf("adopted: %+v", a)
	}
	send()
	if n := c.receive(t, send); n == 0 {
		t.Fatal("no templates after the adoption")
	}
}

// The database goes away and somebody removes our rows before we are back.
func TestManagerRepairsAfterReconnect(t *testing.T) {
	s := newSite(t)
	m := manage(t, s, map[string]Settings{s.bridge: settings()})
	m.told(t, 1)
	if err := s.KillDB(); err != nil {
		t.Fatal(err)
	}
	ovstest.Until(t, "the loss", func() bool { return !s.db.Status().Connected })
	if err := s.StartDB(ovstest.Context(t)); err != nil {
		t.Fatal(err)
	}
	s.ctl(t, "--no-wait", "clear", "bridge", s.bridge, "sflow")
	s.until(t, "the repair", s.setUp)
}

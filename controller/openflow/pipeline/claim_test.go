package pipeline_test

import (
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/platelet-sdn/platelet/controller/openflow"
	"github.com/platelet-sdn/platelet/controller/openflow/pipeline"
	"github.com/platelet-sdn/platelet/segmentation"
)

// as names a bridge's instance.
func as(id string) func(*pipeline.Config) {
	return func(c *pipeline.Config) {
		c.Instance = pipeline.Instance{ID: id, Who: id + " on this host"}
		c.Check = 100 * time.Millisecond
	}
}

// held reports whether the switch says that anybody holds it: by a note.
func (l *lab) held() bool {
	return strings.Contains(l.ofctl("dump-flows", "table=218"), "actions=note:")
}

func TestSecondPlateletIsRefused(t *testing.T) {
	l := newLab(t, "n", 1)
	first := l.start(as("first"))
	if _, err := first.Apply(l.ctx, "d-1", []segmentation.Intent{l.deny("d-1/0", 0)}); err != nil {
		t.Fatal(err)
	}
	rules := func() string {
		var out []string
		for line := range strings.Lines(l.ofctl("dump-flows", "--no-stats")) {
			if !strings.Contains(line, claimCookie) {
				out = append(out, line)
			}
		}
		return strings.Join(out, "")
	}
	want := rules()
	second := l.run(l.newBridge(as("second")))
	refused := func() bool { return second.Status().State == pipeline.StateRefused }
	l.eventually("the second to be refused", refused)
	if st := second.Status(); !strings.Contains(st.LastError, "first on this host") || st.Claim != 0 || st.Connects != 0 {
		t.Fatalf("status of the second: %+v", st)
	}
	other := l.deny("d-2/0", 0)
	other.Rank = 200 // an equal rule would stand in the same place
	r, err := second.Apply(l.ctx, "d-2", []segmentation.Intent{other})
	if !errors.Is(err, pipeline.ErrNotConnected) || !r.Pending || !strings.Contains(err.Error(), "first on this host") {
		t.Fatalf("%+v, %v", r, err)
	}

	// Somebody deletes the claim, then the switch crashes: the first comes back to both.
	l.ofctl("del-flows", "table=218,metadata=0/1")
	l.eventually("the claim to be back", l.held)
	if first.Status().State != pipeline.StateConnected || !refused() || rules() != want {
		t.Fatalf("first %+v, second %+v", first.Status(), second.Status())
	}
	if err := l.sw.KillSwitch(); err != nil {
		t.Fatal(err)
	}
	if err := l.sw.StartSwitch(l.ctx); err != nil {
		t.Fatal(err)
	}
	l.eventually("the first to reconnect", func() bool { return first.Connected() && first.Status().Connects == 2 })
	l.eventually("the second to be refused again", refused)
	if rules() != want {
		t.Fatalf("rules now\n%s\nbefore\n%s", rules(), want)
	}

	// In order, the bridge passes on; a containment stays for its TTL.
	if err := first.Leave(l.ctx, false); err != nil {
		t.Fatal(err)
	}
	first.stop()
	l.eventually("the second to hold the bridge", second.Connected)
	if st := second.Status(); st.Claim == 0 || st.Inherited != 1 || st.Rules != 1 {
		t.Fatalf("status of the second: %+v", st)
	}
	if n := strings.Count(l.ofctl("dump-flows", "table=201"), "hard_timeout"); n != 2 {
		t.Fatalf("%d rules, not the inherited one and its own", n)
	}
	if err := second.RemoveAll(l.ctx); err != nil {
		t.Fatal(err)
	}
	if l.ours() != 0 || l.held() {
		t.Fatal("something stays after everything was removed")
	}
}

func TestTakeOver(t *testing.T) {
	l := newLab(t, "o", 2)
	first := l.start(as("first"), func(c *pipeline.Config) { c.Check = time.Hour }) // it does not look by itself
	short, long := l.deny("d-1/0", 0), l.deny("d-2/0", 1)
	short.TTL = 3 * time.Second
	for owner, in := range map[string]segmentation.Intent{"d-1": short, "d-2": long} {
		if _, err := first.Apply(l.ctx, owner, []segmentation.Intent{in}); err != nil {
			t.Fatal(err)
		}
	}
	second := l.start(as("second"), func(c *pipeline.Config) { c.TakeOver = true })
	other := l.deny("d-3/0", 0)
	other.Rank = 200 // an equal rule would stand in the same place
	if _, err := second.Apply(l.ctx, "d-3", []segmentation.Intent{other}); err != nil {
		t.Fatal(err)
	}
	// Whatever the first still sends, the switch refuses.
	if r, err := first.Apply(l.ctx, "d-4", []segmentation.Intent{l.deny("d-4/0", 0)}); !errors.Is(err, pipeline.ErrNotConnected) || !r.Pending {
		t.Fatalf("a late write: %+v, %v", r, err)
	}
	l.eventually("the first to see that it was ousted", func() bool {
		st := first.Status()
		return st.State == pipeline.StateRefused && strings.Contains(st.LastError, "second on this host")
	})
	count := func() int { return strings.Count(l.ofctl("dump-flows", "table=201"), "hard_timeout") }
	if st := second.Status(); count() != 3 || st.Inherited != 2 {
		t.Fatalf("%d rules, status %+v: a containment ended with its controller", count(), st)
	}
	l.eventually("the short rule to end", func() bool { return count() == 2 })
	l.eventually("the end to be noticed", func() bool { return second.Status().Inherited == 1 })
	if st := second.Status(); st.LastError != "" || st.State != pipeline.StateConnected {
		t.Fatalf("status %+v", st)
	}
	// Told once is once: the first does not take it back, nor does the second again.
	if _, err := second.Renew(l.ctx, "d-3", 0); err != nil {
		t.Fatal(err)
	}
}

// Two processes with the same name are two all the same: the later one has the bridge.
func TestTwinIsOusted(t *testing.T) {
	l := newLab(t, "p", 0)
	first := l.start(as("twin"))
	second := l.start(as("twin"))
	l.eventually("the first to be refused", func() bool { return first.Status().State == pipeline.StateRefused })
	if err := second.SetTap(l.ctx, tap()); err != nil {
		t.Fatal(err)
	}
	if first.Connected() || !second.Connected() {
		t.Fatal("both, or neither")
	}
}

// lot is a lease that a test hands out.
type lot struct {
	mu      sync.Mutex
	state   pipeline.LeaseState
	since   time.Time
	stolen  int
	changed chan struct{}
}

func (t *lot) State() (pipeline.LeaseState, time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.state, t.since
}

func (t *lot) Steal() {
	t.mu.Lock()
	t.stolen++
	t.mu.Unlock()
	t.give(pipeline.LeaseHeld)
}

func (t *lot) Changed() <-chan struct{} { return t.changed }

func (t *lot) give(s pipeline.LeaseState) {
	t.mu.Lock()
	t.state, t.since = s, time.Now()
	t.mu.Unlock()
	select {
	case t.changed <- struct{}{}:
	default:
	}
}

func newLot(s pipeline.LeaseState) *lot {
	return &lot{state: s, since: time.Now(), changed: make(chan struct{}, 1)}
}

// Who has the lease takes the bridge of a holder that is gone, soon and not at
// once; a holder that lost the lease alone keeps the bridge and takes it back.
func TestLeaseFollowsLife(t *testing.T) {
	l := newLab(t, "q", 1)
	leases := map[string]*lot{"first": newLot(pipeline.LeaseHeld), "second": newLot(pipeline.LeaseOthers)}
	with := func(id string) func(*pipeline.Config) {
		return func(c *pipeline.Config) { as(id)(c); c.Lease = leases[id] }
	}
	first := l.start(with("first"))
	if _, err := first.Apply(l.ctx, "d-1", []segmentation.Intent{l.deny("d-1/0", 0)}); err != nil {
		t.Fatal(err)
	}
	second := l.run(l.newBridge(with("second")))
	l.eventually("the second to be refused", func() bool { return second.Status().State == pipeline.StateRefused })

	leases["first"].give(pipeline.LeaseOthers)
	l.eventually("the first to take the lease back", func() bool { s, _ := leases["first"].State(); return s == pipeline.LeaseHeld })
	if !first.Connected() || second.Connected() {
		t.Fatal("the bridge went with the lease alone")
	}
	first.stop() // with its rules there, as if killed
	leases["second"].give(pipeline.LeaseHeld)
	took := l.eventually("the second to take the bridge", second.Connected)
	t.Logf("taken %v after the lease", took)
	if st := second.Status(); st.Inherited != 1 {
		t.Fatalf("%+v: the containment was lost", st)
	}
}

// Another controller that leads the bridge goes on leading it: holding a bridge
// is no role.
func TestForeignMasterKeepsItsRole(t *testing.T) {
	l := newLab(t, "r", 1)
	master, err := openflow.Dial(l.ctx, "unix:"+l.mgmt())
	if err != nil {
		t.Fatal(err)
	}
	defer master.Close()
	if err := master.Lead(l.ctx, 7); err != nil {
		t.Fatal(err)
	}
	b := l.start(as("first"))
	if _, err := b.Apply(l.ctx, "d-1", []segmentation.Intent{l.deny("d-1/0", 0)}); err != nil {
		t.Fatal(err)
	}
	role, generation, err := master.SetRole(l.ctx, openflow.RoleNoChange, 0)
	if err != nil || role != openflow.RoleMaster || generation != 7 {
		t.Fatalf("%s of generation %d, %v", role, generation, err)
	}
	if err := master.Commit(l.ctx, openflow.Tx{Flows: []openflow.FlowMod{{Flow: openflow.Flow{Table: 9, Priority: 1}}}}); err != nil {
		t.Fatal(err)
	}
}

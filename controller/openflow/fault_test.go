package openflow

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/platelet-sdn/platelet/controller/openflow/internal/cut"
	"github.com/platelet-sdn/platelet/lab/ovs"
)

// childEnv holds the target of a child process that carries out the
// transaction of the fault tests, and is killed in the middle of it.
const childEnv = "PLATELET_TX_CHILD"

// runChild is the child process; it says "done" when nobody killed it.
func runChild(target string) int {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	c, err := Dial(ctx, target)
	if err != nil {
		return 1
	}
	defer c.Close()
	if err := c.Commit(ctx, faultTx()); err != nil {
		return 1
	}
	fmt.Println("done")
	return 0
}

// faultCookie marks the flows of the fault tests.
const faultCookie uint64 = 0x504c_0101_0000_0000

func faultFlow(priority uint16, meter, group uint32) FlowMod {
	f := Flow{Table: 9, Priority: priority, Cookie: faultCookie, Match: Match{InPort(1)}}
	f.Meter, f.Actions = meter, []Action{Output{Port: PortNormal}}
	if group != 0 {
		f.Actions = []Action{ToGroup{ID: group}}
	}
	return FlowMod{Flow: f}
}

// refusedFlow holds an action of a type that no switch knows: it is refused when
// it comes, and by nobody before.
func refusedFlow(table uint8) FlowMod {
	return FlowMod{Flow: Flow{Table: table, Instructions: Instructions{Actions: []Action{UnknownAction("\x00\x63\x00\x08\x00\x00\x00\x00")}}}}
}

func faultGroup(command GroupCommand, id, port uint32) GroupMod {
	return GroupMod{Command: command, Group: Group{ID: id, Type: GroupIndirect, Buckets: []Bucket{{Actions: []Action{Output{Port: port}}}}}}
}

// faultOld is the state before, and faultTx what turns it into the new one.
func faultOld() Tx {
	return Tx{
		AddMeters: []Meter{{ID: 100, Flags: MeterPktps | MeterBurst, Rate: 10, Burst: 10}, {ID: 101, Flags: MeterPktps, Rate: 11}},
		Groups:    []GroupMod{faultGroup(GroupAdd, 100, PortNormal), faultGroup(GroupAdd, 101, PortNormal)},
		Flows:     []FlowMod{faultFlow(10, 100, 100), faultFlow(11, 101, 0), faultFlow(12, 0, 0), faultFlow(15, 0, 101)},
	}
}

func faultTx() Tx {
	gone, changed := faultFlow(11, 0, 0), faultFlow(10, 100, 0)
	gone.Command, gone.CookieMask = DeleteStrict, ^uint64(0)
	changed.Actions = []Action{Output{Port: PortFlood}}
	return Tx{
		AddMeters:    []Meter{{ID: 102, Flags: MeterKbps | MeterBurst, Rate: 12, Burst: 12}},
		ModifyMeters: []Meter{{ID: 100, Flags: MeterPktps | MeterBurst, Rate: 20, Burst: 20}},
		Groups:       []GroupMod{faultGroup(GroupAdd, 102, PortNormal), faultGroup(GroupModify, 100, PortFlood)},
		Flows:        []FlowMod{gone, changed, faultFlow(13, 102, 0), faultFlow(14, 0, 102), faultFlow(15, 0, 100)},
		DeleteGroups: []uint32{101},
		DeleteMeters: []uint32{101},
	}
}

// faultRig is a bridge with foreign rules on it, and a proxy before it.
type faultRig struct {
	t      *testing.T
	ctx    context.Context
	sw     *ovs.Instance
	bridge string
	proxy  *cut.Proxy
	conn   *Conn // straight to the switch
	// answers says that the switch goes on answering, so that meters are
	// taken back as well.
	answers bool
	// killed, if set, brings back a switch that the fault killed.
	killed func()
}

func newFaultRig(ctx context.Context, t *testing.T, sw *ovs.Instance, bridge string) *faultRig {
	t.Helper()
	r := &faultRig{t: t, ctx: ctx, sw: sw, bridge: bridge}
	if err := sw.AddBridge(ctx, bridge, "netdev"); err != nil {
		t.Fatal(err)
	}
	var err error
	if r.proxy, err = cut.Listen(filepath.Join(sw.Dir, bridge+".cut"), sw.Mgmt(bridge)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.proxy.Close() })
	r.furnish()
	return r
}

// furnish connects to the switch and puts there what is foreign.
func (r *faultRig) furnish() {
	r.t.Helper()
	var err error
	if r.conn, err = Dial(r.ctx, "unix:"+r.sw.Mgmt(r.bridge)); err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { r.conn.Close() })
	for _, args := range [][]string{
		{"add-meter", "meter=7,pktps,bands=type=drop,rate=7"},
		{"add-group", "group_id=7,type=indirect,bucket=actions=NORMAL"},
		{"add-flow", "table=9,cookie=0xf,priority=11,in_port=7,actions=meter:7,NORMAL"},
		{"add-flow", "table=9,cookie=0xf,priority=10,actions=group:7"},
	} {
		r.ofctl(args[0], args[1:]...)
	}
}

func (r *faultRig) ofctl(command string, args ...string) string {
	r.t.Helper()
	out, err := r.sw.Ofctl(r.ctx, append([]string{"-O", "OpenFlow14", command, r.sw.Mgmt(r.bridge)}, args...)...)
	if err != nil {
		r.t.Fatal(err)
	}
	return out
}

// faultState is what the switch holds, in ovs-ofctl's words.
type faultState struct{ rules, meters, foreign string }

func (r *faultRig) state() faultState {
	r.t.Helper()
	var s [3][]string
	for _, dump := range [][]string{{"dump-flows", "--no-stats"}, {"dump-groups"}, {"dump-meters"}} {
		text := strings.ReplaceAll(r.ofctl(dump[0], dump[1:]...), "bands=\n", "bands=")
		for line := range strings.Lines(text) {
			line = strings.TrimSpace(line)
			ours := strings.Contains(line, "cookie=0x504c") || strings.Contains(line, "group_id=10") || strings.Contains(line, "meter=10")
			switch {
			case line == "" || strings.Contains(line, "reply (OF"):
			case !ours:
				s[2] = append(s[2], line)
			case dump[0] == "dump-meters":
				s[1] = append(s[1], line)
			default:
				s[0] = append(s[0], line)
			}
		}
	}
	for i := range s {
		slices.Sort(s[i])
	}
	return faultState{strings.Join(s[0], "\n"), strings.Join(s[1], "\n"), strings.Join(s[2], "\n")}
}

// reset brings the old state back, whatever there is.
func (r *faultRig) reset() {
	r.t.Helper()
	old := faultOld()
	old.Flows = append([]FlowMod{{Command: Delete, CookieMask: ^uint64(0), Flow: Flow{Table: TableAll, Cookie: faultCookie}}}, old.Flows...)
	clear := Tx{Flows: old.Flows[:1], DeleteGroups: []uint32{100, 101, 102}, DeleteMeters: []uint32{100, 101, 102}}
	if err := errors.Join(r.conn.Commit(r.ctx, clear), r.conn.Commit(r.ctx, old)); err != nil {
		r.t.Fatal(err)
	}
}

// commit carries out the transaction through the proxy.
func (r *faultRig) commit(ctx context.Context, d Dialer) error {
	c, err := d.Dial(ctx, r.proxy.Target())
	if err != nil {
		return err
	}
	defer c.Close()
	return c.Commit(ctx, faultTx())
}

// everyPoint lets a transaction meet the fault at every message of both
// directions, until one is never reached.
func (r *faultRig) everyPoint(fault cut.Fault, run func() error) {
	r.t.Helper()
	r.reset()
	old := r.state()
	if err := r.commit(r.ctx, Dialer{}); err != nil {
		r.t.Fatal(err)
	}
	changed := r.state()
	if old.rules == changed.rules || old.meters == changed.meters {
		r.t.Fatalf("the transaction changes nothing: %+v", changed)
	}
	points := 0
	for _, fault.Direction = range []cut.Direction{cut.ToSwitch, cut.ToController} {
		for fault.Message = 1; ; fault.Message++ {
			r.reset()
			r.proxy.Arm(fault)
			err := run()
			if isClosed(r.proxy.Hit()) {
				r.judge(fault, err, old, changed)
				continue
			}
			if got := r.state(); err != nil || got != changed {
				r.t.Fatalf("untouched by %v: %v\n%+v", fault, err, got)
			}
			r.t.Logf("%d points %v", fault.Message-1, fault.Direction)
			points += fault.Message - 1
			break
		}
	}
	if points < 15 {
		r.t.Errorf("only %d points", points)
	}
}

func isClosed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// judge holds the switch against what the transaction said of itself.
func (r *faultRig) judge(fault cut.Fault, err error, old, changed faultState) {
	r.t.Helper()
	if err := r.proxy.Settled(r.ctx); err != nil {
		r.t.Fatal(err)
	}
	if r.killed != nil {
		r.killed()
		if got := r.state(); got.rules != "" || got.meters != "" {
			r.t.Errorf("%v: a killed switch holds\n%+v", fault, got)
		}
	} else {
		r.judgeState(fault, err, old, changed)
	}
	r.reset()
	fresh, dialErr := Dial(r.ctx, "unix:"+r.sw.Mgmt(r.bridge))
	if dialErr != nil {
		r.t.Fatal(dialErr)
	}
	defer fresh.Close()
	if err := fresh.Commit(r.ctx, faultTx()); err != nil {
		r.t.Errorf("%v: the next transaction: %v", fault, err)
	}
	if got := r.state(); got != changed {
		r.t.Errorf("%v: after the next transaction\n%+v", fault, got)
	}
}

func (r *faultRig) judgeState(fault cut.Fault, err error, old, changed faultState) {
	r.t.Helper()
	got := r.state()
	committed, known := err == nil || isCommitted(err), !errors.Is(err, ErrUncertain)
	if got.foreign != old.foreign {
		r.t.Errorf("%v: foreign part is\n%s\nand was\n%s", fault, got.foreign, old.foreign)
	}
	if got.rules != old.rules && got.rules != changed.rules {
		r.t.Errorf("%v: half of the transaction is in force:\n%s", fault, got.rules)
	}
	if known && (got.rules == changed.rules) != committed {
		r.t.Errorf("%v: the transaction said %v, and the switch holds\n%s", fault, err, got.rules)
	}
	if r.answers && got != old && got != changed {
		r.t.Errorf("%v: left behind:\n%s", fault, got.meters)
	}
	for line := range strings.Lines(got.meters) {
		if line = strings.TrimSpace(line); !strings.Contains(old.meters+"\n"+changed.meters, line) {
			r.t.Errorf("%v: meter %s is neither old nor new", fault, line)
		}
	}
}

func isCommitted(err error) bool {
	var refused *TxError
	return errors.As(err, &refused) && refused.Committed
}

// Whatever message of a transaction is the last one to pass, the switch holds
// the old rules or the new ones, and what the transaction says is true.
func TestTransactionCutAtEveryPoint(t *testing.T) {
	ctx, sw, _ := realSwitch(t, "plofu")
	for i, kind := range []cut.Kind{cut.Before, cut.Inside} {
		t.Run(strings.ReplaceAll(kind.String(), " ", "-"), func(t *testing.T) {
			r := newFaultRig(ctx, t, sw, fmt.Sprintf("plofu%d", i))
			r.everyPoint(cut.Fault{Kind: kind}, func() error { return r.commit(ctx, Dialer{}) })
		})
	}
}

// A context that ends leaves nothing behind while the switch answers, and does
// not wait for one that is silent.
func TestContextEndsAtEveryPoint(t *testing.T) {
	ctx, sw, _ := realSwitch(t, "plofw")
	for i, kind := range []cut.Kind{cut.Pass, cut.Stall} {
		t.Run(strings.ReplaceAll(kind.String(), " ", "-"), func(t *testing.T) {
			r := newFaultRig(ctx, t, sw, fmt.Sprintf("plofw%d", i))
			r.answers = kind == cut.Pass
			var end context.CancelFunc
			r.everyPoint(cut.Fault{Kind: kind, Do: func() { end() }}, func() error {
				var short context.Context
				short, end = context.WithCancel(ctx)
				defer end()
				d := Dialer{}
				if kind == cut.Stall {
					d.Timeout = 300 * time.Millisecond // of the undoing
				}
				err := r.commit(short, d)
				if kind == cut.Pass && errors.Is(err, ErrUncertain) {
					t.Errorf("the switch answers, yet: %v", err)
				}
				return err
			})
		})
	}
}

// A controller that is killed is no different: no process of ours has to live
// for the switch to hold one or the other.
func TestControllerKilledAtEveryPoint(t *testing.T) {
	ctx, sw, _ := realSwitch(t, "plofv")
	r := newFaultRig(ctx, t, sw, "plofv0")
	started := make(chan *os.Process, 1)
	r.everyPoint(cut.Fault{Kind: cut.Before, Do: func() { _ = (<-started).Kill() }}, func() error {
		var out strings.Builder
		child := exec.CommandContext(ctx, "/proc/self/exe")
		child.Env, child.Stdout = append(os.Environ(), childEnv+"="+r.proxy.Target()), &out
		if err := child.Start(); err != nil {
			t.Fatal(err)
		}
		started <- child.Process
		err := child.Wait()
		if err == nil && out.String() != "done\n" {
			err = fmt.Errorf("the child said %q", out.String())
		}
		if err != nil {
			return fmt.Errorf("%w: %w", ErrUncertain, err) // it could not say
		}
		<-started // nobody killed it
		return nil
	})
}

// A switch that is killed has lost everything when it is back; nobody waits
// for it in vain, and the next transaction is as good as any.
func TestSwitchKilledAtEveryPoint(t *testing.T) {
	ctx, sw, _ := realSwitch(t, "plofx")
	r := newFaultRig(ctx, t, sw, "plofx0")
	r.killed = func() {
		if err := sw.StartSwitch(ctx); err != nil {
			t.Fatal(err)
		}
		r.conn.Close()
		r.furnish()
	}
	r.everyPoint(cut.Fault{Kind: cut.Before, Do: func() { _ = sw.KillSwitch() }}, func() error { return r.commit(ctx, Dialer{}) })
}

// While it is not known whether the addition of a meter was refused, it may
// be somebody else's: it is not to be deleted.
func TestForeignMeterSurvivesUndo(t *testing.T) {
	ctx, sw, _ := realSwitch(t, "plofy")
	r := newFaultRig(ctx, t, sw, "plofy0")
	before := r.state()
	short, end := context.WithCancel(ctx)
	defer end()
	c, err := Dial(ctx, r.proxy.Target())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	r.proxy.Arm(cut.Fault{Kind: cut.Pass, Direction: cut.ToSwitch, Message: 1, Do: end})
	tx := Tx{AddMeters: []Meter{{ID: 7, Flags: MeterPktps, Rate: 9}, {ID: 100, Flags: MeterPktps, Rate: 9}}, Flows: []FlowMod{faultFlow(10, 7, 0)}}
	if err := c.Commit(short, tx); !errors.Is(err, context.Canceled) {
		t.Fatalf("got %v", err)
	}
	if got := r.state(); got != before {
		t.Errorf("now\n%+v\nbefore\n%+v", got, before)
	}
}

// A group that a foreign flow or group needs is not deleted, and nothing of
// the transaction is done.
func TestGroupInUseStays(t *testing.T) {
	ctx, sw, _ := realSwitch(t, "plofs")
	r := newFaultRig(ctx, t, sw, "plofs0")
	r.reset()
	for _, foreign := range [][2]string{
		{"add-flow", "table=3,cookie=0xf,in_port=3,actions=group:101"},
		{"add-flow", "table=9,cookie=0xf,priority=15,in_port=3,actions=write_actions(group:101)"},
		{"add-group", "group_id=8,type=indirect,bucket=actions=group:101"},
	} {
		r.ofctl(foreign[0], foreign[1])
		before := r.state()
		err := r.conn.Commit(ctx, faultTx())
		var refused *TxError
		if !errors.Is(err, ErrInUse) || !errors.As(err, &refused) || refused.Committed || !strings.HasPrefix(refused.Members[0].Error(), "group 2 (group_id=101)") {
			t.Errorf("%v: got %v", foreign, err)
		}
		if got := r.state(); got != before {
			t.Errorf("%v: now\n%+v\nbefore\n%+v", foreign, got, before)
		}
		r.ofctl("del-flows", "cookie=0xf/-1")
	}
	r.ofctl("del-groups", "group_id=8")
	if err := r.conn.Commit(ctx, faultTx()); err != nil {
		t.Error(err)
	}
	named := Tx{Flows: []FlowMod{faultFlow(10, 0, 100)}, DeleteGroups: []uint32{100}}
	if err := r.conn.Commit(ctx, named); err == nil || !strings.Contains(err.Error(), "names group 100") {
		t.Errorf("got %v", err)
	}
	wide := Tx{Flows: []FlowMod{{Command: Delete, CookieMask: ^uint64(0), Flow: Flow{Table: 9, Cookie: faultCookie, Match: Match{InPort(1)}}}}, DeleteGroups: []uint32{100, 102, 109}}
	if err := r.conn.Commit(ctx, wide); err != nil {
		t.Error(err)
	}
	if got := r.state(); got.rules != "" {
		t.Errorf("left:\n%s", got.rules)
	}
}

// What a transaction changed in place before it was refused is as it was, and
// a meter that others use outlives the rules it was made for.
func TestMetersAreRestoredOrKept(t *testing.T) {
	ctx, sw, _ := realSwitch(t, "plofz")
	r := newFaultRig(ctx, t, sw, "plofz0")
	r.reset()
	before := r.state()
	tx := faultTx()
	tx.Flows = append(tx.Flows, FlowMod{Flow: Flow{Table: 9, Instructions: Instructions{Actions: []Action{refusedBySwitch()}}}})
	var refused *TxError
	if err := r.conn.Commit(ctx, tx); !errors.As(err, &refused) || refused.Committed || len(refused.Members) != 1 || refused.Members[0].Index != len(tx.Flows)-1 {
		t.Errorf("got %v", err)
	}
	if got := r.state(); got != before {
		t.Errorf("now\n%+v\nbefore\n%+v", got, before)
	}
	missing := Tx{ModifyMeters: []Meter{{ID: 103, Flags: MeterPktps, Rate: 1}}}
	if err := r.conn.Commit(ctx, missing); !errors.Is(err, ErrNoMeter) {
		t.Errorf("got %v", err)
	}
	lost := Tx{Flows: []FlowMod{faultFlow(20, 0, 0), faultFlow(21, 0, 109)}} // refused at the commit alone
	if err := r.conn.Commit(ctx, lost); !errors.As(err, &refused) || len(refused.Members) != 1 || refused.Members[0].Index != 1 {
		t.Errorf("got %v", err)
	}
	r.ofctl("add-flow", "table=9,cookie=0xf,priority=12,in_port=7,actions=meter:101,NORMAL")
	before = r.state()
	err := r.conn.Commit(ctx, faultTx())
	if !errors.Is(err, ErrInUse) || !isCommitted(err) || !strings.Contains(err.Error(), "meter=101") {
		t.Errorf("got %v", err)
	}
	if got := r.state(); got.foreign != before.foreign {
		t.Errorf("foreign part now\n%s\nbefore\n%s", got.foreign, before.foreign)
	}
}

package telemetry

import (
	"errors"
	"os"
	"reflect"
	"strings"
	"testing"

	"github.com/platelet-sdn/platelet/controller/ovsdb"
	"github.com/platelet-sdn/platelet/controller/ovsdb/internal/ovstest"
	"github.com/platelet-sdn/platelet/lab/ovs"
)

func TestMain(m *testing.M) { os.Exit(ovs.Isolate(m.Run)) }

// settings are those that the daemon uses by default.
func settings() Settings {
	return Settings{
		SFlowTarget: "127.0.0.1:6343", Sampling: 10, Polling: 5, Header: 128, Agent: "lo",
		IPFIXTarget: "127.0.0.1:4739", CollectorSetID: 77, Domain: 0x504c0001,
	}
}

// site is a switch with one bridge and a driver for it.
type site struct {
	*ovs.Instance
	db     *ovsdb.Client
	driver *Driver
	bridge string
	stop   func()
}

func newSite(t *testing.T) *site {
	t.Helper()
	s := &site{Instance: ovstest.Start(t), bridge: ovstest.Name("b0")}
	ovstest.AddBridge(t, s.Instance, s.bridge)
	s.newProcess(t)
	return s
}

// newProcess replaces the client, as a restart after kill -9 would.
func (s *site) newProcess(t *testing.T) {
	t.Helper()
	if s.stop != nil {
		s.stop()
	}
	s.db, s.stop = ovstest.Run(t, s.Instance)
	s.driver = NewDriver(s.db, ovstest.Log(t))
	s.sees(t, s.bridge)
}

// sees waits until the client has caught up with the database.
func (s *site) sees(t *testing.T, bridge string) {
	t.Helper()
	s.until(t, "the bridge", func(tables *ovsdb.Tables) bool { _, ok := tables.Bridge(bridge); return ok })
}

func (s *site) until(t *testing.T, what string, holds func(*ovsdb.Tables) bool) {
	t.Helper()
	ovstest.Until(t, what, func() bool {
		tables, err := s.db.Tables()
		return err == nil && holds(tables)
	})
}

func (s *site) ensure(t *testing.T, want Settings) Applied {
	t.Helper()
	a, err := s.driver.Ensure(ovstest.Context(t), s.bridge, want)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func (s *site) restore(t *testing.T) {
	t.Helper()
	if err := s.driver.Restore(ovstest.Context(t), s.bridge); err != nil {
		t.Fatal(err)
	}
}

func (s *site) ctl(t *testing.T, args ...string) string {
	t.Helper()
	return ovstest.Ctl(t, s.Instance, args...)
}

// config is everything of the database that telemetry could touch, as the
// server prints it, row UUIDs included.
func (s *site) config(t *testing.T) string {
	t.Helper()
	var all []string
	for _, table := range []string{"sFlow", "IPFIX", "Flow_Sample_Collector_Set", "NetFlow"} {
		all = append(all, s.ctl(t, "--format=json", "list", table))
	}
	all = append(all, s.ctl(t, "--format=json",
		"--columns=name,sflow,ipfix,netflow,external_ids,other_config,ports,controller,protocols,fail_mode", "list", "Bridge"))
	return strings.Join(all, "\n")
}

// foreignSFlow sets an sFlow configuration up as an operator would.
func (s *site) foreignSFlow(t *testing.T, bridges ...string) {
	t.Helper()
	args := []string{"--", "--id=@s", "create", "sflow", `targets="192.0.2.9:6343","192.0.2.10:6343"`, "agent=eth7",
		"sampling=400", "external_ids:team=noc", `external_ids:note="says \"hello\""`}
	for _, b := range bridges {
		args = append(args, "--", "set", "bridge", b, "sflow=@s")
	}
	s.ctl(t, args...)
	s.until(t, "the foreign sFlow", func(tables *ovsdb.Tables) bool {
		b, ok := tables.Bridge(bridges[0])
		return ok && b.SFlow != nil && tables.SFlows[*b.SFlow] != nil
	})
}

func TestEnsureAndRestore(t *testing.T) {
	s := newSite(t)
	before := s.config(t)
	a := s.ensure(t, settings())
	if !a.SFlow || a.CollectorSetID != 77 || !a.Changed || !a.Created || len(a.LeftAlone) != 0 {
		t.Errorf("applied: %+v", a)
	}
	for column, want := range map[string]string{
		"targets": `["127.0.0.1:6343"]`, "sampling": "10", "polling": "5", "header": "128", "agent": "lo", "external_ids": "{owner=platelet}",
	} {
		if got := s.ctl(t, "get", "sflow", s.bridge, column); got != want {
			t.Errorf("sFlow %s is %s, want %s", column, got, want)
		}
	}
	exports, err := s.driver.Observe(t.Context(), s.bridge)
	if err != nil {
		t.Fatal(err)
	}
	want := Exports{
		SFlow:         &SFlowExport{Targets: []string{"127.0.0.1:6343"}, Sampling: 10, Polling: 5, Header: 128, Ours: true},
		CollectorSets: []CollectorSet{{ID: 77, Targets: []string{"127.0.0.1:4739"}, Ours: true}},
	}
	if !reflect.DeepEqual(exports, want) {
		t.Errorf("observed %+v, want %+v", exports, want)
	}

	configured := s.config(t)
	if a := s.ensure(t, settings()); a.Changed || a.Created || !a.SFlow || a.CollectorSetID != 77 {
		t.Errorf("second Ensure: %+v", a)
	}
	if got := s.config(t); got != configured {
		t.Errorf("second Ensure changed\n%s\nto\n%s", configured, got)
	}
	s.restore(t)
	if got := s.config(t); got != before {
		t.Errorf("restored\n%s\nwant\n%s", got, before)
	}
	s.restore(t)
	if a := s.ensure(t, settings()); !a.Created {
		t.Errorf("Ensure after Restore: %+v", a)
	}
}

func TestEnsureFollowsSettings(t *testing.T) {
	s := newSite(t)
	s.ensure(t, settings())
	row, set := s.ctl(t, "get", "bridge", s.bridge, "sflow"), s.ctl(t, "find", "Flow_Sample_Collector_Set", "id=77")

	next := settings()
	next.Sampling, next.Agent = 64, ""
	if a := s.ensure(t, next); !a.Changed || a.Created {
		t.Errorf("applied: %+v", a)
	}
	if got := s.ctl(t, "get", "sflow", s.bridge, "sampling", "agent"); got != "64\n[]" {
		t.Errorf("sampling and agent: %q", got)
	}
	if s.ctl(t, "get", "bridge", s.bridge, "sflow") != row || s.ctl(t, "find", "Flow_Sample_Collector_Set", "id=77") != set {
		t.Error("a new sampling rate replaced rows")
	}
	next.IPFIXTarget = "127.0.0.1:4740"
	if a := s.ensure(t, next); !a.Created || a.CollectorSetID != 77 {
		t.Errorf("another target has to be another collector set: %+v", a)
	}
	next.SFlowTarget, next.IPFIXTarget = "", ""
	if a := s.ensure(t, next); a.SFlow || a.CollectorSetID != 0 || !a.Changed {
		t.Errorf("turned off: %+v", a)
	}
	if got := s.ctl(t, "list", "sflow") + s.ctl(t, "list", "ipfix") + s.ctl(t, "list", "flow_sample"); got != "" {
		t.Errorf("left behind: %s", got)
	}
}

func TestForeignConfigurationIsLeftAlone(t *testing.T) {
	s := newSite(t)
	s.foreignSFlow(t, s.bridge)
	s.ctl(t, "--", "--id=@i", "create", "ipfix", `targets="192.0.2.9:4739"`, "sampling=16", "obs_domain_id=9", "cache_active_timeout=60",
		"--", "set", "bridge", s.bridge, "ipfix=@i",
		"--", "--id=@n", "create", "netflow", `targets="192.0.2.9:2055"`, "--", "set", "bridge", s.bridge, "netflow=@n",
		"--", "--id=@b", "get", "bridge", s.bridge,
		"--", "--id=@x", "create", "ipfix", `targets="192.0.2.9:4740"`,
		"--", "create", "Flow_Sample_Collector_Set", "id=77", "bridge=@b", "ipfix=@x",
		"--", "create", "Flow_Sample_Collector_Set", "id=78", "bridge=@b")
	s.until(t, "the foreign sets", func(tables *ovsdb.Tables) bool { return len(tables.CollectorSets) == 2 })
	before := s.config(t)

	a := s.ensure(t, settings())
	if a.SFlow || a.CollectorSetID != 79 || !a.Created {
		t.Errorf("applied: %+v", a)
	}
	said := map[string]string{}
	for _, left := range a.LeftAlone {
		said[left.What] = left.Why
	}
	for what, why := range map[string]string{
		"sFlow": "192.0.2.9:6343, 1 in 400", "IPFIX of the bridge": "192.0.2.9:4739, 1 in 16",
		"NetFlow": "192.0.2.9:2055", "collector set 77": "79 is used",
	} {
		if !strings.Contains(said[what], why) {
			t.Errorf("of %s it says %q, want %q", what, said[what], why)
		}
	}
	exports, err := s.driver.Observe(t.Context(), s.bridge)
	if err != nil {
		t.Fatal(err)
	}
	if f := exports.SFlow; f == nil || f.Ours || f.Sampling != 400 || len(f.Targets) != 2 {
		t.Errorf("observed sFlow: %+v", f)
	}
	if f := exports.IPFIX; f == nil || f.Sampling != 16 || f.Domain != 9 || !f.Cached {
		t.Errorf("observed IPFIX: %+v", f)
	}
	if f := exports.NetFlow; f == nil || len(f.Targets) != 1 {
		t.Errorf("observed NetFlow: %+v", f)
	}
	if sets := exports.CollectorSets; len(sets) != 3 || sets[0].Ours || sets[0].ID != 77 || !sets[2].Ours {
		t.Errorf("observed collector sets: %+v", sets)
	}
	s.restore(t)
	if got := s.config(t); got != before {
		t.Errorf("restored\n%s\nwant\n%s", got, before)
	}
}

// The process that took an sFlow configuration over dies; another one, which
// knows nothing but the database, puts it back.
func TestTakenForeignSFlowSurvivesAKill(t *testing.T) {
	s := newSite(t)
	s.foreignSFlow(t, s.bridge)
	columns := []string{"--format=json", "--columns=targets,agent,sampling,polling,header,external_ids", "list", "sflow"}
	before := s.ctl(t, columns...)

	want := settings()
	want.TakeForeign = true
	if a := s.ensure(t, want); !a.SFlow || len(a.LeftAlone) != 0 {
		t.Errorf("applied: %+v", a)
	}
	if got := s.ctl(t, "get", "sflow", s.bridge, "targets"); got != `["127.0.0.1:6343"]` {
		t.Errorf("targets: %s", got)
	}
	want.Sampling = 64 // a change of our own must not lose what is saved
	s.ensure(t, want)

	s.newProcess(t)
	s.restore(t)
	if got := s.ctl(t, columns...); got != before {
		t.Errorf("restored\n%s\nwant\n%s", got, before)
	}
	if s.ctl(t, "get", "bridge", s.bridge, "sflow") == "[]" {
		t.Error("the bridge does not refer to the restored row")
	}
}

func TestForeignSFlowIsGivenBackWhenNoLongerAllowed(t *testing.T) {
	s := newSite(t)
	other := ovstest.Name("b1")
	ovstest.AddBridge(t, s.Instance, other)
	s.sees(t, other)
	s.foreignSFlow(t, s.bridge, other)
	before := s.config(t)
	want := settings()
	want.TakeForeign = true
	s.ensure(t, want)
	s.newProcess(t)
	a := s.ensure(t, settings())
	if a.SFlow || len(a.LeftAlone) != 1 || a.LeftAlone[0].What != "sFlow" {
		t.Errorf("applied: %+v", a)
	}
	s.restore(t)
	// The other bridge kept the row alive, so that it is the very same.
	if got := s.config(t); got != before {
		t.Errorf("restored\n%s\nwant\n%s", got, before)
	}
}

func TestRestoreKeepsWhatAnOperatorChanged(t *testing.T) {
	s := newSite(t)
	s.ensure(t, settings())
	s.foreignSFlow(t, s.bridge)
	s.until(t, "the operator's change", func(tables *ovsdb.Tables) bool {
		b, _ := tables.Bridge(s.bridge)
		row := sFlowOf(tables, b)
		return row != nil && !ours(row.ExternalIDs)
	})
	row := s.ctl(t, "get", "bridge", s.bridge, "sflow")
	s.restore(t)
	if got := s.ctl(t, "get", "bridge", s.bridge, "sflow"); got != row {
		t.Errorf("sflow is %s, the operator set %s", got, row)
	}
	if got := s.ctl(t, "list", "flow_sample") + s.ctl(t, "list", "ipfix"); got != "" {
		t.Errorf("left behind: %s", got)
	}
}

// Whoever plans on an outdated view is refused, and nothing is overwritten.
func TestOutdatedPlansAreRefused(t *testing.T) {
	s := newSite(t)
	s.foreignSFlow(t, s.bridge)
	tables, b, err := s.driver.look(s.bridge)
	if err != nil {
		t.Fatal(err)
	}
	db, err := s.db.DB()
	if err != nil {
		t.Fatal(err)
	}
	replace := &change{db: db}
	want := settings()
	want.TakeForeign = true
	if err := s.driver.ensureSFlow(ovstest.Context(t), replace, &Applied{}, tables, b, want); err != nil {
		t.Fatal(err)
	}
	if replace.err != nil {
		t.Fatal(replace.err)
	}
	s.ctl(t, "set", "sflow", s.bridge, "sampling=401")
	if _, err := s.db.Commit(ovstest.Context(t), replace.ops...); !errors.Is(err, ovsdb.ErrChanged) {
		t.Errorf("replaced a row that had changed: %v", err)
	}
	s.ctl(t, "clear", "bridge", s.bridge, "sflow")
	replace = &change{db: db}
	replace.setSFlow(b, nil)
	if _, err := s.db.Commit(ovstest.Context(t), replace.ops...); !errors.Is(err, ovsdb.ErrChanged) {
		t.Errorf("changed a bridge that had changed: %v", err)
	}
}

// Somebody deletes a bridge while no manager runs.
func TestSweepFreesTheNameOfADeletedBridge(t *testing.T) {
	for name, sweep := range map[string]func(*site) error{
		"sweep":   func(s *site) error { return s.driver.Sweep(t.Context()) },
		"restore": func(s *site) error { return s.driver.Restore(t.Context(), s.bridge) },
	} {
		t.Run(name, func(t *testing.T) {
			s := newSite(t)
			s.ensure(t, settings())
			s.ctl(t, "del-br", s.bridge)
			s.until(t, "the end of the bridge", func(tables *ovsdb.Tables) bool { _, ok := tables.Bridge(s.bridge); return !ok })
			if err := s.AddBridge(ovstest.Context(t), s.bridge, "netdev"); err == nil {
				t.Fatal("a bridge can be created beside its own remains; Sweep is not needed any more")
			}
			if err := sweep(s); err != nil {
				t.Fatal(err)
			}
			ovstest.AddBridge(t, s.Instance, s.bridge)
		})
	}
}

func TestSwitchAway(t *testing.T) {
	s := newSite(t)
	s.ensure(t, settings())
	if err := s.KillSwitch(); err != nil {
		t.Fatal(err)
	}
	s.restore(t)
	if got, err := s.Ctl(ovstest.Context(t), "--no-wait", "list", "flow_sample"); err != nil || got != "" {
		t.Errorf("left behind: %s, %v", got, err)
	}
}

func TestBridgeAway(t *testing.T) {
	s := newSite(t)
	if _, err := s.driver.Ensure(t.Context(), "nosuch", settings()); !errors.Is(err, ErrNoBridge) {
		t.Errorf("Ensure: %v", err)
	}
	if _, err := s.driver.Observe(t.Context(), "nosuch"); !errors.Is(err, ErrNoBridge) {
		t.Errorf("Observe: %v", err)
	}
	if err := s.driver.Restore(t.Context(), "nosuch"); err != nil {
		t.Errorf("Restore: %v", err)
	}
	if err := s.driver.Refresh(t.Context(), s.bridge); !errors.Is(err, ErrNotOurs) {
		t.Errorf("Refresh: %v", err)
	}
	s.stop()
	if _, err := s.driver.Ensure(t.Context(), s.bridge, settings()); !errors.Is(err, ovsdb.ErrNotConnected) {
		t.Errorf("Ensure without a database: %v", err)
	}
}

package staged_test

import (
	"bytes"
	"fmt"
	"maps"
	"math"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/platelet-sdn/platelet/flowcollector/flow"
	"github.com/platelet-sdn/platelet/segmentation/connection"
	"github.com/platelet-sdn/platelet/segmentation/oracle"
	"github.com/platelet-sdn/platelet/segmentation/policy"
	"github.com/platelet-sdn/platelet/segmentation/policy/policytest"
	"github.com/platelet-sdn/platelet/segmentation/staged"
)

const file = `
apiVersion: segmentation/v1
groups:
  web: {selector: {app: web}}
  db: {selector: {app: db}}
  night: {cidrs: [10.0.0.0/8], during: {from: "22:00", to: "06:00"}}
services:
  pg: [{proto: tcp, ports: [5432]}]
policies:
- name: db
  tier: application
  priority: 1
  mode: staged
  appliesTo: [db]
  ingress:
  - {name: pg, action: allow, from: [web], services: [pg]}
  - {name: at-night, action: allow, from: [night]}
  - {name: rest, action: deny, from: [any]}
- name: no-telnet
  tier: admin
  mode: enforce
  appliesTo: [web, db]
  ingress:
  - {name: telnet, action: deny, from: [any], services: [{proto: tcp, ports: [23]}]}
- name: let-telnet
  tier: emergency
  mode: staged
  expiresAt: 2030-01-01T00:00:00Z
  appliesTo: [web]
  ingress:
  - {name: anyway, action: allow, from: [10.0.0.9], services: [{proto: tcp, ports: [23]}]}
`

func inventory() policy.Inventory {
	return policy.Inventory{Workloads: []policy.Workload{
		{Name: "web1", Addrs: []netip.Addr{netip.MustParseAddr("10.0.0.1")}, Labels: map[string]string{"app": "web"}},
		{Name: "db1", Addrs: []netip.Addr{netip.MustParseAddr("10.0.0.2")}, Labels: map[string]string{"app": "db"}},
	}}
}

func start(t *testing.T) *staged.Evaluator {
	t.Helper()
	set, err := policy.Read(policy.Source{Name: "p.yaml", Data: []byte(file)})
	if err != nil {
		t.Fatal(err)
	}
	e, err := staged.New(staged.Config{Set: set, Inventory: inventory()}, noon())
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func noon() time.Time { return time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC) }

// converse makes a conversation, answered or not.
func converse(when time.Time, from, to string, sport, port uint16, answered bool) []flow.Record {
	r := flow.Record{Time: when.UnixNano(), Source: flow.SourcePacket, Signal: flow.SignalAttempt, Rate: 1, Packets: 1, Bytes: 100,
		Src: netip.MustParseAddr(from), Dst: netip.MustParseAddr(to), Proto: flow.ProtoTCP, SrcPort: sport, DstPort: port}
	out := []flow.Record{r}
	if answered {
		r.Signal, r.Src, r.Dst, r.SrcPort, r.DstPort = flow.SignalAccept, r.Dst, r.Src, r.DstPort, r.SrcPort
		out = append(out, r)
	}
	return out
}

func rule(t *testing.T, r *staged.Report, name string) *staged.Rule {
	t.Helper()
	for i := range r.Rules {
		if r.Rules[i].ID.String() == name {
			return &r.Rules[i]
		}
	}
	t.Fatalf("the report has no rule %s", name)
	return nil
}

func TestReport(t *testing.T) {
	e := start(t)
	for i := range uint16(3) {
		e.Observe(converse(noon().Add(time.Duration(i)*time.Second), "10.0.0.1", "10.0.0.2", 40000+i, 5432, true)) // allowed
		e.Observe(converse(noon().Add(time.Duration(i)*time.Second), "10.0.0.8", "10.0.0.2", 40000+i, 5432, true)) // would be denied
	}
	for i := range uint16(30) { // a scan, most of which would be denied
		e.Observe(converse(noon().Add(time.Minute), "10.0.0.9", "10.0.0.2", 50000, 100+i, false))
	}
	e.Observe(converse(noon().Add(time.Minute), "10.0.0.8", "10.0.0.1", 50000, 23, false)) // denied
	e.Observe(converse(noon().Add(time.Minute), "10.0.0.9", "10.0.0.1", 50000, 23, false)) // denied, would be allowed
	e.Observe(converse(noon().Add(time.Minute), "10.0.0.8", "10.0.0.1", 50000, 80, true))  // nobody says anything
	e.Observe(converse(noon().Add(11*time.Hour), "10.0.0.8", "10.0.0.2", 40009, 5432, true))

	r := e.Report()
	if got := r.WouldDeny; got.Connections != 31 || got.Openers != 2 || got.Answered != 1 || got.Scans != 30 || got.Conversations != 33 {
		t.Errorf("would be denied: %+v", got)
	}
	if got := r.Denied; got.Connections != 2 || got.Openers != 2 || got.Conversations != 2 {
		t.Errorf("denied: %+v", got)
	}
	if got := r.WouldAllow; got.Connections != 1 || got.Conversations != 1 {
		t.Errorf("would be allowed: %+v", got)
	}
	if got := r.Undecided; got.Connections != 1 || got.Bytes != 200 {
		t.Errorf("undecided: %+v", got)
	}
	if strings.Join(r.Affected, " ") != "10.0.0.8" {
		t.Errorf("affected: %v", r.Affected)
	}
	rest := rule(t, r, "db/ingress/rest")
	if x := rest.Exchanges[0]; rest.WouldDeny.Connections != 31 || len(rest.Exchanges) != staged.MaxExchanges || x.Effect != staged.WouldDeny ||
		x.Opener.String() != "10.0.0.8" || x.ResponderName != "db1" || x.Service != "tcp/5432" || !x.Answered || x.Scan || x.Conversations != 3 ||
		!x.First.Equal(noon()) || !x.Last.Equal(noon().Add(2*time.Second)) || !rest.Exchanges[1].Scan {
		t.Errorf("rest: %+v", rest)
	}
	if x := rule(t, r, "db/ingress/at-night"); !x.Hit || x.Hits != 1 {
		t.Errorf("at 23 h another rule decides: %+v", x)
	}
	if x := rule(t, r, "let-telnet/ingress/anyway"); x.WouldAllow.Connections != 1 || x.Exchanges[0].Effect != staged.WouldAllow || x.Mode != "staged" || x.At != "p.yaml:31:5" {
		t.Errorf("let-telnet: %+v", x)
	}
	if x := rule(t, r, "no-telnet/ingress/telnet"); x.Denied.Connections != 1 || x.Exchanges[0].Opener.String() != "10.0.0.8" {
		t.Errorf("no-telnet: %+v", x)
	}
	if c := r.Coverage; c.Records != 48 || !c.From.Equal(noon()) || c.OpenerKnown != 1 || c.RateTo != 1 || c.Sources["packet"] != 48 {
		t.Errorf("coverage: %+v", c)
	}
	if all, stats := e.Connections(); len(all) != r.Coverage.Connections || stats.Records != 48 || !slices.IsSortedFunc(all, func(a, b connection.Entry) int { return a.Key.Compare(b.Key) }) {
		t.Errorf("%d connections, %+v", len(all), stats)
	}
	var text bytes.Buffer
	if err := r.WriteText(&text); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"would be denied by what is staged   2      31           1         30     33", "Would lose what somebody serves: 10.0.0.8", "db1 (10.0.0.2)", "no, a scan"} {
		if !strings.Contains(text.String(), want) {
			t.Errorf("%q is not in\n%s", want, text.String())
		}
	}
}

// Of a scan for which the tap was thinned, connections are those that were seen, and
// the report says so; conversations are all of them.
func TestThinnedTapIsTold(t *testing.T) {
	e := start(t)
	for i := range uint16(300) {
		r := converse(noon().Add(time.Duration(i)*time.Millisecond), "10.0.0.9", "10.0.0.2", 50000, 1000+i, false)
		r[0].Source, r[0].Rate, r[0].InPort = flow.SourceTap, 3, 7
		if i%10 == 0 { // as packet samples show it
			r[0].Source, r[0].Rate = flow.SourceSFlow, 10
		}
		e.Observe(r)
	}
	r := e.Report()
	if got := r.WouldDeny; got.Connections != 300 || math.Abs(got.Conversations-270*3) > 10 || r.Coverage.TapTo != 3 {
		t.Errorf("would be denied: %+v, of %+v", got, r.Coverage)
	}
	var text bytes.Buffer
	if err := r.WriteText(&text); err != nil || !strings.Contains(text.String(), "as few as one in 3: their connections are those that were seen") {
		t.Errorf("%v: it is not said in\n%s", err, text.String())
	}
}

// An update judges again what is known, and a wrong one changes nothing.
func TestUpdate(t *testing.T) {
	e := start(t)
	e.Observe(converse(noon(), "10.0.0.8", "10.0.0.2", 40000, 5432, true))
	set, err := policy.Read(policy.Source{Name: "p.yaml", Data: []byte(file)})
	if err != nil {
		t.Fatal(err)
	}
	inv := inventory()
	inv.Workloads = append(inv.Workloads, policy.Workload{Name: "web2", Addrs: []netip.Addr{netip.MustParseAddr("10.0.0.8")}, Labels: map[string]string{"app": "web"}})
	if err := e.Update(set, inv, noon()); err != nil {
		t.Fatal(err)
	}
	e.Observe(converse(noon().Add(time.Second), "10.0.0.8", "10.0.0.2", 40001, 5432, true))
	if x := rule(t, e.Report(), "db/ingress/pg"); x.Hits != 1 {
		t.Errorf("%+v", x)
	}
	bad := *set
	bad.Groups = nil
	if err := e.Update(&bad, inv, noon()); err == nil {
		t.Error("groups that are not there are not missed")
	}
	e.Observe(converse(noon().Add(2*time.Second), "10.0.0.8", "10.0.0.2", 40002, 5432, true))
	if x := rule(t, e.Report(), "db/ingress/pg"); x.Hits != 2 {
		t.Errorf("%+v", x)
	}
}

// A live evaluator is told the time: what comes in compiles nothing.
func TestLive(t *testing.T) {
	set, err := policy.Read(policy.Source{Name: "p.yaml", Data: []byte(file)})
	if err != nil {
		t.Fatal(err)
	}
	for _, live := range []bool{false, true} {
		e, err := staged.New(staged.Config{Set: set, Inventory: inventory(), Live: live}, noon())
		if err != nil {
			t.Fatal(err)
		}
		night := noon().Add(11 * time.Hour)
		e.Observe(converse(night, "10.0.0.8", "10.0.0.2", 40000, 5432, true))
		if x := rule(t, e.Report(), "db/ingress/at-night"); x.Hit == live {
			t.Errorf("live %v: by the time of the record: %v", live, x.Hit)
		}
		if err := e.Update(set, inventory(), night); err != nil {
			t.Fatal(err)
		}
		e.Observe(converse(night, "10.0.0.7", "10.0.0.2", 40000, 5432, true))
		if x := rule(t, e.Report(), "db/ingress/at-night"); !x.Hit {
			t.Errorf("live %v: it was told that it is night", live)
		}
	}
}

// Records go on being judged while policies change.
func TestUpdateBesideRecords(t *testing.T) {
	e := start(t)
	set, err := policy.Read(policy.Source{Name: "p.yaml", Data: []byte(file)})
	if err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	for i := range 2 {
		all.Go(func() {
			for n := range 200 { // each a minute after the other, so that both compile
				e.Observe(converse(noon().Add(time.Duration(n)*time.Minute), fmt.Sprintf("10.0.1.%d", n), "10.0.0.2", 40000+uint16(i), 5432, true))
			}
		})
	}
	all.Go(func() {
		for n := range 200 {
			other := *set
			if err := e.Update(&other, inventory(), noon().Add(time.Duration(n)*time.Minute)); err != nil {
				t.Error(err)
			}
		}
	})
	all.Wait()
	if r := e.Report(); r.WouldDeny.Answered != 200 || r.Coverage.Fault != "" {
		t.Errorf("%+v, %s", r.WouldDeny, r.Coverage.Fault)
	}
}

// What rules would have met is counted as a switch would.
func TestHits(t *testing.T) {
	set, err := policy.Read(policy.Source{Name: "p.yaml", Data: []byte(file + `
- name: no-web
  priority: 2
  tier: admin
  mode: staged
  appliesTo: [web]
  egress:
  - {name: pg, action: deny, to: [any], services: [pg]}
`)})
	if err != nil {
		t.Fatal(err)
	}
	e, err := staged.New(staged.Config{Set: set, Inventory: inventory()}, noon())
	if err != nil {
		t.Fatal(err)
	}
	for i := range uint16(3) {
		e.Observe(converse(noon(), "10.0.0.8", "10.0.0.2", 40000+i, 5432, true))
	}
	e.Observe(converse(noon(), "10.0.0.1", "10.0.0.2", 40000, 5432, true)) // refused where it leaves: it never comes to the database
	got := map[string]string{}
	var order []string
	for _, h := range e.Hits() {
		name := h.Rule.Direction.String() + " " + h.Rule.Policy + " " + h.Rule.Rule
		order = append(order, name)
		got[name] = fmt.Sprintf("%s %.0f %.0f %.0f", h.Action, h.Connections, h.Packets, h.Bytes)
	}
	want := map[string]string{"egress no-web pg": "deny 1 2 200", "ingress db rest": "deny 3 6 600", "ingress db pg": "allow 0 0 0",
		"ingress no-telnet telnet": "deny 0 0 0", "ingress let-telnet anyway": "allow 0 0 0", "egress  ": "allow 3 6 600", "ingress  ": "allow 0 0 0"}
	if !maps.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
	if slices.Index(order, "ingress db pg") > slices.Index(order, "ingress db rest") || order[len(order)-1] != "ingress  " {
		t.Errorf("order: %v", order)
	}
}

// The fast way agrees with the oracle, for whatever policies.
func TestAgreesWithTheOracle(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := policytest.Worlds().Draw(t, "world")
		e, err := staged.New(staged.Config{Set: w.Set, Inventory: w.Inventory, Connections: connection.Config{Capacity: 256}, Details: 256}, policytest.Now())
		if err != nil {
			t.Fatal(err)
		}
		o := oracle.New(w.Set, w.Inventory, policytest.Now())
		want := map[string]int{}
		seen := map[connection.Key]bool{}
		for range rapid.IntRange(1, 20).Draw(t, "connections") {
			c := policytest.Connections(w).Draw(t, "connection")
			r, k, ok := record(c)
			back := k // the answer of a protocol without ports looks like an opening
			back.Opener, back.Responder = k.Responder, k.Opener
			if !ok || seen[k] || seen[back] {
				continue
			}
			seen[k] = true
			e.Observe([]flow.Record{r})
			v := o.Verdict(c)
			after := v.Outcome
			if v.Staged != nil {
				after = *v.Staged
			}
			switch {
			case !v.Allowed() && !after.Allowed():
				want[staged.Denied]++
			case !v.Allowed():
				want[staged.Denied]++
				want[staged.WouldAllow]++
			case !after.Allowed():
				want[staged.WouldDeny]++
				id := after.Ingress.ID
				if !after.Egress.Action.Consents() {
					id = after.Egress.ID
				}
				want[id.String()]++
			}
		}
		r := e.Report()
		if r.Denied.Connections != want[staged.Denied] || r.WouldDeny.Connections != want[staged.WouldDeny] || r.WouldAllow.Connections != want[staged.WouldAllow] {
			t.Fatalf("%v, but %d denied, %d would be denied, %d allowed", want, r.Denied.Connections, r.WouldDeny.Connections, r.WouldAllow.Connections)
		}
		for i := range r.Rules {
			if x := &r.Rules[i]; x.WouldDeny.Connections != want[x.ID.String()] {
				t.Fatalf("%s would deny %d, the oracle says %d", x.ID, x.WouldDeny.Connections, want[x.ID.String()])
			}
		}
	})
}

// record makes the packet that opens a connection, where a table takes it for
// one.
func record(c oracle.Connection) (flow.Record, connection.Key, bool) {
	r := flow.Record{Time: policytest.Now().UnixNano(), Source: flow.SourceLog, Signal: flow.SignalAttempt, Rate: 1, Packets: 1, Bytes: 60,
		Src: c.Src, Dst: c.Dst, Proto: uint8(c.Proto), SrcPort: c.SrcPort, DstPort: c.DstPort, ICMPType: c.Type, ICMPCode: c.Code}
	table := connection.New(connection.Config{Capacity: 8})
	ev, ok := table.Observe(&r)
	if !ok {
		return r, connection.Key{}, false
	}
	k := ev.ID.Key()
	return r, k, k.Opener == c.Src && k.Responder == c.Dst && k.Type == c.Type && k.Code == c.Code
}

func BenchmarkObserve(b *testing.B) {
	set, err := policy.Read(policy.Source{Name: "p.yaml", Data: []byte(file)})
	if err != nil {
		b.Fatal(err)
	}
	e, err := staged.New(staged.Config{Set: set, Inventory: inventory()}, noon())
	if err != nil {
		b.Fatal(err)
	}
	var batch []flow.Record
	for i := range uint16(4096) {
		batch = append(batch, converse(noon(), "10.0.0.8", "10.0.0.2", 40000+i, 1000+i, false)...)
	}
	e.Observe(batch)
	b.ReportAllocs()
	b.ResetTimer()
	for i := 0; i < b.N; i += len(batch) {
		e.Observe(batch)
	}
}

// A report holds the receive threads up: with full tables, by what this takes.
func BenchmarkReport(b *testing.B) {
	set, err := policy.Read(policy.Source{Name: "p.yaml", Data: []byte(file)})
	if err != nil {
		b.Fatal(err)
	}
	e, err := staged.New(staged.Config{Set: set, Inventory: inventory()}, noon())
	if err != nil {
		b.Fatal(err)
	}
	for i := range uint32(connection.DefaultCapacity) {
		batch := converse(noon(), "10.0.0.8", "10.0.0.2", 40000, uint16(i), i&1 == 0)
		for j := range batch {
			other := netip.AddrFrom4([4]byte{10, 1, byte(i >> 16), byte(i >> 8)})
			if batch[j].Signal == flow.SignalAttempt {
				batch[j].Src = other
			} else {
				batch[j].Dst = other
			}
		}
		e.Observe(batch)
	}
	b.ResetTimer()
	for range b.N {
		if r := e.Report(); r.WouldDeny.Connections == 0 {
			b.Fatal("nothing denied")
		}
	}
}

// A flood of forged sources, and a scan, cost no more memory, and take nothing
// that somebody serves out of the report; what had no room is counted.
func TestFlood(t *testing.T) {
	set, err := policy.Read(policy.Source{Name: "p.yaml", Data: []byte(file)})
	if err != nil {
		t.Fatal(err)
	}
	e, err := staged.New(staged.Config{Set: set, Inventory: inventory(), Connections: connection.Config{Capacity: 1024}, Details: 256}, noon())
	if err != nil {
		t.Fatal(err)
	}
	for i := range 20 {
		e.Observe(converse(noon(), fmt.Sprintf("10.0.1.%d", i), "10.0.0.2", 40000, 5432, true))
	}
	for i := range uint32(200_000) {
		batch := converse(noon().Add(time.Second+time.Duration(i)*10*time.Microsecond), "10.0.0.9", "10.0.0.2", uint16(i), 443, false)
		batch[0].Src = netip.AddrFrom4([4]byte{198, 18, byte(i >> 8), byte(i)})
		batch[0].DstPort = uint16(i >> 3)
		e.Observe(batch)
	}
	r := e.Report()
	if r.WouldDeny.Answered != 20 || len(r.Affected) != 20 {
		t.Errorf("of 20 that are served, %d are told: %+v", r.WouldDeny.Answered, r.WouldDeny)
	}
	if r.Coverage.Connections > 1024 || r.WouldDeny.Connections > 256 || r.Coverage.Uncounted == 0 || r.Coverage.Forgotten == 0 {
		t.Errorf("%+v, %+v", r.Coverage, r.WouldDeny)
	}
	if counted := r.WouldDeny.Packets + r.Denied.Packets + float64(r.Coverage.Unjudged); counted != 200_040 || r.Coverage.Unjudged > 2_000 {
		t.Errorf("%.0f packets, %d not judged", r.WouldDeny.Packets, r.Coverage.Unjudged)
	}
}

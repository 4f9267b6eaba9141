package recommend

import (
	"bytes"
	"fmt"
	"maps"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/platelet-sdn/platelet/flowcollector/flow"
	"github.com/platelet-sdn/platelet/segmentation/connection"
	"github.com/platelet-sdn/platelet/segmentation/oracle"
	"github.com/platelet-sdn/platelet/segmentation/policy"
)

func recommendOf(t testing.TB, p *planted) (*Recommendation, *policy.Set) {
	t.Helper()
	r, err := Recommend(p.input(), Options{})
	if err != nil {
		t.Fatal(err)
	}
	raw, err := r.YAML()
	if err != nil {
		t.Fatal(err)
	}
	set, err := policy.Read(policy.Source{Name: "recommended.yaml", Data: raw})
	if err != nil {
		t.Fatalf("%v\n%s", err, raw)
	}
	return r, set
}

// rand index, adjusted for chance (Hubert and Arabie, Journal of Classification
// 1985): 1 for equal partitions, 0 for what chance would do.
func adjustedRand(a, b []string) float64 {
	pairs := func(n int) float64 { return float64(n) * float64(n-1) / 2 }
	both, ofA, ofB := map[[2]string]int{}, map[string]int{}, map[string]int{}
	for i := range a {
		both[[2]string{a[i], b[i]}]++
		ofA[a[i]]++
		ofB[b[i]]++
	}
	index, sumA, sumB := 0.0, 0.0, 0.0
	for _, n := range both {
		index += pairs(n)
	}
	for _, n := range ofA {
		sumA += pairs(n)
	}
	for _, n := range ofB {
		sumB += pairs(n)
	}
	expected := sumA * sumB / pairs(len(a))
	most := (sumA + sumB) / 2
	if most == expected {
		return 1
	}
	return (index - expected) / (most - expected)
}

// partitions are the planted roles and the found groups of the hosts.
func partitions(p *planted, r *Recommendation) (want, got []string) {
	group := map[string]string{}
	for _, g := range r.Groups {
		for _, m := range g.Members {
			if !g.Part {
				group[m] = g.Name
			}
		}
	}
	for _, w := range p.inv.Workloads {
		want = append(want, p.role[w.Addrs[0]])
		got = append(got, group[w.Name])
	}
	return want, got
}

func TestPlantedRolesAreFound(t *testing.T) {
	for _, c := range []struct {
		name  string
		of    func(uint64) (*planted, []use)
		times int
		noise int
		least float64
	}{
		{"enterprise, four minutes", enterprise, 4, 0, 0.9}, {"enterprise, twenty minutes", enterprise, 20, 0, 0.99}, {"enterprise, twenty minutes and noise", enterprise, 20, 3, 0.99},
		{"plant, four minutes", plantFloor, 4, 0, 0.7}, {"plant, twenty minutes", plantFloor, 20, 0, 0.99}, {"plant, twenty minutes and noise", plantFloor, 20, 3, 0.99},
	} {
		worst, sum := 1.0, 0.0
		const seeds = 20
		for seed := range uint64(seeds) {
			p, uses := c.of(seed)
			for range c.noise {
				p.noise()
			}
			p.day(uses, c.times)
			r, _ := recommendOf(t, p)
			ari := adjustedRand(partitions(p, r))
			worst, sum = min(worst, ari), sum+ari
		}
		t.Logf("%s: adjusted Rand index %.3f on average, %.3f at worst of %d", c.name, sum/seeds, worst, seeds)
		if sum/seeds < c.least {
			t.Errorf("%s: adjusted Rand index %.3f, at least %.2f is wanted", c.name, sum/seeds, c.least)
		}
	}
}

// Nothing is allowed that nobody was seen to use and to be answered: every rule
// has a connection that it is learned from, and every allowed pair of groups.
func TestLeastPrivilege(t *testing.T) {
	for seed := range uint64(10) {
		p, uses := enterprise(seed)
		p.noise()
		p.day(uses, 6)
		_, set := recommendOf(t, p)
		enforce(set)
		o := oracle.New(set, p.inv, time.Unix(0, p.now))
		entries := p.table.All()
		for i := range set.Policies {
			pol := &set.Policies[i]
			for _, d := range []policy.Direction{policy.Ingress, policy.Egress} {
				for _, r := range pol.Rules(d) {
					for _, peer := range r.Peers(d) {
						if r.Action == policy.ActionAllow && !slices.ContainsFunc(entries, func(e connection.Entry) bool {
							own, other := e.Responder, e.Opener
							if d == policy.Egress {
								own, other = other, own
							}
							return e.Answered() && o.Holds(pol.AppliesTo[0], own) && o.Holds(peer, other) && o.Verdict(asked(e.Key)).Allowed()
						}) {
							t.Errorf("%s/%s/%s allows %s, which nobody was seen to need", pol.Name, d, r.Name, peer)
						}
					}
				}
			}
		}
	}
}

// What was learned in the first half allows the second, although no host was
// seen to do everything, and denies what an intruder tries from anywhere.
func TestSplitHalf(t *testing.T) {
	var allowed, all, stopped, tried float64
	for seed := range uint64(10) {
		p, uses := enterprise(seed)
		p.noise()
		p.day(uses, 6)
		_, set := recommendOf(t, p)
		enforce(set)
		o := oracle.New(set, p.inv, time.Unix(0, p.now))
		learned := len(p.table.All())
		p.table = connection.New(connection.Config{Capacity: 1 << 14})
		p.day(uses, 6)
		fresh := 0.0
		for _, e := range p.table.All() {
			all++
			if o.Verdict(asked(e.Key)).Allowed() {
				allowed++
			} else {
				fresh++
			}
		}
		for i := range p.inv.Workloads {
			for j := range p.inv.Workloads {
				for _, port := range []uint16{22, 445, 3389, 5985} {
					if i == j {
						continue
					}
					tried++
					k := connection.Key{Opener: p.inv.Workloads[i].Addrs[0], Responder: p.inv.Workloads[j].Addrs[0], Service: connection.Service{Proto: flow.ProtoTCP, Port: port}}
					if !o.Verdict(asked(k)).Allowed() {
						stopped++
					}
				}
			}
		}
		t.Logf("seed %d: learned of %d connections, %.0f of the second half denied", seed, learned, fresh)
	}
	t.Logf("%.2f %% of the second half's connections are allowed, %.2f %% of lateral movement is denied", 100*allowed/all, 100*stopped/tried)
	if allowed < 0.97*all || stopped < tried {
		t.Errorf("%.0f of %.0f allowed, %.0f of %.0f stopped", allowed, all, stopped, tried)
	}
}

func enforce(set *policy.Set) {
	for i := range set.Policies {
		set.Policies[i].Mode = policy.ModeEnforce
	}
}

func asked(k connection.Key) oracle.Connection {
	return oracle.Connection{Src: k.Opener, Dst: k.Responder, Proto: policy.Proto(k.Proto), SrcPort: 40000, DstPort: k.Port, Type: k.Type, Code: k.Code}
}

// Two copies of one application behave alike: labels tell them apart where
// their connections keep to them, and where those who serve both do not.
func TestCopiesAreToldByLabels(t *testing.T) {
	p := plant(1)
	for _, role := range []string{"web", "api", "db", "backup"} {
		for _, env := range []string{"prod", "dev"} {
			p.add(role+env, map[string]int{"prod": 3, "dev": 2}[env])
		}
	}
	for i := range p.inv.Workloads {
		w := &p.inv.Workloads[i]
		role := p.role[w.Addrs[0]]
		env := "prod"
		if strings.HasSuffix(role, "dev") {
			env = "dev"
		}
		w.Labels = map[string]string{"app": strings.TrimSuffix(role, env), "env": env, "serial": w.Name}
		if strings.HasPrefix(role, "backup") {
			w.Labels["env"] = "shared"
		}
	}
	const tcp = flow.ProtoTCP
	p.day([]use{{"webprod", "apiprod", tcp, 9000}, {"apiprod", "dbprod", tcp, 5432}, {"webdev", "apidev", tcp, 9000}, {"apidev", "dbdev", tcp, 5432},
		{"dbprod", "backupprod", tcp, 873}, {"dbdev", "backupprod", tcp, 873}, {"dbprod", "backupdev", tcp, 873}}, 20)
	r, set := recommendOf(t, p)
	enforce(set)
	var names []string
	for _, g := range r.Groups {
		names = append(names, g.Name)
		if !g.ByLabels {
			t.Errorf("%s is a list: %v", g.Name, g.Members)
		}
	}
	if got := strings.Join(names, " "); got != "api-dev api-prod backup db-dev db-prod web-dev web-prod" {
		t.Errorf("groups: %s", got)
	}
	o := oracle.New(set, p.inv, time.Unix(0, p.now))
	allowed := func(from, to string, port uint16) bool {
		return o.Verdict(asked(connection.Key{Opener: p.hosts[from][0], Responder: p.hosts[to][1], Service: connection.Service{Proto: tcp, Port: port}})).Allowed()
	}
	if !allowed("apidev", "dbdev", 5432) || !allowed("apiprod", "dbprod", 5432) || allowed("apidev", "dbprod", 5432) || allowed("apiprod", "dbdev", 5432) || !allowed("dbdev", "backupprod", 873) {
		t.Error("dev and prod are not kept apart")
	}
}

// What a host with a finding opened since is left out, and what it used before
// is not.
func TestSuspectsTeachNothing(t *testing.T) {
	p, uses := enterprise(3)
	p.day(uses, 10)
	p.now += int64(time.Hour)
	since := p.now
	thief := p.hosts["client"][4]
	for range 5 {
		for _, w := range p.inv.Workloads { // and they let it in
			if w.Addrs[0] != thief {
				p.talk(thief, w.Addrs[0], flow.ProtoTCP, 445, true)
			}
		}
	}
	in := p.input()
	in.Suspects = []Suspect{{Host: thief, Since: since, Why: "lateral-movement"}}
	r, err := Recommend(in, Options{})
	if err != nil {
		t.Fatal(err)
	}
	if _, has := r.File.Services["smb"]; has {
		t.Error("lateral movement is allowed")
	}
	if !slices.ContainsFunc(r.LeftOut, func(l LeftOut) bool {
		return l.Why == "opened by a host with a finding (lateral-movement)" && l.Connections == len(p.inv.Workloads)-1
	}) {
		t.Errorf("left out: %+v", r.LeftOut)
	}
	victim := p.hosts["web"][2]
	p.now += int64(time.Minute)
	for range 3 {
		p.talk(victim, p.hosts["db"][0], flow.ProtoTCP, 445, true) // it goes on as it was reached
		p.talk(victim, p.hosts["db"][0], flow.ProtoTCP, 873, true) // and this is something else
		p.now += int64(time.Minute)
	}
	in.Connections = p.table.All()
	if r, err = Recommend(in, Options{}); err != nil {
		t.Fatal(err)
	}
	if _, has := r.File.Services["smb"]; has || r.File.Services["rsync"] == nil {
		t.Errorf("who was reached goes on: %v", r.File.Services)
	}
	if ari := adjustedRand(partitions(p, r)); ari < 0.99 {
		t.Errorf("and the host has lost its role: %.3f", ari)
	}
}

// The outside is summarised: a few addresses by name, many as everybody else.
func TestOutside(t *testing.T) {
	p := plant(1)
	p.add("client", 5)
	p.add("web", 2)
	for i := range 40 {
		for _, c := range p.hosts["client"] {
			p.talk(c, netip.AddrFrom4([4]byte{byte(20 + i), 1, 2, 3}), flow.ProtoTCP, 443, true)
			p.talk(c, netip.AddrFrom4([4]byte{198, 51, 100, byte(i)}), flow.ProtoUDP, 123, true)
			p.talk(c, netip.MustParseAddr("203.0.113.7"), flow.ProtoTCP, 993, true)
		}
		for _, w := range p.hosts["web"] {
			p.talk(netip.AddrFrom4([4]byte{8, 8, byte(i), 1}), w, flow.ProtoTCP, 80, true)
		}
	}
	_, set := recommendOf(t, p)
	for rule, want := range map[string]string{
		"https-clients/egress/out-https": "outside", "https-clients/egress/out-ntp": "198.51.100.0/24", "https-clients/egress/out-imaps": "203.0.113.7", "http-servers/ingress/in-http": "outside",
	} {
		found := ""
		for i := range set.Policies {
			pol := &set.Policies[i]
			for _, d := range []policy.Direction{policy.Ingress, policy.Egress} {
				for _, r := range pol.Rules(d) {
					if (policy.RuleID{Policy: pol.Name, Direction: d, Rule: r.Name}).String() == rule {
						found = fmt.Sprint(r.Peers(d))
					}
				}
			}
		}
		if found != "["+want+"]" {
			t.Errorf("%s: %s, want %s", rule, found, want)
		}
	}
	o := oracle.New(set, p.inv, time.Unix(0, p.now))
	if o.Holds(policy.Peer{Group: "outside"}, p.hosts["web"][0]) || !o.Holds(policy.Peer{Group: "outside"}, netip.MustParseAddr("9.9.9.9")) {
		t.Error("the outside is inside")
	}
}

func TestServicesOnPortsAsTheyCome(t *testing.T) {
	p := plant(1)
	p.add("client", 4)
	p.add("server", 1)
	for i := range uint16(12) {
		for _, c := range p.hosts["client"] {
			p.talk(c, p.hosts["server"][0], flow.ProtoTCP, 135, true)
			p.talk(c, p.hosts["server"][0], flow.ProtoTCP, 49152+i*100, true)
			p.talk(c, p.hosts["server"][0], flow.ProtoTCP, 53, true)
			p.talk(c, p.hosts["server"][0], flow.ProtoUDP, 53, true)
		}
	}
	r, _ := recommendOf(t, p)
	if got := strings.Join(slices.Sorted(maps.Keys(r.File.Services)), " "); got != "dns-tcp dns-udp dynamic-tcp-49152 msrpc" {
		t.Errorf("services: %s", got)
	}
}

func TestOptions(t *testing.T) {
	p, uses := enterprise(1)
	p.day(uses, 5)
	if _, err := Recommend(p.input(), Options{MinConfidence: 1}); err == nil {
		t.Error("nothing can be that certain")
	}
	strict, err := Recommend(p.input(), Options{MinConfidence: 0.95})
	if err != nil {
		t.Fatal(err)
	}
	for id, e := range strict.Evidence {
		if e.Confidence < 0.95 {
			t.Errorf("%s: %+v", id, e)
		}
	}
	empty, err := Recommend(Input{}, Options{})
	if err != nil {
		t.Fatal(err)
	}
	raw, err := empty.YAML()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := policy.Read(policy.Source{Name: "empty", Data: raw}); err != nil {
		t.Errorf("of nothing: %v\n%s", err, raw)
	}
}

// The whole file is as it was reviewed, and the same for the same input.
func TestGolden(t *testing.T) {
	p, uses := enterprise(1)
	for i := range p.inv.Workloads {
		w := &p.inv.Workloads[i]
		w.Labels = map[string]string{"app": p.role[w.Addrs[0]]}
	}
	p.noise()
	p.day(uses, 10)
	var last []byte
	for range 5 {
		r, _ := recommendOf(t, p)
		raw, err := r.YAML()
		if err != nil {
			t.Fatal(err)
		}
		if last != nil && !bytes.Equal(raw, last) {
			t.Fatal("another file for the same input")
		}
		last = raw
	}
	const golden = "testdata/enterprise.yaml"
	if os.Getenv("UPDATE") != "" {
		if err := os.WriteFile(golden, last, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(last, want) {
		t.Errorf("the recommended policy is another; UPDATE=1 writes it:\n%s", last)
	}
}

func BenchmarkRecommend(b *testing.B) {
	p := plant(1)
	for _, r := range []struct {
		role string
		n    int
	}{{"web", 60}, {"app", 60}, {"db", 30}, {"client", 1000}} {
		p.add(r.role, min(r.n, 250))
	}
	p.table = connection.New(connection.Config{Capacity: 1 << 16})
	p.day([]use{{"client", "web", 6, 443}, {"web", "app", 6, 9000}, {"app", "db", 6, 5432}}, 20)
	in := p.input()
	b.ResetTimer()
	for range b.N {
		if _, err := Recommend(in, Options{}); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(len(in.Connections)), "connections")
}

// announce sends to everybody on a link, as the frame's destination says.
func (p *planted) announce(from netip.Addr, to string, proto uint8, port uint16) {
	r := flow.Record{Time: p.now, Source: flow.SourceSFlow, Rate: 1, Packets: 1, Bytes: 60, Src: from, Dst: netip.MustParseAddr(to), Proto: proto, SrcPort: port, DstPort: port,
		DstMAC: flow.MAC{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}}
	p.table.Observe(&r)
	p.now += int64(time.Second)
}

// What routers and hosts say to groups, and to everybody on their network,
// they may go on saying; others may not say it.
func TestAnnouncementsAreLearned(t *testing.T) {
	p := plant(1)
	p.add("router", 2)
	routers := p.hosts["router"]
	var clients []netip.Addr // known by their addresses alone, which are most of a network
	for i := range byte(8) {
		clients = append(clients, netip.AddrFrom4([4]byte{10, 0, 7, i + 1}))
	}
	for range 5 {
		for _, r := range routers {
			p.announce(r, "224.0.0.18", 112, 0)
			p.announce(r, "224.0.0.5", 89, 0)
			p.announce(r, "224.0.0.2", flow.ProtoUDP, 1985)
		}
		for i, c := range clients {
			p.announce(c, "224.0.0.251", flow.ProtoUDP, 5353)
			p.announce(c, "224.0.0.22", 2, 0)
			p.announce(c, "10.0.7.255", flow.ProtoUDP, 138)
			p.announce(c, "255.255.255.255", flow.ProtoUDP, 1900)
			p.talk(c, clients[(i+1)%len(clients)], flow.ProtoTCP, 445, true)
		}
		p.now += int64(time.Minute)
	}
	p.announce(clients[0], "239.9.9.9", flow.ProtoUDP, 9999) // once
	r, set := recommendOf(t, p)
	enforce(set)
	o := oracle.New(set, p.inv, time.Unix(0, p.now))
	ask := func(from netip.Addr, to string, proto policy.Proto, port uint16) bool {
		return o.Verdict(oracle.Connection{Src: from, Dst: netip.MustParseAddr(to), Proto: proto, SrcPort: port, DstPort: port}).Allowed()
	}
	const net = "10.0.7.255"
	for _, c := range []struct {
		from  netip.Addr
		to    string
		proto policy.Proto
		port  uint16
		want  bool
	}{
		{routers[0], "224.0.0.18", 112, 0, true}, {routers[1], "224.0.0.5", 89, 0, true}, {routers[1], "224.0.0.2", 17, 1985, true},
		{clients[0], "224.0.0.251", 17, 5353, true}, {clients[0], "224.0.0.22", 2, 0, true}, {clients[0], net, 17, 138, true}, {clients[0], "255.255.255.255", 17, 1900, true},
		{clients[0], "224.0.0.18", 112, 0, false}, {routers[0], "224.0.0.251", 17, 5353, false}, {routers[0], "224.0.0.19", 112, 0, false},
		{clients[0], "239.9.9.9", 17, 9999, false}, {clients[0], net, 17, 137, false}, {routers[0], net, 17, 138, false},
	} {
		if got := ask(c.from, c.to, c.proto, c.port); got != c.want {
			raw, _ := r.YAML()
			t.Fatalf("%s to %s, protocol %d, port %d: allowed %v\n%s", c.from, c.to, c.proto, c.port, got, raw)
		}
	}
	raw, _ := r.YAML()
	for _, want := range []string{"# 2 of 2 hosts to all who listen: ", "to: [224.0.0.18], services: [vrrp]", "to: [224.0.0.5], services: [ospf]", "services: [hsrp]", "{cidrs: [10.0.7.0/24], except: [10.0.7.255]}"} {
		if !strings.Contains(string(raw), want) {
			t.Errorf("%q is not in\n%s", want, raw)
		}
	}
}

// That a frame went to everybody makes no rule about a host that does not
// answer.
func TestHostsAreNoAnnouncement(t *testing.T) {
	p := plant(2)
	p.add("client", 4)
	hosts := p.hosts["client"]
	for range 5 {
		p.announce(hosts[0], hosts[1].String(), flow.ProtoUDP, 9)
		p.now += int64(time.Minute)
	}
	if r, _ := recommendOf(t, p); len(r.Evidence) > 0 {
		t.Errorf("learned %v", r.Evidence)
	}
}

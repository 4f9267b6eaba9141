package recommend

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"time"

	"github.com/platelet-sdn/platelet/flowcollector/flow"
	"github.com/platelet-sdn/platelet/segmentation/connection"
	"github.com/platelet-sdn/platelet/segmentation/policy"
)

// planted is a network whose roles are known.
type planted struct {
	rand  *rand.Rand
	table *connection.Table
	now   int64
	role  map[netip.Addr]string
	hosts map[string][]netip.Addr
	inv   policy.Inventory
	port  uint16
}

func plant(seed uint64) *planted {
	return &planted{rand: rand.New(rand.NewPCG(seed, 1)), table: connection.New(connection.Config{Capacity: 1 << 14}),
		now: time.Date(2026, 11, 23, 8, 0, 0, 0, time.UTC).UnixNano(), role: map[netip.Addr]string{}, hosts: map[string][]netip.Addr{}, port: 30000}
}

// add gives a role some hosts, scattered over one network.
func (p *planted) add(role string, n int) {
	for range n {
		i := len(p.role)
		a := netip.AddrFrom4([4]byte{10, 0, byte(i * 7 % 5), byte(i + 1)})
		p.role[a] = role
		p.hosts[role] = append(p.hosts[role], a)
		p.inv.Workloads = append(p.inv.Workloads, policy.Workload{Name: fmt.Sprintf("%s%d", role, len(p.hosts[role])), Addrs: []netip.Addr{a}})
	}
}

// talk lets one host use a service of another, answered or not.
func (p *planted) talk(from, to netip.Addr, proto uint8, port uint16, answered bool) {
	p.port++
	r := flow.Record{Time: p.now, Source: flow.SourceLog, Signal: flow.SignalAttempt, Rate: 1, Packets: 5, Bytes: 500,
		Src: from, Dst: to, Proto: proto, SrcPort: p.port, DstPort: port}
	p.table.Observe(&r)
	r.Src, r.Dst, r.SrcPort, r.DstPort, r.Signal = r.Dst, r.Src, r.DstPort, r.SrcPort, flow.SignalSilence
	if answered {
		r.Signal = flow.SignalAccept
	}
	p.table.Observe(&r)
	p.now += int64(time.Second)
}

// use is a relation of roles: some of the responders, chosen by each opener.
type use struct {
	from, to string
	proto    uint8
	port     uint16
}

// day plays relations: each opener uses services now and then, not all.
func (p *planted) day(uses []use, times int) {
	for range times {
		for _, u := range uses {
			for _, from := range p.hosts[u.from] {
				if to := p.hosts[u.to][p.rand.IntN(len(p.hosts[u.to]))]; to != from && p.rand.IntN(10) < 6 {
					p.talk(from, to, u.proto, u.port, true)
				}
			}
		}
		p.now += int64(time.Minute)
	}
}

// noise is what is in every network and must not become rules: a scan, dead
// servers, single visits.
func (p *planted) noise() {
	all := p.inv.Workloads
	scanner := netip.MustParseAddr("10.0.9.9")
	for _, w := range all {
		for _, port := range []uint16{22, 23, 445, 3389, 80} {
			p.talk(scanner, w.Addrs[0], flow.ProtoTCP, port, port == 80 && p.rand.IntN(3) == 0)
		}
	}
	for range 5 {
		a, b := all[p.rand.IntN(len(all))].Addrs[0], all[p.rand.IntN(len(all))].Addrs[0]
		if a != b {
			p.talk(a, b, flow.ProtoTCP, uint16(2000+p.rand.IntN(500)), true)
		}
		p.talk(a, netip.MustParseAddr("10.0.8.8"), flow.ProtoUDP, 514, false)
	}
}

func (p *planted) input() Input {
	return Input{Connections: p.table.All(), Stats: p.table.Stats(), Inventory: p.inv}
}

// enterprise is a network of eight roles.
func enterprise(seed uint64) (*planted, []use) {
	p := plant(seed)
	for _, r := range []struct {
		role string
		n    int
	}{{"web", 6}, {"app", 6}, {"db", 3}, {"dns", 2}, {"client", 20}, {"monitor", 1}, {"printer", 4}, {"mail", 2}} {
		p.add(r.role, r.n)
	}
	const tcp, udp = flow.ProtoTCP, flow.ProtoUDP
	uses := []use{
		{"client", "web", tcp, 443}, {"client", "web", tcp, 80}, {"web", "app", tcp, 9000}, {"app", "db", tcp, 5432},
		{"client", "dns", udp, 53}, {"web", "dns", udp, 53}, {"app", "dns", udp, 53}, {"mail", "dns", udp, 53},
		{"client", "printer", tcp, 631}, {"client", "mail", tcp, 993}, {"client", "mail", tcp, 587}, {"mail", "mail", tcp, 25},
	}
	for _, role := range []string{"web", "app", "db", "dns", "printer", "mail"} {
		uses = append(uses, use{"monitor", role, tcp, 9100}, use{"monitor", role, udp, 161})
	}
	return p, uses
}

// plantFloor is a network of machines and those who look after them.
func plantFloor(seed uint64) (*planted, []use) {
	p := plant(seed)
	for _, r := range []struct {
		role string
		n    int
	}{{"plc", 12}, {"hmi", 5}, {"historian", 2}, {"engineering", 3}, {"camera", 8}, {"nvr", 1}, {"time", 1}} {
		p.add(r.role, r.n)
	}
	const tcp, udp = flow.ProtoTCP, flow.ProtoUDP
	uses := []use{
		{"hmi", "plc", tcp, 502}, {"hmi", "plc", tcp, 502}, {"historian", "plc", tcp, 502}, {"historian", "plc", tcp, 102}, {"engineering", "plc", tcp, 102},
		{"engineering", "hmi", tcp, 3389}, {"hmi", "historian", tcp, 4840}, {"nvr", "camera", tcp, 554}, {"nvr", "camera", tcp, 554}, {"nvr", "camera", tcp, 554},
	}
	for _, role := range []string{"plc", "hmi", "historian", "engineering", "camera", "nvr"} {
		uses = append(uses, use{role, "time", udp, 123})
	}
	return p, uses
}

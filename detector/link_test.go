package detector

import (
	"net/netip"
	"testing"

	"github.com/platelet-sdn/platelet/flowcollector/flow"
)

// station is a simulated one: its address, and the port that it is behind.
type simStation struct {
	addr netip.Addr
	mac  flow.MAC
	port uint32
}

func stationAt(n int) simStation {
	return simStation{hostAddr(n), macOf(hostAddr(n)), uint32(n)}
}

// claims is an ARP packet by which a station says that an address is its own:
// a reply, or a question, which says so as well.
func (x simStation) claims(a netip.Addr, to simStation, s flow.Signal) flow.Record {
	r := flow.Record{Source: flow.SourceCopy, Signal: s, Rate: 1, Packets: 1, EtherType: flow.EtherARP, Src: a, Dst: to.addr,
		SrcMAC: x.mac, DstMAC: to.mac, InPort: x.port, Claim: flow.Claim{MAC: x.mac}}
	if a == to.addr || s == flow.SignalARPRequest {
		r.DstMAC = flow.MAC{255, 255, 255, 255, 255, 255}
	}
	return r
}

// sends is a connection attempt from an address, by way of a station.
func (x simStation) sends(src, dst netip.Addr, by simStation) flow.Record {
	r := syn(src, dst, 443)
	r.SrcMAC, r.DstMAC, r.InPort = x.mac, by.mac, x.port
	return r
}

// The stations of a small office.
var (
	gateway  = stationAt(1)
	victim   = stationAt(5)
	attacker = stationAt(6)
	outside  = netip.MustParseAddr("198.51.100.7")
)

// office lets a minute of an ordinary link pass, beginning long after the
// engine has settled: stations find each other, and use the gateway.
func office(t testing.TB, change ...func(*Config)) *sim {
	s := newSim(t, change...).warm()
	stations := []simStation{gateway, victim, attacker, stationAt(7), stationAt(8)}
	for i, x := range stations {
		at := int64(i) * 100 * ms
		s.at(at, x.claims(x.addr, gateway, flow.SignalARPRequest))
		s.at(at+ms, gateway.claims(gateway.addr, x, flow.SignalARPReply))
		if x != gateway {
			s.connectionBy(at+2*ms, x, gateway)
		}
	}
	return s.run(90 * sec)
}

// connectionBy is a connection with the world.
func (s *sim) connectionBy(at int64, x, by simStation) {
	s.at(at, x.sends(x.addr, outside, by))
	back := answer(syn(x.addr, outside, 443), flow.SignalAccept)
	back.SrcMAC, back.DstMAC, back.InPort = by.mac, x.mac, by.port
	s.at(at+5*ms, back)
}

func (s *sim) found(kind Kind) []Finding {
	var out []Finding
	for _, f := range s.fired() {
		if f.Kind == kind {
			out = append(out, f)
		}
	}
	return out
}

// poison plays ARP spoofing between two stations every gap, while the victim
// goes on using the network and the gateway asks for it now and then.
func (s *sim) poison(from, until, gap int64, rate float64) {
	for at := from; at < until; at += gap {
		for _, c := range []struct {
			a  netip.Addr
			to simStation
		}{{gateway.addr, victim}, {victim.addr, gateway}} {
			r := attacker.claims(c.a, c.to, flow.SignalARPReply)
			r.Rate = rate
			s.at(at, r)
		}
	}
	for at := from + 300*ms; at < until; at += sec {
		s.connectionBy(at, victim, attacker)
	}
	for at := from + 5*sec; at < until; at += 5 * sec {
		s.at(at, gateway.claims(gateway.addr, victim, flow.SignalARPRequest))
	}
}

func TestARPSpoof(t *testing.T) {
	for name, c := range map[string]struct {
		gap    int64
		rate   float64
		within int64
	}{
		"every second":    {sec, 1, 4 * sec},
		"every 10 s":      {10 * sec, 1, 25 * sec},
		"sampled at 1:10": {10 * sec, 10, 25 * sec}, // what is left of one every second
	} {
		t.Run(name, func(t *testing.T) {
			s := office(t)
			s.quiet()
			begin := 100 * sec
			s.poison(begin, begin+120*sec, c.gap, c.rate)
			s.run(begin + 121*sec)
			list := s.found(KindARPSpoof)
			if len(list) == 0 {
				t.Fatal("not found")
			}
			f, last := list[0], list[len(list)-1]
			if d := f.Time - t0 - begin; d > c.within {
				t.Errorf("found after %d ms", d/ms)
			}
			if f.Host != attacker.addr || f.HostMAC != attacker.mac || f.InPort != attacker.port || f.Severity != SeverityHigh {
				t.Errorf("names %v %v at %d, %s", f.Host, f.HostMAC, f.InPort, f.Severity)
			}
			if !last.Sequential || len(last.Victims) != 2 {
				t.Errorf("whose addresses of two were claimed does not decide: %+v", last)
			}
			for _, other := range s.fired() {
				if other.Kind != KindARPSpoof {
					t.Errorf("found %s of %v as well", other.Kind, other.Host)
				}
			}
		})
	}
}

// An attack that comes again is another finding.
func TestARPSpoofComesAgain(t *testing.T) {
	s := office(t)
	s.poison(100*sec, 130*sec, sec, 1)
	s.poison(300*sec, 330*sec, sec, 1)
	s.run(400 * sec)
	ids := map[string]bool{}
	for _, f := range s.found(KindARPSpoof) {
		ids[f.ID] = true
	}
	if len(ids) != 2 {
		t.Errorf("%d findings, want 2", len(ids))
	}
}

// Who starts while the attack runs must not take the victim for the attacker.
func TestARPSpoofThatWasThereFirst(t *testing.T) {
	s := newSim(t)
	s.at(0, attacker.claims(attacker.addr, gateway, flow.SignalARPRequest))
	s.at(ms, gateway.claims(gateway.addr, attacker, flow.SignalARPReply))
	s.poison(sec, 60*sec, sec, 1)
	for at := 3 * sec; at < 60*sec; at += 7 * sec {
		s.at(at, victim.claims(victim.addr, gateway, flow.SignalARPRequest))
	}
	s.run(70 * sec)
	list := s.found(KindARPSpoof)
	if len(list) == 0 {
		t.Fatal("not found")
	}
	for _, f := range list {
		if f.HostMAC != attacker.mac {
			t.Errorf("names %v", f.HostMAC)
		}
	}
}

// An intruder without an address of its own takes longer to tell from the
// second interface of a bond.
func TestARPSpoofByStranger(t *testing.T) {
	s := office(t)
	stranger := simStation{mac: flow.MAC{2, 9, 9, 9, 9, 9}, port: 9}
	for i := range int64(30) {
		s.at(100*sec+i*sec, stranger.claims(victim.addr, gateway, flow.SignalARPReply))
		s.connectionBy(100*sec+i*sec+300*ms, victim, gateway)
	}
	s.run(140 * sec)
	f := s.only(KindARPSpoof)
	if f.HostMAC != stranger.mac || f.Host.IsValid() || f.Severity != SeverityMedium || f.Sequential {
		t.Errorf("%+v", f)
	}
}

// What looks like ARP spoofing and is not.
func TestHonestClaims(t *testing.T) {
	from := 100 * sec
	vip := hostAddr(100)
	other := stationAt(7)
	for name, play := range map[string]func(s *sim){
		"keepalived fails over and back": func(s *sim) {
			// The address of two routers: who has it announces it.
			s.at(from, gateway.claims(vip, gateway, flow.SignalARPRequest))
			for round := range int64(4) {
				holder := []simStation{gateway, other}[round%2]
				for i := range int64(5) {
					at := from + (round+1)*120*sec
					s.at(at+i*sec, holder.claims(vip, simStation{addr: vip}, flow.SignalARPRequest))
					s.at(at+i*sec+500*ms, holder.claims(vip, victim, flow.SignalARPReply))
				}
			}
		},
		"a virtual router's address moves with its hardware address": func(s *sim) {
			virtual := flow.MAC{0, 0, 0x5e, 0, 1, 7}
			for i := range int64(50) {
				x := simStation{vip, virtual, 1 + uint32(i/10)%2*6}
				s.at(from+i*sec, x.claims(vip, victim, flow.SignalARPReply))
			}
		},
		"a machine migrates": func(s *sim) {
			moved := victim
			moved.port = 12
			for i := range int64(3) {
				s.at(from+i*100*ms, moved.claims(victim.addr, simStation{addr: victim.addr}, flow.SignalARPRequest))
			}
			for i := range int64(30) {
				s.connectionBy(from+sec+i*sec, moved, gateway)
			}
		},
		"a network card is replaced": func(s *sim) {
			renewed := simStation{victim.addr, flow.MAC{2, 7, 7, 7, 7, 7}, 5}
			for i := range int64(60) {
				s.at(from+i*sec, renewed.claims(victim.addr, gateway, flow.SignalARPRequest))
				s.connectionBy(from+i*sec+ms, renewed, gateway)
			}
		},
		"a lease is given again": func(s *sim) {
			for i := range int64(60) {
				s.at(from+i*sec, other.claims(victim.addr, gateway, flow.SignalARPRequest))
				s.connectionBy(from+i*sec+ms, simStation{victim.addr, other.mac, other.port}, gateway)
			}
			// The former holder wakes up, asks whether its lease is good, and
			// is told no.
			s.at(from+70*sec, victim.claims(victim.addr, gateway, flow.SignalARPRequest))
			s.at(from+71*sec, other.claims(victim.addr, gateway, flow.SignalARPReply))
			s.at(from+72*sec, victim.claims(victim.addr, gateway, flow.SignalARPRequest))
		},
		"a bond sends from both interfaces": func(s *sim) {
			bond := [2]simStation{{hostAddr(50), flow.MAC{2, 5, 0, 0, 0, 1}, 20}, {hostAddr(50), flow.MAC{2, 5, 0, 0, 0, 2}, 21}}
			for i := range int64(120) {
				x := bond[i%2]
				s.at(from+i*sec, x.claims(x.addr, gateway, flow.SignalARPReply))
				s.connectionBy(from+i*sec+ms, bond[(i+1)%2], gateway)
			}
		},
		"proxy ARP": func(s *sim) {
			for i := range int64(60) {
				s.at(from+i*sec, victim.claims(victim.addr, stationAt(8), flow.SignalARPRequest))
				s.at(from+i*sec+ms, gateway.claims(stationAt(8).addr, victim, flow.SignalARPReply))
				s.at(from+i*sec+2*ms, stationAt(8).claims(stationAt(8).addr, victim, flow.SignalARPReply))
			}
		},
		"an address given twice is noticed and given up": func(s *sim) {
			s.at(from, other.claims(victim.addr, simStation{addr: victim.addr}, flow.SignalARPRequest))
			s.at(from+ms, victim.claims(victim.addr, other, flow.SignalARPReply))
			s.at(from+sec, other.claims(victim.addr, simStation{addr: victim.addr}, flow.SignalARPRequest))
			s.at(from+sec+ms, victim.claims(victim.addr, other, flow.SignalARPReply))
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := office(t)
			play(s)
			s.run(from + 700*sec)
			s.quiet()
		})
	}
}

func TestMACFlood(t *testing.T) {
	for name, c := range map[string]struct {
		perSecond int
		lasts     int64
		astray    bool // to stations that are not there either
		within    int64
	}{
		"as macof does it":                 {10_000, sec, true, 20 * ms},
		"held down to a trickle":           {200, 5 * sec, true, 2 * sec},
		"to everybody":                     {10_000, sec, false, 60 * ms},
		"just faster than a table forgets": {15, 120 * sec, false, 60 * sec},
		"a rack is powered on":             {400, sec, false, 0},
		"phones come and go":               {1, 600 * sec, false, 0},
	} {
		t.Run(name, func(t *testing.T) {
			s := office(t)
			begin := 100 * sec
			for i := range c.perSecond * int(c.lasts/sec) {
				x := mix(uint64(i))
				r := syn(clientAddr(i), hostAddr(3), 80)
				r.SrcMAC, r.InPort = flow.MAC{2, byte(x), byte(x >> 8), byte(x >> 16), byte(x >> 24), byte(x >> 32)}, attacker.port
				if r.DstMAC = gateway.mac; c.astray {
					r.DstMAC = flow.MAC{6, byte(x), byte(x >> 8), byte(x >> 16), byte(x >> 24), byte(x >> 32)}
				}
				s.at(begin+int64(i)*sec/int64(c.perSecond), r)
			}
			s.run(begin + c.lasts + sec)
			list := s.found(KindMACFlood)
			if (c.within > 0) != (len(list) == 1) {
				t.Fatalf("found %+v", list)
			}
			if c.within == 0 {
				return
			}
			f := list[0] // of the port, and who lives there
			if f.InPort != attacker.port || f.Host != attacker.addr || !f.Sequential {
				t.Errorf("%+v", f)
			}
			if d := f.Time - t0 - begin; d > c.within {
				t.Errorf("found after %d ms", d/ms)
			}
		})
	}
}

// A trunk that comes up shows all stations behind it at once.
func TestTrunkIsNoMACFlood(t *testing.T) {
	s := office(t)
	for i := range 3000 {
		r := syn(hostAddr(1000+i), hostAddr(3), 80)
		r.InPort, r.DstMAC = 40, gateway.mac
		s.at(100*sec+int64(i)*ms, r)
	}
	s.run(110 * sec)
	if list := s.found(KindMACFlood); len(list) > 0 {
		t.Errorf("%+v", list)
	}
}

// dhcp is a message of a server or a client.
func (x simStation) dhcp(flags flow.ClaimFlags, kind uint8, names uint32) flow.Record {
	r := udp(x.addr, 67, netip.MustParseAddr("255.255.255.255"), 68, 1)
	if flags&flow.ClaimClient != 0 {
		r.Src, r.SrcPort, r.DstPort = netip.IPv4Unspecified(), 68, 67
	}
	r.Source, r.SrcMAC, r.InPort, r.DstMAC = flow.SourceCopy, x.mac, x.port, flow.MAC{255, 255, 255, 255, 255, 255}
	r.Claim = flow.Claim{Type: kind, Flags: flags, Names: names}
	return r
}

const (
	serves = flow.ClaimServer | flow.ClaimRouter | flow.ClaimResolver
	itself = serves | flow.ClaimSelf
)

// lease is a client's exchange with a server.
func (s *sim) lease(at int64, client, server simStation, flags flow.ClaimFlags, names uint32) {
	s.at(at, client.dhcp(flow.ClaimClient, 1, 0))
	s.at(at+ms, server.dhcp(flags, flow.DHCPOffer, names))
	s.at(at+2*ms, client.dhcp(flow.ClaimClient, 3, 0))
	s.at(at+3*ms, server.dhcp(flags, flow.DHCPAck, names))
}

func TestRogueDHCP(t *testing.T) {
	from := 100 * sec
	listed := func(c *Config) { c.Link.DHCPServer = func(a netip.Addr) bool { return a == gateway.addr } }
	for name, c := range map[string]struct {
		change []func(*Config)
		play   func(s *sim)
		within int64
		high   bool
	}{
		"offers again and again": {nil, func(s *sim) {
			s.at(from, victim.dhcp(flow.ClaimClient, 1, 0))
			for i := range int64(60) {
				s.at(from+ms+i*100*ms, attacker.dhcp(itself, flow.DHCPOffer, 9))
			}
		}, 2 * sec, true},
		"names itself where another routes": {nil, func(s *sim) { s.lease(from, victim, attacker, itself, 9) }, 10 * ms, true},
		"tells clients something else than the server": {nil, func(s *sim) {
			s.lease(from, victim, gateway, itself, 1)
			s.lease(from+700*sec, victim, attacker, serves, 9)
		}, 701 * sec, false},
		"is not listed": {[]func(*Config){listed}, func(s *sim) { s.lease(from, victim, attacker, serves, 9) }, 10 * ms, true},
	} {
		t.Run(name, func(t *testing.T) {
			s := office(t, c.change...)
			c.play(s)
			s.run(from + 702*sec)
			list := s.found(KindRogueDHCP)
			if len(list) == 0 || len(list) != len(s.fired()) {
				t.Fatalf("found %+v", s.fired())
			}
			f := list[0]
			if f.Host != attacker.addr || f.InPort != attacker.port || f.Time-t0-from > c.within || (f.Severity == SeverityHigh) != c.high {
				t.Errorf("%+v", f)
			}
		})
	}
}

func TestHonestDHCP(t *testing.T) {
	from := 100 * sec
	standby := stationAt(8)
	for name, play := range map[string]func(s *sim){
		"the gateway serves": func(s *sim) {
			for i := range int64(100) {
				s.lease(from+i*6*sec, stationAt(200+int(i)), gateway, itself, 1)
			}
		},
		"a server of its own": func(s *sim) {
			for i := range int64(100) {
				s.lease(from+i*6*sec, stationAt(200+int(i)), standby, serves, 1)
			}
		},
		"a failover pair": func(s *sim) {
			for i := range int64(100) {
				at, client := from+i*10*sec, stationAt(200+int(i))
				s.lease(at, client, gateway, itself, 1)
				s.at(at+2*ms, standby.dhcp(serves, flow.DHCPOffer, 1))
			}
		},
		"a first server that is heard late": func(s *sim) { s.lease(from+3600*sec, victim, standby, serves, 1) },
		"answers by way of a relay": func(s *sim) {
			for i := range int64(50) {
				s.lease(from+i*6*sec, stationAt(200+int(i)), standby, serves|flow.ClaimRelayed, uint32(i))
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := office(t)
			play(s)
			s.run(from + 3700*sec)
			if list := s.found(KindRogueDHCP); len(list) > 0 {
				t.Errorf("%+v", list)
			}
		})
	}
}

func TestRogueRouter(t *testing.T) {
	advert := func(x simStation) flow.Record {
		r := flow.Record{Source: flow.SourceCopy, Signal: flow.SignalICMP, Proto: flow.ProtoICMPv6, ICMPType: flow.ICMPv6RouterAdvertisement,
			Rate: 1, Packets: 1, EtherType: flow.EtherIPv6, Src: netip.MustParseAddr("fe80::1"), Dst: netip.MustParseAddr("ff02::1"),
			SrcMAC: x.mac, DstMAC: flow.MAC{0x33, 0x33, 0, 0, 0, 1}, InPort: x.port}
		r.Claim = flow.Claim{MAC: x.mac, Flags: flow.ClaimRouter | flow.ClaimSelf}
		return r
	}
	s := office(t)
	for i := range int64(8) {
		s.at(100*sec+i*200*sec, advert(gateway))
	}
	s.at(110*sec, advert(stationAt(8))) // a second router, there from the beginning
	s.run(1700 * sec)
	s.quiet()
	s.at(1701*sec, advert(attacker))
	s.run(1702 * sec)
	if f := s.only(KindRogueDHCP); f.HostMAC != attacker.mac || f.Severity != SeverityMedium {
		t.Errorf("%+v", f)
	}
}

func TestIPSpoof(t *testing.T) {
	from := 100 * sec
	t.Run("a neighbour's address", func(t *testing.T) {
		s := office(t)
		for i := range int64(10) {
			s.at(from+i*sec, attacker.sends(victim.addr, outside, gateway))
			s.at(from+i*sec+ms, attacker.sends(attacker.addr, outside, gateway))
		}
		s.run(from + 20*sec)
		list := s.found(KindIPSpoof)
		if len(list) != 1 || list[0].Host != attacker.addr || list[0].InPort != attacker.port || len(list[0].Victims) != 1 {
			t.Errorf("%+v", s.fired())
		}
	})
	t.Run("addresses of nobody", func(t *testing.T) {
		s := office(t)
		for i := range int64(200) {
			s.at(from+i*10*ms, attacker.sends(clientAddr(int(i)), outside, gateway))
		}
		s.run(from + 20*sec)
		if list := s.found(KindIPSpoof); len(list) != 1 || list[0].Host != attacker.addr {
			t.Errorf("%+v", s.fired())
		}
	})
	t.Run("honest", func(t *testing.T) {
		s := office(t)
		for i := range int64(200) {
			at := from + i*50*ms
			s.at(at, gateway.sends(clientAddr(int(i)), victim.addr, victim)) // a router forwards
			// A server behind a load balancer answers for its address.
			r := answer(syn(clientAddr(int(i)), hostAddr(30), 443), flow.SignalAccept)
			r.SrcMAC, r.InPort = stationAt(8).mac, 8
			s.at(at+ms, r)
			s.at(at+2*ms, attacker.sends(hostAddr(60+int(i%3)), outside, gateway)) // a host with a few addresses
		}
		s.run(from + 20*sec)
		if list := s.found(KindIPSpoof); len(list) != 0 {
			t.Errorf("%+v", list)
		}
	})
}

// Inventing stations, addresses and servers grows nothing, and washes nothing
// out.
func TestLinkTablesStayBounded(t *testing.T) {
	small := func(c *Config) { c.Link.Stations, c.Link.Bindings, c.Link.Ports, c.Link.Servers = 1<<10, 1<<10, 64, 64 }
	s := office(t, small)
	s.at(95*sec, gateway.claims(gateway.addr, victim, flow.SignalARPReply)) // as it does all the time
	s.run(96 * sec)
	for i := range 200_000 {
		x := mix(uint64(i))
		liar := simStation{clientAddr(i), flow.MAC{2, byte(x), byte(x >> 8), byte(x >> 16), byte(x >> 24), byte(x >> 32)}, uint32(x>>40)%500 + 1}
		r := liar.claims(liar.addr, gateway, flow.SignalARPReply)
		if i%4 == 0 {
			r = liar.dhcp(itself, flow.DHCPOffer, uint32(i))
		}
		r.Time = t0 + 100*sec + int64(i)*ms/10
		s.e.Observe([]flow.Record{r})
	}
	l, c := s.e.links, s.e.cfg.Link
	if l.stations.Len() > c.Stations || l.bindings.Len() > c.Bindings || l.ports.Len() > c.Ports || l.servers.Len() > c.Servers || l.lans.Len() > c.Servers {
		t.Errorf("%d stations, %d bindings, %d ports, %d servers", l.stations.Len(), l.bindings.Len(), l.ports.Len(), l.servers.Len())
	}
	if n := l.find(victim.mac, 0); n == nil || n.own4 != addressOf(victim.addr) {
		t.Errorf("the victim was washed out: %+v", n)
	}
	_, b := l.bindings.Find(bindingKey{addressOf(gateway.addr), 0, 0})
	if b == nil || b.mac != gateway.mac {
		t.Errorf("the gateway was washed out: %+v", b)
	}
}

func BenchmarkLink(b *testing.B) {
	for name, record := range map[string]func(i int) flow.Record{
		"attempt": func(i int) flow.Record { return victim.sends(victim.addr, hostAddr(i%1000), gateway) },
		"claim": func(i int) flow.Record {
			x := stationAt(i % 1000)
			return x.claims(x.addr, gateway, flow.SignalARPReply)
		},
		"invented station": func(i int) flow.Record {
			x := mix(uint64(i))
			r := victim.sends(victim.addr, outside, gateway)
			r.SrcMAC = flow.MAC{2, byte(x), byte(x >> 8), byte(x >> 16), byte(x >> 24), byte(x >> 32)}
			return r
		},
	} {
		b.Run(name, func(b *testing.B) {
			s := office(b)
			batch := make([]flow.Record, 4096)
			for i := range batch {
				batch[i] = record(i)
				batch[i].Time = t0 + 100*sec
			}
			b.ReportAllocs()
			b.ResetTimer()
			for i := range b.N {
				s.e.current = &batch[i&4095]
				s.e.links.observe(s.e.current)
			}
		})
	}
}

// A scan among decoys is found by the scanner's own address: nobody is accused
// who does not exist, by whichever detector. Who has many addresses says so.
func TestScanAmongDecoys(t *testing.T) {
	for _, claimed := range []bool{false, true} {
		s := office(t)
		from, scanner := 100*sec, stationAt(6)
		for i := range 20_000 {
			at := from + int64(i)*ms
			own := attacker.addr
			if n := i % 10; n != 0 {
				own = hostAddr(60 + n)
			}
			if claimed && i < 10 {
				s.at(at-sec, simStation{own, scanner.mac, scanner.port}.claims(own, victim, flow.SignalARPRequest))
			}
			r := scanner.sends(own, victim.addr, victim)
			r.SrcPort, r.DstPort = 61_000, uint16(i/10+1)
			s.at(at, r)
			if own == attacker.addr || claimed {
				a := answer(r, flow.SignalRefuse)
				a.SrcMAC, a.DstMAC, a.InPort = victim.mac, scanner.mac, victim.port
				s.at(at+ms/5, a)
			}
		}
		s.run(from + 120*sec)
		scans := 0
		for _, f := range s.fired() {
			if f.Kind == KindPortScan {
				scans++
			}
			if !claimed && f.Host.IsValid() && f.Host != attacker.addr {
				t.Errorf("%s by %v, who does not exist", f.Kind, f.Host)
			}
		}
		if want := map[bool]int{false: 1, true: 10}[claimed]; scans != want {
			t.Errorf("%d scans found, want %d", scans, want)
		}
	}
}

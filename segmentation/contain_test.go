package segmentation_test

import (
	"errors"
	"net/netip"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/platelet-sdn/platelet/flowcollector/flow"
	"github.com/platelet-sdn/platelet/segmentation"
)

var (
	bad    = netip.MustParseAddr("10.0.0.9")
	good   = netip.MustParseAddr("10.0.0.2")
	remedy = netip.MustParseAddr("10.0.0.1")
	mac    = flow.MAC{2, 0, 0, 0, 0, 9}
)

// packet is what the slow evaluator below is asked about.
type packet struct {
	port     string
	ether    uint16
	mac      flow.MAC
	src, dst netip.Addr
	proto    uint8
	flags    uint8
	sport    uint16
	dport    uint16
	arpOp    uint16
	icmpType uint8
}

// decide is the obvious reading of a list of intents: lowest rank first.
func decide(intents []segmentation.Intent, p packet) segmentation.Action {
	verdict, best := segmentation.ActionAllow, uint16(65535)
	for _, in := range intents {
		m := in.Match
		fits := (m.InPort == "" || m.InPort == p.port) &&
			(m.EtherType == 0 || m.EtherType == p.ether) &&
			(m.SrcMAC == flow.MAC{} || m.SrcMAC == p.mac) &&
			(!m.Src.IsValid() || m.Src.Contains(p.src)) &&
			(!m.Dst.IsValid() || m.Dst.Contains(p.dst)) &&
			(m.Proto == 0 || m.Proto == p.proto) &&
			p.flags&m.TCPFlagsMask == m.TCPFlags &&
			(m.SrcPort == 0 || m.SrcPort == p.sport) && (m.DstPort == 0 || m.DstPort == p.dport) &&
			(m.ARPOp == 0 || m.ARPOp == p.arpOp) &&
			(!m.HasICMPType || m.ICMPType == p.icmpType && !m.NDTarget.IsValid())
		if fits && in.Rank < best {
			verdict, best = in.Action, in.Rank
		}
	}
	return verdict
}

func TestQuarantineSealsExactlyTheHost(t *testing.T) {
	for _, byMAC := range []bool{false, true} {
		in, err := segmentation.Protected{}.Quarantine(segmentation.Quarantine{
			Owner: "d-1", Switch: "s1", Port: "p9", Host: bad, MAC: mac, ByMAC: byMAC, Attached: true,
			Remediation: []netip.Addr{remedy}, TTL: time.Minute, Sample: 66,
		})
		if err != nil {
			t.Fatal(err)
		}
		const ip, arp = flow.EtherIPv4, flow.EtherARP
		deny, allow := segmentation.ActionDeny, segmentation.ActionAllow
		cases := []struct {
			name string
			p    packet
			want segmentation.Action
		}{
			{"attack", packet{port: "p9", ether: ip, mac: mac, src: bad, dst: good}, deny},
			{"towards it", packet{port: "p2", ether: ip, src: good, dst: bad}, deny},
			{"to remediation", packet{port: "p9", ether: ip, mac: mac, src: bad, dst: remedy}, allow},
			{"from remediation", packet{port: "p1", ether: ip, src: remedy, dst: bad}, allow},
			{"its ARP answer", packet{port: "p9", ether: arp, mac: mac, src: bad, dst: good, arpOp: 2}, allow},
			{"ARP for remediation", packet{port: "p9", ether: arp, mac: mac, src: bad, dst: remedy, arpOp: 1}, allow},
			{"ARP sweep", packet{port: "p9", ether: arp, mac: mac, src: bad, dst: good, arpOp: 1}, deny},
			{"ARP for it", packet{port: "p2", ether: arp, src: good, dst: bad, arpOp: 1}, allow},
			{"others", packet{port: "p2", ether: ip, src: good, dst: remedy}, allow},
			{"its address, forged elsewhere", packet{port: "p2", ether: ip, src: bad, dst: good}, allow},
		}
		for _, c := range cases {
			if got := decide(in, c.p); got != c.want {
				t.Errorf("byMAC %v: %s: action %d, want %d", byMAC, c.name, got, c.want)
			}
		}
		moved := packet{port: "p9", ether: ip, mac: mac, src: netip.MustParseAddr("10.0.0.77"), dst: good}
		if got := decide(in, moved) == deny; got != byMAC {
			t.Errorf("byMAC %v: a new address of the host is denied: %v", byMAC, got)
		}
		for _, i := range in {
			if i.TTL != time.Minute || i.Tier != segmentation.TierEmergency {
				t.Errorf("%s: TTL %s, tier %d: every emergency rule must expire", i.ID, i.TTL, i.Tier)
			}
		}
	}
}

func TestLimitSparesHonestAddresses(t *testing.T) {
	in, err := segmentation.Protected{}.LimitFlood(segmentation.FloodLimit{
		Owner: "d-2", Switch: "s1", Port: "p9", Victim: good, Proto: flow.ProtoTCP,
		Honest: []netip.Addr{bad}, Limit: segmentation.Limit{PacketsPerSecond: 100, Burst: 10}, TTL: time.Minute,
	})
	if err != nil {
		t.Fatal(err)
	}
	forged := packet{port: "p9", ether: flow.EtherIPv4, src: netip.MustParseAddr("198.51.100.3"), dst: good, proto: flow.ProtoTCP, flags: flow.SYN}
	if got := decide(in, forged); got != segmentation.ActionRateLimit {
		t.Errorf("forged SYN: action %d", got)
	}
	honest := forged
	honest.src = bad
	established := forged
	established.flags = flow.ACK
	elsewhere := forged
	elsewhere.port = "p2"
	for name, p := range map[string]packet{"honest address": honest, "established": established, "another port": elsewhere} {
		if got := decide(in, p); got != segmentation.ActionAllow {
			t.Errorf("%s: action %d, want allow", name, got)
		}
	}
}

// Each attack is limited by what it is made of.
func TestLimitFitsTheFlood(t *testing.T) {
	stranger := netip.MustParseAddr("198.51.100.3")
	udp := packet{port: "p9", ether: flow.EtherIPv4, src: stranger, dst: good, proto: flow.ProtoUDP, sport: 53, dport: 6666}
	question := packet{port: "p9", ether: flow.EtherIPv4, src: good, dst: stranger, proto: flow.ProtoUDP, sport: 6666, dport: 53}
	tcp := packet{port: "p9", ether: flow.EtherIPv4, src: stranger, dst: good, proto: flow.ProtoTCP}
	segment, attempt, other := tcp, tcp, udp
	segment.flags, attempt.flags, other.sport = flow.ACK|flow.PSH, flow.SYN, 5000
	for name, c := range map[string]struct {
		f       segmentation.FloodLimit
		limited []packet
		allowed []packet
	}{
		"segments":  {segmentation.FloodLimit{Proto: flow.ProtoTCP, Segments: true}, []packet{segment}, []packet{attempt, udp}},
		"attempts":  {segmentation.FloodLimit{Proto: flow.ProtoTCP}, []packet{attempt}, []packet{segment, udp}},
		"answers":   {segmentation.FloodLimit{Proto: flow.ProtoUDP, Reflector: 53}, []packet{udp}, []packet{other, question, segment}},
		"questions": {segmentation.FloodLimit{Proto: flow.ProtoUDP, Reflector: 53, Asking: true, Honest: []netip.Addr{good}}, []packet{question}, []packet{other, udp, segment}},
	} {
		f := c.f
		f.Owner, f.Switch, f.Port, f.Victim = "d-3", "s1", "p9", good
		f.Limit, f.TTL = segmentation.Limit{PacketsPerSecond: 100, Burst: 10}, time.Minute
		in, err := segmentation.Protected{}.LimitFlood(f)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		want := segmentation.ActionRateLimit
		if f.Asking {
			want = segmentation.ActionDeny
		}
		for _, p := range c.limited {
			if decide(in, p) != want {
				t.Errorf("%s: %+v is not limited", name, p)
			}
		}
		for _, p := range c.allowed {
			if decide(in, p) != segmentation.ActionAllow {
				t.Errorf("%s: %+v is limited", name, p)
			}
		}
	}
}

func TestRefusals(t *testing.T) {
	p := segmentation.NewProtected([]netip.Prefix{netip.MustParsePrefix("10.0.0.0/29")})
	ok := segmentation.Quarantine{Owner: "d", Switch: "s", Port: "p", Host: bad, TTL: time.Minute}
	if _, err := p.Quarantine(ok); err != nil {
		t.Fatalf("a host outside the protected prefix was refused: %v", err)
	}
	protected := ok
	protected.Host = good
	if _, err := p.Quarantine(protected); !errors.Is(err, segmentation.ErrProtected) {
		t.Errorf("protected host: %v", err)
	}
	flood := segmentation.FloodLimit{Owner: "d", Switch: "s", Port: "p", Victim: bad, Source: good, Proto: 17,
		Limit: segmentation.Limit{PacketsPerSecond: 1}, TTL: time.Minute}
	if _, err := p.LimitFlood(flood); !errors.Is(err, segmentation.ErrProtected) {
		t.Errorf("protected source: %v", err)
	}
	for name, change := range map[string]func(*segmentation.Quarantine){
		"no TTL":     func(q *segmentation.Quarantine) { q.TTL = 0 },
		"long TTL":   func(q *segmentation.Quarantine) { q.TTL = 24 * time.Hour },
		"no port":    func(q *segmentation.Quarantine) { q.Port = "" },
		"no owner":   func(q *segmentation.Quarantine) { q.Owner = "" },
		"nobody":     func(q *segmentation.Quarantine) { q.Host = netip.Addr{} },
		"MAC needed": func(q *segmentation.Quarantine) { q.ByMAC = true },
	} {
		q := ok
		change(&q)
		if in, err := p.Quarantine(q); err == nil {
			t.Errorf("%s: compiled to %d rules", name, len(in))
		}
	}
}

func TestForgedSourceCannotCutItsOwnerOff(t *testing.T) {
	in, err := segmentation.Protected{}.Quarantine(segmentation.Quarantine{Owner: "d-3", Switch: "s1", Port: "p9", Host: good, TTL: time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	forged := packet{port: "p9", ether: flow.EtherIPv4, src: good, dst: bad}
	if got := decide(in, forged); got != segmentation.ActionDeny {
		t.Errorf("forged packet: action %d, want deny", got)
	}
	for _, p := range []packet{
		{port: "p2", ether: flow.EtherIPv4, src: good, dst: remedy},
		{port: "p1", ether: flow.EtherIPv4, src: remedy, dst: good},
	} {
		if got := decide(in, p); got != segmentation.ActionAllow {
			t.Errorf("%+v: action %d, want allow", p, got)
		}
	}
}

// No request, however odd, yields a rule that denies or limits what a
// protected address sends, or one that never expires.
func TestProtectedIsNeverHit(t *testing.T) {
	prefix := netip.MustParsePrefix("10.0.0.0/29")
	p := segmentation.NewProtected([]netip.Prefix{prefix})
	addr := rapid.Custom(func(t *rapid.T) netip.Addr {
		return netip.AddrFrom4([4]byte{10, 0, 0, rapid.ByteRange(0, 15).Draw(t, "host")})
	})
	rapid.Check(t, func(t *rapid.T) {
		ttl := time.Duration(rapid.IntRange(-5, 70000).Draw(t, "ttl")) * time.Second
		q, _ := p.Quarantine(segmentation.Quarantine{Owner: "d", Switch: "s", Port: "p", Host: addr.Draw(t, "host"), MAC: mac, TTL: ttl,
			Remediation: rapid.SliceOfN(addr, 0, 3).Draw(t, "remediation")})
		f, _ := p.LimitFlood(segmentation.FloodLimit{Owner: "d", Switch: "s", Port: "p", Victim: addr.Draw(t, "victim"), Source: addr.Draw(t, "source"),
			Proto: flow.ProtoUDP, Limit: segmentation.Limit{PacketsPerSecond: 5}, TTL: ttl,
			Reflector: rapid.SampledFrom([]uint16{0, 53}).Draw(t, "reflector"), Asking: rapid.Bool().Draw(t, "asking")})
		for _, in := range append(q, f...) {
			if in.TTL <= 0 || in.TTL > 65535*time.Second {
				t.Fatalf("%s lives for %s", in.ID, in.TTL)
			}
			if in.Action != segmentation.ActionAllow && in.Match.Src.IsValid() && prefix.Contains(in.Match.Src.Addr()) {
				t.Fatalf("%s hits protected %s", in.ID, in.Match.Src)
			}
		}
	})
}

// A sweep goes on by whatever address the host has: what was caught is the
// MAC that asks.
func TestQuarantineStopsTheSweepOfAMAC(t *testing.T) {
	six := netip.MustParseAddr("fd00::9")
	asks := []packet{
		{port: "p9", ether: flow.EtherARP, mac: mac, src: netip.MustParseAddr("10.0.0.77"), dst: good, arpOp: 1},
		{port: "p9", ether: flow.EtherIPv6, mac: mac, src: six, proto: flow.ProtoICMPv6, icmpType: 135},
	}
	others := []packet{
		{port: "p9", ether: flow.EtherIPv6, mac: mac, src: six, proto: flow.ProtoTCP},
		{port: "p9", ether: flow.EtherIPv6, mac: mac, src: six, proto: flow.ProtoICMPv6, icmpType: 136},
		{port: "p9", ether: flow.EtherARP, mac: mac, src: netip.MustParseAddr("10.0.0.77"), dst: good, arpOp: 2},
		{port: "p9", ether: flow.EtherIPv6, mac: flow.MAC{2, 0, 0, 0, 0, 8}, src: six, proto: flow.ProtoICMPv6, icmpType: 135},
	}
	for _, host := range []netip.Addr{bad, {}} {
		in, err := segmentation.Protected{}.Quarantine(segmentation.Quarantine{
			Owner: "d-1", Switch: "s1", Port: "p9", Host: host, MAC: mac, Sweep: true, Attached: true, TTL: time.Minute,
		})
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range asks {
			if decide(in, p) != segmentation.ActionDeny {
				t.Errorf("host %v: %+v passes", host, p)
			}
		}
		for _, p := range others {
			if decide(in, p) != segmentation.ActionAllow {
				t.Errorf("host %v: %+v is dropped", host, p)
			}
		}
	}
	if _, err := (segmentation.Protected{}).Quarantine(segmentation.Quarantine{Owner: "d-1", Switch: "s1", Port: "p9", Host: bad, Sweep: true, TTL: time.Minute}); err == nil {
		t.Error("a sweep of an unknown MAC was accepted")
	}
}

// Who claims addresses of others may still say where he is himself.
func TestQuarantineStopsClaims(t *testing.T) {
	in, err := segmentation.Protected{}.Quarantine(segmentation.Quarantine{
		Owner: "d-1", Switch: "s1", Port: "p9", Host: bad, MAC: mac, Claims: true, Attached: true, TTL: time.Minute,
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range []packet{
		{port: "p9", ether: flow.EtherARP, mac: mac, src: good, arpOp: 2},
		{port: "p9", ether: flow.EtherARP, mac: mac, src: good, arpOp: 1},
		{port: "p9", ether: flow.EtherIPv6, mac: mac, src: netip.MustParseAddr("fd00::9"), proto: flow.ProtoICMPv6, icmpType: 136},
		{port: "p9", ether: flow.EtherIPv6, mac: mac, src: netip.MustParseAddr("fd00::9"), proto: flow.ProtoICMPv6, icmpType: 134},
	} {
		if decide(in, p) != segmentation.ActionDeny {
			t.Errorf("%+v passes", p)
		}
	}
	for _, p := range []packet{
		{port: "p9", ether: flow.EtherARP, mac: mac, src: bad, arpOp: 2},
		{port: "p9", ether: flow.EtherARP, mac: flow.MAC{2, 0, 0, 0, 0, 8}, src: good, arpOp: 2},
		{port: "p1", ether: flow.EtherARP, mac: mac, src: good, arpOp: 2},
	} {
		if decide(in, p) != segmentation.ActionAllow {
			t.Errorf("%+v is dropped", p)
		}
	}
}

func TestPortLockSparesWhoIsKnown(t *testing.T) {
	known := flow.MAC{2, 0, 0, 0, 0, 8}
	lock := segmentation.PortLock{Owner: "d-1", Switch: "s1", Port: "p9", Known: []flow.MAC{known}, TTL: time.Minute, Sample: 655}
	in, err := segmentation.LockPort(lock)
	if err != nil {
		t.Fatal(err)
	}
	for p, want := range map[packet]segmentation.Action{
		{port: "p9", ether: flow.EtherIPv4, mac: mac, src: good, proto: flow.ProtoTCP}:   segmentation.ActionDeny,
		{port: "p9", ether: flow.EtherARP, mac: mac, src: good, arpOp: 2}:                segmentation.ActionDeny,
		{port: "p9", ether: flow.EtherIPv4, mac: known, src: good, proto: flow.ProtoTCP}: segmentation.ActionAllow,
		{port: "p1", ether: flow.EtherIPv4, mac: mac, src: good, proto: flow.ProtoTCP}:   segmentation.ActionAllow,
	} {
		if got := decide(in, p); got != want {
			t.Errorf("%+v: %v", p, got)
		}
	}
	if last := in[len(in)-1]; last.Sample == 0 || last.TTL != time.Minute || last.Tier != segmentation.TierEmergency {
		t.Errorf("%+v", last)
	}
	for name, edit := range map[string]func(*segmentation.PortLock){
		"no port":        func(l *segmentation.PortLock) { l.Port = "" },
		"no TTL":         func(l *segmentation.PortLock) { l.TTL = 0 },
		"a zero MAC":     func(l *segmentation.PortLock) { l.Known = []flow.MAC{{}} },
		"a port of many": func(l *segmentation.PortLock) { l.Known = make([]flow.MAC, 33) },
	} {
		bad := lock
		edit(&bad)
		if _, err := segmentation.LockPort(bad); err == nil {
			t.Errorf("%s was accepted", name)
		}
	}
}

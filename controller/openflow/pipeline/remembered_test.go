package pipeline_test

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/platelet-sdn/platelet/controller/openflow/pipeline"
	"github.com/platelet-sdn/platelet/flowcollector/flow"
	"github.com/platelet-sdn/platelet/segmentation/policy"
)

// Chunks of SCTP (RFC 9260, section 3.2).
const (
	chunkData       = 0
	chunkInit       = 1
	chunkInitAck    = 2
	chunkSACK       = 3
	chunkCookieEcho = 10
	chunkCookieAck  = 11
)

// chunk is a packet of SCTP with one chunk.
func chunk(src, dst uint16, kind byte, body []byte) []byte {
	b := binary.BigEndian.AppendUint16(nil, src)
	b = binary.BigEndian.AppendUint16(b, dst)
	b = append(b, make([]byte, 8)...)
	b = append(b, kind, 3)
	b = binary.BigEndian.AppendUint16(b, uint16(4+len(body)))
	b = append(b, body...)
	binary.LittleEndian.PutUint32(b[8:], crc32.Checksum(b, crc32.MakeTable(crc32.Castagnoli)))
	return b
}

// speaker speaks an IP protocol that the kernel leaves to it. Of SCTP it knows
// as much as it takes to open an association and to have data acknowledged; of
// all else it sends back what it gets.
type speaker struct {
	conn     *net.IPConn
	port     uint16
	received atomic.Uint64
	chunks   [16]atomic.Uint64 // that came, and that were sent unasked
	sent     [16]atomic.Uint64
	mute     atomic.Bool // answers nothing
}

func (l *lab) speaker(host int, proto uint8, port uint16) *speaker {
	l.t.Helper()
	s := &speaker{port: port}
	l.inHost(host, func() (err error) {
		s.conn, err = net.ListenIP(fmt.Sprintf("ip4:%d", proto), &net.IPAddr{IP: l.addr(host).AsSlice()})
		return err
	})
	var wg sync.WaitGroup
	l.t.Cleanup(func() { s.conn.Close(); wg.Wait() })
	wg.Go(func() {
		buf := make([]byte, 2048)
		for {
			n, from, err := s.conn.ReadFromIP(buf)
			if err != nil {
				return
			}
			s.take(proto, buf[:n], from)
		}
	})
	return s
}

func (s *speaker) take(proto uint8, b []byte, from *net.IPAddr) {
	if proto != flow.ProtoSCTP {
		s.received.Add(1)
		if s.port != 0 && !s.mute.Load() { // who has a port is asked
			_, _ = s.conn.WriteToIP(b, from)
		}
		return
	}
	if len(b) < 16 || binary.BigEndian.Uint16(b[2:]) != s.port {
		return
	}
	s.received.Add(1)
	kind := b[12] & 15
	s.chunks[kind].Add(1)
	answers := map[byte]byte{chunkInit: chunkInitAck, chunkInitAck: chunkCookieEcho, chunkCookieEcho: chunkCookieAck, chunkData: chunkSACK}
	if back, ok := answers[kind]; ok && !s.mute.Load() {
		_, _ = s.conn.WriteToIP(chunk(s.port, binary.BigEndian.Uint16(b), back, b[16:]), from)
	}
}

// send sends a chunk, or for other protocols than SCTP anything.
func (s *speaker) send(l *lab, to netip.Addr, port uint16, kind byte) {
	l.t.Helper()
	if _, err := s.conn.WriteToIP(chunk(s.port, port, kind, make([]byte, 16)), &net.IPAddr{IP: to.AsSlice()}); err != nil {
		l.t.Fatal(err)
	}
	s.sent[kind].Add(1)
}

// has waits until a chunk has come, asking for it again and again.
func (s *speaker) has(l *lab, kind byte, ask func()) {
	l.t.Helper()
	before := s.chunks[kind].Load()
	l.eventually(fmt.Sprintf("a chunk of type %d", kind), func() bool { ask(); return s.chunks[kind].Load() > before })
}

// associate opens an association from one speaker to the port of another, and
// sends data.
func (s *speaker) associate(l *lab, to netip.Addr, port uint16) {
	l.t.Helper()
	s.has(l, chunkCookieAck, func() { s.send(l, to, port, chunkInit) })
	s.has(l, chunkSACK, func() { s.send(l, to, port, chunkData) })
}

// blocked sends until a rule has met more of it, and holds that nothing of it
// comes.
func (s *speaker) blocked(l *lab, met func() uint64, to *speaker, addr netip.Addr, port uint16, kind byte) {
	l.t.Helper()
	l.settle()
	already, came := met(), to.received.Load()
	l.eventually("a rule to drop it", func() bool { s.send(l, addr, port, kind); return met() >= already+3 })
	if n := to.received.Load(); n != came {
		l.t.Errorf("%d packets came through", n-came)
	}
}

// taught counts the flows that packets have taught.
func (l *lab) taught() int {
	return strings.Count(l.ofctl("dump-flows", "--no-stats", fmt.Sprintf("table=%d", pipeline.DefaultBase+pipeline.TableRemembered)), "cookie=0x504c0318")
}

// diameter allows SCTP to port 3868 of host 1 from host 0, both ends' rules
// agreeing, and denies all else.
func (l *lab) diameter() []want {
	in := l.rule("in", policy.TierApplication, 1, policy.ActionAllow, 1, flow.ProtoSCTP, 3868)
	in.peer = l.prefix(0)
	out := in
	out.name, out.direction, out.own, out.peer = "out", policy.Egress, in.peer, in.own
	return append(denyAll(), in, out)
}

// An association that rules allow comes about and goes on, data both ways, and
// ends at once with the rule; nobody else opens one, nor the server towards the
// client.
func TestSCTPComesAboutWhereItIsAllowed(t *testing.T) {
	l := newLab(t, "ra", 3)
	b := l.start()
	client, server, other := l.speaker(0, flow.ProtoSCTP, 50000), l.speaker(1, flow.ProtoSCTP, 3868), l.speaker(2, flow.ProtoSCTP, 50000)
	l.enforce(b, l.diameter()...)
	denied := l.met(b, "deny out")
	other.blocked(l, denied, server, l.addr(1), 3868, chunkInit)
	server.blocked(l, denied, client, l.addr(0), 50000, chunkInit) // unasked
	client.blocked(l, denied, server, l.addr(1), 3869, chunkInit)
	client.associate(l, l.addr(1), 3868)
	if h := l.hits(b, "in"); h.Packets == 0 {
		t.Error("the rule that allows it has met nothing")
	}
	client.has(l, chunkData, func() { server.send(l, l.addr(0), 50000, chunkData) }) // by itself, now
	server.blocked(l, denied, client, l.addr(0), 50001, chunkData)
	l.eventually("one opening to be counted", func() bool { return l.hits(b, "in").Connections == 1 })
	if n := l.taught(); n != 2 {
		t.Errorf("%d flows are taught for one association:\n%s", n, l.ofctl("dump-flows", "--no-stats"))
	}

	l.enforce(b, denyAll()...)
	client.blocked(l, denied, server, l.addr(1), 3868, chunkData)
	server.blocked(l, l.met(b, "deny out"), client, l.addr(0), 50000, chunkData)
	l.enforce(b, l.diameter()...)
	client.has(l, chunkSACK, func() { client.send(l, l.addr(1), 3868, chunkData) })
}

// What is established goes on under a rule that keeps it, and nobody else
// begins.
func TestSCTPIsKept(t *testing.T) {
	l := newLab(t, "rb", 3)
	b := l.start()
	client, server, other := l.speaker(0, flow.ProtoSCTP, 50000), l.speaker(1, flow.ProtoSCTP, 3868), l.speaker(2, flow.ProtoSCTP, 50000)
	l.enforce(b, l.rule("allow", policy.TierBaseline, 1, policy.ActionAllow, 1, flow.ProtoSCTP, 3868))
	client.associate(l, l.addr(1), 3868)
	deny := l.rule("deny", policy.TierBaseline, 2, policy.ActionDeny, 1, 0, 0)
	deny.established = policy.EstablishedKeep
	l.enforce(b, deny)
	other.blocked(l, l.met(b, "deny"), server, l.addr(1), 3868, chunkInit)
	client.has(l, chunkSACK, func() { client.send(l, l.addr(1), 3868, chunkData) })
	client.has(l, chunkData, func() { server.send(l, l.addr(0), 50000, chunkData) })
}

// Protocols without ports are told apart by addresses: answers pass, and what
// is not asked for does not.
func TestTunnelsComeAboutWhereTheyAreAllowed(t *testing.T) {
	for _, proto := range []uint8{4, 47, 50, 51} { // IP in IP, GRE, ESP, AH
		t.Run(policy.Proto(proto).String(), func(t *testing.T) {
			l := newLab(t, "rc", 2)
			b := l.start()
			opener, end := l.speaker(0, proto, 0), l.speaker(1, proto, 1)
			in := l.rule("in", policy.TierApplication, 1, policy.ActionAllow, 1, proto, 0)
			out := in
			out.name, out.direction, out.own, out.peer = "out", policy.Egress, l.prefix(0), l.prefix(1)
			l.enforce(b, append(denyAll(), in, out)...)
			end.blocked(l, l.met(b, "deny out"), opener, l.addr(0), 0, 0)
			l.eventually("an answer", func() bool { opener.send(l, l.addr(1), 0, 0); return opener.received.Load() > 0 })
			l.enforce(b, denyAll()...)
			end.mute.Store(true)
			end.blocked(l, l.met(b, "deny out"), opener, l.addr(0), 0, 0)
		})
	}
}

// Connections that the switch remembers outlive us, are no drift, are not
// healed, listed or counted as rules, and go with the last policy. What somebody else puts among
// them is a conflict.
func TestRememberedFlowsAreLeftAlone(t *testing.T) {
	l := newLab(t, "rd", 2)
	b := l.start()
	client, server := l.speaker(0, flow.ProtoSCTP, 50000), l.speaker(1, flow.ProtoSCTP, 3868)
	l.enforce(b, l.diameter()...)
	client.associate(l, l.addr(1), 3868)
	if n := l.taught(); n != 2 {
		t.Fatalf("%d flows are taught", n)
	}
	quiet := func(b *running) {
		t.Helper()
		if drift, err := b.Drift(l.ctx); err != nil || len(drift) > 0 {
			t.Errorf("drift %+v, %v", drift, err)
		}
		rules, err := b.Rules(l.ctx)
		if err != nil || len(rules) == 0 {
			t.Fatal(rules, err)
		}
		for _, r := range rules {
			if r.Category == pipeline.CategoryRemembered.String() {
				t.Errorf("listed as a rule: %+v", r)
			}
		}
	}
	quiet(b)
	healed := b.Status().Healed
	l.ofctl("del-flows", fmt.Sprintf("table=%d", pipeline.DefaultBase)) // something to heal
	l.eventually("a heal", func() bool { return b.Status().Healed > healed })
	quiet(b)
	b.stop()
	client.mute.Store(true)
	client.has(l, chunkData, func() { server.send(l, l.addr(0), 50000, chunkData) }) // without us
	again := l.newBridge()
	if _, err := again.SetPolicy(l.ctx, programOf(l.diameter()...)); err == nil {
		t.Fatal("a bridge that is not connected has set policies")
	}
	b = l.run(again)
	l.eventually("the bridge to connect", func() bool { return b.Connected() })
	quiet(b)
	if n := l.taught(); n != 2 {
		t.Errorf("%d flows are left of 2 after a restart of ours", n)
	}
	client.has(l, chunkData, func() { server.send(l, l.addr(0), 50000, chunkData) })

	l.ofctl("add-flow", fmt.Sprintf("table=%d,priority=9,actions=drop", pipeline.DefaultBase+pipeline.TableRemembered))
	if drift, err := b.Drift(l.ctx); err != nil || len(drift) != 1 || drift[0].Kind != pipeline.DriftForeign {
		t.Errorf("drift %+v, %v", drift, err)
	}
	l.ofctl("del-flows", fmt.Sprintf("table=%d,cookie=0/-1", pipeline.DefaultBase+pipeline.TableRemembered))
	if err := b.RemoveAll(l.ctx); err != nil {
		t.Fatal(err)
	}
	l.eventually("what was taught to go", func() bool { return l.taught() == 0 })
}

// A switch that restarts has forgotten; whoever opened a connection has it back
// with the next packet.
func TestRememberedAfterTheSwitchRestarts(t *testing.T) {
	l := newLab(t, "re", 2)
	b := l.start()
	client, _ := l.speaker(0, flow.ProtoSCTP, 50000), l.speaker(1, flow.ProtoSCTP, 3868)
	l.enforce(b, l.diameter()...)
	client.associate(l, l.addr(1), 3868)
	if err := l.sw.KillSwitch(); err != nil {
		t.Fatal(err)
	}
	if err := l.sw.StartSwitch(l.ctx); err != nil {
		t.Fatal(err)
	}
	l.eventually("everything to be back", func() bool {
		client.send(l, l.addr(1), 3868, chunkData) // before our flows are back, it teaches nothing
		drift, err := b.Drift(l.ctx)
		return err == nil && len(drift) == 0 && l.taught() == 2
	})
	client.has(l, chunkSACK, func() { client.send(l, l.addr(1), 3868, chunkData) })
}

// Policies that come and go cost an association nothing that stays allowed.
func TestPolicyChangesSpareAssociations(t *testing.T) {
	l := newLab(t, "rf", 2)
	b := l.start()
	client, server := l.speaker(0, flow.ProtoSCTP, 50000), l.speaker(1, flow.ProtoSCTP, 3868)
	allowed := func(r *rand.Rand) []want {
		w := l.rule("allow sctp", []policy.Tier{policy.TierAdmin, policy.TierApplication}[r.IntN(2)], uint16(50+r.IntN(9)), policy.ActionAllow, 1, flow.ProtoSCTP, 3868)
		w.log = r.IntN(2) == 0
		return append(l.shuffled(r), w)
	}
	seed := rand.Uint64()
	r := rand.New(rand.NewPCG(seed, 0))
	l.enforce(b, allowed(r)...)
	client.associate(l, l.addr(1), 3868)
	for change := range 60 {
		l.enforce(b, allowed(r)...)
		for range 40 {
			client.send(l, l.addr(1), 3868, chunkData)
		}
		sent := client.sent[chunkData].Load()
		l.eventually(fmt.Sprintf("all data and acknowledgements after %d changes (seed %d)", change+1, seed), func() bool {
			return server.chunks[chunkData].Load() == sent && client.chunks[chunkSACK].Load() == sent
		})
	}
}

// forged sends packets that open associations from addresses that nobody has.
func (l *lab) forged(host, to int, port uint16, n int) {
	l.t.Helper()
	mac := l.hardware(to)
	l.transmitEach(host, n, func(_ int, from net.HardwareAddr) ([]byte, error) {
		body := chunk(uint16(rand.Uint32()), port, chunkInit, make([]byte, 16))
		ip := binary.BigEndian.AppendUint16([]byte{4<<4 | 5, 0}, uint16(20+len(body)))
		ip = append(ip, 0, 0, 0, 0, 64, flow.ProtoSCTP, 0, 0, 11, byte(rand.Uint32()), byte(rand.Uint32()), byte(rand.Uint32()))
		ip = append(ip, l.addr(to).AsSlice()...)
		sum := uint32(0)
		for i := 0; i < len(ip); i += 2 {
			sum += uint32(binary.BigEndian.Uint16(ip[i:]))
		}
		binary.BigEndian.PutUint16(ip[10:], ^uint16(sum>>16+sum&0xffff))
		return slices.Concat(mac, from, []byte{8, 0}, ip, body), nil
	})
}

// A flood from forged sources fills what the switch remembers up to its limit,
// and harms nobody who is remembered; who comes new is served as well, and
// nobody else is let in by it.
func TestForgedAssociationsAreBounded(t *testing.T) {
	l := newLab(t, "rg", 3)
	b := l.start()
	client, server, late := l.speaker(0, flow.ProtoSCTP, 50000), l.speaker(1, flow.ProtoSCTP, 3868), l.speaker(2, flow.ProtoSCTP, 50000)
	deny := l.rule("deny", policy.TierBaseline, 1, policy.ActionDeny, 1, 0, 0)
	own := deny
	own.name, own.direction = "own", policy.Egress
	l.enforce(b, l.rule("allow", policy.TierApplication, 1, policy.ActionAllow, 1, flow.ProtoSCTP, 3868), deny, own)
	client.associate(l, l.addr(1), 3868)
	started := time.Now()
	sent, passed := 0, uint64(0)
	l.eventually("a flood to have passed", func() bool {
		l.forged(2, 1, 3868, 512)
		sent, passed = sent+512, l.hits(b, "allow").Packets
		return passed >= 4*pipeline.RememberedLimit
	})
	took := time.Since(started)
	flows := strings.Count(l.datapath(), "sctp")
	n := l.taught()
	t.Logf("%d of %d packets in %v, %d flows taught, %d in the datapath", passed, sent, took, n, flows)
	if n > 2*pipeline.RememberedLimit+2 || n < pipeline.RememberedLimit {
		t.Errorf("%d flows are taught, with a limit of %d connections", n, pipeline.RememberedLimit)
	}
	asked := client.sent[chunkData].Load() + 100
	for range 100 {
		client.send(l, l.addr(1), 3868, chunkData)
	}
	l.eventually("everything of who was there before", func() bool { return client.chunks[chunkSACK].Load() == asked })
	late.associate(l, l.addr(1), 3868)
	server.port = 3870
	server.blocked(l, l.met(b, "own"), late, l.addr(2), 50000, chunkInit)
	if drift, err := b.Drift(l.ctx); err != nil || len(drift) > 0 {
		t.Errorf("drift %+v, %v", drift, err)
	}
}

// datapath is what the datapath holds.
func (l *lab) datapath() string {
	l.t.Helper()
	out, err := l.sw.Appctl(l.ctx, "dpctl/dump-flows", "-m")
	if err != nil {
		l.t.Fatal(err)
	}
	return out
}

// Who is rejected hears of it by an ICMP error, and a limit holds for what the
// opener sends, not for what it gets.
func TestSCTPIsRejectedAndLimited(t *testing.T) {
	l := newLab(t, "rh", 2)
	b := l.start()
	client, server, errors := l.speaker(0, flow.ProtoSCTP, 50000), l.speaker(1, flow.ProtoSCTP, 3868), l.speaker(0, flow.ProtoICMP, 0)
	l.enforce(b, l.rule("reject", policy.TierApplication, 1, policy.ActionReject, 1, flow.ProtoSCTP, 3868))
	l.settle()
	l.eventually("an ICMP error", func() bool { client.send(l, l.addr(1), 3868, chunkInit); return errors.received.Load() > 0 })
	if server.received.Load() != 0 {
		t.Error("the server heard of what is rejected")
	}
	limit := l.rule("limit", policy.TierApplication, 1, policy.ActionRateLimit, 1, flow.ProtoSCTP, 3868)
	limit.rate = policy.Rate{PacketsPerSecond: 50, Burst: 5}
	l.enforce(b, limit)
	client.associate(l, l.addr(1), 3868)
	start, came := time.Now(), server.received.Load()
	l.eventually("the limit to meet a thousand packets", func() bool {
		for range 100 {
			client.send(l, l.addr(1), 3868, chunkData)
		}
		return l.hits(b, "limit").Packets >= 1000
	})
	if n, most := server.received.Load()-came, 100+uint64(time.Since(start).Seconds()*50); n > most {
		t.Errorf("%d of a thousand packets passed a limit of 50 a second, want at most %d", n, most)
	}
	for range 200 {
		server.send(l, l.addr(0), 50000, chunkData)
	}
	l.eventually("all answers", func() bool { return client.chunks[chunkData].Load() == server.sent[chunkData].Load() })
}

package attack_test

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"maps"
	"math"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
	"github.com/gopacket/gopacket/pcapgo"
	"github.com/platelet-sdn/platelet/lab/agent"
	"github.com/platelet-sdn/platelet/lab/attack"
	"github.com/platelet-sdn/platelet/lab/capture"
	"github.com/platelet-sdn/platelet/lab/labtest"
	"github.com/platelet-sdn/platelet/lab/runner"
)

// frame is a captured packet, as far as the recording holds it.
type frame struct {
	at       time.Time
	length   int // on the wire
	src, dst string
	mac      string
	port     uint16 // destination
	flags    uint8
	kind     string
}

// stage is a lab on which attacks are played.
type stage struct {
	lab   *runner.Lab
	roles attack.Roles
}

func newStage(ctx context.Context, t *testing.T, topology string) stage {
	t.Helper()
	lab := labtest.New(ctx, t, topology).Up(ctx, t)
	roles, err := attack.Cast(lab, 0)
	if err != nil {
		t.Fatal(err)
	}
	return stage{lab, roles}
}

// recording is what one run left.
type recording struct {
	sent, received []frame
	truth          []agent.Action
	owned          map[string][]netip.Addr
	spent          agent.Spent
}

// record plays an attack to its end and captures what leaves the attackers and
// what arrives where the attack says.
func (s stage) record(ctx context.Context, t *testing.T, a attack.Attack, set attack.Settings) recording {
	t.Helper()
	return s.recordSome(ctx, t, a, set, math.MaxUint64)
}

// recordSome is record that ends the attack after so many packets, or somewhat
// more.
func (s stage) recordSome(ctx context.Context, t *testing.T, a attack.Attack, set attack.Settings, packets uint64) recording {
	t.Helper()
	var rec recording
	undo, err := a.Prepare(ctx, s.lab, s.roles)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := undo(ctx); err != nil {
			t.Error(err)
		}
	}()
	out, in, stop := s.capture(ctx, t, a)
	var lines strings.Builder
	truth := agent.NewTruth(&lines)
	set.Truth = truth
	run, err := a.Start(ctx, s.lab, s.roles, set)
	if err != nil {
		t.Fatal(err)
	}
	s.await(ctx, t, run, packets)
	if err := run.Stop(); err != nil {
		t.Fatal(err)
	}
	stop()
	if err := truth.Flush(); err != nil {
		t.Fatal(err)
	}
	rec.sent, rec.received = read(t, out...), read(t, in...)
	rec.truth, rec.spent, rec.owned = actions(t, lines.String()), run.Spent(), map[string][]netip.Addr{}
	for _, p := range s.roles.Attackers {
		rec.owned[p.Node] = truth.Addrs(p.Node)
	}
	return rec
}

// await waits for the end of an attack, or until so many packets have left.
func (s stage) await(ctx context.Context, t *testing.T, run *attack.Running, packets uint64) {
	t.Helper()
	counter, err := attack.NewCounter(s.lab, s.roles)
	if err != nil {
		t.Fatal(err)
	}
	defer counter.Close()
	start, err := counter.Sent()
	if err != nil {
		t.Fatal(err)
	}
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-run.Done():
			return
		case <-ctx.Done():
			t.Fatal("the attack does not end")
		case <-tick.C:
		}
		if now, err := counter.Sent(); err != nil || now-start >= packets {
			return
		}
	}
}

// capture starts captures of what leaves and of what arrives, and returns
// their files and how to end them.
func (s stage) capture(ctx context.Context, t *testing.T, a attack.Attack) (out, in []string, stop func()) {
	t.Helper()
	dir := t.TempDir()
	var captures []*capture.Capture
	start := func(node, iface string, leaving bool) string {
		file := filepath.Join(dir, node+".pcap")
		if leaving {
			file += ".out"
		}
		c, err := capture.Start(ctx, s.lab, node, iface, file, capture.Options{Filter: a.Filter(s.roles), Out: leaving})
		if err != nil {
			t.Fatal(err)
		}
		captures = append(captures, c)
		return file
	}
	for _, p := range a.Parties(s.roles) {
		out = append(out, start(p.Node, p.Iface, true))
	}
	for _, node := range a.Watch(s.roles) {
		iface, err := s.lab.Interface(node)
		if err != nil {
			t.Fatal(err)
		}
		in = append(in, start(node, iface, false))
	}
	return out, in, func() {
		var stopping sync.WaitGroup
		for _, c := range captures {
			stopping.Go(func() {
				if _, dropped, err := c.Stop(ctx); err != nil || dropped > 0 {
					t.Errorf("capture missed %d: %v", dropped, err)
				}
			})
		}
		stopping.Wait()
	}
}

func actions(t *testing.T, lines string) []agent.Action {
	t.Helper()
	var out []agent.Action
	for dec := json.NewDecoder(strings.NewReader(lines)); ; {
		var a agent.Action
		if err := dec.Decode(&a); errors.Is(err, io.EOF) {
			return out
		} else if err != nil {
			t.Fatal(err)
		}
		out = append(out, a)
	}
}

// read decodes recordings with gopacket, in the order of time.
func read(t *testing.T, files ...string) []frame {
	t.Helper()
	var out []frame
	for _, file := range files {
		f, err := os.Open(file)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		r, err := pcapgo.NewReader(f)
		if err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		for {
			data, info, err := r.ReadPacketData()
			if err != nil {
				break
			}
			out = append(out, decode(data, info))
		}
	}
	slices.SortStableFunc(out, func(a, b frame) int { return a.at.Compare(b.at) })
	return out
}

func decode(data []byte, info gopacket.CaptureInfo) frame {
	p := gopacket.NewPacket(data, layers.LayerTypeEthernet, gopacket.NoCopy)
	f := frame{at: info.Timestamp, length: info.Length}
	for _, l := range p.Layers() {
		switch l := l.(type) {
		case *layers.Ethernet:
			f.mac = l.SrcMAC.String()
		case *layers.IPv4:
			f.src, f.dst = l.SrcIP.String(), l.DstIP.String()
		case *layers.IPv6:
			f.src, f.dst = l.SrcIP.String(), l.DstIP.String()
		case *layers.ARP:
			f.kind, f.src, f.dst = "arp", netip.AddrFrom4([4]byte(l.SourceProtAddress)).String(), netip.AddrFrom4([4]byte(l.DstProtAddress)).String()
		case *layers.TCP:
			f.kind, f.port, f.flags = "tcp", uint16(l.DstPort), l.Contents[13]&0x3f
		case *layers.UDP:
			f.kind, f.port = "udp", uint16(l.DstPort)
		case *layers.ICMPv4:
			f.kind = "icmp"
		case *layers.ICMPv6NeighborSolicitation:
			f.kind, f.dst = "nd", l.TargetAddress.String()
		}
	}
	return f
}

// shape is what packets of an attack look like.
type shape struct {
	kind    string
	flags   uint8
	length  int // of each; 0 for several
	sources int // at least so many; exactly 1 and 10 where it says so
	targets int
	macs    int
}

const many = 100

// shapes says what each attack looks like on the attackers' wires, of 200
// packets.
func shapes() map[string]shape {
	scan := func(flags uint8, length int) shape { return shape{"tcp", flags, length, 1, 1, 1} }
	return map[string]shape{
		"port-scan": scan(2, 58), "port-scan-silent": scan(2, 58), "connect-scan": scan(2, 74), "slow-scan": scan(2, 58),
		"fin-scan": scan(1, 54), "null-scan": scan(0, 54), "xmas-scan": scan(0x29, 54), "ipv6-scan": scan(2, 78),
		"udp-scan": {"udp", 0, 42, 1, 1, 1}, "decoy-scan": {"tcp", 2, 58, 10, 1, 1}, "distributed-scan": {"tcp", 2, 58, 10, 1, 2},
		"host-sweep": {"tcp", 2, 58, 1, 200, 1}, "arp-sweep": {"arp", 0, 42, 1, 200, 1}, "ipv6-sweep": {"nd", 0, 86, 1, 200, 1},
		"syn-flood": {"tcp", 2, 54, many, 1, 1}, "syn-flood-direct": scan(2, 54),
		"ack-flood": scan(16, 54), "ack-flood-spoofed": {"tcp", 16, 54, many, 1, 1},
		"udp-flood": {"udp", 0, 42, 1, 1, 1}, "udp-flood-spoofed": {"udp", 0, 42, many, 1, 1},
		"icmp-flood": {"icmp", 0, 42, 1, 1, 1}, "icmp-flood-spoofed": {"icmp", 0, 42, many, 1, 1},
		"dns-amplification": {"udp", 0, 0, 1, 3, 1}, "ntp-amplification": {"udp", 0, 50, 1, 3, 1},
		"arp-spoof": {"arp", 0, 42, 1, 1, 1}, "mac-flood": {"tcp", 2, 54, many, 1, many}, "rogue-dhcp": {"udp", 0, 0, 1, 1, 1},
	}
}

// TestAttacksOnTheWire plays every attack and looks at its packets: all that
// it says it sent left, in the form that it promises, and arrived.
func TestAttacksOnTheWire(t *testing.T) {
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Minute)
	defer cancel()
	s := newStage(ctx, t, "../first.clab.yml")
	want := shapes()
	for _, a := range attack.Packets() {
		t.Run(a.Name, func(t *testing.T) {
			const packets = 200
			rec := s.record(ctx, t, a, attack.Settings{Rate: 1000, Packets: packets, Seed: 1, For: 20 * time.Second, Once: true})
			captured := packets
			if a.Name == "arp-spoof" {
				captured = packets / 2 // the other half is for the gateway
			}
			if len(rec.sent) != captured || rec.spent.Packets != packets {
				t.Errorf("%d packets left, %d were counted, want %d", len(rec.sent), rec.spent.Packets, packets)
			}
			w, ok := want[a.Name]
			if !ok {
				t.Fatal("no shape is given for it")
			}
			compareShape(t, rec, w)
			if len(rec.received) < captured && a.Name != "host-sweep" { // each host gets its share, together all
				t.Errorf("%d packets arrived, want %d", len(rec.received), captured)
			}
			var told uint64
			for _, action := range rec.truth {
				if action.Role == agent.Attack {
					told += max(action.Packets, 1)
				}
			}
			if told != packets {
				t.Errorf("the ground truth has %d packets, want %d", told, packets)
			}
		})
	}
}

func compareShape(t *testing.T, rec recording, w shape) {
	t.Helper()
	src, dst, macs := map[string]int{}, map[string]int{}, map[string]int{}
	for _, f := range rec.sent {
		src[f.src]++
		dst[f.dst]++
		macs[f.mac]++
		if f.kind != w.kind || f.flags != w.flags || w.length != 0 && f.length != w.length {
			t.Fatalf("packet %+v, want %+v", f, w)
		}
	}
	for _, c := range []struct {
		what      string
		got, want int
	}{{"sources", len(src), w.sources}, {"targets", len(dst), w.targets}, {"hardware addresses", len(macs), w.macs}} {
		if c.want == many && c.got < many || c.want != many && c.got != c.want {
			t.Errorf("%d %s, want %d: %v", c.got, c.what, c.want, slices.Collect(maps.Keys(map[string]map[string]int{"sources": src, "targets": dst, "hardware addresses": macs}[c.what])))
		}
	}
}

// TestTruthAgreesWithCaptures compares the ground truth of a scan, line by
// line, and of a flood, slice by slice, with what captures saw.
func TestTruthAgreesWithCaptures(t *testing.T) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	s := newStage(ctx, t, "../first.clab.yml")
	scan, err := attack.Find("port-scan")
	if err != nil {
		t.Fatal(err)
	}
	rec := s.record(ctx, t, scan, attack.Settings{Packets: 500, Once: true})
	if len(rec.truth) != len(rec.sent) {
		t.Fatalf("%d lines for %d packets", len(rec.truth), len(rec.sent))
	}
	for i, a := range rec.truth {
		f := rec.sent[i]
		if d := f.at.Sub(a.Time); d < -time.Millisecond || d > 50*time.Millisecond || a.Port != f.port || a.From.String() != f.src || a.To.String() != f.dst ||
			a.Agent != s.roles.Attacker || a.Behaviour != "port-scan" || a.Bytes != uint64(f.length) {
			t.Fatalf("line %d: %+v, but %+v was captured %v later", i, a, f, d)
		}
	}
	flood, err := attack.Find("udp-flood")
	if err != nil {
		t.Fatal(err)
	}
	rec = s.record(ctx, t, flood, attack.Settings{Packets: 5000, Rate: 5000, Once: true})
	var told, octets uint64
	for _, a := range rec.truth {
		told, octets = told+a.Packets, octets+a.Bytes
		first := rec.sent[told-a.Packets].at
		if d := first.Sub(a.Time); d < -time.Millisecond || d > 50*time.Millisecond || a.Seconds > 0.13 {
			t.Errorf("a slice from %v of %v s, but its first packet was captured %v later", a.Time, a.Seconds, d)
		}
	}
	if told != 5000 || len(rec.sent) != 5000 || octets != 5000*42 || len(rec.truth) < 8 || len(rec.truth) > 12 {
		t.Errorf("%d lines tell of %d packets and %d octets; %d packets left", len(rec.truth), told, octets, len(rec.sent))
	}
}

// TestAttacksAcrossARouter plays every attack in a lab where a router stands
// between attacker and victim: what can pass one arrives, and captures know it
// there although its hardware address is the router's.
func TestAttacksAcrossARouter(t *testing.T) {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	s := newStage(ctx, t, "../branch.clab.yml")
	var err error
	if s.roles, err = attack.CastFrom(s.lab, "pc1"); err != nil {
		t.Fatal(err)
	}
	if s.roles.Subnet.Contains(s.roles.AttackerAddr) {
		t.Fatalf("%v and %v are on one link", s.roles.AttackerAddr, s.roles.VictimAddr)
	}
	// A router forwards IPv6 once it has made sure that nobody else has its
	// link-local address.
	for reached := false; !reached; {
		cmd, err := s.lab.Command(ctx, s.roles.Attacker, "ping", "-6", "-c", "1", "-W", "1", s.roles.VictimAddr6.String())
		if err != nil || ctx.Err() != nil {
			t.Fatalf("the victim is not reached over IPv6: %v, %v", err, ctx.Err())
		}
		reached = cmd.Run() == nil
	}
	for _, a := range attack.Packets() {
		t.Run(a.Name, func(t *testing.T) {
			const packets = 40
			rec := s.record(ctx, t, a, attack.Settings{Rate: 400, Packets: packets, Seed: 2, For: 20 * time.Second, Once: true})
			want := packets
			if a.Name == "arp-spoof" {
				want /= 2 // the other half is for the gateway
			}
			if len(rec.sent) != want {
				t.Errorf("%d packets left, want %d", len(rec.sent), want)
			}
			switch a.Name {
			case "arp-sweep", "ipv6-sweep", "mac-flood":
				want = 0 // attacks on the own link, which the victim is not on
			}
			if len(rec.received) < want {
				t.Errorf("%d packets arrived, want %d", len(rec.received), want)
			}
		})
	}
}

// TestARPSpoofingTakesAndHeals looks into the neighbour tables of those that
// are lied to.
func TestARPSpoofingTakesAndHeals(t *testing.T) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	s := newStage(ctx, t, "../first.clab.yml")
	a, err := attack.Find("arp-spoof")
	if err != nil {
		t.Fatal(err)
	}
	// The kernel believes replies only about addresses that it has asked for.
	run := func(node, program string, args ...string) string {
		cmd, err := s.lab.Command(ctx, node, program, args...)
		if err != nil {
			t.Fatal(err)
		}
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("%s: %s %v: %v: %s", node, program, args, err, out)
		}
		return string(out)
	}
	run("h1", "ping", "-c", "1", "10.77.0.1")
	believes := func(node, about string) bool {
		return strings.Contains(run(node, "ip", "neigh", "show", about), s.roles.AttackerMAC)
	}
	if believes("h1", "10.77.0.1") || believes("gw", "10.77.0.11") {
		t.Fatal("the lie is believed before it is told")
	}
	undo, err := a.Prepare(ctx, s.lab, s.roles)
	if err != nil {
		t.Fatal(err)
	}
	running, err := a.Start(ctx, s.lab, s.roles, attack.Settings{})
	if err != nil {
		t.Fatal(err)
	}
	for !believes("h1", "10.77.0.1") || !believes("gw", "10.77.0.11") {
		if ctx.Err() != nil {
			t.Fatal("nobody believes it")
		}
	}
	if err := errors.Join(running.Stop(), undo(ctx)); err != nil {
		t.Fatal(err)
	}
	if believes("h1", "10.77.0.1") || believes("gw", "10.77.0.11") {
		t.Error("it is believed for ever")
	}
	run("h1", "ping", "-c", "1", "10.77.0.1")
}

// TestAmplificationAmplifies compares what leaves the attacker with what
// arrives at the victim, which has asked for nothing.
func TestAmplificationAmplifies(t *testing.T) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	s := newStage(ctx, t, "../first.clab.yml")
	for name, factor := range map[string]int{"dns-amplification": 12, "ntp-amplification": 90} {
		a, err := attack.Find(name)
		if err != nil {
			t.Fatal(err)
		}
		rec := s.record(ctx, t, a, attack.Settings{Rate: 200, Packets: 60, Once: true})
		sent, received := 0, 0
		for _, f := range rec.sent {
			sent += f.length
		}
		from := map[string]bool{}
		for _, f := range rec.received {
			received += f.length
			from[f.src] = true
		}
		if received < sent*factor || len(from) != 3 || from[s.roles.AttackerAddr.String()] {
			t.Errorf("%s: %d octets sent, %d received from %v; want %d times as many from three others", name, sent, received, from, factor)
		}
		reflected := 0
		for _, action := range rec.truth {
			if action.Role == agent.Reflector {
				reflected += int(action.Packets)
			}
		}
		if reflected != len(rec.received) {
			t.Errorf("%s: the ground truth has %d reflected packets, %d arrived", name, reflected, len(rec.received))
		}
	}
}

// TestRogueDHCPAnswersWhoAsks plays a rogue server to a client of ours, and
// makes sure that nobody's configuration changes.
func TestRogueDHCPAnswersWhoAsks(t *testing.T) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	s := newStage(ctx, t, "../first.clab.yml")
	before := addressesAndNeighbours(t, ctx, s.lab)
	a, err := attack.Find("rogue-dhcp")
	if err != nil {
		t.Fatal(err)
	}
	rec := s.record(ctx, t, a, attack.Settings{Packets: 10, Once: true})
	count := map[string]int{}
	for _, action := range rec.truth {
		count[string(action.Role)+" "+action.Action]++
	}
	for _, want := range []string{"benign Discover", "benign Request", "attack Offer", "attack Ack"} {
		if count[want] == 0 {
			t.Errorf("no %s: %v", want, count)
		}
	}
	if after := addressesAndNeighbours(t, ctx, s.lab); after != before {
		t.Errorf("changed:\n%s\nbefore:\n%s", after, before)
	}
}

package detector

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/platelet-sdn/platelet/flowcollector/flow"
)

// Addresses that somebody chose so that an unkeyed hash takes them all for one.
// The second word undoes what the first one did.
func colliding(n int) []address {
	list := make([]address, n)
	for i := range list {
		hi := 0x2001_0db8_0000_0000 + uint64(i)
		list[i] = address{hi, mix(hi) ^ 0x5eed}
	}
	return list
}

func TestChosenAddressesDoNotCollide(t *testing.T) {
	const n = 200
	unkeyed := map[uint64]bool{}
	for _, a := range colliding(n) {
		unkeyed[mix(mix(a.hi)^a.lo)] = true
	}
	if len(unkeyed) != 1 {
		t.Fatalf("the addresses are badly chosen: %d hashes without a key", len(unkeyed))
	}
	for seed := range uint64(50) {
		k := newKeys(seed)
		var large, swapped sketch
		for _, a := range colliding(n) {
			large.put(k.address(a))
			swapped.put(k.address(address{a.lo, a.hi}))
		}
		for _, s := range []sketch{large, swapped} {
			if e := s.estimate(); e < n*0.8 || e > n*1.2 {
				t.Errorf("seed %d: %d chosen addresses count as %.0f", seed, n, e)
			}
		}
		if k.address(address{1, 2}) == k.address(address{2, 1}) || k.pair(0, 0) == k.pair(1, 1) {
			t.Errorf("seed %d: the halves cancel out", seed)
		}
	}
}

// The seed decides everything, so that a recording tells the same story twice;
// another seed another hash.
func TestKeysFollowTheSeed(t *testing.T) {
	a, b := newKeys(7), newKeys(8)
	if a != newKeys(7) || a.number(1) == b.number(1) {
		t.Error("keys do not follow the seed")
	}
}

// Chaff: between its failing probes an attacker makes contacts that are sure to
// succeed, each with another service. What it takes to be safe from the walk,
// and only from that, is as many as it makes probes; see the package
// documentation.
func TestChaff(t *testing.T) {
	for _, c := range []struct {
		successes, failures int // of each round
		within              int // probes; 0 means it may stay hidden
	}{
		{0, 1, 4}, {1, 4, 7}, {1, 3, 7}, {1, 2, 10}, {2, 3, 18}, {1, 1, 0}, {2, 1, 0},
	} {
		s := newSim(t).warm()
		scanner, service, probes := hostAddr(66), 0, 0
		step := func(out flow.Signal, dst netip.Addr) {
			service++
			s.probe(int64(service)*100*ms, scanner, dst, uint16(1000+service), ms, out)
		}
		for len(s.fired()) == 0 && probes < 400 {
			for range c.successes {
				step(flow.SignalAccept, hostAddr(7)) // an accomplice
			}
			for range c.failures {
				step(flow.SignalRefuse, hostAddr(8))
				probes++
			}
			s.run(int64(service)*100*ms + 50*ms)
		}
		hidden := len(s.fired()) == 0
		t.Logf("chaff %d:%d: %d probes, hidden %v", c.successes, c.failures, probes, hidden)
		if c.within > 0 && (hidden || probes > c.within+c.failures) {
			t.Errorf("chaff %d:%d: found after %d probes (hidden %v), want %d", c.successes, c.failures, probes, hidden, c.within)
		}
	}
}

// Mimicry: an attacker that keeps to the pace of the host it took over. The walk
// knows no pace; what counts is how long the host's credit lasts.
func TestMimicry(t *testing.T) {
	for _, every := range []int64{sec, 10 * sec, 60 * sec, 600 * sec} {
		s := newSim(t)
		honest, now := 40, int64(0)
		for i := range honest {
			now += every
			s.connection(now, syn(hostAddr(66), hostAddr(100+i), 443), ms, 50*ms)
		}
		begin := now
		for n := 0; len(s.fired()) == 0 && n < 400; n++ {
			now += every
			s.probe(now, hostAddr(66), hostAddr(200+n), 445, ms, flow.SignalRefuse)
			s.run(now + 50*ms)
		}
		if len(s.fired()) == 0 {
			t.Errorf("one probe in %v: never found", time.Duration(every))
			continue
		}
		probes := (now - begin) / every
		t.Logf("one probe in %v after as many honest contacts: found after %d probes", time.Duration(every), probes)
		if limit := int64(60); probes > limit {
			t.Errorf("one probe in %v: found after %d probes, want %d", time.Duration(every), probes, limit)
		}
	}
}

// Decoys: every probe comes four times, three of them with the addresses of
// hosts that are somewhere else and have nothing to do with it. Those must not
// be named, nor contained; the scanner, which sends from where it is, must.
func TestDecoys(t *testing.T) {
	s := newSim(t).warm()
	decoys := []int{11, 12, 13}
	for i, d := range decoys { // honest hosts, each at a port of its own, that worked some minutes ago
		for n := range 5 {
			r := syn(hostAddr(d), hostAddr(100+n), 443)
			r.InPort = uint32(20 + i)
			s.connection(int64(n)*sec+int64(i)*ms, r, ms, 20*ms)
		}
	}
	s.run(10 * sec)
	for n := range 200 {
		now := 10*sec + int64(n)*ms
		for _, from := range append([]int{66}, decoys...) {
			r := syn(hostAddr(from), hostAddr(2), uint16(1+n))
			r.SrcMAC = macOf(hostAddr(66))
			s.at(now, r)
			s.at(now+ms/5, answer(r, flow.SignalRefuse))
		}
	}
	s.run(20 * sec)
	named := map[netip.Addr]bool{}
	for _, f := range s.fired() {
		if f.Host.IsValid() {
			named[f.Host] = true
		}
		if slices.Contains([]netip.Addr{hostAddr(11), hostAddr(12), hostAddr(13)}, f.Host) {
			t.Errorf("a decoy was found: %s %v, sequential %v", f.Kind, f.Host, f.Sequential)
		}
	}
	if !named[hostAddr(66)] {
		t.Error("the scanner was not found")
	}
}

// Invented sources, in any number, wash out nothing that is worth more: neither
// the conversations that a host keeps up, nor its window.
func TestFloodsDoNotWashOutWhatIsKnown(t *testing.T) {
	t.Parallel()
	s := newSim(t, func(c *Config) { c.Limit.Edges, c.Limit.Windows, c.Limit.Sessions = 1<<12, 1<<12, 1<<12 }).warm()
	client := hostAddr(9)
	for round := range 6 {
		for i := range 20 {
			r := syn(client, hostAddr(400+i), 443)
			r.SrcPort = uint16(30_000 + 100*round + i)
			s.connection(int64(round)*10*sec+int64(i)*ms, r, ms/5, ms/2)
		}
	}
	s.run(60 * sec)
	batch := make([]flow.Record, 1000)
	const batches = 300
	for n := range batches {
		now := t0 + 61*sec + int64(n)*ms
		spoofed(batch, n*len(batch), now, func(i int) netip.Addr { return hostAddr(int(mix(uint64(i)) % (1 << 20))) })
		s.e.Observe(batch)
		s.e.Advance(now + ms)
	}
	if st := s.e.Stats(); st.Edges > s.e.edges.table.Cap() || st.Windows > s.e.windows.table.Cap() {
		t.Errorf("%d edges, %d windows: more than there may be", st.Edges, st.Windows)
	}
	kept := 0
	for i := range 20 {
		if _, x := s.e.edges.table.Find(contactKeyOf(addressOf(client), addressOf(hostAddr(400+i)), 443, flow.ProtoTCP)); x != nil && x.opens == 6 {
			kept++
		}
	}
	if kept < 20 {
		t.Errorf("%d of 20 conversations are still known after %d invented ones", kept, batches*len(batch))
	}
	if _, h := s.e.hosts.Find(addressOf(client)); h == nil || !h.proven {
		t.Error("the client is forgotten")
	}
}

// The findings of a recording do not depend on the key of the sketches, only
// figures in their evidence may.
func TestFindingsDoNotDependOnTheKey(t *testing.T) {
	story := func(seed uint64) string {
		s := newSim(t, func(c *Config) { c.Seed = seed }).warm()
		for i := range 300 {
			s.probe(int64(i)*20*ms, hostAddr(1), hostAddr(1000+i), 445, ms, flow.SignalRefuse)
			s.probe(int64(i)*20*ms, hostAddr(3), hostAddr(4), uint16(i+1), ms, flow.SignalRefuse)
			s.connection(int64(i)*20*ms, syn(hostAddr(5), hostAddr(2000+i%30), 443), ms, 10*ms)
		}
		s.run(60 * sec)
		var told strings.Builder
		for _, f := range s.emitted {
			fmt.Fprintln(&told, f.ID, f.Kind, f.State, f.Host, f.Time)
		}
		return told.String()
	}
	first := story(1)
	for seed := uint64(2); seed < 10; seed++ {
		if other := story(seed); other != first {
			t.Fatalf("seed %d tells\n%s, seed 1\n%s", seed, other, first)
		}
	}
}

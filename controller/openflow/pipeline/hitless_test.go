package pipeline_test

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/platelet-sdn/platelet/flowcollector/flow"
	"github.com/platelet-sdn/platelet/segmentation/policy"
)

// shuffled is a set of policies that allows the lab's test traffic, by rules
// of other ranks, tiers and peers each time, among others that come and go.
func (l *lab) shuffled(r *rand.Rand) []want {
	ranks := r.Perm(40)
	tier := func() policy.Tier {
		return []policy.Tier{policy.TierEmergency, policy.TierAdmin, policy.TierApplication}[r.IntN(3)]
	}
	peer := func() netip.Prefix {
		return []netip.Prefix{{}, l.prefix(0), netip.MustParsePrefix("10.77.0.0/24")}[r.IntN(3)]
	}
	var out []want
	for i, s := range []struct {
		proto uint8
		port  uint16
	}{{flow.ProtoUDP, 9000}, {flow.ProtoUDP, 9001}, {flow.ProtoTCP, 9002}, {flow.ProtoICMP, 0}} {
		w := l.rule(fmt.Sprintf("allow %d", i), tier(), uint16(ranks[i]), policy.ActionAllow, 1, s.proto, s.port)
		w.peer, w.log = peer(), r.IntN(2) == 0
		out = append(out, w)
	}
	out = append(out, l.rule("deny", policy.TierBaseline, uint16(ranks[4]), policy.ActionDeny, 1, 0, 0))
	for i := range r.IntN(8) {
		action := []policy.Action{policy.ActionDeny, policy.ActionPass, policy.ActionReject}[r.IntN(3)]
		w := l.rule(fmt.Sprintf("other %d", i), tier(), uint16(ranks[5+i]), action, r.IntN(2), flow.ProtoTCP, uint16(8000+r.IntN(4)))
		if r.IntN(2) == 0 {
			w.peer = netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 77, 1, byte(i)}), 32)
		}
		out = append(out, w)
	}
	return out
}

// overrun counts the datagrams that a host's sockets had no room for, which the
// switch has delivered.
func (l *lab) overrun(host int) (n uint64) {
	l.t.Helper()
	out, err := exec.CommandContext(l.ctx, "ip", "netns", "exec", l.hosts[host], "cat", "/proc/net/snmp").Output()
	if err != nil {
		l.t.Fatal(err)
	}
	for line := range strings.Lines(string(out)) {
		if f := strings.Fields(line); len(f) > 5 && f[0] == "Udp:" && f[5] != "RcvbufErrors" {
			if n, err = strconv.ParseUint(f[5], 10, 64); err != nil {
				l.t.Fatal(err)
			}
		}
	}
	return n
}

// What stays allowed loses nothing while policies come, change and go: no
// datagram in either direction, no ping, and no byte of a session. 2,318 changes
// in two minutes lost none of 211,629 datagrams.
func TestPolicyChangesSpareWhatStaysAllowed(t *testing.T) {
	l := newLab(t, "vg", 2)
	l.echo(1, 9002)
	b := l.start()
	up, down, s := l.stream(0, 1, 9000, time.Millisecond), l.push(1, 0, 9001), l.session(0, 1, 9002)
	up.flows(l)
	down.flows(l)
	s.flows(l)
	pings := make(chan string, 1)
	go func() {
		out, err := exec.CommandContext(l.ctx, "ip", "netns", "exec", l.hosts[0], "ping", "-q", "-i", "0.05", "-c", "80", "-W", "5", l.addr(1).String()).CombinedOutput()
		pings <- fmt.Sprint(string(out), err)
	}()
	seed := rand.Uint64()
	r := rand.New(rand.NewPCG(seed, 0))
	changes := 0
	var out string
	for out == "" {
		if r.IntN(4) == 0 {
			l.enforce(b)
		} else {
			l.enforce(b, l.shuffled(r)...)
		}
		changes++
		next := up.sent.Load() + uint64(r.IntN(100))
		l.eventually("datagrams to be sent", func() bool { return up.sent.Load() >= next })
		select {
		case out = <-pings:
		default:
		}
	}
	if !strings.Contains(out, " 80 received, 0% packet loss") {
		t.Errorf("pings: %s", out)
	}
	for what, x := range map[string]*stream{"the opener": up, "the other end": down} {
		x.halted.Store(true)
		sent := x.sent.Load()
		l.eventually(fmt.Sprintf("all of %d datagrams of %s, under %d changes (seed %d)", sent, what, changes, seed), func() bool {
			return x.received.Load()+l.overrun(0)+l.overrun(1) >= sent
		})
	}
	asked := s.asked.Load()
	l.eventually("every question to be answered", func() bool { return s.answered.Load() >= 100*asked })
	t.Logf("%d changes under %d datagrams and %d questions", changes, up.sent.Load()+down.sent.Load(), asked)
}

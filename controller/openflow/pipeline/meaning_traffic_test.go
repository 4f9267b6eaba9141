package pipeline_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"os/exec"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/platelet-sdn/platelet/flowcollector/flow"
	"github.com/platelet-sdn/platelet/segmentation/compile"
	"github.com/platelet-sdn/platelet/segmentation/oracle"
	"github.com/platelet-sdn/platelet/segmentation/policy"
	"github.com/platelet-sdn/platelet/segmentation/policy/policytest"
)

// The ports at which every host answers.
var answering = []uint16{80, 81}

func (l *lab) addr6(host int) netip.Addr {
	return netip.AddrFrom16([16]byte{0xfd, 0x77, 15: byte(host + 1)})
}

// answers has a host answer TCP and UDP in both families with what it gets.
func (l *lab) answers(host int) {
	l.t.Helper()
	for _, a := range []netip.Addr{l.addr(host), l.addr6(host)} {
		for _, port := range answering {
			at := netip.AddrPortFrom(a, port)
			var tcp net.Listener
			var udp *net.UDPConn
			l.inHost(host, func() (err error) {
				if tcp, err = net.Listen("tcp", at.String()); err != nil {
					return err
				}
				udp, err = net.ListenUDP("udp", net.UDPAddrFromAddrPort(at))
				return err
			})
			l.t.Cleanup(func() { tcp.Close(); udp.Close() })
			go func() {
				for {
					c, err := tcp.Accept()
					if err != nil {
						return
					}
					go func() { defer c.Close(); _, _ = io.Copy(c, c) }()
				}
			}()
			go func() {
				buf := make([]byte, 64)
				for {
					n, from, err := udp.ReadFromUDPAddrPort(buf)
					if errors.Is(err, net.ErrClosed) {
						return
					}
					if err == nil {
						_, _ = udp.WriteToUDPAddrPort(buf[:n], from)
					}
				}
			}()
		}
	}
}

// attempt opens a connection from a host and says how it went: "" when an
// answer came, the kernel's word when it was refused. It tries until the
// context ends.
func (l *lab) attempt(ctx context.Context, from int, c oracle.Connection) string {
	if c.Proto.IsICMP() {
		// Requests until the first answer, or error.
		err := exec.CommandContext(ctx, "ip", "netns", "exec", l.hosts[from], "ping", "-n", "-q", "-i", "0.2", "-c", "1", "-w", "30", c.Dst.String()).Run()
		if err == nil {
			return ""
		}
		return noAnswer
	}
	word := noAnswer
	l.inHost(from, func() error {
		d := net.Dialer{}
		conn, err := d.DialContext(ctx, c.Proto.String(), netip.AddrPortFrom(c.Dst, c.DstPort).String())
		if err != nil {
			word = said(err)
			return nil
		}
		defer conn.Close()
		stop := context.AfterFunc(ctx, func() { conn.Close() })
		defer stop()
		word = echoed(conn)
		return nil
	})
	return word
}

// echoed sends until something comes back.
func echoed(conn net.Conn) string {
	buf := make([]byte, 8)
	for {
		if _, err := conn.Write([]byte("x")); err != nil {
			return said(err)
		}
		if err := conn.SetReadDeadline(time.Now().Add(100 * time.Millisecond)); err != nil {
			return said(err)
		}
		_, err := conn.Read(buf)
		var late net.Error
		if errors.As(err, &late) && late.Timeout() {
			continue
		}
		return said(err)
	}
}

// What comes of attempts that fail: refused is what the kernel says when
// somebody answers that there is nothing.
const (
	refused  = "refused"
	noAnswer = "no answer"
)

func said(err error) string {
	switch {
	case err == nil:
		return ""
	case errors.Is(err, syscall.ECONNREFUSED), errors.Is(err, syscall.EHOSTUNREACH), errors.Is(err, syscall.EACCES), errors.Is(err, syscall.EPERM):
		return refused
	}
	return noAnswer
}

// plays draws policies about the hosts, of which each has a label.
func plays(r *rand.Rand, round int) *policy.Set {
	peers := []policy.Peer{{Group: "a"}, {Group: "b"}, {Group: "ab"}, {Group: "c4"}, {Group: policy.Any}}
	services := [][]policy.ServiceRef{nil, {{Name: "web"}}, {{Name: "ping"}}, {{Name: "udp"}}}
	set := &policy.Set{
		Groups: map[string]policy.Group{
			"a": {Selector: map[string]string{"role": "a"}}, "b": {Selector: map[string]string{"role": "b"}}, "ab": {Groups: []string{"a", "b"}},
			"c4": {CIDRs: []policy.Prefix{{Prefix: netip.MustParsePrefix("10.77.0.0/24")}}, Except: []policy.Prefix{{Prefix: netip.MustParsePrefix("10.77.0.1/32")}}},
		},
		Services: map[string][]policy.Service{"web": {{Proto: 6, Ports: []policy.PortRange{{First: 80, Last: 80}}}}, "ping": {{Proto: 1}, {Proto: 58}}, "udp": {{Proto: 17}}},
	}
	actions := []policy.Action{policy.ActionAllow, policy.ActionAllow, policy.ActionDeny, policy.ActionReject, policy.ActionPass, policy.ActionRateLimit}
	for i := range 2 + r.IntN(4) {
		p := policy.Policy{Name: fmt.Sprintf("s%d-p%d", round, i), Tier: policy.TierAdmin + policy.Tier(r.IntN(3)), Priority: i, Mode: policy.ModeEnforce,
			AppliesTo: []policy.Peer{peers[r.IntN(len(peers))]}}
		for j := range 1 + r.IntN(3) {
			rule := policy.Rule{Name: fmt.Sprint("r", j), Action: actions[r.IntN(len(actions))], Services: services[r.IntN(len(services))]}
			if rule.Action == policy.ActionRateLimit {
				rule.Rate = &policy.Rate{PacketsPerSecond: 100_000, Burst: 100_000}
			}
			if peer := []policy.Peer{peers[r.IntN(len(peers))]}; r.IntN(2) == 0 {
				rule.From = peer
				p.Ingress = append(p.Ingress, rule)
			} else {
				rule.To = peer
				p.Egress = append(p.Egress, rule)
			}
		}
		set.Policies = append(set.Policies, p)
	}
	slices.SortFunc(set.Policies, func(a, b policy.Policy) int { return a.Compare(&b) })
	return set
}

// Real packets between hosts get through, and are answered, as the oracle
// says: TCP, UDP and ICMP, IPv4 and IPv6, each way.
func TestTrafficMeansWhatPoliciesMean(t *testing.T) {
	l := newLab(t, "tt", 3)
	inv := policy.Inventory{}
	for i := range l.hosts {
		if out, err := exec.CommandContext(l.ctx, "ip", "-n", l.hosts[i], "addr", "add", l.addr6(i).String()+"/64", "dev", "eth0", "nodad").CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		l.answers(i)
		inv.Workloads = append(inv.Workloads, policy.Workload{Name: l.hosts[i], Addrs: []netip.Addr{l.addr(i), l.addr6(i)},
			Labels: map[string]string{"role": string(rune('a' + i))}})
	}
	b := l.start()
	r := rand.New(rand.NewPCG(7, 1))
	compiler, total := compile.New(), map[policy.Action]int{}
	for round := range 8 {
		set := plays(r, round)
		program, err := compiler.Compile(set, inv, policytest.Now())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := b.SetPolicy(l.ctx, program); err != nil {
			t.Fatal(err)
		}
		l.settle() // a rejection before would be final
		l.tryAll(b, set, oracle.New(set, inv, policytest.Now()), total)
	}
	t.Logf("connections tried: %v", total)
	for _, a := range []policy.Action{policy.ActionAllow, policy.ActionDeny, policy.ActionReject} {
		if total[a] < 10 {
			t.Errorf("%d connections to %s are too few", total[a], a)
		}
	}
}

// tryAll tries every connection between the hosts at once. What is denied is
// given up when its rule has met it.
func (l *lab) tryAll(b *running, set *policy.Set, truth *oracle.Oracle, total map[policy.Action]int) {
	l.t.Helper()
	var wg sync.WaitGroup
	var mu sync.Mutex
	silent, stop := context.WithCancel(l.ctx)
	dropped := map[policy.RuleID]uint64{}
	for from := range l.hosts {
		for to := range l.hosts {
			for _, c := range l.tried(from, to) {
				v := truth.Verdict(c)
				total[v.Action]++
				ctx := l.ctx
				if v.Action == policy.ActionDeny {
					ctx = silent
					id := v.Ingress.ID
					if !v.Egress.Action.Consents() {
						id = v.Egress.ID
					}
					dropped[id]++
				}
				wg.Add(1)
				go func() {
					defer wg.Done()
					got := l.attempt(ctx, from, c)
					mu.Lock()
					defer mu.Unlock()
					want := map[policy.Action]string{policy.ActionDeny: noAnswer, policy.ActionReject: refused}[v.Action]
					if c.Proto.IsICMP() && want == refused {
						want = noAnswer // so ping says
					}
					if got != want {
						raw, _ := set.Marshal()
						l.t.Errorf("%+v: %q, want %q: %s\n%s", c, got, want, v.Why, raw)
					}
				}()
			}
		}
	}
	l.eventually("every rule that drops to have met what it drops", func() bool {
		h, err := b.PolicyHits(l.ctx)
		if err != nil {
			return false
		}
		for id, n := range dropped {
			if h.Rules[id].Packets < n {
				return false
			}
		}
		return true
	})
	stop()
	wg.Wait()
}

// tried are the connections that are tried from one host to another.
func (l *lab) tried(from, to int) (out []oracle.Connection) {
	if from == to {
		return nil
	}
	for _, ends := range [][2]netip.Addr{{l.addr(from), l.addr(to)}, {l.addr6(from), l.addr6(to)}} {
		c := oracle.Connection{Src: ends[0], Dst: ends[1], SrcPort: 50000}
		for _, c.Proto = range []policy.Proto{policy.Proto(flow.ProtoTCP), policy.Proto(flow.ProtoUDP)} {
			for _, c.DstPort = range answering {
				out = append(out, c)
			}
		}
		ping := oracle.Connection{Src: ends[0], Dst: ends[1], Proto: policy.Proto(flow.ProtoICMP), Type: 8}
		if ends[0].Is6() {
			ping.Proto, ping.Type = policy.Proto(flow.ProtoICMPv6), 128
		}
		out = append(out, ping)
	}
	return out
}

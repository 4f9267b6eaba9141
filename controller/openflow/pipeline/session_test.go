package pipeline_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/platelet-sdn/platelet/controller/openflow/datapath"
	"github.com/platelet-sdn/platelet/controller/openflow/pipeline"
	"github.com/platelet-sdn/platelet/flowcollector/flow"
	"github.com/platelet-sdn/platelet/lab/wire"
	"github.com/platelet-sdn/platelet/segmentation"
	"github.com/platelet-sdn/platelet/segmentation/policy"
)

// session is a TCP connection between two hosts: the client asks every
// millisecond, the server answers each question with as much.
type session struct {
	asked, answered atomic.Uint64
	ended           chan struct{} // closed when the client can read no more
	stop            func()
}

// echo serves TCP on a host until the test ends, and counts whom it accepts.
func (l *lab) echo(host, port int) *atomic.Uint64 {
	l.t.Helper()
	var ln net.Listener
	l.inHost(host, func() (err error) {
		ln, err = net.Listen("tcp4", netip.AddrPortFrom(l.addr(host), uint16(port)).String())
		return err
	})
	accepted := &atomic.Uint64{}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			accepted.Add(1)
			wg.Go(func() {
				defer conn.Close()
				_, _ = io.Copy(conn, conn) // until either end goes
			})
			context.AfterFunc(l.ctx, func() { conn.Close() })
		}
	})
	l.t.Cleanup(func() { ln.Close() })
	return accepted
}

// session opens a connection to echo.
func (l *lab) session(from, to, port int) *session {
	l.t.Helper()
	var conn net.Conn
	l.inHost(from, func() (err error) {
		conn, err = net.DialTimeout("tcp4", netip.AddrPortFrom(l.addr(to), uint16(port)).String(), 10*time.Second)
		return err
	})
	s := &session{ended: make(chan struct{})}
	done := make(chan struct{})
	var wg sync.WaitGroup
	s.stop = sync.OnceFunc(func() { close(done); conn.Close(); wg.Wait() })
	l.t.Cleanup(s.stop)
	wg.Go(func() {
		tick := time.NewTicker(time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-done:
				return
			case <-tick.C:
				if _, err := conn.Write(make([]byte, 100)); err != nil {
					return
				}
				s.asked.Add(1)
			}
		}
	})
	wg.Go(func() {
		defer close(s.ended)
		buf := make([]byte, 4096)
		for {
			n, err := conn.Read(buf)
			if err != nil {
				return
			}
			s.answered.Add(uint64(n))
		}
	})
	return s
}

// flows waits until answers arrive (again).
func (s *session) flows(l *lab) {
	l.t.Helper()
	n := s.answered.Load()
	l.eventually("the session to go on", func() bool { return s.answered.Load() > n+2000 })
}

// stuck waits until a rule has met more packets of the session, the
// retransmissions, and none of them was answered.
func (s *session) stuck(l *lab, met func() uint64) {
	l.t.Helper()
	l.eventually("the session to stop", func() bool {
		answered, dropped := s.answered.Load(), met()
		l.eventually("the rule to meet retransmissions", func() bool { return met() >= dropped+2 })
		return s.answered.Load() == answered
	})
}

// matched counts the packets that an owner's rules have met.
func (l *lab) matched(b *running, owner string) func() uint64 {
	return func() (n uint64) {
		l.t.Helper()
		counters, err := b.Counters(l.ctx, owner)
		if err != nil {
			l.t.Fatal(err)
		}
		for _, c := range counters {
			n += c.Packets
		}
		return n
	}
}

// push is a stream of datagrams that a server sends to a client who asked for
// it once.
func (l *lab) push(server, client, port int) *stream {
	l.t.Helper()
	var from, to *net.UDPConn
	at := net.UDPAddrFromAddrPort(netip.AddrPortFrom(l.addr(server), uint16(port)))
	l.inHost(server, func() (err error) { from, err = net.ListenUDP("udp4", at); return err })
	l.inHost(client, func() (err error) { to, err = net.DialUDP("udp4", nil, at); return err })
	s := &stream{}
	done := make(chan struct{})
	var wg sync.WaitGroup
	s.stop = sync.OnceFunc(func() { close(done); from.Close(); to.Close(); wg.Wait() })
	l.t.Cleanup(s.stop)
	if _, err := to.Write([]byte("send")); err != nil {
		l.t.Fatal(err)
	}
	if err := from.SetReadDeadline(time.Now().Add(20 * time.Second)); err != nil {
		l.t.Fatal(err)
	}
	_, whom, err := from.ReadFromUDPAddrPort(make([]byte, 16))
	if err != nil {
		l.t.Fatal(err)
	}
	wg.Go(func() {
		buf := make([]byte, 64)
		for {
			if _, err := to.Read(buf); errors.Is(err, net.ErrClosed) {
				return
			} else if err == nil {
				s.received.Add(1)
			}
		}
	})
	wg.Go(func() {
		tick := time.NewTicker(time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-done:
				return
			case <-tick.C:
				if s.halted.Load() {
					continue
				}
				if _, err := from.WriteToUDPAddrPort(make([]byte, 32), whom); err == nil {
					s.sent.Add(1)
				}
			}
		}
	})
	return s
}

func (l *lab) apply(b *running, owner string, intents ...segmentation.Intent) {
	l.t.Helper()
	r, err := b.Apply(l.ctx, owner, intents)
	if err != nil || !r.ReadBack || r.Installed != len(intents) {
		l.t.Fatalf("%+v, %v", r, err)
	}
}

func (l *lab) remove(b *running, owner string) {
	l.t.Helper()
	if r, err := b.Remove(l.ctx, owner); err != nil || !r.ReadBack {
		l.t.Fatalf("%+v, %v", r, err)
	}
}

// settle waits until the datapath has let go of what it knew before the latest
// change, which takes some milliseconds: a connection that is opened in between
// may be decided by what was.
func (l *lab) settle() {
	l.t.Helper()
	if _, err := l.sw.Appctl(l.ctx, "revalidator/wait"); err != nil {
		l.t.Fatal(err)
	}
}

// tries opens a connection in vain: the server hears of none of the SYNs,
// first or repeated.
func (l *lab) tries(met func() uint64, from, to, port int, accepted *atomic.Uint64) {
	l.t.Helper()
	l.settle()
	before, already := accepted.Load(), met()
	ctx, cancel := context.WithCancel(l.ctx)
	defer cancel()
	var wg sync.WaitGroup
	defer wg.Wait()
	wg.Go(func() {
		l.inHost(from, func() error {
			var d net.Dialer
			conn, err := d.DialContext(ctx, "tcp4", netip.AddrPortFrom(l.addr(to), uint16(port)).String())
			if err == nil {
				conn.Close()
			}
			return nil
		})
	})
	l.eventually("repeated SYNs to be dropped", func() bool { return met() >= already+3 })
	if accepted.Load() != before {
		l.t.Error("a repeated SYN got through")
	}
	cancel()
}

// A quarantined host's session stops in both directions, whether its peer is
// under policy or not, and goes on when it is released.
func TestQuarantineStopsSessions(t *testing.T) {
	for name, enforced := range map[string]bool{"no policy": false, "under policy": true} {
		t.Run(name, func(t *testing.T) {
			l := newLab(t, "sa", 2)
			accepted := l.echo(1, 9000)
			b := l.start()
			if enforced {
				l.enforce(b,
					l.rule("allow", policy.TierApplication, 1, policy.ActionAllow, 1, flow.ProtoTCP, 9000),
					l.rule("deny", policy.TierBaseline, 1, policy.ActionDeny, 1, 0, 0))
			}
			s := l.session(0, 1, 9000)
			s.flows(l)
			intents, err := segmentation.Protected{}.Quarantine(segmentation.Quarantine{
				Owner: "d-1", Switch: l.bridge, Port: l.hosts[0], Host: l.addr(0), Attached: true, TTL: 2 * time.Minute,
			})
			if err != nil {
				t.Fatal(err)
			}
			if n := l.connections(); enforced != (n > 0) {
				t.Errorf("%d connections tracked", n)
			}
			l.apply(b, "d-1", intents...)
			if n := l.connections(); n > 0 {
				t.Errorf("%d connections of the quarantined host are tracked", n)
			}
			s.stuck(l, l.matched(b, "d-1"))
			l.tries(l.matched(b, "d-1"), 0, 1, 9000, accepted)
			l.remove(b, "d-1")
			s.flows(l)
			l.enforce(b)
			s.flows(l)
			l.eventually("nothing to be tracked without policy", func() bool { return l.connections() == 0 })
		})
	}
}

// connections counts what is tracked in our zone.
func (l *lab) connections() int {
	l.t.Helper()
	text, err := datapath.Local{Dir: l.sw.Dir}.Call(l.ctx, "dpctl/dump-conntrack", fmt.Sprintf("zone=%d", pipeline.ZoneOf(l.bridge, pipeline.DefaultZone, nil)))
	if err != nil {
		l.t.Fatal(err)
	}
	return strings.Count(text, "orig=")
}

// A deny that comes while a session is established ends it at once: what the
// opener sends, and what the other side sends by itself.
func TestNewDenyStopsSessions(t *testing.T) {
	l := newLab(t, "sb", 2)
	accepted := l.echo(1, 9000)
	b := l.start()
	allow := l.rule("allow", policy.TierApplication, 5, policy.ActionAllow, 1, 0, 0)
	l.enforce(b, allow)
	s, p := l.session(0, 1, 9000), l.push(1, 0, 9001)
	s.flows(l)
	p.flows(l)
	l.enforce(b, allow,
		l.rule("deny tcp", policy.TierAdmin, 1, policy.ActionDeny, 1, flow.ProtoTCP, 9000),
		l.rule("deny udp", policy.TierAdmin, 2, policy.ActionDeny, 1, flow.ProtoUDP, 9001))
	p.quiet(l, 50)
	s.stuck(l, l.met(b, "deny tcp"))
	l.tries(l.met(b, "deny tcp"), 0, 1, 9000, accepted)
	l.enforce(b, allow)
	s.flows(l)
	p.flows(l)

	// An allow that goes is as good as a deny that comes.
	base := l.rule("base", policy.TierBaseline, 1, policy.ActionDeny, 1, 0, 0)
	l.enforce(b, allow, base)
	s.flows(l)
	p.flows(l)
	l.enforce(b, base)
	p.quiet(l, 50)
	s.stuck(l, l.met(b, "base"))
}

// The first rule of all ends sessions that nobody has tracked, whoever sends
// first after it.
func TestFirstDenyStopsSessions(t *testing.T) {
	l := newLab(t, "sg", 2)
	accepted := l.echo(1, 9000)
	b := l.start()
	s, p := l.session(0, 1, 9000), l.push(1, 0, 9001)
	s.flows(l)
	p.flows(l)
	l.enforce(b, l.rule("deny", policy.TierAdmin, 1, policy.ActionDeny, 1, 0, 0))
	p.quiet(l, 50)
	s.stuck(l, l.met(b, "deny"))
	l.tries(l.met(b, "deny"), 0, 1, 9000, accepted)
	if n := l.connections(); n > 0 {
		t.Errorf("%d connections of what is denied are tracked", n)
	}
	l.enforce(b)
	s.flows(l)
	p.flows(l)
}

// A deny that keeps what is established is for new connections alone.
func TestKeepLeavesSessionsAlone(t *testing.T) {
	l := newLab(t, "sc", 2)
	accepted := l.echo(1, 9000)
	b := l.start()
	allow := l.rule("allow", policy.TierApplication, 5, policy.ActionAllow, 1, 0, 0)
	l.enforce(b, allow)
	s, p := l.session(0, 1, 9000), l.push(1, 0, 9001)
	s.flows(l)
	p.flows(l)
	deny := l.rule("deny", policy.TierAdmin, 1, policy.ActionDeny, 1, 0, 0)
	deny.established = policy.EstablishedKeep
	l.enforce(b, allow, deny)
	l.tries(l.met(b, "deny"), 0, 1, 9000, accepted)
	s.flows(l)
	p.flows(l)
}

// A pipeline behind ours that tracks connections itself finds packets as if
// they had never been tracked, and its sessions stop and go on like others.
func TestForeignConntrack(t *testing.T) {
	l := newLab(t, "sd", 2)
	l.ofctl("del-flows")
	for _, f := range []string{
		"table=0,priority=10,arp,actions=NORMAL",
		"table=0,priority=10,ip,ct_state=-trk,actions=ct(table=10)",
		"table=10,priority=10,ip,ct_state=+trk+new,actions=ct(commit),NORMAL",
		"table=10,priority=10,ip,ct_state=+trk+est,actions=NORMAL",
	} {
		l.ofctl("add-flow", f)
	}
	before := l.foreign()
	l.echo(1, 9000)
	s := l.session(0, 1, 9000)
	s.flows(l)
	b := l.start()
	s.flows(l)
	l.enforce(b,
		l.rule("allow", policy.TierApplication, 1, policy.ActionAllow, 1, flow.ProtoTCP, 9000),
		l.rule("deny", policy.TierBaseline, 1, policy.ActionDeny, 1, 0, 0))
	s.flows(l)
	deny := l.deny("d-1/0", 0)
	l.apply(b, "d-1", deny)
	s.stuck(l, l.matched(b, "d-1"))
	l.remove(b, "d-1")
	s.flows(l)
	l.session(0, 1, 9000).flows(l)
	if after := l.foreign(); after != before {
		t.Errorf("foreign flows changed from\n%s\nto\n%s", before, after)
	}
}

// dial opens a connection and closes it again.
func (l *lab) dial(from, to, port int) (err error) {
	l.t.Helper()
	l.inHost(from, func() error {
		var conn net.Conn
		if conn, err = net.DialTimeout("tcp4", netip.AddrPortFrom(l.addr(to), uint16(port)).String(), 15*time.Second); err == nil {
			conn.Close()
		}
		return nil
	})
	return err
}

// Under default deny a connection that is allowed works in full: its opener
// hears of acceptance and refusal. Who may not connect does not, except for a
// protected host.
func TestDefaultDeny(t *testing.T) {
	l := newLab(t, "se", 3)
	accepted := l.echo(1, 9000)
	b := l.start()
	deny := func(name string, d policy.Direction, host int) want {
		w := l.rule(name, policy.TierBaseline, uint16(host), policy.ActionDeny, host, 0, 0)
		w.direction = d
		return w
	}
	out := want{name: "out", tier: policy.TierApplication, rank: 1, action: policy.ActionAllow, direction: policy.Egress, own: l.prefix(0), peer: l.prefix(1)}
	in := want{name: "in", tier: policy.TierApplication, rank: 1, action: policy.ActionAllow, own: l.prefix(1), peer: l.prefix(0)}
	l.enforce(b, out, in,
		deny("0in", policy.Ingress, 0), deny("0out", policy.Egress, 0), deny("1in", policy.Ingress, 1), deny("1out", policy.Egress, 1))
	l.session(0, 1, 9000).flows(l)
	l.push(1, 0, 9001).flows(l)
	if err := l.dial(0, 1, 9009); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("a connection to a closed port: %v", err)
	}
	l.tries(l.met(b, "1in"), 2, 1, 9000, accepted)

	protected := segmentation.NewProtected([]netip.Prefix{l.prefix(2)})
	guard, err := protected.Guard("guard", l.bridge, l.hosts[2], l.addr(2))
	if err != nil {
		t.Fatal(err)
	}
	l.apply(b, "guard", guard...)
	l.session(2, 1, 9000).flows(l)
	if err := l.dial(2, 1, 9009); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("a protected host's connection to a closed port: %v", err)
	}
}

// Neither a spoofed SYN flood towards an allowed port nor a scan leaves
// anything in conntrack; what completes a handshake does.
func TestSYNsAreNotEntered(t *testing.T) {
	l := newLab(t, "sf", 2)
	l.echo(1, 9000)
	b := l.start()
	l.enforce(b, l.rule("allow", policy.TierApplication, 5, policy.ActionAllow, 1, flow.ProtoTCP, 0))
	l.session(0, 1, 9000).flows(l)
	met := l.met(b, "allow")
	seen := met()
	l.transmitEach(0, 2000, func(i int, from net.HardwareAddr) ([]byte, error) {
		path := wire.Path{SrcMAC: from, DstMAC: wire.Broadcast(), Src: netip.AddrFrom4([4]byte{198, 18, byte(i >> 8), byte(i)}), Dst: l.addr(1)}
		return path.TCP(wire.Segment{SrcPort: uint16(1024 + i), DstPort: uint16(9000 + i%100), Seq: uint32(i), Flags: wire.SYN, Window: 1024})
	})
	l.eventually("the rule to meet the flood", func() bool { return met() >= seen+1000 })
	if n := l.connections(); n != 1 {
		t.Errorf("%d connections are tracked of one", n)
	}
}

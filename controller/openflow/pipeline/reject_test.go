package pipeline_test

import (
	"errors"
	"net"
	"net/netip"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/platelet-sdn/platelet/flowcollector/flow"
	"github.com/platelet-sdn/platelet/segmentation/policy"
)

// Who is rejected hears of it at once, as if the other end had said so: of TCP
// by a reset, of UDP by a closed port, and in sessions that exist as well.
func TestRejectAnswers(t *testing.T) {
	l := newLab(t, "rj", 2)
	accepted := l.echo(1, 9000)
	l.echo(1, 9001)
	b := l.start()
	reject := func(name string, rank uint16, proto uint8, port uint16) want {
		return l.rule(name, policy.TierApplication, rank, policy.ActionReject, 1, proto, port)
	}
	l.enforce(b, reject("tcp", 1, flow.ProtoTCP, 9000), reject("udp", 2, flow.ProtoUDP, 9002))
	l.settle()
	l.steady("ms until refused", 0, 900, func() float64 { // a second SYN comes after a second
		start := time.Now()
		if err := l.dial(0, 1, 9000); !errors.Is(err, syscall.ECONNREFUSED) {
			t.Error(err)
		}
		return time.Since(start).Seconds() * 1000
	})
	if accepted.Load() != 0 {
		t.Error("the server heard of it")
	}
	l.inHost(0, func() error {
		conn, err := net.DialUDP("udp4", nil, net.UDPAddrFromAddrPort(netip.AddrPortFrom(l.addr(1), 9002)))
		if err != nil {
			return err
		}
		defer conn.Close()
		if _, err := conn.Write([]byte("x")); err != nil {
			return err
		}
		if err := conn.SetReadDeadline(time.Now().Add(20 * time.Second)); err != nil {
			return err
		}
		if _, err := conn.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNREFUSED) {
			t.Errorf("a datagram: %v", err)
		}
		return nil
	})

	s := l.session(0, 1, 9001)
	s.flows(l)
	l.enforce(b, reject("tcp", 1, flow.ProtoTCP, 9000), reject("session", 3, flow.ProtoTCP, 9001))
	select {
	case <-s.ended:
	case <-time.After(20 * time.Second):
		t.Error("the session was not reset")
	}
	if h := l.hits(b, "tcp"); h.Connections < 1 {
		t.Errorf("%+v", h)
	}
	l.eventually("three packets counted as refused", func() bool { return b.Status().Refused >= 3 })
}

// What is rejected is answered up to a limit, and dropped beyond it.
func TestRejectIsLimited(t *testing.T) {
	l := newLab(t, "rk", 2)
	b := l.start()
	l.enforce(b, l.rule("udp", policy.TierApplication, 1, policy.ActionReject, 1, flow.ProtoUDP, 9000))
	start, before := time.Now(), b.Status().Refused
	s := l.stream(0, 1, 9000, 100*time.Microsecond)
	l.eventually("the rule to meet four thousand", func() bool { return l.hits(b, "udp").Packets > 4000 })
	refused, took := b.Status().Refused-before, time.Since(start)
	if most := 200 + 200*took.Seconds() + 50; refused == 0 || float64(refused) > most {
		t.Errorf("%d refused in %v, want at most %.0f", refused, took, most)
	}
	if s.received.Load() > 0 {
		t.Error("rejected datagrams arrived")
	}
	l.enforce(b)
	l.eventually("the meter to go", func() bool { return !strings.Contains(l.ofctl("dump-meters"), "meter=") })
}

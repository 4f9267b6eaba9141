package pipeline_test

import (
	"bytes"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/platelet-sdn/platelet/flowcollector/flow"
	"github.com/platelet-sdn/platelet/segmentation/policy"
)

// A datagram in fragments, which have no ports to the switch, passes by the rule
// for its connection's port, and so does the answer; those of one that is denied
// do not.
func TestFragmentsBelongToTheirService(t *testing.T) {
	l := newLab(t, "fr", 2)
	b := l.start()
	in := l.rule("in", policy.TierApplication, 1, policy.ActionAllow, 1, flow.ProtoUDP, 9000)
	out := want{name: "out", tier: policy.TierApplication, rank: 1, action: policy.ActionAllow, direction: policy.Egress, own: l.prefix(0), peer: l.prefix(1), proto: flow.ProtoUDP, port: 9000}
	l.enforce(b, append(denyAll(), in, out)...)
	var server *net.UDPConn
	at := net.UDPAddrFromAddrPort(netip.AddrPortFrom(l.addr(1), 9000))
	l.inHost(1, func() (err error) { server, err = net.ListenUDP("udp4", at); return err })
	t.Cleanup(func() { server.Close() })
	go func() {
		buf := make([]byte, 1<<16)
		for {
			n, from, err := server.ReadFromUDPAddrPort(buf)
			if err != nil {
				return
			}
			_, _ = server.WriteToUDPAddrPort(buf[:n], from) // the client asks again
		}
	}()
	ask := func(conn *net.UDPConn, question []byte, times int) bool {
		answer := make([]byte, 1<<16)
		for range times {
			if _, err := conn.Write(question); err != nil {
				t.Fatal(err)
			}
			if err := conn.SetReadDeadline(time.Now().Add(500 * time.Millisecond)); err != nil {
				t.Fatal(err)
			}
			if n, err := conn.Read(answer); err == nil && bytes.Equal(answer[:n], question) {
				return true
			}
		}
		return false
	}
	var conn *net.UDPConn
	l.inHost(0, func() (err error) { conn, err = net.DialUDP("udp4", nil, at); return err })
	defer conn.Close()
	long := bytes.Repeat([]byte("long"), 1000)
	if !ask(conn, []byte("short"), 20) {
		t.Fatal("no answer to a short question")
	}
	if !ask(conn, long, 20) {
		t.Error("no answer to a long question")
	}
	l.enforce(b, append(denyAll(), out)...)
	met := l.met(b, "deny in")
	before := met()
	l.eventually("no answer any more", func() bool { return !ask(conn, long, 3) }) // the datapath takes its time
	l.eventually("the rule to meet fragments", func() bool { return met() >= before+6 })
}

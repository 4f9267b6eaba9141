package controller_test

import (
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// BenchmarkLabelTakesEffect takes a workload's label away, in the database, and
// waits for the last datagram that still passes, while one is sent every 0.5 ms;
// then it gives the label back and waits for the first that passes again. Both
// reach from ovs-vsctl's start, which takes some 10 ms itself, to the receiver.
//
// On two cores that other work kept busy (load 6), 30 rounds: the last that
// passed 11 ms (median) and 25 ms (slowest) after the start, the first that
// passed again 13 and 20 ms.
func BenchmarkLabelTakesEffect(b *testing.B) {
	r := newRig(b, "plt-label")
	r.start("mode: observe\n" + r.withPolicies(strings.Replace(threeTier, "{proto: tcp, ports: [8080]}", "{proto: udp, ports: [8080]}", 1)))
	to := netip.AddrPortFrom(r.addr("h1"), 8080)
	var last atomic.Int64 // when a datagram was received
	r.receive(b, "h1", to, &last)
	r.send(b, "h3", to)
	port := r.portOf("h3")
	passes := func() bool { return time.Since(time.Unix(0, last.Load())) < 100*time.Millisecond }
	_ = r.fetch("h3", netip.AddrPortFrom(r.addr("h1"), 9).String(), denied)
	r.await("datagrams", passes)
	var closes, opens []time.Duration
	for b.Loop() {
		start := time.Now()
		r.ctl("set", "interface", port, "external_ids:role=nobody")
		r.await("the end", func() bool { return !passes() })
		closes = append(closes, time.Unix(0, last.Load()).Sub(start))
		start = time.Now()
		r.ctl("set", "interface", port, "external_ids:role=client")
		for last.Load() < start.UnixNano() {
			time.Sleep(100 * time.Microsecond)
		}
		opens = append(opens, time.Unix(0, last.Load()).Sub(start))
		r.await("datagrams again", passes)
	}
	for name, list := range map[string][]time.Duration{"close": closes, "open": opens} {
		slices.Sort(list)
		b.ReportMetric(float64(list[len(list)/2].Microseconds())/1000, "ms-"+name+"-p50")
		b.ReportMetric(float64(list[len(list)-1].Microseconds())/1000, "ms-"+name+"-max")
	}
	b.ReportMetric(0, "ns/op")
}

// receive notes when datagrams come.
func (r *rig) receive(b *testing.B, node string, at netip.AddrPort, last *atomic.Int64) {
	b.Helper()
	var c net.PacketConn
	if err := r.lab.Do(node, func() (err error) {
		c, err = net.ListenPacket("udp", at.String())
		return err
	}); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { c.Close() })
	go func() {
		buf := make([]byte, 64)
		for {
			if _, _, err := c.ReadFrom(buf); err != nil {
				return
			}
			last.Store(time.Now().UnixNano())
		}
	}()
}

// send sends a datagram every half millisecond, until the benchmark ends.
func (r *rig) send(b *testing.B, node string, to netip.AddrPort) {
	b.Helper()
	c, err := r.dial(node, "udp", to.String(), served)
	if err != nil {
		b.Fatal(err)
	}
	tick := time.NewTicker(500 * time.Microsecond)
	done := make(chan struct{})
	b.Cleanup(func() { close(done); tick.Stop(); c.Close() })
	go func() {
		for {
			select {
			case <-done:
				return
			case <-tick.C:
				_, _ = c.Write([]byte("x")) // refused while nobody listens
			}
		}
	}()
}

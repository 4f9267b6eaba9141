package controller_test

import (
	"bytes"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// frames calls f with every frame that comes to a node, until the test ends; f may
// change it and returns whether it is to be sent again by the same interface.
func (r *rig) frames(node string, f func(frame []byte) bool) {
	r.t.Helper()
	var file *os.File
	if err := r.lab.Do(node, func() error {
		iface, err := net.InterfaceByName("eth1")
		if err != nil {
			return err
		}
		fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
		if err != nil {
			return err
		}
		file = os.NewFile(uintptr(fd), "frames of "+node)
		if err := unix.SetsockoptInt(fd, unix.SOL_PACKET, unix.PACKET_IGNORE_OUTGOING, 1); err != nil {
			return err
		}
		return unix.Bind(fd, &unix.SockaddrLinklayer{Ifindex: iface.Index, Protocol: 0x0300}) // ETH_P_ALL, in network order
	}); err != nil {
		r.t.Fatal(err)
	}
	done := make(chan struct{})
	r.t.Cleanup(func() { file.Close(); <-done })
	go func() {
		defer close(done)
		buf := make([]byte, 1<<16)
		for {
			n, err := file.Read(buf)
			if err != nil {
				if os.IsTimeout(err) || strings.Contains(err.Error(), "network is down") {
					continue
				}
				return
			}
			if f(buf[:n]) {
				_, _ = file.Write(buf[:n]) // a full queue is a scrubber's risk
			}
		}
	}()
}

func (r *rig) mac(node string) net.HardwareAddr {
	r.t.Helper()
	mac, err := r.lab.MAC(node, "eth1")
	if err != nil {
		r.t.Fatal(err)
	}
	return mac
}

// ipTo reports whether a frame is IPv4 of a protocol to an address.
func ipTo(f []byte, proto byte, to netip.Addr) bool {
	a := to.As4()
	return len(f) >= 34 && f[12] == 8 && f[13] == 0 && f[23] == proto && bytes.Equal(f[30:34], a[:])
}

// known waits until the controller knows where a node is.
func (r *rig) known(node string) {
	r.t.Helper()
	a := r.addr(node)
	r.await(node+" known", func() bool {
		var hosts []struct {
			Address string
			Bound   bool
		}
		_ = r.fetch("h3", netip.AddrPortFrom(a, 81).String(), denied) // it says no, and where it is
		return r.get("hosts", &hosts) == nil && slices.ContainsFunc(hosts, func(h struct {
			Address string
			Bound   bool
		}) bool {
			return h.Address == a.String() && h.Bound
		})
	})
}

// unplug takes a node's link down.
func (r *rig) unplug(node string) {
	r.t.Helper()
	if out, err := r.in(node, "ip", "link", "set", "eth1", "down"); err != nil {
		r.t.Fatalf("%v: %s", err, out)
	}
}

func (r *rig) decision(id string) (d decision) {
	for _, d := range r.decisions() {
		if d.ID == id {
			return d
		}
	}
	return d
}

// A forged flood goes to the scrubber, and of it the victim gets what the scrubber
// sends on, a tenth, and nothing else; what goes round does so once. When the
// scrubber's link fails, the flood is limited.
func TestFloodIsScrubbed(t *testing.T) {
	r := newRig(t, "plt-scrub")
	web, gate := r.addr("h1"), r.addr("h4")
	settings := strings.Replace(quick, "response:\n", "response:\n  actions: {udp-flood: scrub}\n  scrubbers: ["+gate.String()+"]\n", 1)
	r.start(strings.Replace(settings, "keep_firing: 2s", "keep_firing: 2s, udp_flood: 500", 1))
	scrubber, victim, attacker := r.mac("h4"), r.mac("h1"), r.mac("h6")
	var taken, sent, cleaned, direct atomic.Uint64
	r.frames("h4", func(f []byte) bool {
		if !ipTo(f, 17, web) || !bytes.Equal(f[:6], scrubber) || taken.Add(1)%10 != 0 {
			return false
		}
		copy(f, victim)
		copy(f[6:], scrubber)
		sent.Add(1)
		return true
	})
	r.frames("h1", func(f []byte) bool {
		switch {
		case !ipTo(f, 17, web):
		case bytes.Equal(f[6:12], scrubber):
			cleaned.Add(1)
		case bytes.Equal(f[6:12], attacker):
			direct.Add(1)
		}
		return false
	})
	r.known("h4")
	stop := r.background("h6", "timeout", "300", "hping3", "-q", "-i", "u200", "--udp", "-p", "9", "--rand-source", web.String())
	var d decision
	r.await("the scrub verified", func() bool {
		i := slices.IndexFunc(r.decisions(), func(d decision) bool { return d.Kind == "udp-flood" && d.State == "verified" })
		if i >= 0 {
			d = r.decisions()[i]
		}
		return i >= 0
	})
	if d.Action != "scrub" || !d.Proof.Installed || !d.Proof.Effective || !d.Proof.Harmless || d.Station.Address != gate.String() {
		t.Errorf("got %s", pretty(d))
	}
	if rules := r.emergency(); len(rules) != 2 || !strings.Contains(rules[0], "hard_timeout=10") {
		t.Errorf("rules %q", rules)
	}
	before, passed, from := direct.Load(), cleaned.Load(), sent.Load()
	r.await("5,000 packets to be scrubbed", func() bool { return sent.Load() >= from+500 })
	r.await("what was sent on to arrive", func() bool { return cleaned.Load()-passed >= 450 })
	if n := direct.Load() - before; n > 0 {
		t.Errorf("%d packets came to the victim past the scrubber", n)
	}
	t.Logf("of %d packets that the scrubber got it sent %d, and %d came", taken.Load(), sent.Load(), cleaned.Load())
	if n := cleaned.Load(); n > sent.Load() { // round once
		t.Errorf("%d packets came of %d that were sent on", n, sent.Load())
	}
	r.await("the count of both", func() bool { x := r.decision(d.ID); return x.Proof.Returned > 100 && x.Proof.Handed > x.Proof.Returned })
	if n := len(r.decisions()); n != 1 {
		t.Errorf("more than the flood was acted on: %s", pretty(r.decisions()))
	}

	r.unplug("h4")
	r.await("one rung down", func() bool { x := r.decision(d.ID); return x.Action == "rate-limit" && x.State == "verified" })
	r.awaitReach("h3", web, "beside the limited flood")
	stop()
	r.await("its release", func() bool { return r.decision(d.ID).State == "released" })
	if n := len(r.emergency()); n != 0 {
		t.Errorf("%d rules stay", n)
	}
}

// What a suspect sends goes on, and comes to the port of copies as well, up to its
// limit; when that port's link fails, copying ends.
func TestSuspectIsMirrored(t *testing.T) {
	r := newRig(t, "plt-mirror")
	bad, web := r.addr("h5"), r.addr("h1")
	to, err := r.lab.HostSide("h4", "eth1")
	if err != nil {
		t.Fatal(err)
	}
	r.start(strings.Replace(quick, "response:\n", "response:\n  actions: {port-scan: mirror}\n  mirror: {ports: {"+r.bridge+": "+to+"}, pktps: 50, burst: 10}\n", 1))
	suspect := r.mac("h5")
	var copied, came atomic.Uint64
	count := func(n *atomic.Uint64) func([]byte) bool {
		return func(f []byte) bool {
			if ipTo(f, 6, web) && bytes.Equal(f[6:12], suspect) {
				n.Add(1)
			}
			return false
		}
	}
	r.frames("h4", count(&copied))
	r.frames("h1", count(&came))
	r.awaitReach("h5", web, "before the scan")
	stop := r.background("h5", "timeout", "300", "hping3", "-q", "-S", "-i", "u5000", "-p", "++1", web.String())
	d := r.awaitState(bad.String(), "verified")
	if d.Action != "mirror" || !d.Proof.Installed || !d.Proof.Effective || d.Proof.Handed == 0 || d.Proof.Dropped != 0 || d.Station.Port != to {
		t.Errorf("got %s", pretty(d))
	}
	r.await("copies at their limit of 50/s", func() bool { // a busy machine may keep the switch from it for a while
		copies, all, begun := copied.Load(), came.Load(), time.Now()
		r.await("400 probes at the victim", func() bool { return came.Load() >= all+400 })
		rate := float64(copied.Load()-copies) / time.Since(begun).Seconds()
		t.Logf("%.0f copies/s of a limit of 50, while %.0f packets/s reached the victim", rate, float64(came.Load()-all)/time.Since(begun).Seconds())
		return rate >= 20 && rate <= 80
	})
	r.awaitReach("h5", web, "while it is mirrored")
	if rules := r.emergency(); len(rules) != 1 || !strings.Contains(rules[0], "hard_timeout=10") {
		t.Errorf("rules %q", rules)
	}
	r.unplug("h4")
	r.await("the end of copying", func() bool { return r.decision(d.ID).State == "rolled-back" })
	if n := len(r.emergency()); n != 0 {
		t.Errorf("%d rules stay", n)
	}
	stop()
}

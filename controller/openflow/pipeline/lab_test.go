package pipeline_test

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sirupsen/logrus"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"

	"github.com/platelet-sdn/platelet/controller/openflow/pipeline"
	"github.com/platelet-sdn/platelet/lab/ovs"
)

// lab is a private Open vSwitch with one bridge, NORMAL forwarding, and hosts
// in network namespaces of their own.
type lab struct {
	t      testing.TB
	ctx    context.Context
	sw     *ovs.Instance
	bridge string
	hosts  []string // namespace names, "plp<tag>h0"; port names are the same
}

// newLab starts a lab. The tag, one or two letters, tells the labs of
// different tests apart in the names of bridges, ports and namespaces, so
// that what a crashed run left behind is found and removed.
func newLab(t testing.TB, tag string, hosts int) *lab {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	t.Cleanup(cancel)
	dir, err := os.MkdirTemp("", "pl")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			log, _ := os.ReadFile(filepath.Join(dir, "ovs-vswitchd.log"))
			for line := range strings.Lines(string(log)) {
				if strings.Contains(line, "|WARN|") || strings.Contains(line, "|ERR|") {
					t.Log("ovs-vswitchd: ", strings.TrimSpace(line))
				}
			}
		}
		os.RemoveAll(dir)
	})
	l := &lab{t: t, ctx: ctx, bridge: "plp" + tag}
	for i := range hosts {
		l.hosts = append(l.hosts, fmt.Sprintf("plp%sh%d", tag, i))
	}
	l.clean()
	t.Cleanup(l.clean)
	if l.sw, err = ovs.Start(ctx, dir); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.sw.Stop(); err != nil {
			t.Error(err)
		}
	})
	if err := l.sw.AddBridge(ctx, l.bridge, "netdev"); err != nil {
		t.Fatal(err)
	}
	for i := range l.hosts {
		l.addHost(i)
	}
	return l
}

// clean removes namespaces and links, those of a crashed run as well.
func (l *lab) clean() {
	for _, h := range l.hosts {
		_ = netns.DeleteNamed(h)
		if link, err := netlink.LinkByName(h); err == nil {
			_ = netlink.LinkDel(link)
		}
	}
}

func (l *lab) addr(host int) netip.Addr { return netip.AddrFrom4([4]byte{10, 77, 0, byte(host + 1)}) }

func (l *lab) prefix(host int) netip.Prefix { return netip.PrefixFrom(l.addr(host), 32) }

// addHost makes a namespace behind a port of the same name.
func (l *lab) addHost(i int) {
	l.t.Helper()
	l.plug(i)
	l.ctl("add-port", l.bridge, l.hosts[i])
}

// plug makes a host's namespace and its veth, without the port.
func (l *lab) plug(i int) {
	l.t.Helper()
	name := l.hosts[i]
	for _, args := range [][]string{
		{"ip", "netns", "add", name},
		{"ip", "link", "add", name, "type", "veth", "peer", "name", "eth0", "netns", name},
		{"ip", "-n", name, "addr", "add", l.addr(i).String() + "/24", "dev", "eth0"},
		{"ip", "-n", name, "link", "set", "lo", "up"},
		{"ip", "-n", name, "link", "set", "eth0", "up"},
		// The userspace datapath does not fill in checksums left to hardware.
		{"ip", "netns", "exec", name, "ethtool", "-K", "eth0", "tx", "off"},
		{"ip", "link", "set", name, "up"},
	} {
		if out, err := exec.CommandContext(l.ctx, args[0], args[1:]...).CombinedOutput(); err != nil {
			l.t.Fatalf("%v: %v: %s", args, err, out)
		}
	}
}

func (l *lab) ctl(args ...string) string {
	l.t.Helper()
	out, err := l.sw.Ctl(l.ctx, args...)
	if err != nil {
		l.t.Fatal(err)
	}
	return out
}

func (l *lab) mgmt() string { return l.sw.Mgmt(l.bridge) }

// ofctl runs ovs-ofctl COMMAND on the bridge's management socket.
func (l *lab) ofctl(command string, args ...string) string {
	l.t.Helper()
	out, err := l.sw.Ofctl(l.ctx, append([]string{"-O", "OpenFlow14", command, l.mgmt()}, args...)...)
	if err != nil {
		l.t.Fatal(err)
	}
	return out
}

// foreign returns the flows that are not ours, without counters.
func (l *lab) foreign() string {
	var out []string
	for _, line := range strings.Split(l.ofctl("dump-flows", "--no-stats"), "\n") {
		if !strings.Contains(line, "cookie=0x504c") {
			out = append(out, strings.TrimSpace(line))
		}
	}
	return strings.Join(out, "\n")
}

// claimCookie is how the cookies of claims begin; their number changes with
// each claim.
const claimCookie = "cookie=0x504c030c"

// ours counts our flows on the switch, without the claim.
func (l *lab) ours() int {
	dump := l.ofctl("dump-flows", "--no-stats")
	return strings.Count(dump, "cookie=0x504c") - strings.Count(dump, claimCookie)
}

// start runs a Bridge on the lab's bridge and waits until it is connected.
func (l *lab) start(edit ...func(*pipeline.Config)) *running {
	l.t.Helper()
	r := l.run(l.newBridge(edit...))
	l.eventually("the bridge to connect", func() bool { return r.Connected() })
	return r
}

func (l *lab) newBridge(edit ...func(*pipeline.Config)) *pipeline.Bridge {
	l.t.Helper()
	log := logrus.New()
	log.SetOutput(l.t.Output())
	cfg := pipeline.Config{Name: l.bridge, Target: "unix:" + l.mgmt(), Log: log}
	for _, e := range edit {
		e(&cfg)
	}
	b, err := pipeline.New(cfg)
	if err != nil {
		l.t.Fatal(err)
	}
	return b
}

// running is a Bridge whose Run goes on until stop, or the test's end.
type running struct {
	*pipeline.Bridge
	stop func()
}

func (l *lab) run(b *pipeline.Bridge) *running {
	ctx, cancel := context.WithCancel(l.ctx)
	done := make(chan struct{})
	go func() { defer close(done); _ = b.Run(ctx) }()
	r := &running{Bridge: b, stop: sync.OnceFunc(func() { cancel(); <-done })}
	l.t.Cleanup(r.stop)
	return r
}

// patience is how long a test waits for what should take milliseconds.
const patience = 45 * time.Second

// eventually waits until a condition holds; it is generous, machines are busy.
func (l *lab) eventually(what string, ok func() bool) time.Duration {
	l.t.Helper()
	start := time.Now()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		if time.Since(start) > patience {
			l.t.Fatalf("waited %v for %s", patience, what)
		}
		<-tick.C
	}
	return time.Since(start)
}

// steady measures a rate until it is within bounds, a few times: on a busy machine
// the switch may stand still for a while in between.
func (l *lab) steady(what string, least, most float64, measure func() float64) {
	l.t.Helper()
	const times = 5
	for n := 1; ; n++ {
		rate := measure()
		l.t.Logf("%.1f %s", rate, what)
		if least <= rate && rate <= most {
			return
		}
		if n == times {
			l.t.Fatalf("%.1f %s, %d times not between %.0f and %.0f", rate, what, times, least, most)
		}
	}
}

// inHost runs f on a thread inside a host's namespace. Sockets made there
// stay there.
func (l *lab) inHost(host int, f func() error) {
	l.t.Helper()
	errs := make(chan error)
	go func() {
		// Never unlocked: the thread ends with the goroutine, so that no
		// other one finds itself in the namespace.
		runtime.LockOSThread()
		ns, err := netns.GetFromName(l.hosts[host])
		if err == nil {
			defer ns.Close()
			err = netns.Set(ns)
		}
		if err == nil {
			err = f()
		}
		errs <- err
	}()
	if err := <-errs; err != nil {
		l.t.Fatalf("in host %d: %v", host, err)
	}
}

// stream sends UDP datagrams from one host to another at a steady interval
// and counts what arrives.
type stream struct {
	sent, received atomic.Uint64
	// last is when the latest datagram arrived, in Unix nanoseconds.
	last atomic.Int64
	// widest is the longest time between two that arrived.
	widest atomic.Int64
	stop   func()
	halted atomic.Bool // nothing more is sent
}

func (l *lab) stream(from, to int, port int, every time.Duration) *stream {
	l.t.Helper()
	var in, out *net.UDPConn
	dst := net.UDPAddrFromAddrPort(netip.AddrPortFrom(l.addr(to), uint16(port)))
	l.inHost(to, func() (err error) { in, err = net.ListenUDP("udp4", dst); return err })
	l.inHost(from, func() (err error) { out, err = net.DialUDP("udp4", nil, dst); return err })
	s := &stream{}
	done := make(chan struct{})
	var wg sync.WaitGroup
	wg.Add(2)
	s.stop = sync.OnceFunc(func() { close(done); in.Close(); out.Close(); wg.Wait() })
	l.t.Cleanup(s.stop)
	go func() {
		defer wg.Done()
		buf := make([]byte, 64)
		for {
			if _, err := in.Read(buf); err != nil {
				return
			}
			s.received.Add(1)
			now := time.Now().UnixNano()
			if before := s.last.Swap(now); before != 0 {
				s.widest.Store(max(s.widest.Load(), now-before))
			}
		}
	}()
	go func() {
		defer wg.Done()
		tick := time.NewTicker(every)
		defer tick.Stop()
		for {
			select {
			case <-done:
				return
			case <-tick.C:
				if s.halted.Load() {
					continue
				}
				if _, err := out.Write(make([]byte, 32)); err == nil {
					s.sent.Add(1)
				}
			}
		}
	}()
	return s
}

// flows waits until datagrams arrive (again).
func (s *stream) flows(l *lab) {
	l.t.Helper()
	n := s.received.Load()
	l.eventually("datagrams to arrive", func() bool { return s.received.Load() > n+3 })
}

// quiet waits until n more datagrams were sent and none of the last n arrived.
func (s *stream) quiet(l *lab, n uint64) {
	l.t.Helper()
	l.eventually("datagrams to stop arriving", func() bool {
		sent, received := s.sent.Load(), s.received.Load()
		l.eventually("more datagrams to be sent", func() bool { return s.sent.Load() >= sent+n })
		return s.received.Load() == received
	})
}

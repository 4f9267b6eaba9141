package agent_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/platelet-sdn/platelet/lab/agent"
	"github.com/platelet-sdn/platelet/lab/labtest"
	"github.com/platelet-sdn/platelet/lab/runner"
	"github.com/vishvananda/netlink"
)

func at(t *testing.T, lab *runner.Lab, node string) *agent.Station {
	t.Helper()
	s, err := agent.In(lab, node)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// TestStations shares one lab.
func TestStations(t *testing.T) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	lab := labtest.New(ctx, t, "../first.clab.yml").Up(ctx, t)
	h5, h1 := at(t, lab, "h5"), at(t, lab, "h1")
	if h5.Addr().String() != "10.77.0.15" || h5.Addr6().String() != "fd77::15" || h5.Fence.String() != "10.77.0.0/24, fd77::/64" {
		t.Errorf("station %+v, fence %v", h5, h5.Fence)
	}
	if _, err := agent.In(lab, "pl-first"); err == nil {
		t.Error("a station at a bridge, which is in the machine's own network")
	}
	t.Run("dial", func(t *testing.T) { dials(ctx, t, h5, h1) })
	t.Run("udp", func(t *testing.T) { datagrams(t, h5, h1) })
	t.Run("threads", func(t *testing.T) { threads(ctx, t, h5) })
}

// TestManagementIsNoPlaceForAgents has a lab with a management network, whose
// gateway is the machine.
func TestManagementIsNoPlaceForAgents(t *testing.T) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	file := filepath.Join(t.TempDir(), "managed.clab.yml")
	text := "name: managed\nmgmt: {network: plmanaged, ipv4-subnet: 172.31.77.0/24}\ntopology:\n  defaults: {kind: linux}\n  nodes:\n" +
		"    a: {exec: [ip addr add 10.7.0.1/24 dev eth1]}\n    b: {exec: [ip addr add 10.7.0.2/24 dev eth1]}\n    lonely: {}\n" +
		"  links:\n    - endpoints: [a:eth1, b:eth1]\n"
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	lab := labtest.New(ctx, t, file).Up(ctx, t)
	s := at(t, lab, "a")
	if s.Iface != "eth1" || s.Fence.String() != "10.7.0.0/24" {
		t.Errorf("stands at %s, behind %v", s.Iface, s.Fence)
	}
	all, err := lab.Addrs("b", "eth0")
	if err != nil || len(all) == 0 {
		t.Fatalf("b is not managed: %v, %v", all, err)
	}
	if err := s.Fence.Check(all[0].Addr()); !errors.Is(err, agent.ErrOutside) {
		t.Errorf("%v may be attacked: %v", all[0], err)
	}
	if _, err := agent.In(lab, "lonely"); err == nil {
		t.Error("a station on the management network")
	}
}

func dials(ctx context.Context, t *testing.T, from, to *agent.Station) {
	for _, addr := range []netip.Addr{to.Addr(), to.Addr6()} {
		l, err := to.Listen(netip.AddrPortFrom(addr, 7000))
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		go func() {
			if c, err := l.Accept(); err == nil {
				_, _ = io.Copy(c, c)
				c.Close()
			}
		}()
		local := netip.AddrPortFrom(from.Addr(), 7777)
		if addr.Is6() {
			local = netip.AddrPortFrom(from.Addr6(), 7777)
		}
		c, err := from.Dial(ctx, "tcp", local, netip.AddrPortFrom(addr, 7000))
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if c.LocalAddr().String() != local.String() || c.RemoteAddr().String() != netip.AddrPortFrom(addr, 7000).String() {
			t.Errorf("connected from %v to %v", c.LocalAddr(), c.RemoteAddr())
		}
		buf := make([]byte, 4)
		if _, err := c.Write([]byte("echo")); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(c, buf); err != nil || string(buf) != "echo" {
			t.Errorf("%q, %v", buf, err)
		}
	}
	if _, err := from.Dial(ctx, "tcp", netip.AddrPort{}, netip.AddrPortFrom(to.Addr(), 7001)); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("a closed port: %v", err)
	}
	for _, outside := range []string{"8.8.8.8:53", "[::ffff:8.8.8.8]:53", "127.0.0.1:80", "[2001:db8::1]:80", "10.78.0.1:1"} {
		if _, err := from.Dial(ctx, "tcp", netip.AddrPort{}, netip.MustParseAddrPort(outside)); !errors.Is(err, agent.ErrOutside) {
			t.Errorf("%s: %v", outside, err)
		}
	}
	if _, err := from.Dial(ctx, "unix", netip.AddrPort{}, netip.AddrPortFrom(to.Addr(), 1)); err == nil {
		t.Error("a network that is neither TCP nor UDP was taken")
	}
	if _, err := from.Dial(ctx, "tcp", netip.AddrPortFrom(from.Addr6(), 0), netip.AddrPortFrom(to.Addr(), 1)); err == nil {
		t.Error("addresses of two families were taken")
	}
}

func datagrams(t *testing.T, from, to *agent.Station) {
	server, err := to.ListenUDP(netip.AddrPortFrom(to.Addr(), 7000))
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	client, err := from.ListenUDP(netip.AddrPortFrom(from.Addr(), 0))
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	if _, err := client.WriteTo([]byte("x"), netip.MustParseAddrPort("8.8.8.8:53")); !errors.Is(err, agent.ErrOutside) {
		t.Errorf("outside: %v", err)
	}
	if _, err := client.WriteTo([]byte("hello"), server.LocalAddr()); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 16)
	if err := server.SetReadDeadline(time.Now().Add(10 * time.Second)); err != nil {
		t.Fatal(err)
	}
	if n, who, err := server.ReadFrom(buf); err != nil || string(buf[:n]) != "hello" || who != client.LocalAddr() {
		t.Errorf("%q from %v, %v", buf[:n], who, err)
	}
}

// threads lets many connection attempts wait at once: for an address whose
// packets go nowhere.
func threads(ctx context.Context, t *testing.T, from *agent.Station) {
	silent := netip.MustParseAddr("10.77.0.250")
	err := from.Do(func() error {
		return netlink.NeighSet(&netlink.Neigh{LinkIndex: from.Index, IP: silent.AsSlice(), HardwareAddr: []byte{2, 0, 0, 0, 0, 9}, State: netlink.NUD_PERMANENT})
	})
	if err != nil {
		t.Fatal(err)
	}
	count := func() int {
		entries, err := os.ReadDir("/proc/self/task")
		if err != nil {
			t.Fatal(err)
		}
		return len(entries)
	}
	before := count()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var wait sync.WaitGroup
	const many = 1500
	for i := range many {
		wait.Go(func() {
			if _, err := from.Dial(ctx, "tcp", netip.AddrPort{}, netip.AddrPortFrom(silent, uint16(i+1))); !errors.Is(err, context.Canceled) {
				t.Errorf("port %d: %v", i+1, err)
			}
		})
	}
	// Their sockets show that they wait in the kernel.
	deadline := time.Now().Add(20 * time.Second)
	for {
		waiting := 0
		err := from.Do(func() error {
			table, err := os.ReadFile("/proc/thread-self/net/tcp")
			waiting = bytes.Count(table, []byte(" 02 ")) // SYN_SENT
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		if waiting >= many {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("%d of %d attempts wait", waiting, many)
		}
	}
	if after := count(); after > before+many/2 { // a thread for a moment, for each that makes its socket just now
		t.Errorf("%d attempts cost %d threads", many, after-before)
	}
	cancel()
	wait.Wait()
}

func TestFence(t *testing.T) {
	f, err := agent.NewFence(netip.MustParsePrefix("10.0.0.7/24"), netip.MustParsePrefix("fd00::/64"), netip.MustParsePrefix("10.0.0.0/24"))
	if err != nil || f.String() != "10.0.0.0/24, fd00::/64" {
		t.Fatal(f, err)
	}
	for addr, inside := range map[string]bool{
		"10.0.0.1": true, "::ffff:10.0.0.1": true, "fd00::1": true, "169.254.1.1": true, "fe80::1%eth1": true, "224.0.0.1": true, "ff02::1": true,
		"255.255.255.255": true, "10.0.1.1": false, "::ffff:10.0.1.1": false, "fd01::1": false, "127.0.0.1": false, "::1": false, "0.0.0.0": false, "1.1.1.1": false,
	} {
		if err := f.Check(netip.MustParseAddr(addr)); (err == nil) != inside || err != nil && !errors.Is(err, agent.ErrOutside) {
			t.Errorf("%s: %v", addr, err)
		}
	}
	if err := f.Check(netip.Addr{}); !errors.Is(err, agent.ErrOutside) {
		t.Errorf("no address: %v", err)
	}
	for _, wide := range []string{"0.0.0.0/0", "::/0", "10.0.0.0/7"} {
		if _, err := agent.NewFence(netip.MustParsePrefix(wide)); err == nil {
			t.Errorf("%s was taken", wide)
		}
	}
}

func TestBudget(t *testing.T) {
	if _, err := agent.NewBudget(0, time.Second); err == nil {
		t.Error("a budget without packets")
	}
	if _, err := agent.NewBudget(1, 0); err == nil {
		t.Error("a budget without time")
	}
	b, err := agent.NewBudget(10, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	for _, step := range []struct{ ask, want int }{{4, 4}, {0, 0}, {5, 5}, {3, 1}} {
		if got, err := b.Take(step.ask); got != step.want || err != nil {
			t.Errorf("asked for %d, got %d, %v", step.ask, got, err)
		}
	}
	if _, err := b.Take(1); !errors.Is(err, agent.ErrSpent) || !strings.Contains(err.Error(), "all 10 packets") {
		t.Errorf("beyond: %v", err)
	}
	b.Refund(2)
	b.Weigh(99)
	if s := b.Spent(); s.Packets != 8 || s.Bytes != 99 || s.First.IsZero() || s.Last.Before(s.First) || b.Left() == 0 {
		t.Errorf("spent %+v", s)
	}
	start := time.Now()
	if r := (agent.Spent{Packets: 11, First: start, Last: start.Add(2 * time.Second)}).Rate(); r != 5 {
		t.Errorf("rate %v", r)
	}
}

func TestTruthRemembersAttackers(t *testing.T) {
	var lines bytes.Buffer
	truth := agent.NewTruth(&lines)
	early := time.Unix(100, 0)
	truth.Record(agent.Action{Agent: "a", Role: agent.Attack, Time: early.Add(time.Second)})
	truth.Record(agent.Action{Agent: "a", Role: agent.Attack, Time: early})
	truth.Record(agent.Action{Agent: "b", Role: agent.Benign})
	truth.Record(agent.Action{Agent: "c", Role: agent.Reflector})
	truth.Own("a", netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("10.0.0.1"))
	if got := truth.Attackers(); len(got) != 1 || !got["a"].Equal(early) {
		t.Errorf("attackers %v", got)
	}
	if got := truth.Addrs("a"); len(got) != 1 {
		t.Errorf("addresses %v", got)
	}
	if err := truth.Flush(); err != nil || bytes.Count(lines.Bytes(), []byte("\n")) != 4 {
		t.Errorf("%v: %s", err, lines.String())
	}
	broken := agent.NewTruth(failing{})
	broken.Record(agent.Action{Agent: "a"})
	if err := broken.Flush(); err == nil {
		t.Error("a full disk is no error")
	}
}

type failing struct{}

func (failing) Write([]byte) (int, error) { return 0, errors.New("disk full") }

package ipcmd_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/platelet-sdn/platelet/lab/ipcmd"
	"github.com/platelet-sdn/platelet/lab/namespace"
	"github.com/platelet-sdn/platelet/lab/ovs"
)

func TestMain(m *testing.M) { os.Exit(ovs.Isolate(m.Run)) }

// place is a namespace with two interfaces, the same in every namespace.
type place struct{ name string }

func newPlace(t *testing.T, name string) place {
	t.Helper()
	name = fmt.Sprintf("ipcmd-%s-%d", name, os.Getpid())
	if err := namespace.Create(name); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := namespace.Delete(name); err != nil {
			t.Error(err)
		}
	})
	if err := namespace.Do(name, func() error {
		// No addresses but those that are given, usable at once.
		for file, value := range map[string]string{"default/accept_dad": "0", "default/addr_gen_mode": "1"} {
			if err := os.WriteFile("/proc/sys/net/ipv6/conf/"+file, []byte(value), 0); err != nil {
				return err
			}
		}
		h, err := netlink.NewHandle()
		if err != nil {
			return err
		}
		defer h.Close()
		attrs := netlink.NewLinkAttrs()
		attrs.Name, attrs.MTU, attrs.HardwareAddr = "eth1", 1500, net.HardwareAddr{2, 0, 0, 0, 0, 1}
		if err := h.LinkAdd(&netlink.Veth{LinkAttrs: attrs, PeerName: "eth2", PeerHardwareAddr: net.HardwareAddr{2, 0, 0, 0, 0, 2}}); err != nil {
			return err
		}
		for _, l := range []string{"lo", "eth2", "eth1"} {
			link, err := h.LinkByName(l)
			if err == nil {
				err = h.LinkSetUp(link)
			}
			if err != nil {
				return err
			}
		}
		return settled(h, "eth1", "eth2")
	}); err != nil {
		t.Fatal(err)
	}
	return place{name}
}

// settled waits until the kernel has seen that links are up.
func settled(h *netlink.Handle, names ...string) error {
	for late := time.Now().Add(10 * time.Second); ; {
		up := 0
		for _, name := range names {
			l, err := h.LinkByName(name)
			if err != nil {
				return err
			}
			if l.Attrs().OperState == netlink.OperUp {
				up++
			}
		}
		if up == len(names) {
			return nil
		}
		if time.Now().After(late) {
			return fmt.Errorf("%s do not come up", names)
		}
	}
}

// real runs the system's own program.
func (p place) real(ctx context.Context, program string, args ...string) (string, error) {
	out, err := namespace.Command(ctx, p.name, program, args...).CombinedOutput()
	return string(out), err
}

// ours runs what is tested, by the name of the program.
func (p place) ours(program string, args ...string) (string, error) {
	var out, errOut bytes.Buffer
	var code int
	err := namespace.Do(p.name, func() error {
		var ok bool
		if code, ok = ipcmd.Applet(append([]string{"/bin/" + program}, args...), &out, &errOut); !ok {
			return errors.New("no applet")
		}
		return nil
	})
	if err == nil && code != 0 {
		err = fmt.Errorf("exit code %d", code)
	}
	return out.String() + errOut.String(), err
}

// state is all that the commands can change, as the system's own ip sees it.
func (p place) state(t *testing.T, ctx context.Context) string {
	t.Helper()
	var all strings.Builder
	for _, show := range []string{"-o link", "addr", "-4 route show table all", "-6 route show table all", "neigh show", "neigh show proxy"} {
		out, err := p.real(ctx, "ip", strings.Fields(show)...)
		if err != nil {
			t.Fatal(out, err)
		}
		lines := strings.Split(out, "\n")
		if strings.HasPrefix(show, "neigh") {
			slices.Sort(lines) // they come in the order of a hash
		}
		fmt.Fprintf(&all, "%s:\n%s\n", show, strings.Join(lines, "\n"))
	}
	// What counts down.
	return regexp.MustCompile(`\d+sec`).ReplaceAllString(all.String(), "-")
}

// TestSameEffectAsIproute2 runs commands by iproute2 in one place and by ours
// in another, and compares the outcome after each.
func TestSameEffectAsIproute2(t *testing.T) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	for _, script := range []string{
		`addr add 10.77.0.11/24 dev eth1; -6 addr add fd77::11/64 dev eth1 nodad; route add default via 10.77.0.1; -6 route add default via fd77::1;
		 addr del 10.77.0.11/24 dev eth1; -6 addr del fd77::11/64 dev eth1`,
		`a a 10.0.0.1 dev eth1; address add 10.0.1.1/24 brd + dev eth1; addr add 10.0.2.1/24 broadcast 10.0.2.7 scope link label eth1:x dev eth1;
		 addr add 10.0.3.1/24 brd - dev eth1; addr replace 10.0.3.1/24 brd + dev eth1; addr add local 10.0.4.1/24 dev eth1; addr flush dev eth1`,
		`addr add 10.0.0.1 peer 10.0.0.2 dev eth1; addr add 10.0.9.1/24 dev eth1 noprefixroute; addr add 10.0.5.1/24 valid_lft 1000 preferred_lft 500 dev eth1;
		 addr add 10.0.5.2/24 dev eth1 valid_lft forever preferred_lft forever; addr del 10.0.5.1/24 dev eth1; addr add 127.0.0.2/8 dev lo; addr add fd00::1/128 dev lo`,
		`addr add 10.0.0.1/24 dev eth1; addr add 10.0.0.1/24 dev eth1; addr del 10.9.9.9/24 dev eth1; addr add 10.0.0.2/24 dev none; addr add 10.0.0.300/24 dev eth1;
		 addr add dev eth1; addr add 10.0.0.9/24; addr add 10.0.0.9/33 dev eth1; -6 addr add 10.0.0.9/24 dev eth1`,
		`link set dev eth1 mtu 1400; link set eth1 address 02:00:00:00:00:99; link set dev eth1 down; link set eth1 name eth9; link set eth9 up mtu 9000;
		 link set eth9 promisc on; link set eth9 arp off; link set eth9 txqueuelen 77; link set eth9 promisc off arp on; l s dev eth9 down`,
		`link set dev eth1 mtu 1; link set none up; link set eth1 mtu; link set eth1 address 02:00:00; link set eth1 promisc maybe`,
		`addr add 10.0.0.1/24 dev eth1; route add 10.1.0.0/16 via 10.0.0.2; route add 10.2.0.0/16 dev eth1; route add 10.3.0.0/16 via 10.0.0.2 dev eth1 src 10.0.0.1 metric 7;
		 route replace 10.1.0.0/16 via 10.0.0.3; route add blackhole 10.4.0.0/16; r add unreachable 10.5.0.0/16; route add prohibit 10.6.0.1; route add 10.7.0.0/16 via 192.0.2.1 dev eth1 onlink;
		 route add 10.8.0.0/16 via 10.0.0.2 table 100; route add 10.9.0.0/16 dev eth1 proto static scope host mtu 1300; route add to default dev eth2 metric 50; route show 10.1.0.0/16;
		 route del 10.1.0.0/16; route del 10.2.0.0/16 dev eth1; route del blackhole 10.4.0.0/16; route del 10.5.0.0/16; route delete 10.8.0.0/16 table 100; route del default; route del 10.3.0.0/16 via 10.0.0.2 metric 7`,
		`-6 addr add fd00::1/64 dev eth1 nodad; -6 route add fd01::/64 via fd00::2; -6 route add fd02::/64 dev eth1; route add fd03::/64 via fd00::2 metric 5; -6 route replace fd01::/64 via fd00::3;
		 -6 route add default via inet6 fd00::9 dev eth1; route add blackhole fd04::/64; -6 route del default; -6 route del fd02::/64 dev eth1; -6 route flush dev eth1`,
		`route add 10.1.0.0/16 via 192.0.2.1; route add 10.1.0.0/16; route del 10.77.0.0/16; route add 10.1.0.1/16 dev eth1; route add 10.1.0.0/16 dev none; route add 10.1.0.0/16 via fd00::1;
		 route add default via; route add 10.1.0.0/16 dev eth1 metric many; route add; -4 route add fd00::/64 dev eth1`,
		`neigh add 10.0.0.5 lladdr 02:00:00:00:00:05 dev eth1; neigh add 10.0.0.5 lladdr 02:00:00:00:00:05 dev eth1; neigh replace 10.0.0.5 lladdr 02:00:00:00:00:06 dev eth1;
		 n a fd00::5 lladdr 02:00:00:00:00:05 dev eth1 nud permanent; neighbor add 10.0.0.6 dev eth1 nud noarp; neigh add proxy 10.0.0.7 dev eth1; neigh replace 10.0.0.8 lladdr 02:00:00:00:00:08 nud stale dev eth1;
		 neigh del 10.0.0.5 dev eth1; neigh del proxy 10.0.0.7 dev eth1; neigh del 10.9.9.9 dev eth1; neigh add 10.0.0.9 dev eth1; neigh add 10.0.0.9 lladdr 02:00:00:00:00:09`,
	} {
		name, _, _ := strings.Cut(script, ";")
		t.Run(name, func(t *testing.T) {
			theirs, ours := newPlace(t, "theirs"), newPlace(t, "ours")
			for line := range strings.SplitSeq(script, ";") {
				args := strings.Fields(line)
				realOut, realErr := theirs.real(ctx, "ip", args...)
				out, err := ours.ours("ip", args...)
				if (err == nil) != (realErr == nil) {
					t.Errorf("ip %s: %v %s; iproute2: %v %s", strings.Join(args, " "), err, out, realErr, realOut)
				}
				// The kernel does some of its work after it has answered.
				for late := time.Now().Add(5 * time.Second); ; {
					want, got := theirs.state(t, ctx), ours.state(t, ctx)
					if got == want {
						break
					}
					if time.Now().After(late) {
						t.Fatalf("after ip %s:\n%s\niproute2 leaves\n%s", strings.Join(args, " "), got, want)
					}
				}
			}
		})
	}
}

// TestShowLikeIproute2 compares what is shown, line by line. Of an interface
// the queueing is left out.
func TestShowLikeIproute2(t *testing.T) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	p := newPlace(t, "show")
	for _, line := range []string{
		"addr add 10.0.0.1/24 dev eth1", "addr add 10.0.0.2/24 brd + dev eth1", "addr add 10.0.1.1/24 scope link label eth1:x dev eth1 noprefixroute",
		"addr add fd00::1/64 dev eth1 nodad", "addr add 10.0.2.1 peer 10.0.2.2 dev eth1",
		"route add 10.1.0.0/16 via 10.0.0.9 metric 7 src 10.0.0.1 mtu 1300", "route add default via 10.0.0.9 proto static", "route add blackhole 10.4.0.0/16",
		"route add 10.7.0.0/16 via 192.0.2.1 dev eth1 onlink", "route add fd01::/64 via fd00::2", "-6 route add default via fd00::3", "route add 10.9.9.9 via 10.0.0.9 table 100",
		"neigh add 10.0.0.5 lladdr 02:00:00:00:00:05 dev eth1", "neigh add fd00::5 lladdr 02:00:00:00:00:05 dev eth1",
	} {
		if out, err := p.ours("ip", strings.Fields(line)...); err != nil {
			t.Fatal(line, out, err)
		}
	}
	qdisc := regexp.MustCompile(` qdisc \w+| group default| qlen \d+`)
	for _, show := range []string{
		"addr", "addr show", "-4 addr show dev eth1", "-6 addr show dev eth1", "addr show dev lo", "-o -4 addr show dev eth1", "-4 -o addr",
		"link", "link show dev eth2", "-o link list", "route", "r s dev eth1", "-6 route show", "route show table 100", "route show default", "neigh", "-6 neigh show dev eth1", "-4 n",
	} {
		want, err := p.real(ctx, "ip", strings.Fields(show)...)
		if err != nil {
			t.Fatal(show, want, err)
		}
		got, err := p.ours("ip", strings.Fields(show)...)
		if err != nil {
			t.Fatal(show, got, err)
		}
		got, want = normal(qdisc.ReplaceAllString(got, "")), normal(qdisc.ReplaceAllString(want, ""))
		if got != want {
			t.Errorf("ip %s\n%s\niproute2:\n%s", show, got, want)
		}
	}
	if out, err := p.ours("ip", "addr", "show", "dev", "none"); err == nil {
		t.Error("shows what is not there:", out)
	}
}

// normal leaves out what iproute2 adds of a veth's peer, a link's mode and a
// route's preference, and trailing blanks.
func normal(text string) string {
	text = regexp.MustCompile(`@\w+| mode DEFAULT| pref medium| link-netnsid \d+`).ReplaceAllString(text, "")
	text = regexp.MustCompile(` +`).ReplaceAllString(text, " ")
	return regexp.MustCompile(` +(\n|\\)`).ReplaceAllString(text, "$1")
}

func TestRefusals(t *testing.T) {
	for _, tt := range []struct{ line, want string }{
		{"", "needs an object"},
		{"rule add", `object "rule" is not supported`},
		{"-json addr", `option "-json" is not supported: there are -4, -6, -f and -o`},
		{"link add br0 type bridge", `"add" is not supported for link: there are set, show`},
		{"link set eth1", "needs something to set"},
		{"link set eth1 master br0", `"master" is not supported`},
		{"addr add 10.0.0.1/24 dev eth1 dev eth2", `two interfaces, "eth1" and "eth2"`},
		{"addr add 10.0.0.1/24 dev abcdefghijklmnop", "is no interface name"},
		{"addr add 10.0.0.1/24 dev eth1 metric 3", `"metric" is not supported after the address`},
		{"addr add 10.0.0/24 dev eth1", `"10.0.0/24": needs an address such as`},
		{"addr add fd00::1/64 dev eth1 broadcast fd00::2", "only IPv4 has broadcast addresses"},
		{"addr flush", "flush needs a dev"},
		{"route flush", "flush needs a dev"},
		{"route add default nexthop via 10.0.0.1", `"nexthop" is not supported`},
		{"route add 10.0.0.1/24 dev eth1", "10.0.0.0/24 is the subnet"},
		{"route show 10.0.0.0/8 via 10.0.0.1", "route show takes a destination, a dev and a table here"},
		{"neigh add 10.0.0.1 dev eth1", `needs "lladdr ADDRESS"`},
	} {
		_, err := ipcmd.Parse(strings.Fields(tt.line))
		var bad *ipcmd.SyntaxError
		if !errors.As(err, &bad) || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("ip %s: %v, want %s", tt.line, err, tt.want)
		}
	}
	if _, ok := ipcmd.Applet([]string{"/platelet", "addr"}, nil, nil); ok {
		t.Error("an applet by the name of platelet")
	}
}

func TestExitCodes(t *testing.T) {
	p := newPlace(t, "codes")
	for _, tt := range []struct{ line, want string }{
		{"addr add 10.0.0.1/24 dev none", "exit code 1"},
		{"addr add 10.0.0.1/24", "exit code 1"},
		{"addr del 10.0.0.1/24 dev eth1", "exit code 2"},
	} {
		if _, err := p.ours("ip", strings.Fields(tt.line)...); err == nil || err.Error() != tt.want {
			t.Errorf("ip %s: %v", tt.line, err)
		}
	}
}

func TestSysctl(t *testing.T) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	theirs, ours := newPlace(t, "theirs"), newPlace(t, "ours")
	lines := []string{
		"net.ipv4.ip_forward", "-w net.ipv4.ip_forward=1", "-n net.ipv4.ip_forward", "net.ipv4.ip_forward=0", "net/ipv4/ip_forward=1", "-w net.ipv6.conf.all.forwarding=1 net.ipv4.conf.eth1.rp_filter=2",
		"-qw net.ipv4.ip_forward=0", "net.ipv4.conf.eth1.rp_filter net.ipv6.conf.all.forwarding",
	}
	for _, line := range lines {
		want, err := theirs.real(ctx, "sysctl", strings.Fields(line)...)
		if err != nil {
			t.Fatal(want, err)
		}
		got, err := ours.ours("sysctl", strings.Fields(line)...)
		if err != nil || strings.ReplaceAll(got, "/", ".") != strings.ReplaceAll(want, "/", ".") {
			t.Errorf("sysctl %s: %v\n%s\nprocps:\n%s", line, err, got, want)
		}
	}
	for _, line := range []string{"", "-w net.ipv4.ip_forward", "-a", "net.none=1", "../kernel/x=1", "net.ipv4.ip_forward=no"} {
		if out, err := ours.ours("sysctl", strings.Fields(line)...); err == nil {
			t.Errorf("sysctl %s: %s", line, out)
		}
	}
	if out, err := ours.ours("sysctl", "-e", "-w", "net.none=1"); err != nil {
		t.Error(out, err)
	}
}

// TestKernelErrorIsKept lets callers tell what the kernel said.
func TestKernelErrorIsKept(t *testing.T) {
	p := newPlace(t, "errno")
	if err := namespace.Do(p.name, func() error {
		return ipcmd.IP([]string{"addr", "del", "10.0.0.1/24", "dev", "eth1"}, nil)
	}); !errors.Is(err, unix.EADDRNOTAVAIL) {
		t.Error(err)
	}
}

func FuzzParse(f *testing.F) {
	for _, seed := range []string{
		"ip addr add 10.77.0.11/24 dev eth1", "-6 addr add fd77::11/64 dev eth1 nodad", "route add default via 10.77.0.1", "link set dev eth1 up mtu 1500",
		"neigh replace 10.0.0.5 lladdr 02:00:00:00:00:05 dev eth1 nud stale", "-o -4 a s", "r r fd00::/64 via inet6 fd01::1 metric 0x7 table main", "a a 10.0.0.1/24 brd + dev e peer 10.0.0.2",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, line string) {
		c, err := ipcmd.Parse(strings.Fields(line))
		var bad *ipcmd.SyntaxError
		if err != nil {
			if !errors.As(err, &bad) {
				t.Fatalf("%q: %T %v", line, err, err)
			}
			return
		}
		changes := c.Verb == ipcmd.VerbAdd || c.Verb == ipcmd.VerbReplace || c.Verb == ipcmd.VerbDelete
		switch {
		case c.Object == ipcmd.ObjectAddress && changes:
			if !c.Address.Prefix.IsValid() || c.Dev == "" || c.Address.Prefix.Addr().Is4() != (c.Family == ipcmd.FamilyV4) {
				t.Fatalf("%q: %+v", line, c)
			}
		case c.Object == ipcmd.ObjectRoute && changes:
			if !c.Route.Dst.IsValid() || c.Route.Via.IsValid() && c.Route.Via.Is4() != c.Route.Dst.Addr().Is4() {
				t.Fatalf("%q: %+v", line, c)
			}
		case c.Object == ipcmd.ObjectNeighbour && changes:
			if !c.Neighbour.Addr.IsValid() || c.Dev == "" {
				t.Fatalf("%q: %+v", line, c)
			}
		case c.Object == ipcmd.ObjectLink && c.Verb != ipcmd.VerbShow:
			if c.Dev == "" {
				t.Fatalf("%q: %+v", line, c)
			}
		}
	})
}

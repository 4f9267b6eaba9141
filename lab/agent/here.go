package agent

import (
	"bytes"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"runtime"
	"slices"
	"sort"
	"strings"

	"github.com/platelet-sdn/platelet/lab/namespace"
	"github.com/platelet-sdn/platelet/lab/runner"
	"github.com/vishvananda/netlink"
)

const (
	// containerMark is in the environment of every container that
	// containerlab starts.
	containerMark = "CLAB_LABEL_CONTAINERLAB"
	// initialPIDs is the process namespace that the kernel started with
	// (PROC_PID_INIT_INO in include/linux/proc_ns.h).
	initialPIDs = "pid:[4026531836]"
	// management is the interface that containerlab manages a node by.
	management = "eth0"
)

// Here opens a station where this very process runs, at one of its
// interfaces. It must be inside a node: one of a recorded lab, or a container
// of containerlab's that runs this program. Everything else is ErrOutside,
// with what was found.
//
// In a node of a recorded lab the fence is the lab's. In a container nobody
// can be asked for the other subnets: the fence is round the interface's own
// and the further ones given, which must be ranges that the internet does not
// route.
func Here(iface string, further []netip.Prefix, o runner.Options) (*Station, error) {
	if iface == "" || iface == management || iface == "lo" {
		return nil, fmt.Errorf("%w: %q is no interface on a lab's links; %s is for management", ErrOutside, iface, management)
	}
	if err := notInitial(); err != nil {
		return nil, err
	}
	lab, node, labErr := whose(o)
	if lab != nil {
		return here(lab, node, iface, further)
	}
	if err := inContainer(); err != nil {
		return nil, fmt.Errorf("%w; %w", labErr, err)
	}
	host, err := os.Hostname()
	if err != nil {
		return nil, fmt.Errorf("own name: %w", err)
	}
	fence, err := aroundInterface(iface, further)
	if err != nil {
		return nil, err
	}
	return look(host, iface, fence, onThread)
}

// here stands in a node of a recorded lab.
func here(lab *runner.Lab, node, iface string, further []netip.Prefix) (*Station, error) {
	if len(further) > 0 {
		return nil, fmt.Errorf("the fence is that of lab %s: it has all its subnets already", lab.Name())
	}
	if known := lab.Interfaces(node); !slices.Contains(known, iface) {
		return nil, fmt.Errorf("%w: lab %s has no %s at %s (it has %s)", ErrOutside, lab.Name(), iface, node, strings.Join(known, ", "))
	}
	fence, err := Around(lab)
	if err != nil {
		return nil, err
	}
	return open(node, iface, fence, onThread)
}

// onThread runs f on one thread: this process is inside already.
func onThread(f func() error) error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	return f()
}

// whose finds the recorded lab and node that this process is inside; without
// a lab, the error says what was looked at.
func whose(o runner.Options) (*runner.Lab, string, error) {
	own, err := os.Stat("/proc/thread-self/ns/net")
	if err != nil {
		return nil, "", fmt.Errorf("own namespace: %w", err)
	}
	name, err := os.Readlink("/proc/thread-self/ns/net")
	if err != nil {
		return nil, "", fmt.Errorf("own namespace: %w", err)
	}
	labs, err := runner.List(o)
	if err != nil {
		return nil, "", err
	}
	names := make([]string, 0, len(labs))
	for lab := range labs {
		names = append(names, lab)
	}
	sort.Strings(names)
	for _, n := range names {
		lab, err := runner.Open(n, o)
		if err != nil {
			return nil, "", err
		}
		for _, node := range lab.Nodes() {
			if lab.Isolated(node) && standsIn(lab, node, own) {
				return lab, node, nil
			}
		}
	}
	return nil, "", fmt.Errorf("%w: the network namespace %s was made by none of the recorded labs (%s)", ErrOutside, name, orNone(names))
}

func orNone(names []string) string {
	if len(names) == 0 {
		return "there are none"
	}
	return strings.Join(names, ", ")
}

// standsIn reports whether a node's namespace is the given one. A node that
// is gone has none.
func standsIn(lab *runner.Lab, node string, own os.FileInfo) bool {
	same := false
	err := lab.Do(node, func() error {
		there, err := os.Stat("/proc/thread-self/ns/net")
		same = err == nil && os.SameFile(own, there)
		return err
	})
	return err == nil && same
}

// inContainer checks the evidence that this is a container of containerlab's
// which runs our own image: processes of its own, the first of which is this
// program, and an environment that containerlab set for it.
func inContainer() error {
	if os.Getenv(containerMark) == "" {
		return fmt.Errorf("this is no container of containerlab's either: %s is not set", containerMark)
	}
	pids, err := os.Readlink("/proc/self/ns/pid")
	if err != nil {
		return fmt.Errorf("own processes: %w", err)
	}
	if pids == initialPIDs {
		return fmt.Errorf("%s is set, but this is no container: it sees all processes of the machine", containerMark)
	}
	first, err := os.ReadFile("/proc/1/environ")
	if err != nil {
		return fmt.Errorf("environment of the first process: %w", err)
	}
	if !slices.ContainsFunc(bytes.Split(first, []byte{0}), func(v []byte) bool { return bytes.HasPrefix(v, []byte(containerMark+"=")) }) {
		return fmt.Errorf("%s is set here, but not for the container's first process", containerMark)
	}
	for _, what := range []string{"exe", "ns/net"} {
		one, err := os.Stat("/proc/1/" + what)
		if err != nil {
			return fmt.Errorf("the container's first process: %w", err)
		}
		own, err := os.Stat("/proc/self/" + what)
		if err != nil {
			return fmt.Errorf("own process: %w", err)
		}
		if !os.SameFile(one, own) {
			return fmt.Errorf("the container's first process has another %s than this program: the image is not the lab's", what)
		}
	}
	return nil
}

// unrouted are ranges that the internet does not route: private ones
// (RFC 1918, RFC 4193), the carriers' own (RFC 6598), those for benchmarks
// (RFC 2544) and for documentation (RFC 5737, RFC 3849, RFC 9637).
func unrouted() []netip.Prefix {
	return []netip.Prefix{
		netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("172.16.0.0/12"), netip.MustParsePrefix("192.168.0.0/16"),
		netip.MustParsePrefix("100.64.0.0/10"), netip.MustParsePrefix("198.18.0.0/15"),
		netip.MustParsePrefix("192.0.2.0/24"), netip.MustParsePrefix("198.51.100.0/24"), netip.MustParsePrefix("203.0.113.0/24"),
		netip.MustParsePrefix("fc00::/7"), netip.MustParsePrefix("2001:db8::/32"), netip.MustParsePrefix("3fff::/20"),
	}
}

// aroundInterface draws the fence of a container.
func aroundInterface(iface string, further []netip.Prefix) (*Fence, error) {
	var own []netip.Prefix
	if err := namespace.OnLink(iface, func(h *netlink.Handle, l netlink.Link) (err error) {
		own, err = globals(h, l)
		return err
	}); err != nil {
		return nil, err
	}
	all := slices.Concat(further, own)
	var errs []error
	for _, p := range all {
		if !slices.ContainsFunc(unrouted(), func(u netip.Prefix) bool { return p.Bits() >= u.Bits() && u.Contains(p.Addr()) }) {
			errs = append(errs, fmt.Errorf("%w: the internet routes %v", ErrOutside, p))
		}
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	if len(all) == 0 {
		return nil, fmt.Errorf("%w: %s has no subnet to stay in", ErrOutside, iface)
	}
	return NewFence(all...)
}

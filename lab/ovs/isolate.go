package ovs

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"syscall"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// isolatedEnv marks the processes that run inside; it holds the process ID of
// the one that started them.
const isolatedEnv = "PLATELET_ISOLATED"

// netnsDir is where ip netns keeps its names.
const netnsDir = "/run/netns"

// Isolate runs the tests of a package in network and mount namespaces of
// their own, and returns their exit code:
//
//	func TestMain(m *testing.M) { os.Exit(ovs.Isolate(m.Run)) }
//
// A network namespace has room for one userspace switch, because all its
// bridges share an interface of a fixed name (ovs-netdev). Without isolation
// the tests of two packages, or a lab that runs on the machine's own Open
// vSwitch, shut each other out. Isolated, they also cannot leave anything
// behind: interfaces and named namespaces go with the process, and what still
// runs is ended, that of earlier runs too.
func Isolate(run func() int) int {
	if starter := os.Getenv(isolatedEnv); starter != "" {
		// A fuzz worker is started by what we started, and finds the
		// namespaces furnished.
		if starter == strconv.Itoa(os.Getppid()) {
			if err := furnish(); err != nil {
				fmt.Fprintln(os.Stderr, "isolate:", err)
				return 1
			}
		}
		return run()
	}
	// The kernel takes the end of the starting thread for our own.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
	cmd.Args[0] = os.Args[0]
	cmd.Env = append(os.Environ(), isolatedEnv+"="+strconv.Itoa(os.Getpid()))
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWNET | unix.CLONE_NEWNS, Pdeathsig: syscall.SIGKILL}
	err := cmd.Run()
	sweep(os.Getpid())
	var exit *exec.ExitError
	if errors.As(err, &exit) && exit.Exited() {
		return exit.ExitCode()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "isolate (needs root):", err)
		return 1
	}
	return 0
}

// furnish makes the new namespaces usable: mounts stay inside, /sys shows
// the new network, and loopback works.
func furnish() error {
	if err := unix.Mount("", "/", "none", unix.MS_SLAVE|unix.MS_REC, ""); err != nil {
		return fmt.Errorf("keep mounts inside: %w", err)
	}
	if err := unix.Mount("sysfs", "/sys", "sysfs", 0, ""); err != nil {
		return fmt.Errorf("mount /sys: %w", err)
	}
	// Names of namespaces are files: without a place of their own, two runs
	// of the same test meet in them.
	if err := os.MkdirAll(netnsDir, 0o755); err != nil {
		return fmt.Errorf("make %s: %w", netnsDir, err)
	}
	if err := unix.Mount("none", netnsDir, "tmpfs", 0, ""); err != nil {
		return fmt.Errorf("mount %s: %w", netnsDir, err)
	}
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		return fmt.Errorf("loopback: %w", err)
	}
	if err := netlink.LinkSetUp(lo); err != nil {
		return fmt.Errorf("loopback: %w", err)
	}
	return nil
}

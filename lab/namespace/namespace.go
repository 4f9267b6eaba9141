// Package namespace makes named network namespaces as iproute2 does, so that
// `ip netns` sees them, and runs functions and programs inside.
package namespace

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Dir is where named namespaces are, as for `ip netns`.
const Dir = "/run/netns"

// Path is the file that names a namespace.
func Path(name string) string { return filepath.Join(Dir, name) }

// Create makes a named namespace.
func Create(name string) error { return CreateMarked(name, "") }

// CreateMarked makes a named namespace whose loopback is up and carries a
// mark. That is written before the namespace has a name, so that one that is
// there is always known by its mark.
func CreateMarked(name, mark string) error {
	if err := shareDir(); err != nil {
		return err
	}
	f, err := os.OpenFile(Path(name), os.O_CREATE|os.O_EXCL|os.O_RDONLY|unix.O_CLOEXEC, 0o444)
	if err != nil {
		return fmt.Errorf("create namespace %s: %w", name, err)
	}
	_ = f.Close()
	if err := excursion(func() error { return bindNew(name, mark) }); err != nil {
		_ = os.Remove(Path(name))
		return fmt.Errorf("create namespace %s: %w", name, err)
	}
	return nil
}

// bindNew moves the thread to a new namespace and gives that a name.
func bindNew(name, mark string) error {
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		return fmt.Errorf("unshare: %w", err)
	}
	if mark != "" {
		if err := markLoopback(mark); err != nil {
			return err
		}
	}
	self := "/proc/self/task/" + strconv.Itoa(unix.Gettid()) + "/ns/net"
	if err := unix.Mount(self, Path(name), "none", unix.MS_BIND, ""); err != nil {
		return fmt.Errorf("bind: %w", err)
	}
	return nil
}

func markLoopback(mark string) error {
	return OnLink("lo", func(h *netlink.Handle, lo netlink.Link) error {
		if err := h.LinkSetAlias(lo, mark); err != nil {
			return fmt.Errorf("mark: %w", err)
		}
		if err := h.LinkSetUp(lo); err != nil {
			return fmt.Errorf("loopback: %w", err)
		}
		return nil
	})
}

// OnLink works on an interface of the namespace that the calling thread is
// in; see Do.
func OnLink(name string, f func(*netlink.Handle, netlink.Link) error) error {
	h, err := netlink.NewHandle()
	if err != nil {
		return fmt.Errorf("netlink: %w", err)
	}
	defer h.Close()
	l, err := h.LinkByName(name)
	if err != nil {
		return fmt.Errorf("interface %s: %w", name, err)
	}
	return f(h, l)
}

// Mark reads a namespace's mark; it is empty when there is none.
func Mark(name string) (string, error) {
	var mark string
	err := Do(name, func() error {
		return OnLink("lo", func(_ *netlink.Handle, lo netlink.Link) error {
			mark = lo.Attrs().Alias
			return nil
		})
	})
	return mark, err
}

// List names the namespaces that Create could have made.
func List() ([]string, error) {
	entries, err := os.ReadDir(Dir)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("list namespaces: %w", err)
	}
	var out []string
	for _, e := range entries {
		if e.Type().IsRegular() {
			out = append(out, e.Name())
		}
	}
	return out, nil
}

// shareDir makes the directory a shared mount, so that removing a namespace
// also removes it from the mount namespaces of programs that `ip netns exec`
// started, and frees it.
func shareDir() error {
	if err := os.MkdirAll(Dir, 0o755); err != nil {
		return fmt.Errorf("namespace directory: %w", err)
	}
	err := unix.Mount("", Dir, "none", unix.MS_SHARED|unix.MS_REC, "")
	if errors.Is(err, unix.EINVAL) { // not a mount point yet
		if err = unix.Mount(Dir, Dir, "none", unix.MS_BIND|unix.MS_REC, ""); err == nil {
			err = unix.Mount("", Dir, "none", unix.MS_SHARED|unix.MS_REC, "")
		}
	}
	if err != nil {
		return fmt.Errorf("share %s: %w", Dir, err)
	}
	return nil
}

// Exists reports whether a namespace of ours has the name. Docker's and
// containerlab's entries are symbolic links and not counted.
func Exists(name string) bool {
	info, err := os.Lstat(Path(name))
	return err == nil && info.Mode().IsRegular()
}

// Delete removes a namespace's name; the kernel frees the namespace with its
// last process and socket. A name that is not there is no error, nor is one
// that a crash left without a namespace.
func Delete(name string) error {
	if !Exists(name) {
		return nil
	}
	if err := unix.Unmount(Path(name), unix.MNT_DETACH); err != nil && !errors.Is(err, unix.EINVAL) && !errors.Is(err, unix.ENOENT) {
		return fmt.Errorf("delete namespace %s: %w", name, err)
	}
	if err := os.Remove(Path(name)); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("delete namespace %s: %w", name, err)
	}
	return nil
}

// Do runs f on a thread that is inside the namespace; an empty name is the
// one we are in. Sockets made by f stay in the namespace, whoever uses them
// later. f must not start goroutines that need to be inside.
func Do(name string, f func() error) error {
	if name == "" {
		return f()
	}
	target, err := os.Open(Path(name))
	if err != nil {
		return fmt.Errorf("enter namespace: %w", err)
	}
	defer target.Close()
	return excursion(func() error {
		if err := unix.Setns(int(target.Fd()), unix.CLONE_NEWNET); err != nil {
			return fmt.Errorf("enter namespace %s: %w", name, err)
		}
		return f()
	})
}

// Scratch runs f on a thread that is inside a new namespace, which vanishes
// afterwards.
func Scratch(f func() error) error {
	return excursion(func() error {
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			return fmt.Errorf("scratch namespace: %w", err)
		}
		return f()
	})
}

// excursion runs f, which moves its thread to another namespace, and brings
// the thread back.
func excursion(f func() error) error {
	runtime.LockOSThread()
	home, err := os.Open("/proc/thread-self/ns/net")
	if err != nil {
		runtime.UnlockOSThread()
		return fmt.Errorf("own namespace: %w", err)
	}
	defer home.Close()
	err = f()
	if back := unix.Setns(int(home.Fd()), unix.CLONE_NEWNET); back != nil {
		// A thread that cannot come back must never run anything else;
		// left locked, it ends with this goroutine.
		return errors.Join(err, fmt.Errorf("leave namespace: %w", back))
	}
	runtime.UnlockOSThread()
	return err
}

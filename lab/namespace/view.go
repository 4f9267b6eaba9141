package namespace

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// View is what a node's processes see of the machine: a host name of their
// own, /sys of their own network, and mounts that nobody else sees. Every
// process gets a mount namespace of its own, made when it starts and gone
// when it ends, so that a crash leaves no mount behind.
type View struct {
	// Hostname is the machine's own when empty.
	Hostname string
	Mounts   []Mount
	// Dir is a directory of the node's, for mount points that the machine
	// has not. Files made beside such a mount point end up there.
	Dir string
}

// Mount binds a file or directory of the machine to a place in the view.
type Mount struct {
	Source, Target string // absolute
	ReadOnly       bool
}

// start starts a command inside a namespace with a view. The thread cannot
// come back from a mount namespace, so it ends with the goroutine; where the
// process is to die with its thread, that waits for the process.
func (v *View) start(name string, cmd *exec.Cmd, ended <-chan struct{}) error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		err := v.enter(name)
		if err == nil {
			err = lookAgain(cmd)
		}
		if err == nil {
			err = cmd.Start()
		}
		done <- err
		if err == nil && cmd.SysProcAttr != nil && cmd.SysProcAttr.Pdeathsig != 0 {
			<-ended
		}
	}()
	return <-done
}

// lookAgain finds a program that only the view has.
func lookAgain(cmd *exec.Cmd) error {
	if !errors.Is(cmd.Err, exec.ErrNotFound) {
		return nil
	}
	path, err := exec.LookPath(cmd.Args[0])
	if err != nil {
		return err
	}
	cmd.Path, cmd.Err = path, nil
	return nil
}

// enter moves the thread into the namespace and the view.
func (v *View) enter(name string) error {
	if name != "" {
		target, err := os.Open(Path(name))
		if err != nil {
			return fmt.Errorf("enter namespace: %w", err)
		}
		defer target.Close()
		if err := unix.Setns(int(target.Fd()), unix.CLONE_NEWNET); err != nil {
			return fmt.Errorf("enter namespace %s: %w", name, err)
		}
	}
	if err := unix.Unshare(unix.CLONE_NEWNS | unix.CLONE_NEWUTS); err != nil {
		return fmt.Errorf("own mounts: %w", err)
	}
	if err := unix.Mount("", "/", "none", unix.MS_SLAVE|unix.MS_REC, ""); err != nil {
		return fmt.Errorf("keep mounts inside: %w", err)
	}
	if v.Hostname != "" {
		if err := unix.Sethostname([]byte(v.Hostname)); err != nil {
			return fmt.Errorf("host name %s: %w", v.Hostname, err)
		}
	}
	if name != "" {
		if err := unix.Mount("sysfs", "/sys", "sysfs", 0, ""); err != nil {
			return fmt.Errorf("mount /sys: %w", err)
		}
	}
	return v.mount()
}

// mount makes the view's mounts. Those whose place is missing at the top of
// the file system need another top.
func (v *View) mount() error {
	for _, m := range v.Mounts {
		if ancestor(m.Target) != "/" {
			continue
		}
		root := filepath.Join(v.Dir, "root")
		if err := furnish("/", root, v.Mounts); err != nil {
			return err
		}
		if err := unix.Chroot(root); err != nil {
			return fmt.Errorf("change root: %w", err)
		}
		if err := unix.Chdir("/"); err != nil {
			return fmt.Errorf("change root: %w", err)
		}
		break
	}
	for _, m := range v.Mounts {
		if err := v.bind(m); err != nil {
			return fmt.Errorf("bind %s to %s: %w", m.Source, m.Target, err)
		}
	}
	return nil
}

func (v *View) bind(m Mount) error {
	if _, err := os.Stat(m.Target); errors.Is(err, os.ErrNotExist) {
		over := ancestor(m.Target)
		dir := filepath.Join(v.Dir, "over", strings.ReplaceAll(over, "/", "+"))
		if err := furnish(over, dir, v.Mounts); err != nil {
			return err
		}
		if err := unix.Mount(dir, over, "none", unix.MS_BIND|unix.MS_REC, ""); err != nil {
			return fmt.Errorf("cover %s: %w", over, err)
		}
	}
	if err := unix.Mount(m.Source, m.Target, "none", unix.MS_BIND|unix.MS_REC, ""); err != nil {
		return err
	}
	if !m.ReadOnly {
		return nil
	}
	return unix.Mount("", m.Target, "none", unix.MS_BIND|unix.MS_REMOUNT|unix.MS_RDONLY, "")
}

// ancestor is the nearest directory above a missing path; empty when the
// path is there.
func ancestor(path string) string {
	if _, err := os.Stat(path); err == nil {
		return ""
	}
	for path != "/" {
		path = filepath.Dir(path)
		if st, err := os.Stat(path); err == nil && st.IsDir() {
			return path
		}
	}
	return "/"
}

// furnish fills dir with what is in place, and with the mount points that are
// missing there. The machine itself stays as it is.
func furnish(place, dir string, mounts []Mount) error {
	entries, err := os.ReadDir(place)
	if err != nil {
		return fmt.Errorf("furnish %s: %w", dir, err)
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("furnish %s: %w", dir, err)
	}
	for _, e := range entries {
		if err := show(filepath.Join(place, e.Name()), filepath.Join(dir, e.Name()), e.Type()); err != nil {
			return fmt.Errorf("furnish %s: %w", dir, err)
		}
	}
	for _, m := range mounts {
		if ancestor(m.Target) != place {
			continue
		}
		rel, err := filepath.Rel(place, m.Target)
		if err != nil {
			return fmt.Errorf("furnish %s: %w", dir, err)
		}
		st, err := os.Stat(m.Source)
		if err != nil {
			return fmt.Errorf("furnish %s: %w", dir, err)
		}
		if err := mountPoint(filepath.Join(dir, rel), st.IsDir()); err != nil {
			return fmt.Errorf("furnish %s: %w", dir, err)
		}
	}
	return nil
}

// show makes one entry of a directory appear in another.
func show(from, to string, mode os.FileMode) error {
	if mode&os.ModeSymlink != 0 {
		link, err := os.Readlink(from)
		if err != nil {
			return err
		}
		if err := os.Symlink(link, to); err != nil && !errors.Is(err, os.ErrExist) {
			return err
		}
		return nil
	}
	if err := mountPoint(to, mode.IsDir()); err != nil {
		return err
	}
	return unix.Mount(from, to, "none", unix.MS_BIND|unix.MS_REC, "")
}

// mountPoint makes an empty directory or file, with what leads there.
func mountPoint(path string, dir bool) error {
	if dir {
		return os.MkdirAll(path, 0o755)
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDONLY|syscall.O_CLOEXEC, 0o644)
	if err != nil {
		return err
	}
	return f.Close()
}

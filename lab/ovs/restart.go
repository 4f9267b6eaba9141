package ovs

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// script is where distributions install the program that starts and stops the
// daemons.
const script = "/usr/share/openvswitch/scripts/ovs-ctl"

// Restart restarts ovs-vswitchd as an upgrade does, with the distribution's own
// ovs-ctl: it saves flows and groups, ends the daemon, starts another and puts
// them back. It returns what that printed. The new daemon can be stopped by
// Stop, and neither killed nor paused.
func (i *Instance) Restart(ctx context.Context) (string, error) {
	if old := i.vswitchd; old != nil {
		// The script looks for the process; one that nobody waits for stays.
		go func() { _ = old.Wait() }()
		i.vswitchd = nil
	}
	for _, daemon := range []string{"ovs-vswitchd", "ovsdb-server"} {
		fixed, named, err := i.sockets(daemon)
		if err != nil {
			return "", err
		}
		if err := link(fixed, named); err != nil {
			return "", err
		}
	}
	out, err := i.run(ctx, script, "--no-ovsdb-server", "--no-monitor", "--system-id=random", "restart")
	if err != nil {
		return "", err
	}
	i.detached = true
	fixed, named, err := i.sockets("ovs-vswitchd")
	if err != nil {
		return out, err
	}
	return out, link(named, fixed)
}

// sockets are the names under which we and the other programs look for a
// daemon's control socket.
func (i *Instance) sockets(daemon string) (fixed, named string, err error) {
	raw, err := os.ReadFile(filepath.Join(i.Dir, daemon+".pid"))
	if err != nil {
		return "", "", fmt.Errorf("pid of %s: %w", daemon, err)
	}
	return filepath.Join(i.Dir, daemon+".ctl"), filepath.Join(i.Dir, daemon+"."+strings.TrimSpace(string(raw))+".ctl"), nil
}

// link gives a socket another name, unless it is known under that already.
func link(from, to string) error {
	if info, err := os.Lstat(to); err == nil && info.Mode()&os.ModeSocket != 0 {
		return nil
	}
	if err := os.Remove(to); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("replace a control socket: %w", err)
	}
	if err := os.Symlink(from, to); err != nil {
		return fmt.Errorf("name a control socket: %w", err)
	}
	return nil
}

// awaitDetached waits until a daemon that is not our child has ended.
func (i *Instance) awaitDetached() error {
	if !i.detached {
		return nil
	}
	i.detached = false
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	return i.until(ctx, "ovs-vswitchd to end", func() error {
		_, err := os.Stat(filepath.Join(i.Dir, "ovs-vswitchd.pid"))
		if errors.Is(err, os.ErrNotExist) {
			return nil
		}
		return errors.New("its pid file is still there")
	})
}

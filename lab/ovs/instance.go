// Package ovs runs private Open vSwitch instances: an ovsdb-server and an
// ovs-vswitchd of their own in a directory of their own, so that labs and
// tests neither need nor disturb the machine's Open vSwitch.
package ovs

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// schema is where Debian and most distributions install the vswitch schema.
const schema = "/usr/share/openvswitch/vswitch.ovsschema"

// Instance is one private Open vSwitch. Its methods are not safe for
// concurrent use, except Ctl and Ofctl.
type Instance struct {
	// Dir holds the database, sockets, logs and pid files.
	Dir string
	// DB is the OVSDB endpoint, "unix:DIR/db.sock".
	DB string

	args         []string // of ovs-vswitchd, beside our own
	db, vswitchd *exec.Cmd
	detached     bool // ovs-vswitchd was started by ovs-ctl and is nobody's child
}

// Start starts both daemons in dir, which must exist and have a short path
// (Unix socket paths end at 107 bytes), and returns when they answer. The
// arguments go to ovs-vswitchd: --enable-dummy makes a clock that tests turn
// and ports that are files, on the same userspace datapath.
func Start(ctx context.Context, dir string, args ...string) (*Instance, error) {
	i := &Instance{Dir: dir, DB: "unix:" + filepath.Join(dir, "db.sock"), args: args}
	conf := filepath.Join(dir, "conf.db")
	if _, err := os.Stat(conf); errors.Is(err, os.ErrNotExist) {
		if _, err := i.run(ctx, "ovsdb-tool", "create", conf, schema); err != nil {
			return nil, err
		}
	}
	if err := i.StartDB(ctx); err != nil {
		return nil, err
	}
	if _, err := i.Ctl(ctx, "--no-wait", "init"); err != nil {
		i.Stop()
		return nil, err
	}
	if err := i.StartSwitch(ctx); err != nil {
		i.Stop()
		return nil, err
	}
	return i, nil
}

// StartDB starts the ovsdb-server and waits until it answers.
func (i *Instance) StartDB(ctx context.Context) error {
	var err error
	i.db, err = i.spawn("ovsdb-server", filepath.Join(i.Dir, "conf.db"),
		"--remote=p"+i.DB, "--remote=db:Open_vSwitch,Open_vSwitch,manager_options",
		// As ovs-ctl does: `ovs-vsctl set-ssl` is for both daemons.
		"--private-key=db:Open_vSwitch,SSL,private_key", "--certificate=db:Open_vSwitch,SSL,certificate", "--ca-cert=db:Open_vSwitch,SSL,ca_cert",
		"--pidfile="+filepath.Join(i.Dir, "ovsdb-server.pid"),
		"--unixctl="+filepath.Join(i.Dir, "ovsdb-server.ctl"),
		"--log-file="+filepath.Join(i.Dir, "ovsdb-server.log"), "-vconsole:off")
	if err != nil {
		return err
	}
	return i.until(ctx, "ovsdb-server to answer", func() error {
		_, err := i.run(ctx, "ovsdb-client", "list-dbs", i.DB)
		return err
	})
}

// StartSwitch starts ovs-vswitchd and waits until it has applied the
// configuration that the database holds.
func (i *Instance) StartSwitch(ctx context.Context) error {
	var err error
	// The priority that ovs-ctl gives it.
	i.vswitchd, err = i.spawn("nice", append([]string{"-n", "-10", "ovs-vswitchd", i.DB,
		"--pidfile=" + filepath.Join(i.Dir, "ovs-vswitchd.pid"),
		"--unixctl=" + i.Unixctl(),
		"--log-file=" + filepath.Join(i.Dir, "ovs-vswitchd.log"), "-vconsole:off"}, i.args...)...)
	if err != nil {
		return err
	}
	if err := i.until(ctx, "ovs-vswitchd to answer", func() error {
		_, err := i.Appctl(ctx, "version")
		return err
	}); err != nil {
		return err
	}
	_, err = i.Ctl(ctx, "set", "Open_vSwitch", ".", "external_ids:started="+strconv.FormatInt(time.Now().UnixNano(), 10))
	return err
}

// KillSwitch ends ovs-vswitchd as a crash would.
func (i *Instance) KillSwitch() error { return kill(&i.vswitchd, syscall.SIGKILL) }

// PauseSwitch suspends ovs-vswitchd: its sockets take what fits into their
// buffers, and nothing answers. ResumeSwitch lets it go on.
func (i *Instance) PauseSwitch() error { return signal(i.vswitchd, syscall.SIGSTOP) }

// ResumeSwitch ends PauseSwitch.
func (i *Instance) ResumeSwitch() error { return signal(i.vswitchd, syscall.SIGCONT) }

// KillDB ends the ovsdb-server as a crash would.
func (i *Instance) KillDB() error { return kill(&i.db, syscall.SIGKILL) }

// Stop ends both daemons, the switch in order so that it removes its
// datapaths and LOCAL interfaces. It is safe to call more than once.
func (i *Instance) Stop() error {
	sig := syscall.SIGTERM
	if i.vswitchd != nil || i.detached {
		_ = i.ResumeSwitch() // a paused one could not leave in order
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		// --cleanup deletes the datapaths; it goes on after the reply, and a
		// signal in the middle would leave LOCAL interfaces behind.
		if _, err := i.Appctl(ctx, "exit", "--cleanup"); err == nil {
			sig = 0
		}
	}
	return errors.Join(i.awaitDetached(), kill(&i.vswitchd, sig), kill(&i.db, syscall.SIGTERM))
}

// Unixctl is the control socket of ovs-vswitchd.
func (i *Instance) Unixctl() string { return filepath.Join(i.Dir, "ovs-vswitchd.ctl") }

// Mgmt is the management socket of a bridge, which speaks OpenFlow.
func (i *Instance) Mgmt(bridge string) string { return filepath.Join(i.Dir, bridge+".mgmt") }

// Ctl runs ovs-vsctl against this instance.
func (i *Instance) Ctl(ctx context.Context, args ...string) (string, error) {
	return i.run(ctx, "ovs-vsctl", append([]string{"--db=" + i.DB, "--timeout=20"}, args...)...)
}

// Ofctl runs ovs-ofctl; name bridges by Mgmt.
func (i *Instance) Ofctl(ctx context.Context, args ...string) (string, error) {
	return i.run(ctx, "ovs-ofctl", append([]string{"--timeout=20"}, args...)...)
}

// Appctl runs ovs-appctl against ovs-vswitchd.
func (i *Instance) Appctl(ctx context.Context, args ...string) (string, error) {
	return i.run(ctx, "ovs-appctl", append([]string{"--timeout=20", "-t", i.Unixctl()}, args...)...)
}

// AddBridge adds a bridge with the given datapath type ("netdev" runs on
// every kernel, "system" needs the openvswitch module).
func (i *Instance) AddBridge(ctx context.Context, name, datapath string) error {
	_, err := i.Ctl(ctx, "add-br", name, "--", "set", "bridge", name, "datapath_type="+datapath)
	return err
}

func (i *Instance) run(ctx context.Context, name string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Env = i.env()
	var out, errOut bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errOut
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("%s %s: %w: %s", name, strings.Join(args, " "), err, strings.TrimSpace(errOut.String()))
	}
	return strings.TrimSpace(out.String()), nil
}

// env points every OVS program at our directory: management sockets, pid
// files and the default database are all looked for in OVS_RUNDIR.
func (i *Instance) env() []string {
	return append(os.Environ(), "OVS_RUNDIR="+i.Dir, "OVS_DBDIR="+i.Dir, "OVS_LOGDIR="+i.Dir, "OVS_SYSCONFDIR="+i.Dir)
}

func (i *Instance) spawn(name string, args ...string) (*exec.Cmd, error) {
	cmd := exec.Command(name, args...)
	cmd.Env = i.env()
	// A group of their own: an interrupt at the terminal is for us alone.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	return cmd, nil
}

func (i *Instance) until(ctx context.Context, what string, try func() error) error {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		err := try()
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("wait for %s: %w", what, err)
		case <-tick.C:
		}
	}
}

// signal sends a signal to a daemon that is expected to run.
func signal(cmd *exec.Cmd, sig syscall.Signal) error {
	if cmd == nil {
		return errors.New("ovs-vswitchd is not running")
	}
	if err := cmd.Process.Signal(sig); err != nil {
		return fmt.Errorf("signal %s: %w", cmd.Path, err)
	}
	return nil
}

// kill signals a daemon and waits for its end, with SIGKILL after 5 s.
func kill(slot **exec.Cmd, sig syscall.Signal) error {
	cmd := *slot
	if cmd == nil {
		return nil
	}
	*slot = nil
	_ = cmd.Process.Signal(sig) // already gone is as good
	late := time.AfterFunc(5*time.Second, func() { _ = cmd.Process.Kill() })
	defer late.Stop()
	err := cmd.Wait()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return nil
	}
	return err
}

package runner

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"

	"github.com/vishvananda/netlink"
)

// vsctl runs ovs-vsctl against the lab's database.
func (s *state) vsctl(ctx context.Context, timeout int, args ...string) (string, error) {
	args = append([]string{"--db=" + s.DB, fmt.Sprintf("--timeout=%d", timeout), "--no-syslog"}, args...)
	cmd := exec.CommandContext(ctx, "ovs-vsctl", args...)
	var out, errOut bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errOut
	// It dies with us (with the thread that started it, to be exact):
	// otherwise it could finish its work after a crash of ours, behind the
	// back of whoever is already taking the lab down.
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("ovs-vsctl: %w: %s", err, lastLine(errOut.String()))
	}
	return strings.TrimSpace(out.String()), nil
}

func lastLine(text string) string {
	text = strings.TrimSpace(text)
	return text[strings.LastIndexByte(text, '\n')+1:]
}

// makeBridges makes the missing bridges, and attaches what is planned as
// their ports when that is there already.
func (s *state) makeBridges(ctx context.Context, h *netlink.Handle, ports bool) error {
	if err := s.makeLinuxBridges(h); err != nil {
		return err
	}
	return s.makeOVS(ctx, ports)
}

// makeOVS makes the missing bridges of Open vSwitch, all in one transaction.
func (s *state) makeOVS(ctx context.Context, ports bool) error {
	var ovs []string
	for _, b := range s.Bridges {
		if !b.OVS {
			continue
		}
		if b.Made {
			// A loop must never be closed unguarded, not for a moment, so
			// rapid spanning tree is on before there are ports.
			ovs = append(ovs, "--", "add-br", b.Name, "--", "set", "bridge", b.Name,
				"datapath_type="+datapathType(), "external_ids:"+markKey+"="+quote(s.Lab), fmt.Sprintf("rstp_enable=%t", b.Loop))
		}
		for _, l := range s.Links {
			if !ports {
				break
			}
			ovs = append(ovs, s.portArgs(b, l.A, l.B)...)
			ovs = append(ovs, s.portArgs(b, l.B, l.A)...)
		}
	}
	if len(ovs) == 0 {
		return nil
	}
	if _, err := s.vsctl(ctx, 20, ovs...); err != nil {
		return fmt.Errorf("make bridges: %w", err)
	}
	return s.checkOVS(ctx)
}

// portArgs adds one end as a port. A stale row of the name goes first, in
// case a crash of another kind left one. The node's labels go along, so that
// the controller can group hosts by them.
func (s *state) portArgs(b bridge, port, peer end) []string {
	if port.Bridge != b.Name || port.Namespace != b.Namespace {
		return nil
	}
	args := []string{"--", "--if-exists", "del-port", port.Name, "--", "add-port", b.Name, port.Name, "--", "set", "interface", port.Name,
		"external_ids:" + markKey + "=" + quote(s.Lab), "external_ids:platelet-node=" + quote(peer.Node)}
	if n, err := s.node(peer.Node); err == nil {
		for _, k := range slices.Sorted(maps.Keys(n.Labels)) {
			args = append(args, "external_ids:"+quote(k)+"="+quote(n.Labels[k]))
		}
	}
	if b.Loop && !s.loopPort(port.Name) {
		args = append(args, "--", "set", "port", port.Name, "other_config:rstp-port-admin-edge=true")
	}
	return args
}

// checkOVS turns into errors what Open vSwitch could not do and only notes in
// columns or in its log.
func (s *state) checkOVS(ctx context.Context) error {
	failed, err := s.vsctl(ctx, 10, "--columns=name", "--bare", "find", "bridge", "external_ids:"+markKey+"="+quote(s.Lab), "datapath_id=[]")
	if err != nil {
		return fmt.Errorf("check bridges: %w", err)
	}
	if failed != "" {
		return fmt.Errorf("open vswitch could not create bridge %s: see its log (a second ovs-vswitchd with userspace bridges on this machine?)", failed)
	}
	out, err := s.vsctl(ctx, 10, "--columns=name,error", "--format=csv", "--no-headings", "find", "interface",
		"external_ids:"+markKey+"="+quote(s.Lab), "error!=[]")
	if err != nil {
		return fmt.Errorf("check ports: %w", err)
	}
	if out != "" {
		return fmt.Errorf("open vswitch refused a port: %s", out)
	}
	return nil
}

// makeLinuxBridges makes the missing bridges of the kernel's own.
func (s *state) makeLinuxBridges(h *netlink.Handle) error {
	for _, b := range s.Bridges {
		if b.OVS || !b.Made || b.Namespace != "" {
			continue
		}
		attrs := netlink.NewLinkAttrs()
		attrs.Name = b.Name
		if err := h.LinkAdd(&netlink.Bridge{LinkAttrs: attrs}); err != nil {
			return fmt.Errorf("make bridge %s: %w", b.Name, err)
		}
		if b.Loop {
			if err := enableSTP(b.Name); err != nil {
				return err
			}
		}
		if err := up(h, b.Name, markKey+"="+s.Lab); err != nil {
			return err
		}
	}
	return nil
}

// removeBridges removes the bridges that the lab made, and its ports from
// the others.
func (s *state) removeBridges(ctx context.Context, h *netlink.Handle) error {
	var errs []error
	ovs := false
	for _, b := range s.Bridges {
		switch {
		case b.OVS:
			ovs = true
		case b.Made && b.Namespace == "":
			errs = append(errs, removeLinuxBridge(h, s.Lab, b))
		}
	}
	if ovs {
		errs = append(errs, s.removeOVS(ctx))
	}
	return errors.Join(errs...)
}

// removeOVS removes what carries the lab's mark, in one transaction.
func (s *state) removeOVS(ctx context.Context) error {
	if socket, ok := strings.CutPrefix(s.DB, "unix:"); ok {
		if _, err := os.Stat(filepath.Dir(socket)); errors.Is(err, os.ErrNotExist) {
			return nil // a private instance that is gone with all it had
		}
	}
	var args []string
	for _, what := range []struct{ table, remove string }{{"interface", "del-port"}, {"bridge", "del-br"}} {
		names, err := s.vsctl(ctx, 10, "--columns=name", "--bare", "find", what.table, "external_ids:"+markKey+"="+quote(s.Lab))
		if _, none := os.Stat("/var/run/openvswitch/db.sock"); err != nil && s.DB == SystemDB && none != nil {
			return nil // the machine's Open vSwitch does not run
		}
		if err != nil {
			return fmt.Errorf("find the lab's bridges: is Open vSwitch running at %s? %w", s.DB, err)
		}
		for _, name := range strings.Fields(names) {
			args = append(args, "--", "--if-exists", what.remove, name)
		}
	}
	if len(args) == 0 {
		return nil
	}
	if _, err := s.vsctl(ctx, 10, args...); err != nil {
		return fmt.Errorf("remove bridges: %w", err)
	}
	return nil
}

func removeLinuxBridge(h *netlink.Handle, lab string, b bridge) error {
	l, err := h.LinkByName(b.Name)
	var missing netlink.LinkNotFoundError
	if errors.As(err, &missing) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("bridge %s: %w", b.Name, err)
	}
	if alias := l.Attrs().Alias; l.Type() != "bridge" || alias != "" && alias != markKey+"="+lab {
		return nil // somebody else's by now
	}
	if err := h.LinkDel(l); err != nil {
		return fmt.Errorf("remove bridge %s: %w", b.Name, err)
	}
	return nil
}

// datapathType is the kernel's datapath where the kernel has it. Asking for
// the family also loads the module, where modules are loaded on demand.
func datapathType() string {
	if _, err := netlink.GenlFamilyGet("ovs_datapath"); err == nil {
		return "system"
	}
	return "netdev"
}

// quote writes a word as OVSDB strings are written.
func quote(word string) string {
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(word) + `"`
}

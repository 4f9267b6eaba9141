package ovsimport

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// learnedMAC is an entry of a bridge's table of learned addresses.
type learnedMAC struct {
	port int // OpenFlow port
	vlan int // 0 untagged
	mac  string
}

// readLearned asks each bridge's forwarding database.
func (t tools) readLearned(ctx context.Context, bridges []*bridge) (map[*bridge][]learnedMAC, error) {
	socket, err := t.controlSocket()
	if err != nil {
		return nil, err
	}
	out := map[*bridge][]learnedMAC{}
	for _, b := range bridges {
		text, err := run(ctx, "ovs-appctl", "--timeout=10", "-t", socket, "fdb/show", b.name)
		if err != nil {
			return nil, fmt.Errorf("bridge %s: %w", b.name, err)
		}
		if out[b], err = parseFDB(text); err != nil {
			return nil, fmt.Errorf("bridge %s: %w", b.name, err)
		}
	}
	return out, nil
}

// controlSocket is that of ovs-vswitchd, which carries its process ID unless
// the daemon was told another name.
func (t tools) controlSocket() (string, error) {
	if pid, err := os.ReadFile(filepath.Join(t.runDir, "ovs-vswitchd.pid")); err == nil {
		path := filepath.Join(t.runDir, "ovs-vswitchd."+strings.TrimSpace(string(pid))+".ctl")
		if _, err := os.Stat(path); err == nil {
			return path, nil
		}
	}
	found, err := filepath.Glob(filepath.Join(t.runDir, "ovs-vswitchd*.ctl"))
	if err != nil {
		return "", fmt.Errorf("control socket of ovs-vswitchd: %w", err)
	}
	if len(found) != 1 {
		return "", fmt.Errorf("control socket of ovs-vswitchd: %d found in %s, want one", len(found), t.runDir)
	}
	return found[0], nil
}

// parseFDB reads what fdb/show prints: port, VLAN, MAC and age of each
// address. The bridge's own are left out.
func parseFDB(text string) ([]learnedMAC, error) {
	var out []learnedMAC
	for i, line := range body(text) {
		if i == 0 && strings.HasPrefix(line, "port") {
			continue
		}
		words := strings.Fields(line)
		if len(words) != 4 {
			return nil, fmt.Errorf("fdb entry %q: want port, VLAN, MAC and age", line)
		}
		if words[0] == "LOCAL" {
			continue
		}
		port, err := strconv.ParseUint(words[0], 10, 16)
		if err != nil {
			return nil, fmt.Errorf("fdb entry %q: port: %w", line, err)
		}
		vlan, err := strconv.ParseUint(words[1], 10, 12)
		if err != nil {
			return nil, fmt.Errorf("fdb entry %q: VLAN: %w", line, err)
		}
		mac, err := net.ParseMAC(words[2])
		if err == nil && len(mac) != 6 {
			err = errors.New("not 6 bytes long")
		}
		if err != nil {
			return nil, fmt.Errorf("fdb entry %q: MAC: %w", line, err)
		}
		out = append(out, learnedMAC{int(port), int(vlan), mac.String()})
	}
	return out, nil
}

package measure

import (
	"context"
	"os"
	"os/exec"
	"regexp"
	"runtime"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Machine is what the measured figures depend on.
type Machine struct {
	CPU    string `json:"cpu"`
	Cores  int    `json:"cores"`
	Memory int    `json:"memory_mib"`
	Kernel string `json:"kernel"`
	OVS    string `json:"ovs"`
	Go     string `json:"go"`
	// Load is the load average over one minute when measuring began: what
	// else ran.
	Load float64 `json:"load"`
}

// ThisMachine finds the facts out. What cannot be found out is left empty.
func ThisMachine(ctx context.Context) Machine {
	m := Machine{Cores: runtime.NumCPU(), Go: runtime.Version(), CPU: first("/proc/cpuinfo", regexp.MustCompile(`(?m)^model name\s*:\s*(.*)$`))}
	if kib, err := strconv.Atoi(first("/proc/meminfo", regexp.MustCompile(`(?m)^MemTotal:\s*(\d+)`))); err == nil {
		m.Memory = kib >> 10
	}
	m.Load, _ = strconv.ParseFloat(first("/proc/loadavg", regexp.MustCompile(`^(\S+)`)), 64)
	var u unix.Utsname
	if unix.Uname(&u) == nil {
		m.Kernel = unix.ByteSliceToString(u.Sysname[:]) + " " + unix.ByteSliceToString(u.Release[:])
	}
	if out, err := exec.CommandContext(ctx, "ovs-vswitchd", "--version").Output(); err == nil {
		line, _, _ := strings.Cut(string(out), "\n")
		fields := strings.Fields(line)
		m.OVS = fields[len(fields)-1]
	}
	return m
}

// first is the first thing in a file that a pattern's group matches.
func first(file string, pattern *regexp.Regexp) string {
	raw, err := os.ReadFile(file)
	if err != nil {
		return ""
	}
	if m := pattern.FindSubmatch(raw); m != nil {
		return strings.TrimSpace(string(m[1]))
	}
	return ""
}

// datapath is the kind of a lab's bridges.
func datapath(ctx context.Context, db, bridge string) string {
	out, err := exec.CommandContext(ctx, "ovs-vsctl", "--db="+db, "--timeout=5", "get", "bridge", bridge, "datapath_type").Output()
	if err != nil {
		return ""
	}
	kind := strings.Trim(strings.TrimSpace(string(out)), `"`)
	if kind == "" {
		return "system"
	}
	return kind
}

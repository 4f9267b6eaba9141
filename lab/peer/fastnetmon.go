// Package peer measures FastNetMon, the detector that Debian packages, on the
// same lab and under the same attack as platelet, so that figures can be
// compared that were taken in one run on one machine.
package peer

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"text/template"
	"time"

	"github.com/platelet-sdn/platelet/lab/attack"
	"github.com/platelet-sdn/platelet/lab/measure"
	"github.com/platelet-sdn/platelet/lab/runner"
)

// Program is the peer's program, in Debian's package of the same name.
const Program = "fastnetmon"

const (
	// sampling and averaging are the fastest that its users run: one packet
	// of ten, and rates over one second.
	sampling  = 10
	averaging = time.Second
	// threshold is its packet rate to ban at.
	threshold = 20000
	// cookie marks the drops that its script installs.
	cookie = 0xfa57
	// settling is how long it takes after its start until it has computed
	// its first rates; before, it ignores what it sees.
	settling = 3 * averaging
)

// FastNetMon is a running FastNetMon that contains by Open vSwitch, as a
// controller to measure.
type FastNetMon struct {
	lab     *runner.Lab
	roles   attack.Roles
	kind    string // of the findings that a ban stands for
	dir     string
	port    int
	process *measure.Process
}

// Start turns sFlow on, and starts FastNetMon on it. The victim's address is
// its network: of a flood between two addresses of its own networks it sees
// nothing.
func Start(ctx context.Context, lab *runner.Lab, kind string) (_ *FastNetMon, err error) {
	if _, err := exec.LookPath(Program); err != nil {
		return nil, fmt.Errorf("peer: %w (scripts/install-deps.sh --peer installs it)", err)
	}
	f := &FastNetMon{lab: lab, kind: kind, port: 16343}
	if f.roles, err = attack.Cast(lab, 0); err != nil {
		return nil, err
	}
	if f.dir, err = os.MkdirTemp("", "platelet-peer"); err != nil {
		return nil, fmt.Errorf("peer: %w", err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, f.Close())
		}
	}()
	if err := f.configure(); err != nil {
		return nil, err
	}
	if err := f.export(ctx); err != nil {
		return nil, err
	}
	return f, f.launch(ctx)
}

// configuration is FastNetMon's. What is not said stays at its default.
//
// Its usage reports go to a server of its makers every hour by default; no
// measurement of ours may send anything anywhere.
var configuration = template.Must(template.New("fastnetmon.conf").Parse(`disable_usage_report = on
logging_level = info
enable_ban = on
process_incoming_traffic = on
process_outgoing_traffic = off
ban_details_records_count = 0
ban_time = 1900
networks_list_path = {{.Dir}}/networks_list
white_list_path = {{.Dir}}/networks_whitelist
check_period = 1
enable_connection_tracking = off
ban_for_pps = on
ban_for_bandwidth = off
ban_for_flows = off
threshold_pps = {{.Threshold}}
mirror_afpacket = off
netflow = off
sflow = on
sflow_host = 127.0.0.1
sflow_port = {{.Port}}
average_calculation_time = {{.Averaging}}
speed_calculation_delay = 1
notify_script_path = {{.Dir}}/notify.sh
collect_attack_pcap_dumps = off
monitor_local_ip_addresses = off
pid_path = {{.Dir}}/fastnetmon.pid
cli_stats_file_path = {{.Dir}}/stats.dat
cli_stats_ipv6_file_path = {{.Dir}}/stats6.dat
enable_api = off
prometheus = off
`))

// notify is what FastNetMon runs on a ban: address, direction, packets per
// second, action. It notes when it was called and when the drop was in place.
var notify = template.Must(template.New("notify.sh").Parse(`#!/bin/sh
[ "$4" = ban ] || exit 0
called=$(date +%s.%N)
ovs-ofctl --timeout=10 add-flow {{.Bridge}} "cookie={{.Cookie}},priority=60000,ip,nw_dst=$1,actions=drop" || exit 1
echo "$called $(date +%s.%N) $1" >>{{.Dir}}/bans
`))

// configure writes FastNetMon's files.
func (f *FastNetMon) configure() error {
	values := map[string]any{
		"Dir": f.dir, "Port": f.port, "Threshold": threshold, "Averaging": int(averaging / time.Second),
		"Bridge": mgmt(f.lab), "Cookie": fmt.Sprintf("%#x", cookie),
	}
	var conf, script bytes.Buffer
	if err := errors.Join(configuration.Execute(&conf, values), notify.Execute(&script, values)); err != nil {
		return fmt.Errorf("peer: %w", err)
	}
	for name, content := range map[string]string{
		"fastnetmon.conf": conf.String(), "notify.sh": script.String(), "bans": "", "networks_whitelist": "",
		"networks_list": netip.PrefixFrom(f.roles.VictimAddr, f.roles.VictimAddr.BitLen()).String() + "\n",
	} {
		if err := os.WriteFile(filepath.Join(f.dir, name), []byte(content), 0o700); err != nil {
			return fmt.Errorf("peer: %w", err)
		}
	}
	return nil
}

// mgmt is the management socket of the lab's bridge, beside the database's.
func mgmt(lab *runner.Lab) string {
	socket := strings.TrimPrefix(lab.DB(), "unix:")
	return "unix:" + filepath.Join(filepath.Dir(socket), lab.Bridges()[0]+".mgmt")
}

// export makes the switch send sFlow to FastNetMon.
func (f *FastNetMon) export(ctx context.Context) error {
	return f.run(ctx, "ovs-vsctl", "--db="+f.lab.DB(), "--timeout=10", "--", "--id=@s", "create", "sflow", "agent=lo",
		fmt.Sprintf(`targets="127.0.0.1:%d"`, f.port), "sampling="+strconv.Itoa(sampling), "header=128", "polling=5",
		"--", "set", "bridge", f.lab.Bridges()[0], "sflow=@s")
}

func (f *FastNetMon) run(ctx context.Context, program string, args ...string) error {
	if out, err := exec.CommandContext(ctx, program, args...).CombinedOutput(); err != nil {
		return fmt.Errorf("peer: %s: %w: %s", program, err, strings.TrimSpace(string(out)))
	}
	return nil
}

// launch starts the program, and waits until it computes rates.
func (f *FastNetMon) launch(ctx context.Context) error {
	var err error
	f.process, err = measure.StartProcess(filepath.Join(f.dir, "log"), Program, "--disable_pid_logic", "--log_to_console",
		"--configuration_file", filepath.Join(f.dir, "fastnetmon.conf"))
	if err != nil {
		return fmt.Errorf("peer: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	if err := f.process.Ready(ctx, func(context.Context) error { return listens(f.port) }); err != nil {
		return fmt.Errorf("peer: %w", err)
	}
	select {
	case <-ctx.Done():
		return fmt.Errorf("peer: %w", ctx.Err())
	case <-time.After(settling):
		return nil
	}
}

// listens reports an error while no UDP socket is bound to the port.
func listens(port int) error {
	data, err := os.ReadFile("/proc/self/net/udp")
	if err != nil {
		return err
	}
	if !strings.Contains(string(data), fmt.Sprintf(":%04X ", port)) {
		return fmt.Errorf("nothing listens on UDP port %d", port)
	}
	return nil
}

// Events reports bans: each is a finding when its script is called, and a
// decision when the drop is in place. FastNetMon bans the victim, which is
// what the events then say.
func (f *FastNetMon) Events(ctx context.Context) (<-chan measure.Event, error) {
	out := make(chan measure.Event)
	go func() {
		defer close(out)
		tick := time.NewTicker(10 * time.Millisecond)
		defer tick.Stop()
		for seen := 0; ; {
			bans, err := readBans(filepath.Join(f.dir, "bans"))
			for ; err == nil && seen < len(bans); seen++ {
				for _, e := range bans[seen].events(f.kind) {
					select {
					case out <- e:
					case <-ctx.Done():
						return
					}
				}
			}
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
		}
	}()
	return out, nil
}

// ban is one call of the notify script.
type ban struct {
	called, dropped time.Time
	host            string
}

func (b ban) events(kind string) []measure.Event {
	return []measure.Event{
		{Time: b.called, Type: measure.Finding, ID: "ban", Kind: kind, State: measure.StateFiring, Host: b.host},
		{Time: b.dropped, Type: measure.Decision, ID: "ban", Kind: kind, State: measure.StateApplied, Host: b.host, Action: "blackhole"},
	}
}

// readBans reads what the notify script noted.
func readBans(file string) ([]ban, error) {
	data, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("peer: %w", err)
	}
	var out []ban
	lines := bufio.NewScanner(bytes.NewReader(data))
	for lines.Scan() {
		words := strings.Fields(lines.Text())
		if len(words) != 3 {
			return nil, fmt.Errorf("peer: %s: %q", file, lines.Text())
		}
		called, err1 := parseTime(words[0])
		dropped, err2 := parseTime(words[1])
		if err := errors.Join(err1, err2); err != nil {
			return nil, fmt.Errorf("peer: %s: %w", file, err)
		}
		out = append(out, ban{called, dropped, words[2]})
	}
	return out, lines.Err()
}

// parseTime reads seconds.nanoseconds, as date prints them.
func parseTime(word string) (time.Time, error) {
	sec, nano, _ := strings.Cut(word, ".")
	s, err1 := strconv.ParseInt(sec, 10, 64)
	n, err2 := strconv.ParseInt(nano, 10, 64)
	return time.Unix(s, n), errors.Join(err1, err2)
}

// Reset starts FastNetMon anew, because it keeps a ban for long, and lifts
// its drops.
func (f *FastNetMon) Reset(ctx context.Context) error {
	f.stop()
	if err := f.lift(ctx); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(f.dir, "bans"), nil, 0o600); err != nil {
		return fmt.Errorf("peer: %w", err)
	}
	return f.launch(ctx)
}

func (f *FastNetMon) lift(ctx context.Context) error {
	return f.run(ctx, "ovs-ofctl", "--timeout=10", "del-flows", mgmt(f.lab), fmt.Sprintf("cookie=%#x/-1", cookie))
}

// stop ends the program; with which exit code is its own affair.
func (f *FastNetMon) stop() {
	if f.process != nil {
		_ = f.process.Stop()
		f.process = nil
	}
}

// Alive implements measure.Controller.
func (f *FastNetMon) Alive() error {
	if f.process == nil {
		return nil // between a stop and a start of ours
	}
	return f.process.Alive()
}

// Close ends FastNetMon and removes all it was given.
func (f *FastNetMon) Close() error {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	f.stop()
	return errors.Join(
		f.lift(ctx),
		f.run(ctx, "ovs-vsctl", "--db="+f.lab.DB(), "--timeout=10", "clear", "bridge", f.lab.Bridges()[0], "sflow"),
		os.RemoveAll(f.dir),
	)
}

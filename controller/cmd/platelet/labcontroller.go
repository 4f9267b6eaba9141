package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/platelet-sdn/platelet/controller/api"
	"github.com/platelet-sdn/platelet/lab/benign"
	"github.com/platelet-sdn/platelet/lab/measure"
	"github.com/platelet-sdn/platelet/lab/runner"
)

// labController runs this very program as a process of its own beside a lab,
// as it would run in production, and tells the measurement what it does.
type labController struct {
	lab     *runner.Lab
	bridges []string // those of Open vSwitch
	dir     string
	client  *api.Client
	process *measure.Process
}

// startLabController starts the controller on a lab: autonomous, with the
// gateways protected and reachable from quarantine, and times short enough to
// see a whole life of a containment.
func startLabController(ctx context.Context, lab *runner.Lab) (measure.Controller, error) {
	return labControllerFor("")(ctx, lab)
}

// labControllerFor tells the controller also who scans with a licence in a
// profile of honest traffic, as an operator would.
func labControllerFor(profile string) func(context.Context, *runner.Lab) (measure.Controller, error) {
	return func(ctx context.Context, lab *runner.Lab) (measure.Controller, error) {
		return newLabController(ctx, lab, benign.Scanner(lab, profile))
	}
}

func newLabController(ctx context.Context, lab *runner.Lab, scanner string) (measure.Controller, error) {
	dir, err := os.MkdirTemp("", "platelet-lab")
	if err != nil {
		return nil, err
	}
	c := &labController{lab: lab, dir: dir, client: api.NewClient(filepath.Join(dir, "api.sock"))}
	if c.bridges, err = ovsBridges(ctx, lab); err != nil {
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	if err := c.configure(scanner); err != nil {
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	if err := c.start(ctx); err != nil {
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	return c, nil
}

// ovsBridges are the lab's bridges that Open vSwitch has: a lab may have Linux
// bridges as well, which nobody programs.
func ovsBridges(ctx context.Context, lab *runner.Lab) ([]string, error) {
	out, err := exec.CommandContext(ctx, "ovs-vsctl", "--db="+lab.DB(), "--timeout=10", "list-br").CombinedOutput()
	if err != nil {
		return nil, fmt.Errorf("list the bridges of %s: %w: %s", lab.DB(), err, strings.TrimSpace(string(out)))
	}
	have := strings.Fields(string(out))
	bridges := slices.DeleteFunc(lab.Bridges(), func(b string) bool { return !slices.Contains(have, b) })
	if len(bridges) == 0 {
		return nil, fmt.Errorf("lab %s has no Open vSwitch bridge for a controller to act on", lab.Name())
	}
	return bridges, nil
}

// configure writes the configuration; JSON is YAML, too.
func (c *labController) configure(scanner string) error {
	licensed := []string{}
	if scanner != "" {
		var err error
		if licensed, err = c.addressesOf(scanner); err != nil {
			return err
		}
	}
	gateways, err := c.addresses("gateway")
	if err != nil {
		return err
	}
	edges, err := c.addresses("edge")
	if err != nil {
		return err
	}
	sflow, err := freeUDPPort()
	if err != nil {
		return err
	}
	ipfix, err := freeUDPPort()
	if err != nil {
		return err
	}
	type object map[string]any
	raw, err := json.MarshalIndent(object{
		"mode": "autonomous", "bridges": c.bridges, "protected": append(edges, gateways...),
		"ovs":       object{"db": c.lab.DB()},
		"state":     object{"dir": filepath.Join(c.dir, "state")},
		"api":       object{"socket": filepath.Join(c.dir, "api.sock")},
		"telemetry": object{"sflow": fmt.Sprint("127.0.0.1:", sflow), "ipfix": fmt.Sprint("127.0.0.1:", ipfix)},
		"detection": object{"keep_firing": "2s", "ignore": licensed},
		// Attackers come back run after run, which must not count as a relapse.
		"response": object{"ttl": "20s", "min_hold": "5s", "quiet_for": "3s", "relapse_window": "1ms",
			"probation": object{"limited": "1s", "watched": "1s"}, "quarantine": object{"remediation": gateways}},
	}, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(c.dir, "platelet.yaml"), raw, 0o600)
}

// addresses are those of the nodes with a role, on each of their interfaces:
// to contain a router at one of them would cut off everybody behind it.
func (c *labController) addresses(role string) ([]string, error) {
	var out []string
	for _, n := range c.lab.Select("role", role) {
		addrs, err := c.addressesOf(n)
		if err != nil {
			return nil, err
		}
		for _, a := range addrs {
			if !slices.Contains(out, a) {
				out = append(out, a)
			}
		}
	}
	return out, nil
}

// addressesOf are those of a node, on each of its interfaces.
func (c *labController) addressesOf(node string) ([]string, error) {
	var out []string
	addrs, err := c.lab.Addrs(node, "")
	if err != nil {
		return nil, err
	}
	for _, a := range addrs {
		if a := a.Addr(); a.IsGlobalUnicast() {
			out = append(out, a.String())
		}
	}
	return out, nil
}
func freeUDPPort() (int, error) {
	l, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		return 0, err
	}
	defer l.Close()
	return l.LocalAddr().(*net.UDPAddr).Port, nil
}

// start starts the process and waits until it cares for every bridge, its tap
// included.
func (c *labController) start(ctx context.Context) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	c.process, err = measure.StartProcess(filepath.Join(c.dir, "platelet.log"), self, "run", "-c", filepath.Join(c.dir, "platelet.yaml"))
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	if err := c.process.Ready(ctx, c.ready); err != nil {
		return errors.Join(err, c.process.Stop())
	}
	return nil
}

func (c *labController) ready(ctx context.Context) error {
	var rules []struct{ Switch, Category string }
	if err := c.client.Get(ctx, "rules", &rules); err != nil {
		return err
	}
	tapped := map[string]bool{}
	for _, r := range rules {
		if r.Category == "tap" {
			tapped[r.Switch] = true
		}
	}
	for _, b := range c.bridges {
		if !tapped[b] {
			return fmt.Errorf("no tap on %s yet", b)
		}
	}
	return nil
}

// Events implements measure.Controller.
func (c *labController) Events(ctx context.Context) (<-chan measure.Event, error) {
	out := make(chan measure.Event, 1024)
	ready, failed := make(chan struct{}), make(chan error, 1)
	go func() {
		defer close(out)
		failed <- c.client.Events(ctx, func() { close(ready) }, func(line []byte) error {
			e, err := labEvent(line)
			if err != nil {
				return err
			}
			select {
			case out <- e:
				return nil
			case <-ctx.Done():
				return ctx.Err()
			}
		})
	}()
	select {
	case <-ready:
		return out, nil
	case err := <-failed:
		return nil, err
	}
}

// labEvent reads one line of the event stream.
func labEvent(line []byte) (measure.Event, error) {
	var e struct {
		Time                                           time.Time
		FirstSeen                                      time.Time `json:"first_seen"`
		Type                                           measure.EventType
		ID, Finding, Kind, State, Host, Action, Target string
		HostMAC                                        string `json:"host_mac"`
		Victims                                        []string
		At                                             struct{ Host, Port, MAC string }
		Limit                                          float64 `json:"limit_pktps"`
	}
	if err := json.Unmarshal(line, &e); err != nil {
		return measure.Event{}, fmt.Errorf("event: %w", err)
	}
	if e.Type == measure.Decision {
		e.Host, e.HostMAC = e.At.Host, e.At.MAC
	}
	return measure.Event{Time: e.Time, Began: e.FirstSeen, Type: e.Type, ID: e.ID, Finding: e.Finding, Kind: e.Kind, State: strings.ToLower(e.State),
		Host: e.Host, MAC: e.HostMAC, Port: e.At.Port, Victims: e.Victims, Action: e.Action, Limit: e.Limit, Target: e.Target}, nil
}

// forgetWithin is how long a reset waits for findings to resolve. Those of
// slow attacks are kept for minutes; then a new start forgets them sooner.
const forgetWithin = 8 * time.Second

// Reset implements measure.Controller. The process goes on, as it would in
// production, unless a finding outlives its attack for long; the next attack
// is a first one because nothing fires and nothing is contained any more.
func (c *labController) Reset(ctx context.Context) error {
	// On a machine that an attack has just kept busy the store may be late.
	err := c.client.Brake(ctx, true, true)
	for range 3 {
		if err == nil || c.process.Alive() != nil || ctx.Err() != nil {
			break
		}
		err = c.client.Brake(ctx, true, true)
	}
	if err != nil {
		return err
	}
	calm, err := c.calm(ctx, time.Now().Add(forgetWithin))
	if err != nil {
		return err
	}
	if calm {
		return c.client.Brake(ctx, false, false)
	}
	if err := c.process.Stop(); err != nil {
		return err
	}
	if err := os.RemoveAll(filepath.Join(c.dir, "state")); err != nil {
		return err
	}
	if err := c.start(ctx); err != nil {
		return err
	}
	select { // what is there before the attack is nothing new
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(warmUp):
		return nil
	}
}

// calm waits until no finding fires, or until a moment has come.
func (c *labController) calm(ctx context.Context, until time.Time) (bool, error) {
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for time.Now().Before(until) {
		var findings []struct{ State string }
		if err := c.client.Get(ctx, "findings", &findings); err != nil {
			return false, err
		}
		if !slices.ContainsFunc(findings, func(f struct{ State string }) bool { return f.State == measure.StateFiring }) {
			return true, nil
		}
		select {
		case <-ctx.Done():
			return false, ctx.Err()
		case <-tick.C:
		}
	}
	return false, nil
}

// Alive implements measure.Controller.
func (c *labController) Alive() error { return c.process.Alive() }

// Close implements measure.Controller.
func (c *labController) Close() error {
	defer os.RemoveAll(c.dir)
	if err := c.process.Alive(); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	// What still stands is taken off, so that the lab is as it was.
	err := c.client.Brake(ctx, true, true)
	return errors.Join(err, c.process.Stop())
}

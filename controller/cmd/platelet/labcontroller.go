package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/platelet-sdn/platelet/controller/api"
	"github.com/platelet-sdn/platelet/lab/measure"
	"github.com/platelet-sdn/platelet/lab/runner"
)

// labController runs this very program as a process of its own beside a lab,
// as it would run in production, and tells the measurement what it does.
type labController struct {
	lab     *runner.Lab
	dir     string
	client  *api.Client
	process *measure.Process
}

// startLabController starts the controller on a lab: autonomous, with the
// gateways protected and reachable from quarantine, and times short enough to
// see a whole life of a containment.
func startLabController(ctx context.Context, lab *runner.Lab) (measure.Controller, error) {
	dir, err := os.MkdirTemp("", "platelet-lab")
	if err != nil {
		return nil, err
	}
	c := &labController{lab: lab, dir: dir, client: api.NewClient(filepath.Join(dir, "api.sock"))}
	if err := c.configure(); err != nil {
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	if err := c.start(ctx); err != nil {
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	return c, nil
}

// configure writes the configuration; JSON is YAML, too.
func (c *labController) configure() error {
	var gateways []string
	for _, n := range c.lab.Select("role", "gateway") {
		ifname, err := c.lab.Interface(n)
		if err != nil {
			return err
		}
		a, err := c.lab.Addr(n, ifname)
		if err != nil {
			return err
		}
		gateways = append(gateways, a.Addr().String())
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
		"mode": "autonomous", "bridges": c.lab.Bridges(), "protected": gateways,
		"ovs":       object{"db": c.lab.DB()},
		"state":     object{"dir": filepath.Join(c.dir, "state")},
		"api":       object{"socket": filepath.Join(c.dir, "api.sock")},
		"telemetry": object{"sflow": fmt.Sprint("127.0.0.1:", sflow), "ipfix": fmt.Sprint("127.0.0.1:", ipfix)},
		"detection": object{"keep_firing": "2s"},
		"response":  object{"ttl": "20s", "min_hold": "5s", "quiet_for": "3s", "quarantine": object{"remediation": gateways}},
	}, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(c.dir, "platelet.yaml"), raw, 0o600)
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
	for _, b := range c.lab.Bridges() {
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
		Type                                           measure.EventType
		ID, Finding, Kind, State, Host, Action, Target string
		At                                             struct{ Host, Port string }
		Limit                                          float64 `json:"limit_pktps"`
	}
	if err := json.Unmarshal(line, &e); err != nil {
		return measure.Event{}, fmt.Errorf("event: %w", err)
	}
	if e.Type == measure.Decision {
		e.Host = e.At.Host
	}
	return measure.Event{Time: e.Time, Type: e.Type, ID: e.ID, Finding: e.Finding, Kind: e.Kind, State: strings.ToLower(e.State),
		Host: e.Host, Port: e.At.Port, Action: e.Action, Limit: e.Limit, Target: e.Target}, nil
}

// Reset implements measure.Controller. The process goes on, as it would in
// production; the next attack is a first one because nothing fires and nothing
// is contained any more.
func (c *labController) Reset(ctx context.Context) error {
	if err := c.client.Brake(ctx, true, true); err != nil {
		return err
	}
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		var findings []struct{ State string }
		if err := c.client.Get(ctx, "findings", &findings); err != nil {
			return err
		}
		firing := false
		for _, f := range findings {
			firing = firing || f.State == "firing"
		}
		if !firing {
			return c.client.Brake(ctx, false, false)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
	}
}

// Close implements measure.Controller.
func (c *labController) Close() error {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	// What still stands is taken off, so that the lab is as it was.
	err := c.client.Brake(ctx, true, true)
	return errors.Join(err, c.process.Stop(), os.RemoveAll(c.dir))
}

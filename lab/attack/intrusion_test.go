package attack_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/platelet-sdn/platelet/lab/agent"
	"github.com/platelet-sdn/platelet/lab/attack"
	"github.com/platelet-sdn/platelet/lab/benign"
	"github.com/platelet-sdn/platelet/lab/capture"
	"github.com/platelet-sdn/platelet/lab/labtest"
	"github.com/platelet-sdn/platelet/lab/runner"
)

// intrusions lists the attacks on applications, which go for what listens.
func intrusions() []string {
	return []string{
		"ssh-brute-force", "http-brute-force", "password-spray", "worm", "mirai", "beacon", "beacon-tls",
		"exfiltration-fast", "exfiltration-slow", "dns-tunnel", "lateral-movement",
	}
}

// TestIntrusionsAmongHonestTraffic plays each while everything honest goes
// on: they do not get in each other's way, and the filter knows the attack's
// packets from all the others.
func TestIntrusionsAmongHonestTraffic(t *testing.T) {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	env := labtest.New(ctx, t, "../first.clab.yml")
	lab := env.Up(ctx, t)
	roles, err := attack.Cast(lab, 0)
	if err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	honest, err := benign.Start(ctx, lab, benign.Options{Profile: "all"})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := honest.Stop(); err != nil {
			t.Error(err)
		}
	}()
	noFalseAlarm(ctx, t, lab, roles, honest)
	for _, name := range intrusions() {
		t.Run(name, func(t *testing.T) {
			a, err := attack.Find(name)
			if err != nil {
				t.Fatal(err)
			}
			if a.Technique == "" || a.Tool() != "" {
				t.Errorf("technique %q, tool %q", a.Technique, a.Tool())
			}
			intrude(ctx, t, lab, a, roles)
		})
	}
	t.Run("bounded", func(t *testing.T) { boundedIntrusion(ctx, t, lab, roles) })
	if _, err := honest.Loss(ctx); err != nil {
		t.Fatal(err)
	}
	// Not none: a stall of the switch on a busy machine loses some packets.
	flows := honest.Flows(began, time.Now())
	harmed := slices.DeleteFunc(slices.Clone(flows), func(f benign.Flow) bool { return !f.Harmed })
	if len(harmed) > len(flows)/50 {
		t.Errorf("%d of %d honest exchanges were harmed: %+v", len(harmed), len(flows), harmed)
	}
}

// boundedIntrusion lets an attack end by itself, at exactly what it may do.
func boundedIntrusion(ctx context.Context, t *testing.T, lab *runner.Lab, roles attack.Roles) {
	t.Helper()
	a, err := attack.Find("beacon")
	if err != nil {
		t.Fatal(err)
	}
	var lines bytes.Buffer
	truth := agent.NewTruth(&lines)
	run, err := a.Start(ctx, lab, roles, attack.Settings{Truth: truth, Rate: 50, Packets: 20})
	if err != nil {
		t.Fatal(err)
	}
	select {
	case <-run.Done():
	case <-ctx.Done():
		t.Fatal("it does not end")
	}
	if err := errors.Join(run.Stop(), truth.Flush()); err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(lines.String(), `"check-in"`); n != 20 || run.Spent().Packets != 20 {
		t.Errorf("%d check-ins and %+v, the settings say 20", n, run.Spent())
	}
}

// noFalseAlarm looks for honest packets that a filter takes for an attack's.
func noFalseAlarm(ctx context.Context, t *testing.T, lab *runner.Lab, roles attack.Roles, honest *benign.Traffic) {
	t.Helper()
	var filters []string
	for _, name := range intrusions() {
		a, err := attack.Find(name)
		if err != nil {
			t.Fatal(err)
		}
		filters = append(filters, "("+a.Filter(roles)+")")
	}
	dir := t.TempDir()
	var in []*capture.Capture
	for _, node := range append([]string{roles.Victim}, roles.Bystanders...) {
		c, err := capture.Start(ctx, lab, node, "eth1", dir+"/"+node+".pcap", capture.Options{Filter: strings.Join(filters, " or ")})
		if err != nil {
			t.Fatal(err)
		}
		in = append(in, c)
	}
	if _, err := honest.Loss(ctx); err != nil { // which takes more than a second
		t.Fatal(err)
	}
	for _, c := range in {
		if times, _, err := c.Stop(ctx); err != nil || len(times) > 0 {
			t.Errorf("of honest traffic %d packets pass for attacks': %v", len(times), err)
		}
	}
}

// intrude plays one attack until it has acted a few times, and compares what
// it says with what arrives.
func intrude(ctx context.Context, t *testing.T, lab *runner.Lab, a attack.Attack, roles attack.Roles) {
	t.Helper()
	dir := t.TempDir()
	var in []*capture.Capture
	for _, node := range a.Watch(roles) {
		c, err := capture.Start(ctx, lab, node, "eth1", dir+"/"+node+".pcap", capture.Options{Filter: a.Filter(roles)})
		if err != nil {
			t.Fatal(err)
		}
		in = append(in, c)
	}
	var lines bytes.Buffer
	truth := agent.NewTruth(&lines)
	run, err := a.Start(ctx, lab, roles, attack.Settings{Truth: truth, Seed: 1, Rate: 40, For: 20 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	delivered := func() (n int64) {
		for _, c := range in {
			n += c.Size()
		}
		return n
	}
	// An empty recording has a header of 24 octets; a packet in it takes 80.
	for enough := int64(len(in)*24 + 10*80); delivered() < enough; {
		select {
		case <-ctx.Done():
			t.Fatalf("of %s only %d octets of recordings", a.Name, delivered())
		case <-time.After(5 * time.Millisecond):
		}
	}
	if err := run.Stop(); err != nil {
		t.Error(err)
	}
	for _, c := range in {
		if _, _, err := c.Stop(ctx); err != nil {
			t.Error(err)
		}
	}
	if err := truth.Flush(); err != nil {
		t.Fatal(err)
	}
	attackers := truth.Attackers()
	if _, ok := attackers[roles.Attacker]; !ok || (len(attackers) > 1 && !slices.Contains([]string{"worm", "mirai", "lateral-movement"}, a.Name)) {
		t.Errorf("attackers: %v", attackers)
	}
	for dec := json.NewDecoder(&lines); dec.More(); {
		var line agent.Action
		if err := dec.Decode(&line); err != nil {
			t.Fatal(err)
		}
		if line.Role != agent.Attack || line.Behaviour != a.Name || !line.From.IsValid() || !line.To.IsValid() {
			t.Errorf("%+v", line)
		}
	}
}

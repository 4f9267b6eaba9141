package main

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
	"github.com/gopacket/gopacket/pcapgo"

	"github.com/platelet-sdn/platelet/controller/openflow/pipeline"
	"github.com/platelet-sdn/platelet/flowcollector/flow"
	"github.com/platelet-sdn/platelet/flowcollector/replay"
	"github.com/platelet-sdn/platelet/lab/attack"
	"github.com/platelet-sdn/platelet/lab/benign"
	"github.com/platelet-sdn/platelet/lab/labtest"
	"github.com/platelet-sdn/platelet/lab/runner"
	"github.com/platelet-sdn/platelet/segmentation/compile"
	"github.com/platelet-sdn/platelet/segmentation/connection"
	"github.com/platelet-sdn/platelet/segmentation/oracle"
	"github.com/platelet-sdn/platelet/segmentation/policy"
)

// TestRecommendedPolicyInTheLab learns a policy of what the honest do in a data
// centre, as its switches export it, and holds it against another run of them
// and against those who move from host to host.
func TestRecommendedPolicyInTheLab(t *testing.T) {
	ctx, cancel := context.WithTimeout(context.Background(), 4*time.Minute)
	defer cancel()
	const topology = "../../../lab/dc3tier.clab.yml"
	env := labtest.New(ctx, t, topology)
	lab := env.Up(ctx, t)
	r := &exportRecorder{t: t, dir: t.TempDir()}
	r.listen(ctx, env, lab)

	// It is short: what only one of two hosts did, once, is all that
	// there may be to learn from.
	learned := r.record("learned", func() { honest(ctx, t, lab, 1) })
	set, raw := r.recommended(learned, topology)
	o := oracle.New(set, labInventory(env.Topology), time.Now())
	judge := func(c connection.Entry) bool {
		return o.Verdict(oracle.Connection{Src: c.Opener, Dst: c.Responder, Proto: policy.Proto(c.Proto), SrcPort: 40000, DstPort: c.Port, Type: c.Type, Code: c.Code}).Allowed()
	}

	allowed := 0
	for _, c := range connections(t, r.record("again", func() { honest(ctx, t, lab, 2) })) {
		switch {
		case !c.Answered():
		case judge(c):
			allowed++
		default:
			t.Errorf("another run needs %v", c.Key)
		}
	}
	t.Logf("%d groups, %d policies; %d answered connections of another run are allowed", len(set.Groups), len(set.Policies), allowed)
	if allowed < 50 {
		t.Errorf("only %d connections in another run:\n%s", allowed, raw)
	}
	for _, name := range []string{"lateral-movement", "worm"} {
		attacked := r.record(name, func() { intrude(ctx, t, lab, name) })
		tried, served := 0, 0
		for _, c := range connections(t, attacked) {
			tried++
			if c.Answered() {
				served++
			}
			if judge(c) {
				t.Errorf("%s: %v is allowed", name, c.Key)
			}
		}
		t.Logf("%s: %d connections, %d of them answered, and none is allowed", name, tried, served)
		if served == 0 {
			t.Errorf("%s: of %d connections none was answered", name, tried)
		}
		learnedUnderAttack(t, learned, attacked)
	}
	if t.Failed() {
		t.Logf("the policy:\n%s", raw)
	}
	enforced(ctx, t, env, lab, set, r)
}

// enforced puts the policy on the lab's switches: the honest go on, and whoever
// moves from host to host is let in nowhere.
func enforced(ctx context.Context, t *testing.T, env labtest.Env, lab *runner.Lab, set *policy.Set, r *exportRecorder) {
	t.Helper()
	program(ctx, t, env, lab, set)
	began := time.Now()
	flows := honest(ctx, t, lab, 3)
	harmed := 0
	for _, f := range flows {
		if f.Harmed {
			harmed++
			t.Logf("harmed: %+v", f)
		}
	}
	t.Logf("enforced: %d of %d honest exchanges harmed in %s", harmed, len(flows), time.Since(began).Round(time.Second))
	if harmed > len(flows)/50 { // not none: a stall of the switch on a busy machine loses some packets
		t.Errorf("%d of %d honest exchanges were harmed", harmed, len(flows))
	}
	for _, name := range []string{"lateral-movement", "worm"} {
		tried := connections(t, r.record(name+"-enforced", func() { intrude(ctx, t, lab, name) }))
		for _, c := range tried {
			if c.Answered() {
				t.Errorf("%s: %v was answered", name, c.Key)
			}
		}
		t.Logf("enforced: %s: %d connections, none of them answered", name, len(tried))
		if len(tried) == 0 {
			t.Errorf("%s tried nothing", name)
		}
	}
}

// program puts a policy on the lab's switches.
func program(ctx context.Context, t *testing.T, env labtest.Env, lab *runner.Lab, set *policy.Set) {
	t.Helper()
	compiled, err := compile.New().Compile(set, labInventory(env.Topology), time.Now())
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range lab.Bridges() {
		b, err := pipeline.New(pipeline.Config{Name: name, Target: "unix:" + env.OVS.Mgmt(name)})
		if err != nil {
			t.Fatal(err)
		}
		running, stop := context.WithCancel(ctx)
		done := make(chan struct{})
		go func() { defer close(done); _ = b.Run(running) }()
		t.Cleanup(func() { stop(); <-done })
		for {
			receipt, err := b.SetPolicy(ctx, compiled)
			if err == nil && receipt.ReadBack {
				break
			}
			select {
			case <-ctx.Done():
				t.Fatalf("%s: %+v, %v", name, receipt, err)
			case <-time.After(50 * time.Millisecond):
			}
		}
	}
}

// learnedUnderAttack learns while somebody moves from host to host, and is let
// in: the detectors see to it that this is not learned.
func learnedUnderAttack(t *testing.T, learned, attacked string) {
	t.Helper()
	const topology = "../../../lab/dc3tier.clab.yml"
	out, code, err := call(t, "policy", "recommend", "--records", learned, "--records", attacked, "--inventory", topology, "--min-confidence", "0.3")
	if code != 0 {
		t.Fatalf("exit %d, %v", code, err)
	}
	for _, service := range []string{"smb", "rdp", "winrm", "ssh"} {
		if strings.Contains(out, "services: ["+service+"]") {
			t.Errorf("%s is learned from an attack", service)
		}
	}
	for line := range strings.Lines(out) {
		if strings.HasPrefix(line, "# Left out") {
			t.Log(strings.TrimSpace(line))
		}
	}
}

// honest lets the data centre work until everybody has done everything a few
// times, and returns what they exchanged.
func honest(ctx context.Context, t *testing.T, lab *runner.Lab, seed uint64) []benign.Flow {
	t.Helper()
	began := time.Now()
	traffic, err := benign.Start(ctx, lab, benign.Options{Profile: "datacenter", Seed: seed, Pace: 3})
	if err != nil {
		t.Fatal(err)
	}
	for {
		all, _ := traffic.Totals()
		if all["monitor"].Flows >= 130 && all["backup"].Flows >= 9 && all["ntp"].Flows >= 9 && all["dns"].Flows >= 30 && all["rpc"].Flows >= 200 && all["web"].Flows >= 60 {
			break
		}
		select {
		case <-ctx.Done():
			t.Fatalf("honest traffic: %v", all)
		case <-time.After(50 * time.Millisecond):
		}
	}
	now := time.Now()
	if _, err := traffic.Loss(ctx); err != nil { // what is under way ends
		t.Fatal(err)
	}
	flows := traffic.Flows(began, now)
	if err := traffic.Stop(); err != nil {
		t.Fatal(err)
	}
	return flows
}

// intrude plays an attack for a few seconds.
func intrude(ctx context.Context, t *testing.T, lab *runner.Lab, name string) {
	t.Helper()
	roles, err := attack.Cast(lab, 0)
	if err != nil {
		t.Fatal(err)
	}
	a, err := attack.Find(name)
	if err != nil {
		t.Fatal(err)
	}
	run, err := a.Start(ctx, lab, roles, attack.Settings{Seed: 1, Rate: 50, For: 4 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	<-run.Done()
	if err := run.Stop(); err != nil {
		t.Fatal(err)
	}
}

// exportRecorder writes what the switches of a lab export into captures.
type exportRecorder struct {
	t    *testing.T
	dir  string
	conn *net.UDPConn
}

// listen has all bridges export a sample of every packet.
func (r *exportRecorder) listen(ctx context.Context, env labtest.Env, lab *runner.Lab) {
	var err error
	if r.conn, err = net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)}); err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { _ = r.conn.Close() })
	if err := r.conn.SetReadBuffer(16 << 20); err != nil {
		r.t.Fatal(err)
	}
	for _, bridge := range lab.Bridges() {
		if _, err := env.OVS.Ctl(ctx, "--", "--id=@s", "create", "sflow", "agent=lo", `targets="`+r.conn.LocalAddr().String()+`"`,
			"sampling=1", "header=128", "polling=0", "--", "set", "bridge", bridge, "sflow=@s"); err != nil {
			r.t.Fatal(err)
		}
	}
}

// record captures what is exported while f runs, and returns the file.
func (r *exportRecorder) record(name string, f func()) string {
	r.t.Helper()
	file := filepath.Join(r.dir, name+".pcap")
	out, err := os.Create(file)
	if err != nil {
		r.t.Fatal(err)
	}
	defer out.Close()
	w := pcapgo.NewWriterNanos(out)
	if err := w.WriteFileHeader(65535, layers.LinkTypeEthernet); err != nil {
		r.t.Fatal(err)
	}
	done, ended := make(chan error, 1), make(chan struct{})
	_ = r.conn.SetReadDeadline(time.Time{})
	go func() { done <- r.copy(w, ended) }()
	f()
	close(ended)
	_ = r.conn.SetReadDeadline(time.Now().Add(settled)) // the latest samples leave within a second
	if err := <-done; err != nil {
		r.t.Fatal(err)
	}
	return file
}

// settled is how long nothing must come for everything to have come.
const settled = 2 * time.Second

// copy writes datagrams until none come any more after the end.
func (r *exportRecorder) copy(w *pcapgo.Writer, ended <-chan struct{}) error {
	buf := make([]byte, 65536)
	for {
		n, from, err := r.conn.ReadFromUDP(buf)
		var timeout net.Error
		if errors.As(err, &timeout) && timeout.Timeout() {
			return nil
		}
		if err != nil {
			return err
		}
		select {
		case <-ended:
			_ = r.conn.SetReadDeadline(time.Now().Add(settled))
		default:
		}
		ip := &layers.IPv4{Version: 4, TTL: 64, Protocol: layers.IPProtocolUDP, SrcIP: from.IP, DstIP: net.IPv4(127, 0, 0, 1)}
		udp := &layers.UDP{SrcPort: layers.UDPPort(from.Port), DstPort: 6343}
		_ = udp.SetNetworkLayerForChecksum(ip) // an IPv4 header is one
		frame := gopacket.NewSerializeBuffer()
		eth := &layers.Ethernet{SrcMAC: make(net.HardwareAddr, 6), DstMAC: make(net.HardwareAddr, 6), EthernetType: layers.EthernetTypeIPv4}
		if err := gopacket.SerializeLayers(frame, gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true}, eth, ip, udp, gopacket.Payload(buf[:n])); err != nil {
			return err
		}
		info := gopacket.CaptureInfo{Timestamp: time.Now(), CaptureLength: len(frame.Bytes()), Length: len(frame.Bytes())}
		if err := w.WritePacket(info, frame.Bytes()); err != nil {
			return err
		}
	}
}

// connections reads a capture, without what is sent to groups.
func connections(t *testing.T, file string) []connection.Entry {
	t.Helper()
	in, err := replay.Open([]string{file}, replay.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	table := connection.New(connection.Config{Capacity: 1 << 14})
	var r flow.Record
	for {
		err := in.Read(&r)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		table.Observe(&r)
	}
	if s := table.Stats(); s.Known() < 0.99 || s.RateTo != 1 {
		t.Errorf("%s: %+v", file, s)
	}
	var out []connection.Entry
	for _, c := range table.All() {
		if !c.Responder.IsMulticast() && !strings.HasSuffix(c.Responder.String(), ".255") {
			out = append(out, c)
		}
	}
	return out
}

// recommended learns policies from records and has them enforced; it returns their
// text as well.
func (r *exportRecorder) recommended(records, topology string) (*policy.Set, []byte) {
	r.t.Helper()
	file := filepath.Join(r.dir, "policy.yaml")
	if out, code, err := call(r.t, "policy", "recommend", "--records", records, "--inventory", topology, "--min-confidence", "0.3", "-o", file); code != 0 {
		r.t.Fatalf("exit %d, %v: %s", code, err, out)
	}
	raw, err := os.ReadFile(file)
	if err != nil {
		r.t.Fatal(err)
	}
	set, err := policy.Read(policy.Source{Name: file, Data: raw})
	if err != nil {
		r.t.Fatal(err)
	}
	enforceStaged(set)
	return set, raw
}

package openflow

import (
	"context"
	"errors"
	"os/exec"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/platelet-sdn/platelet/lab/ovs"
)

// What Open vSwitch does, where it differs from what one would expect, and
// this package is built on it. Each behaviour has its test against the real
// switch, so that a version that behaves otherwise is noticed here and not on
// somebody's network. Those of restarts, forwarding and conntrack are tested
// with the pipeline, those of connections and roles beside the code.

// behaving is a switch with a connection to it.
type behaving struct {
	t      *testing.T
	ctx    context.Context
	sw     *ovs.Instance
	bridge string
	target string
	conn   *Conn
}

func behave(t *testing.T, bridge string) *behaving {
	t.Helper()
	ctx, sw, target := realSwitch(t, bridge)
	b := &behaving{t: t, ctx: ctx, sw: sw, bridge: bridge, target: target}
	b.conn = b.dial()
	return b
}

func (b *behaving) dial() *Conn {
	b.t.Helper()
	c, err := Dial(b.ctx, b.target)
	if err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(func() { c.Close() })
	return c
}

func (b *behaving) ctl(args ...string) {
	b.t.Helper()
	if _, err := b.sw.Ctl(b.ctx, args...); err != nil {
		b.t.Fatal(err)
	}
}

// ofctl is somebody else at the switch.
func (b *behaving) ofctl(command string, args ...string) string {
	b.t.Helper()
	out, err := b.sw.Ofctl(b.ctx, append([]string{"-O", "OpenFlow14", command, b.sw.Mgmt(b.bridge)}, args...)...)
	if err != nil {
		b.t.Fatal(err)
	}
	return out
}

func (b *behaving) flows() string { return b.ofctl("dump-flows", "--no-stats") }

func (b *behaving) appctl(args ...string) string {
	b.t.Helper()
	out, err := b.sw.Appctl(b.ctx, args...)
	if err != nil {
		b.t.Fatal(err)
	}
	return out
}

// eventually waits for the switch to do by itself what it does.
func (b *behaving) eventually(what string, ok func() bool) {
	b.t.Helper()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-b.ctx.Done():
			b.t.Fatalf("waited for %s", what)
		case <-tick.C:
		}
	}
}

// sendBundle sends a bundle of one flow and whatever else is given, as a
// controller that does not look at the errors would, and commits it.
func (b *behaving) sendBundle(id uint32, members ...func(buf []byte, xid uint32) ([]byte, error)) (errs []*Error, committed error) {
	b.t.Helper()
	s := b.conn.beginSpan(len(members))
	defer b.conn.endSpan(s)
	control := func(step bundleControl) error {
		_, err := b.conn.callOne(b.ctx, TypeBundleControl, func(buf []byte, xid uint32) []byte {
			return appendBundleControl(buf, xid, id, step)
		})
		return err
	}
	if err := control(bundleOpen); err != nil {
		b.t.Fatal(err)
	}
	if err := b.conn.write(b.ctx, func(w *messageWriter) {
		for i, m := range members {
			w.try(func(buf []byte) ([]byte, error) { return m(buf, s.first+uint32(i)) })
		}
	}); err != nil {
		b.t.Fatal(err)
	}
	if err := control(bundleClose); err != nil {
		b.t.Fatal(err)
	}
	committed = control(bundleCommit)
	return b.conn.peekSpan(s), committed
}

// Behaviour 1: a bundle is not all or nothing by itself. What is refused when
// it is added is left out, and the commit of the rest succeeds; what is
// refused at the commit takes everything with it.
func TestBundleCommitsWithoutItsRefusedMembers(t *testing.T) {
	b := behave(t, "plofbeh1")
	b.ofctl("del-flows")
	flow := func(f Flow) func([]byte, uint32) ([]byte, error) {
		return func(buf []byte, xid uint32) ([]byte, error) {
			return appendBundleAdd(buf, xid, 1, (&FlowMod{Flow: f}).append)
		}
	}
	good := Flow{Table: 9, Cookie: 1, Match: Match{InPort(1)}}
	backwards := Flow{Table: 9, Cookie: 2, Instructions: Instructions{Goto: 3, HasGoto: true}}
	errs, committed := b.sendBundle(1, flow(good), flow(backwards))
	if committed != nil || len(errs) != 1 {
		t.Fatalf("commit: %v, errors %v", committed, errs)
	}
	if got := b.flows(); !strings.Contains(got, "cookie=0x1,") || strings.Contains(got, "cookie=0x2,") {
		t.Errorf("flows: %s", got)
	}
	b.ofctl("del-flows")
	noSuchGroup := Flow{Table: 9, Cookie: 3, Match: Match{InPort(2)}, Instructions: Instructions{
		// OFPAT_GROUP, 999
		Actions: []Action{UnknownAction("\x00\x16\x00\x08\x00\x00\x03\xe7")}}}
	err := b.conn.Commit(b.ctx, Tx{Flows: []FlowMod{{Flow: good}, {Flow: noSuchGroup}}})
	if !errors.As(err, new(*TxError)) || !strings.Contains(err.Error(), "BAD_OUT_GROUP") {
		t.Errorf("a group that is not there: %v", err)
	}
	if got := strings.TrimSpace(b.flows()); got != "" {
		t.Errorf("left behind: %s", got)
	}
}

// Behaviour 2: a bundle takes no meters, and who deletes a meter deletes the
// flows that use it, whoever made them.
func TestMetersAndTheirFlows(t *testing.T) {
	b := behave(t, "plofbeh2")
	m := Meter{ID: 5, Flags: MeterPktps | MeterBurst, Rate: 10, Burst: 10}
	errs, _ := b.sendBundle(1, func(buf []byte, xid uint32) ([]byte, error) {
		start := len(buf)
		buf = append(appendHeader(buf, TypeBundleAdd, xid), 0, 0, 0, 1, 0, 0, 0, byte(bundleFlags))
		return finishMessage(appendMeterMod(buf, xid, MeterAdd, m), start)
	})
	if len(errs) != 1 || errs[0].Type != ErrorTypeBundleFailed || errs[0].CodeName() != "MSG_UNSUP" {
		t.Errorf("a meter in a bundle: %v", errs)
	}
	if err := b.conn.Commit(b.ctx, Tx{AddMeters: []Meter{m}}); err != nil {
		t.Fatal(err)
	}
	b.ofctl("add-flow", "cookie=0xf00,table=7,actions=meter:5,NORMAL")
	if err := b.conn.Commit(b.ctx, Tx{DeleteMeters: []uint32{5}}); !errors.Is(err, ErrInUse) {
		t.Errorf("a transaction takes a foreign flow's meter away: %v", err)
	}
	b.ofctl("del-meter", "meter=5")
	if got := b.flows(); strings.Contains(got, "0xf00") {
		t.Errorf("the flow outlived its meter: %s", got)
	}
}

// Behaviour 3, the part without controllers: who changes the fail mode of a
// bridge flushes it; a management connection and a passive target do not.
func TestFailModeFlushes(t *testing.T) {
	b := behave(t, "plofbeh3")
	b.ofctl("add-flow", "cookie=0xf00,table=7,actions=drop")
	b.ctl("set-controller", b.bridge, "ptcp:0:127.0.0.1")
	if got := b.flows(); !strings.Contains(got, "0xf00") {
		t.Fatalf("a passive target flushed: %s", got)
	}
	b.ctl("del-controller", b.bridge)
	b.ofctl("add-flow", "cookie=0xf00,table=7,actions=drop")
	b.ctl("set-fail-mode", b.bridge, "secure")
	b.eventually("the flush", func() bool { return !strings.Contains(b.flows(), "0xf00") })
}

// Behaviour 4: in-band control puts hidden flows above everything, ours too.
func TestInBandIsHidden(t *testing.T) {
	b := behave(t, "plofbeh4")
	hidden := func() int {
		return len(regexp.MustCompile(`priority=18\d{4}`).FindAllString(b.appctl("bridge/dump-flows", b.bridge), -1))
	}
	if n := hidden(); n != 0 {
		t.Fatalf("%d hidden flows without a controller", n)
	}
	// An address to talk to, and a controller that is not there.
	if out, err := exec.Command("ip", "addr", "add", "10.99.0.1/24", "dev", b.bridge).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if out, err := exec.Command("ip", "link", "set", b.bridge, "up").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	b.ctl("set-controller", b.bridge, "tcp:10.99.0.2:6653")
	b.eventually("in-band flows", func() bool { return hidden() > 0 })
	b.ctl("set", "bridge", b.bridge, "other-config:disable-in-band=true")
	b.eventually("in-band flows to go", func() bool { return hidden() == 0 })
}

// Behaviour 6: a management connection hears nothing before it asks.
func TestSilentUntilAsked(t *testing.T) {
	b := behave(t, "plofbeh6")
	add := func(port string) {
		b.ctl("add-port", b.bridge, port, "--", "set", "Interface", port, "type=patch", "options:peer=none")
	}
	add("plofbeh6a")
	if err := b.conn.SetAsync(b.ctx, Async{PortStatus: true}); err != nil {
		t.Fatal(err)
	}
	add("plofbeh6b")
	select {
	case m := <-b.conn.Async():
		if s, err := DecodePortStatus(m); err != nil || s.Port.Name != "plofbeh6b" {
			t.Errorf("the first message is %+v, %v", s, err)
		}
	case <-b.ctx.Done():
		t.Fatal("no port status")
	}
}

// Behaviour 7: a cookie protects from deletion and modification that ask for
// it, and from nothing else.
func TestCookieProtectsNotFromAdd(t *testing.T) {
	b := behave(t, "plofbeh7")
	b.ofctl("add-flow", "cookie=0xf00,table=7,priority=9,in_port=1,actions=drop")
	ours := Flow{Table: 7, Priority: 9, Cookie: 0x504c << 48, Match: Match{InPort(1)}}
	del := FlowMod{Command: DeleteStrict, CookieMask: ^uint64(0), Flow: ours}
	if err := b.conn.Commit(b.ctx, Tx{Flows: []FlowMod{del}}); err != nil {
		t.Fatal(err)
	}
	if got := b.flows(); !strings.Contains(got, "0xf00") {
		t.Errorf("deleted by another cookie: %s", got)
	}
	if err := b.conn.Commit(b.ctx, Tx{Flows: []FlowMod{{Flow: ours}}}); err != nil {
		t.Fatal(err)
	}
	if got := b.flows(); strings.Contains(got, "0xf00") {
		t.Errorf("an addition left the flow in its place: %s", got)
	}
}

// Behaviour 10: another set of protocols ends the connections; without
// OpenFlow 1.4 the next handshake says what is missing.
func TestProtocolsEndTheConnection(t *testing.T) {
	b := behave(t, "plofbeh10")
	b.ctl("set", "bridge", b.bridge, "protocols=OpenFlow13,OpenFlow14")
	select {
	case <-b.conn.Done():
	case <-b.ctx.Done():
		t.Fatal("the connection outlived the change")
	}
	b.dial()
	b.ctl("set", "bridge", b.bridge, "protocols=OpenFlow13")
	var version *VersionError
	b.eventually("the refusal", func() bool {
		c, err := Dial(b.ctx, b.target)
		if err == nil {
			c.Close()
		}
		return errors.As(err, &version)
	})
	if !strings.Contains(version.Error(), "OpenFlow14") {
		t.Errorf("got %q", version)
	}
}

// Behaviour 11: a fast failover group follows its ports. (A select group
// without a selection method sends nearly all to one bucket; we make none.)
func TestFastFailoverFollowsThePort(t *testing.T) {
	b := behave(t, "plofbeh11")
	for _, port := range []string{"plofbeh11a", "plofbeh11b"} {
		if out, err := exec.Command("ip", "link", "add", port, "type", "veth", "peer", "name", port+"p").CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		t.Cleanup(func() { _ = exec.Command("ip", "link", "del", port).Run() })
		for _, end := range []string{port, port + "p"} {
			if out, err := exec.Command("ip", "link", "set", end, "up").CombinedOutput(); err != nil {
				t.Fatalf("%v: %s", err, out)
			}
		}
		b.ctl("add-port", b.bridge, port)
	}
	b.ofctl("add-group", "group_id=60,type=ff,bucket=watch_port:1,output:1,bucket=watch_port:2,output:2")
	b.ofctl("add-flow", "priority=9,actions=group:60")
	goesTo := func(port string) bool {
		return strings.HasSuffix(b.appctl("ofproto/trace", b.bridge, "in_port=LOCAL"), "Datapath actions: "+port)
	}
	number := func(port string) string {
		m := regexp.MustCompile(regexp.QuoteMeta(port) + ` \d+/(\d+):`).FindStringSubmatch(b.appctl("dpif/show"))
		if m == nil {
			t.Fatalf("%s is not in the datapath", port)
		}
		return m[1]
	}
	a, z := number("plofbeh11a"), number("plofbeh11b")
	b.eventually("the first bucket", func() bool { return goesTo(a) })
	if out, err := exec.Command("ip", "link", "set", "plofbeh11ap", "down").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	b.eventually("the second bucket", func() bool { return goesTo(z) })
}

// Behaviour 12: a flow monitor tells of others' changes in full and of our
// own in short; who asks for the full form of its own is refused.
func TestMonitorAbbreviatesOurOwn(t *testing.T) {
	b := behave(t, "plofbeh12")
	if err := b.conn.Monitor(b.ctx, FlowFilter{Table: 7}); err != nil {
		t.Fatal(err)
	}
	if err := b.conn.Commit(b.ctx, Tx{Flows: []FlowMod{{Flow: Flow{Table: 7, Match: Match{InPort(1)}}}}}); err != nil {
		t.Fatal(err)
	}
	b.ofctl("add-flow", "cookie=0xf00,table=7,in_port=2,actions=drop")
	var events []FlowEvent
	for len(events) < 2 {
		select {
		case m := <-b.conn.Async():
			updates, _, err := DecodeFlowUpdates(m)
			if err != nil {
				t.Fatal(err)
			}
			for _, u := range updates {
				events = append(events, u.Event)
				if u.Event == FlowAdded && u.Cookie != 0xf00 {
					t.Errorf("in full: %+v", u)
				}
			}
		case <-b.ctx.Done():
			t.Fatalf("events %v", events)
		}
	}
	if events[0] != FlowOwnChange || events[1] != FlowAdded {
		t.Errorf("events %v", events)
	}
	const noAbbrev = 1 << 5
	errs, err := b.conn.sendChecked(b.ctx, 1, func(buf []byte, _ int, xid uint32) []byte {
		body := monitorBody(9, FlowFilter{Table: 7})
		body[13] |= noAbbrev
		return appendMultipart(buf, xid, multipartFlowMonitor, body)
	})
	// Open vSwitch 3.1 puts the refusal into an OpenFlow 1.0 message, which
	// ends the connection.
	if err == nil && len(errs) == 0 {
		t.Error("OFPFMF_NO_ABBREV is accepted")
	}
}

// Behaviour 15: there are no auxiliary connections: the second one is a main
// connection as well, and asks and is answered like the first.
func TestEveryConnectionIsAMainOne(t *testing.T) {
	b := behave(t, "plofbeh15")
	second := b.dial()
	reply, err := second.callOne(b.ctx, TypeFeaturesReply, func(buf []byte, xid uint32) []byte {
		return appendMessage(buf, TypeFeaturesRequest, xid, nil)
	})
	if err != nil {
		t.Fatal(err)
	}
	const auxiliaryID = 13 // of struct ofp_switch_features, behind the header
	if id := reply.Body[auxiliaryID]; id != 0 {
		t.Errorf("auxiliary connection %d", id)
	}
}

// Behaviour 5: when its controller is gone, a bridge with fail mode secure
// keeps its flows; a standalone one flushes them after three times the probe
// interval and forwards by itself, through a hidden flow.
func TestFailModeDecidesWithoutController(t *testing.T) {
	b := behave(t, "plofbeh5")
	l, err := Dialer{}.Listen(b.ctx, "ptcp:0:127.0.0.1", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if err := b.sw.AddBridge(b.ctx, "plofbeh5s", "netdev"); err != nil {
		t.Fatal(err)
	}
	for bridge, mode := range map[string]string{"plofbeh5": "standalone", "plofbeh5s": "secure"} {
		b.ctl("set-fail-mode", bridge, mode, "--", "set", "bridge", bridge, "other-config:disable-in-band=true",
			"--", "set-controller", bridge, "tcp:"+l.Addr().String(), "--", "set", "controller", bridge, "inactivity_probe=1000")
	}
	var conns []*Conn
	for _, bridge := range []string{b.bridge, "plofbeh5s"} {
		c, err := l.Dial(b.ctx, datapathID(b.ctx, t, b.sw, bridge))
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if err := c.Commit(b.ctx, Tx{Flows: []FlowMod{{Flow: Flow{Table: 7, Cookie: 0xf00}}}}); err != nil {
			t.Fatal(err)
		}
		conns = append(conns, c)
	}
	l.Close()
	for _, c := range conns {
		c.Close()
	}
	b.eventually("the standalone bridge to flush", func() bool { return !strings.Contains(b.flows(), "0xf00") })
	b.eventually("the standalone bridge to forward by itself", func() bool {
		return strings.Contains(b.appctl("bridge/dump-flows", b.bridge), "actions=NORMAL")
	})
	if got, err := b.sw.Ofctl(b.ctx, "-O", "OpenFlow14", "dump-flows", b.sw.Mgmt("plofbeh5s")); err != nil || !strings.Contains(got, "0xf00") {
		t.Errorf("the secure bridge lost its flow: %s, %v", got, err)
	}
}

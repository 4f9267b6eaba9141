package openflow

import (
	"context"
	"errors"
	"net"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/platelet-sdn/platelet/lab/ovs"
)

// datapathID reads a bridge's datapath ID from the database.
func datapathID(ctx context.Context, t testing.TB, sw *ovs.Instance, bridge string) uint64 {
	t.Helper()
	out, err := sw.Ctl(ctx, "--bare", "get", "bridge", bridge, "datapath_id")
	if err != nil {
		t.Fatal(err)
	}
	id, err := strconv.ParseUint(strings.Trim(out, `"`), 16, 64)
	if err != nil {
		t.Fatal(err)
	}
	return id
}

// Switches that dial us: each is handed out by its datapath ID, whatever the
// order in which they come, and again after it was lost.
func TestSwitchesDialUs(t *testing.T) {
	ctx, sw, _ := realSwitch(t, "plofla")
	if err := sw.AddBridge(ctx, "ploflb", "netdev"); err != nil {
		t.Fatal(err)
	}
	l, err := Dialer{}.Listen(ctx, "ptcp:0:[::1]", func(_ net.Addr, err error) { t.Errorf("refused: %v", err) })
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	bridges := []string{"plofla", "ploflb"}
	for _, b := range bridges {
		if _, err := sw.Ctl(ctx, "set-fail-mode", b, "secure", "--", "set", "bridge", b, "other-config:disable-in-band=true",
			"--", "set-controller", b, "tcp:"+l.Addr().String()); err != nil {
			t.Fatal(err)
		}
	}
	for range 2 { // the second time they dial again
		for _, b := range bridges {
			c, err := l.Dial(ctx, datapathID(ctx, t, sw, b))
			if err != nil {
				t.Fatal(err)
			}
			ports, err := c.Ports(ctx)
			if err != nil || len(ports) != 1 || ports[0].Name != b {
				t.Fatalf("asked for %s, got a switch with ports %v, %v", b, ports, err)
			}
			c.Close()
		}
	}
	short, cancel := context.WithTimeout(ctx, 50*time.Millisecond)
	defer cancel()
	if _, err := l.Dial(short, 99); !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "0000000000000063") {
		t.Fatalf("a switch that never comes: %v", err)
	}
}

// A connection that nobody claimed is replaced by the switch's next one, and
// goes with the listener; a claimed one stays.
func TestListenerKeepsTheNewest(t *testing.T) {
	settles(t)
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	l, err := Dialer{}.Listen(ctx, "ptcp:0:127.0.0.1", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	first, second, other := dialIn(t, l, 5), dialIn(t, l, 5), dialIn(t, l, 6)
	if _, err := readMessage(first.r, 0); err == nil {
		t.Fatal("the older connection of a switch stays")
	}
	c, err := l.Dial(ctx, 5)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if got := c.RemoteAddr().String(); got != second.LocalAddr().String() {
		t.Fatalf("got the connection from %s", got)
	}
	l.Close()
	if _, err := readMessage(other.r, 0); err == nil {
		t.Fatal("an unclaimed connection outlives the listener")
	}
	if c.Err() != nil {
		t.Fatalf("a claimed connection ends with the listener: %v", c.Err())
	}
	if _, err := l.Dial(ctx, 7); !errors.Is(err, net.ErrClosed) {
		t.Fatalf("waiting at a closed listener: %v", err)
	}
}

// dialIn is a switch that dials us, shakes hands and says no more.
func dialIn(t *testing.T, l *Listener, datapathID byte) *peer {
	t.Helper()
	nc, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { nc.Close() })
	p := newPeer(nc)
	if !p.shakeHands(datapathID) {
		t.Fatal("no handshake")
	}
	return p
}

// Who connects and says nothing, or too often, takes no place of others.
func TestListenerBoundsOneSource(t *testing.T) {
	settles(t)
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	refused := make(chan error, 3*maxFrom)
	l, err := Dialer{Timeout: 2 * time.Second}.Listen(ctx, "ptcp:0:0.0.0.0", func(_ net.Addr, err error) { refused <- err })
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	_, port, err := net.SplitHostPort(l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	for range 2 * maxFrom {
		nc, err := (&net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 2)}}).Dial("tcp", "127.0.0.1:"+port)
		if err != nil {
			t.Fatal(err)
		}
		defer nc.Close()
	}
	nc, err := net.Dial("tcp", "127.0.0.1:"+port)
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	if p := newPeer(nc); !p.shakeHands(9) {
		t.Fatal("another address finds no place")
	}
	c, err := l.Dial(ctx, 9)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	// Those beyond the bound at once, the silent ones by their deadline.
	busy := 0
	for range 2 * maxFrom {
		select {
		case err := <-refused:
			if errors.Is(err, errBusy) {
				busy++
			}
		case <-ctx.Done():
			t.Fatal("silent connections stay")
		}
	}
	if busy == 0 {
		t.Error("no connection was turned away")
	}
	nc, err = (&net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 2)}}).Dial("tcp", "127.0.0.1:"+port)
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	if p := newPeer(nc); !p.shakeHands(8) {
		t.Error("the address finds no place after its connections have ended")
	}
}

// Behaviour 3, the part with controllers: a bridge's first active controller,
// and the removal of its last one, flush every flow, everybody's, with groups
// and meters. A second one does not, and neither does a passive target.
func TestActiveControllersFlush(t *testing.T) {
	b := behave(t, "plofbeh3a")
	l, err := Dialer{}.Listen(b.ctx, "ptcp:0:127.0.0.1", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	b.ctl("set-fail-mode", b.bridge, "secure", "--", "set", "bridge", b.bridge, "other-config:disable-in-band=true")
	foreign := func() bool {
		return strings.Contains(b.flows(), "0xf00") && strings.Contains(b.ofctl("dump-meters"), "meter=9")
	}
	program := func() {
		t.Helper()
		b.ofctl("add-meter", "meter=9,pktps,bands=type=drop,rate=9")
		b.ofctl("add-flow", "cookie=0xf00,table=7,actions=drop")
		if !foreign() {
			t.Fatal("nothing to be flushed")
		}
	}
	program()
	active := "tcp:" + l.Addr().String()
	b.ctl("set-controller", b.bridge, "ptcp:0:127.0.0.1")
	if !foreign() {
		t.Fatal("a passive target flushes")
	}
	b.ctl("set-controller", b.bridge, "ptcp:0:127.0.0.1", active)
	b.eventually("the first active controller to flush", func() bool {
		return !strings.Contains(b.flows(), "0xf00") && !strings.Contains(b.ofctl("dump-meters"), "meter=9")
	})
	c, err := l.Dial(b.ctx, datapathID(b.ctx, t, b.sw, b.bridge))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	program()
	b.ctl("set-controller", b.bridge, active, "tcp:127.0.0.1:9")
	if !foreign() {
		t.Fatal("a second active controller flushes")
	}
	b.ctl("del-controller", b.bridge)
	b.eventually("the removal of the last controller to flush", func() bool { return !strings.Contains(b.flows(), "0xf00") })
	<-c.Done()
}

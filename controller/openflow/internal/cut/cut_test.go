package cut_test

import (
	"bytes"
	"context"
	"io"
	"net"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/platelet-sdn/platelet/controller/openflow/internal/cut"
)

// message is an OpenFlow echo request with a body of n bytes.
func message(n int) []byte {
	return append([]byte{5, 2, 0, byte(8 + n), 0, 0, 0, 9}, bytes.Repeat([]byte{7}, n)...)
}

// A switch behind the proxy gets what is before the fault, and sees the end
// of the connection; Settled tells when.
func TestFaults(t *testing.T) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	dir := t.TempDir()
	l, err := net.Listen("unix", filepath.Join(dir, "switch"))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	got := make(chan []byte, 1) // all that the switch was sent on one connection
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			b, _ := io.ReadAll(c)
			c.Close()
			got <- b
		}
	}()
	p, err := cut.Listen(filepath.Join(dir, "proxy"), filepath.Join(dir, "switch"))
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	for _, c := range []struct {
		kind cut.Kind
		want int // bytes of the 40 sent
	}{{cut.Before, 20}, {cut.Inside, 25}, {cut.Stall, 20}, {cut.Pass, 40}} {
		var did atomic.Int32
		p.Arm(cut.Fault{Direction: cut.ToSwitch, Message: 3, Kind: c.kind, Do: func() { did.Add(1) }})
		nc, err := net.Dial("unix", filepath.Join(dir, "proxy"))
		if err != nil {
			t.Fatal(err)
		}
		for _, n := range []int{0, 4, 2, 2} { // 8, 12, 10 and 10 bytes
			_, _ = nc.Write(message(n)) // the proxy may be gone
		}
		<-p.Hit()
		if c.kind == cut.Before || c.kind == cut.Inside {
			if b, _ := io.ReadAll(nc); len(b) > 0 { // until the end, or the reset
				t.Errorf("%v: the controller reads %x", c.kind, b)
			}
		}
		nc.Close()
		if b := <-got; len(b) != c.want || did.Load() != 1 {
			t.Errorf("%v: the switch got %d bytes, want %d; done %d times", c.kind, len(b), c.want, did.Load())
		}
		if err := p.Settled(ctx); err != nil {
			t.Error(err)
		}
		if p.Disarm() {
			t.Errorf("%v: it has come, and can still be taken back", c.kind)
		}
	}
	p.Arm(cut.Fault{Direction: cut.ToSwitch, Message: 1, Kind: cut.Before})
	if !p.Disarm() {
		t.Error("a fault whose message has not come cannot be taken back")
	}
	nc, err := net.Dial("unix", filepath.Join(dir, "proxy"))
	if err != nil {
		t.Fatal(err)
	}
	_, _ = nc.Write(message(0))
	nc.Close()
	if b := <-got; len(b) != 8 {
		t.Errorf("after a fault that was taken back the switch got %d bytes of 8", len(b))
	}
}

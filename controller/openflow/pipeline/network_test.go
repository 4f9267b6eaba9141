package pipeline_test

import (
	"context"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/platelet-sdn/platelet/controller/openflow"
	"github.com/platelet-sdn/platelet/controller/openflow/pipeline"
	"github.com/platelet-sdn/platelet/segmentation"
)

// A bridge that is reached over the network is looked after as one at its
// management socket: after a crash of the switch its rules come back, after a
// hang it is connected again.
func TestNetworkedBridgeRecovers(t *testing.T) {
	for name, reach := range map[string]func(*lab) func(*pipeline.Config){
		"it listens": func(l *lab) func(*pipeline.Config) {
			l.ctl("set-controller", l.bridge, "ptcp:16653:127.0.0.1")
			return func(c *pipeline.Config) { c.Target = "tcp:127.0.0.1:16653" }
		},
		"it dials us": func(l *lab) func(*pipeline.Config) {
			listener, err := openflow.Dialer{Keepalive: 500 * time.Millisecond}.Listen(l.ctx, "ptcp:0:127.0.0.1", nil)
			if err != nil {
				l.t.Fatal(err)
			}
			l.t.Cleanup(func() { listener.Close() })
			l.ctl("set-fail-mode", l.bridge, "secure", "--", "set", "bridge", l.bridge, "other-config:disable-in-band=true",
				"--", "set-controller", l.bridge, "tcp:"+listener.Addr().String())
			id, err := strconv.ParseUint(strings.Trim(l.ctl("get", "bridge", l.bridge, "datapath_id"), `"`), 16, 64)
			if err != nil {
				l.t.Fatal(err)
			}
			return func(c *pipeline.Config) {
				c.Target = "ptcp:"
				c.Dial = func(ctx context.Context) (*openflow.Conn, error) { return listener.Dial(ctx, id) }
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			l := newLab(t, "nw", 2)
			b := l.start(reach(l), func(c *pipeline.Config) { c.Dialer.Keepalive = 500 * time.Millisecond })
			if _, err := b.Apply(l.ctx, "d-1", []segmentation.Intent{l.deny("d-1/0", 0)}); err != nil {
				t.Fatal(err)
			}
			want := l.ours()
			if err := l.sw.PauseSwitch(); err != nil {
				t.Fatal(err)
			}
			l.eventually("the hang to be noticed", func() bool { return !b.Connected() })
			if err := l.sw.ResumeSwitch(); err != nil {
				t.Fatal(err)
			}
			l.eventually("the bridge to be connected again", b.Connected)
			if n := l.ours(); n != want {
				t.Errorf("%d rules of ours after the hang, want %d", n, want)
			}
			if err := l.sw.KillSwitch(); err != nil {
				t.Fatal(err)
			}
			l.eventually("the loss to be noticed", func() bool { return !b.Connected() })
			if err := l.sw.StartSwitch(l.ctx); err != nil {
				t.Fatal(err)
			}
			took := l.eventually("the rules to be back", func() bool { return b.Connected() && l.ours() == want })
			t.Logf("everything back %v after the switch's first answer", took)
		})
	}
}

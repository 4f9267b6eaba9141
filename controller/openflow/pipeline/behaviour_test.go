package pipeline_test

import (
	"os/exec"
	"strings"
	"testing"
)

// Behaviour 14: a veth that is made anew under a port row that survived looks
// healthy and forwards nothing, until the port is deleted in a transaction of
// its own and added again. A rule that names it must not be taken for one
// that works meanwhile.
func TestRecreatedVethForwardsNothing(t *testing.T) {
	l := newLab(t, "bv", 2)
	// From the new host: the other one would ask for the old MAC for a while.
	ping := func() error {
		return exec.CommandContext(l.ctx, "ip", "netns", "exec", l.hosts[1], "ping", "-c1", "-W1", l.addr(0).String()).Run()
	}
	l.eventually("a ping", func() bool { return ping() == nil })
	if out, err := exec.Command("ip", "netns", "del", l.hosts[1]).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	l.eventually("the veth to go", func() bool { return exec.Command("ip", "link", "show", l.hosts[1]).Run() != nil })
	l.plug(1)
	l.eventually("the port to look healthy", func() bool {
		return strings.TrimSpace(l.ctl("get", "Interface", l.hosts[1], "error", "link_state")) == "[]\nup"
	})
	if err := ping(); err == nil {
		t.Skip("this Open vSwitch notices the new veth by itself")
	}
	l.ctl("del-port", l.hosts[1])
	l.ctl("add-port", l.bridge, l.hosts[1])
	l.eventually("a ping through the port added again", func() bool { return ping() == nil })
}

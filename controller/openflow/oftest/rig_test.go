package oftest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"testing"
	"time"

	of "github.com/platelet-sdn/platelet/controller/openflow"
	"github.com/platelet-sdn/platelet/lab/ovs"
)

func TestMain(m *testing.M) { os.Exit(ovs.Isolate(m.Run)) }

// ports are those of every bridge here.
var ports = []uint32{1, 2, 3, 4}

const bridge = "vs0"

// rig is a real Open vSwitch with one bridge, on the userspace datapath, with
// ports that are files and a clock that the test turns.
type rig struct {
	t    testing.TB
	ctx  context.Context
	sw   *ovs.Instance
	conn *of.Conn
	ctl  *unixctl
}

func newRig(t testing.TB) *rig {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Minute)
	t.Cleanup(cancel)
	dir, err := os.MkdirTemp("", "pl") // t.TempDir is too long for sockets
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	sw, err := ovs.Start(ctx, dir, "--enable-dummy", "--disable-system")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := sw.Stop(); err != nil {
			t.Error(err)
		}
	})
	// Two tags, as the virtual switch parses them.
	args := []string{"set", "Open_vSwitch", ".", "other_config:vlan-limit=2", "--", "add-br", bridge, "--", "set", "bridge", bridge, "datapath_type=dummy", "fail_mode=secure"}
	for _, p := range ports {
		name := fmt.Sprintf("p%d", p)
		args = append(args, "--", "add-port", bridge, name, "--", "set", "interface", name, "type=dummy",
			fmt.Sprintf("ofport_request=%d", p), "options:tx_pcap="+dir+"/"+name+".pcap")
	}
	if _, err := sw.Ctl(ctx, args...); err != nil {
		t.Fatal(err)
	}
	r := &rig{t: t, ctx: ctx, sw: sw, ctl: dialUnixctl(t, sw.Unixctl())}
	r.dial()
	t.Cleanup(func() { r.conn.Close() })
	return r
}

// dial connects anew: a switch whose clock leaps ends its connections.
func (r *rig) dial() {
	r.t.Helper()
	if r.conn != nil {
		r.conn.Close()
	}
	var err error
	if r.conn, err = of.Dial(r.ctx, "unix:"+r.sw.Mgmt(bridge)); err != nil {
		r.t.Fatal(err)
	}
}

// unixctl is a connection to ovs-vswitchd's control socket, JSON-RPC without
// the process that ovs-appctl would be.
type unixctl struct {
	conn net.Conn
	in   *json.Decoder
}

func dialUnixctl(t testing.TB, path string) *unixctl {
	t.Helper()
	conn, err := net.Dial("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return &unixctl{conn: conn, in: json.NewDecoder(conn)}
}

func (u *unixctl) call(method string, params ...string) (string, error) {
	if params == nil {
		params = []string{}
	}
	if err := u.conn.SetDeadline(time.Now().Add(time.Minute)); err != nil {
		return "", err
	}
	if err := json.NewEncoder(u.conn).Encode(map[string]any{"id": 0, "method": method, "params": params}); err != nil {
		return "", err
	}
	var reply struct{ Result, Error *string }
	if err := u.in.Decode(&reply); err != nil {
		return "", err
	}
	if reply.Error != nil {
		return "", fmt.Errorf("%s %v: %s", method, params, *reply.Error)
	}
	return *reply.Result, nil
}

func (r *rig) must(method string, params ...string) string {
	r.t.Helper()
	out, err := r.ctl.call(method, params...)
	if err != nil {
		r.t.Fatal(err)
	}
	return out
}

// program puts flows, and no others, on both switches, and changes groups. It returns what
// both refuse; that they do not agree is an error.
func (r *rig) program(v *Switch, flows []of.Flow, groups ...of.GroupMod) (refused, err error) {
	tx := of.Tx{Groups: groups, Flows: []of.FlowMod{{Command: of.Delete, Flow: of.Flow{Table: of.TableAll}}}}
	for _, f := range flows {
		tx.Flows = append(tx.Flows, of.FlowMod{Flow: f})
	}
	return r.commit(v, tx)
}

// commit carries out a transaction on both switches. Of several members that
// it refuses the real one may name a later one first.
func (r *rig) commit(v *Switch, tx of.Tx) (refused, err error) {
	real, virtual := r.conn.Commit(r.ctx, tx), v.Apply(tx)
	alone := len(tx.Flows) == 1
	if (real == nil) != (virtual == nil) || alone && refusal(real) != refusal(virtual) {
		return nil, fmt.Errorf("the real switch says %w, the virtual one %w", real, virtual)
	}
	return real, nil
}

// refusal returns the first member that a transaction failed at, and the
// switch's error.
func refusal(err error) string {
	if err == nil {
		return ""
	}
	var tx *of.TxError
	if !errors.As(err, &tx) || len(tx.Members) == 0 {
		return err.Error()
	}
	m := tx.Members[0]
	return fmt.Sprintf("%s %d: %v", m.Member, m.Index, m.Err)
}

// eventually waits until try has nothing to say against it.
func (r *rig) eventually(try func() error) error {
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(time.Millisecond) {
		if err := try(); err == nil || time.Now().After(deadline) {
			return err
		}
	}
}

package openflow

import (
	"strings"
	"testing"
)

// What somebody else changes behind a transaction shows when it is read back.
func TestReadBack(t *testing.T) {
	ctx, sw, _ := realSwitch(t, "plofr")
	r := newFaultRig(ctx, t, sw, "plofr0")
	read := func(tx Tx) []string {
		t.Helper()
		got, err := r.conn.ReadBack(ctx, tx)
		if err != nil {
			t.Fatal(err)
		}
		var out []string
		for _, d := range got.Differences {
			out = append(out, d.String())
		}
		if adds := len(tx.Flows) - 1; len(out) == 0 && len(got.Flows) != adds {
			t.Errorf("%d flows read back, not %d", len(got.Flows), adds)
		}
		return out
	}
	r.reset()
	if before := read(faultTx()); len(before) < 8 {
		t.Errorf("nothing is done, and only this differs:\n%s", strings.Join(before, "\n"))
	}
	if err := r.conn.Commit(ctx, faultTx()); err != nil {
		t.Fatal(err)
	}
	if after := read(faultTx()); len(after) != 0 {
		t.Errorf("after the transaction:\n%s", strings.Join(after, "\n"))
	}
	r.ofctl("del-flows", "--strict", "table=9,in_port=1,priority=14")
	if got := read(faultTx()); len(got) != 1 || !strings.HasPrefix(got[0], "flow missing: cookie=0x504c010100000000,table=9,priority=14,in_port=1") {
		t.Errorf("a flow is gone: %q", got)
	}
	for _, c := range []struct{ command, arg, want string }{
		{"mod-flows", "table=9,cookie=0x504c010100000000/-1,in_port=1,actions=drop", "is cookie"},
		{"add-flow", "table=9,cookie=0x504c010100000000,priority=11,in_port=1,actions=drop", "flow still there"},
		{"mod-group", "group_id=102,type=all,bucket=actions=ALL", "group group_id=102"},
		{"add-group", "group_id=101,type=all", "group still there: group_id=101"},
		{"mod-meter", "meter=102,kbps,burst,bands=type=drop,rate=13,burst_size=12", "meter meter=102"},
		{"add-meter", "meter=101,kbps,bands=type=drop,rate=13", "meter still there: meter=101"},
	} {
		r.ofctl(c.command, c.arg)
		if got := strings.Join(read(faultTx()), "\n"); !strings.Contains(got, c.want) {
			t.Errorf("%s %s: read back\n%s", c.command, c.arg, got)
		}
	}
	all := Tx{Flows: []FlowMod{{Command: Delete, CookieMask: ^uint64(0), Flow: Flow{Table: TableAll, Cookie: faultCookie}}}}
	if got := read(all); len(got) < 5 || !strings.Contains(got[0], "still there") {
		t.Errorf("what was not deleted: %q", got)
	}
	r.reset()
	if err := r.conn.Commit(ctx, faultTx()); err != nil {
		t.Fatal(err)
	}
	if err := r.conn.Commit(ctx, all); err != nil {
		t.Fatal(err)
	}
	if got := read(all); len(got) != 0 {
		t.Errorf("what was deleted: %q", got)
	}
	if got := read(faultTx()); len(got) != 4 || !strings.Contains(got[0], "flow missing") {
		t.Errorf("what was lost: %q", got)
	}
}

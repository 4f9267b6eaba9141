package openflow

import (
	"context"
	"encoding/binary"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	goovs "github.com/digitalocean/go-openvswitch/ovs"

	"github.com/platelet-sdn/platelet/lab/ovs"
)

func benchFlow(i int) Flow {
	var a [4]byte
	binary.BigEndian.PutUint32(a[:], 10<<24|uint32(i))
	return Flow{
		Table: 201, Priority: 1000, Cookie: 0x504c_0103_0000_0000 | uint64(i),
		Match: Match{EthType(0x0800), IPProto(6), IPSrc(netip.PrefixFrom(netip.AddrFrom4(a), 32)), TCPDst(443)},
	}
}

// BenchmarkCommit installs N new flows in one atomic bundle, from call to
// barrier, alone and read back, beside the two usual ways: ovs-ofctl --bundle
// add-flows, and go-openvswitch's AddFlowBundle. Every round lets each of them
// do it once, in turn, so that all see the same machine; the switch is emptied
// in between, not on the clock. A ratio is that of the medians: how many times
// as long a peer takes as Commit.
//
// Median and 99th percentile in ms of 20 rounds, OVS 3.1 userspace datapath, 2
// idle cores; the budgets are 1 ms for one rule and 150 ms for 10,000:
//
//	N       Commit       and read back  ovs-ofctl  AddFlowBundle
//	1       0.27 / 0.36  0.31 / 0.44    15 / 19    14 / 18
//	100     0.73 / 1.0   1.1 / 1.7      15 / 16    15 / 15
//	1,000   5.0 / 7.5    7.0 / 8.8      20 / 26    23 / 30
//	10,000  53 / 76      93 / 109       109 / 124  126 / 161
func BenchmarkCommit(b *testing.B) {
	ctx, sw, target := realSwitch(b, "plofx")
	c, err := Dial(ctx, target)
	if err != nil {
		b.Fatal(err)
	}
	defer c.Close()
	for _, n := range []int{1, 100, 1000, 10000} {
		mods := make([]FlowMod, n)
		for i := range mods {
			mods[i] = FlowMod{Flow: benchFlow(i)}
		}
		tx := Tx{Flows: mods}
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			turns(ctx, b, c, []way{
				{"commit", func() error { return c.Commit(ctx, tx) }},
				{"readback", func() error { return commitAndRead(ctx, c, tx) }},
				{"ofctl", ofctlBundle(ctx, b, sw, "plofx", mods)},
				{"goovs", goBundle(sw, "plofx", mods)},
			})
		})
	}
}

func commitAndRead(ctx context.Context, c *Conn, tx Tx) error {
	if err := c.Commit(ctx, tx); err != nil {
		return err
	}
	r, err := c.ReadBack(ctx, tx)
	if err == nil && (len(r.Differences) > 0 || len(r.Flows) != len(tx.Flows)) {
		err = fmt.Errorf("%d flows and %d differences read back", len(r.Flows), len(r.Differences))
	}
	return err
}

// way is one way of installing flows.
type way struct {
	name string
	add  func() error
}

// turns lets every way have its turn, and reports median and 99th percentile
// in ms, and the ratio of its median to the first one's.
func turns(ctx context.Context, b *testing.B, c *Conn, ways []way) {
	clear := Tx{Flows: []FlowMod{{Command: Delete, Flow: Flow{Table: 201}}}}
	took := make([][]time.Duration, len(ways))
	for b.Loop() {
		for i, w := range ways {
			if err := c.Commit(ctx, clear); err != nil {
				b.Fatal(err)
			}
			start := time.Now()
			if err := w.add(); err != nil {
				b.Fatalf("%s: %v", w.name, err)
			}
			took[i] = append(took[i], time.Since(start))
		}
	}
	at := func(i int, q float64) float64 { return took[i][int(q*float64(len(took[i])-1))].Seconds() * 1e3 }
	b.ReportMetric(0, "ns/op") // of all ways together: says nothing
	for i, w := range ways {
		slices.Sort(took[i])
		b.ReportMetric(at(i, 0.5), w.name+"-p50-ms")
		b.ReportMetric(at(i, 0.99), w.name+"-p99-ms")
		if i > 0 {
			b.ReportMetric(at(i, 0.5)/at(0, 0.5), w.name+"-ratio")
		}
	}
}

func ofctlBundle(ctx context.Context, b *testing.B, sw *ovs.Instance, bridge string, mods []FlowMod) func() error {
	var text strings.Builder
	for i := range mods {
		text.WriteString(mods[i].Flow.String() + "\n")
	}
	file := filepath.Join(b.TempDir(), "flows")
	if err := os.WriteFile(file, []byte(text.String()), 0o600); err != nil {
		b.Fatal(err)
	}
	return func() error {
		_, err := sw.Ofctl(ctx, "-O", "OpenFlow14", "--bundle", "add-flows", sw.Mgmt(bridge), file)
		return err
	}
}

func goBundle(sw *ovs.Instance, bridge string, mods []FlowMod) func() error {
	client := goovs.New(goovs.Protocols([]string{goovs.ProtocolOpenFlow14}))
	flows := make([]*goovs.Flow, len(mods))
	for i := range mods {
		m := &mods[i]
		src := netip.AddrFrom4([4]byte(m.Match[2].value[:4]))
		flows[i] = &goovs.Flow{
			Priority: int(m.Priority), Protocol: goovs.ProtocolTCPv4, Table: int(m.Table), Cookie: m.Cookie,
			Matches: []goovs.Match{goovs.NetworkSource(src.String()), goovs.TransportDestinationPort(443)},
			Actions: []goovs.Action{goovs.Drop()},
		}
	}
	return func() error {
		return client.OpenFlow.AddFlowBundle(sw.Mgmt(bridge), func(tx *goovs.FlowTransaction) error {
			tx.Add(flows...)
			return tx.Commit()
		})
	}
}

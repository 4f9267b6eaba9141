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
// barrier, beside the two usual ways: ovs-ofctl --bundle add-flows, and
// go-openvswitch's AddFlowBundle. The switch is emptied between rounds, not
// on the clock.
//
// Median and 99th percentile in ms of 20 rounds each, all three in one run,
// OVS 3.1 userspace datapath, 2 cores shared with other work (load average
// 5.5; the last row again at 3.8):
//
//	N       Commit         ovs-ofctl      AddFlowBundle
//	1       0.23 / 0.54    26 / 34        24 / 28
//	100     0.89 / 2.1     27 / 146       30 / 100
//	10,000  123 / 366      188 / 240      296 / 555
//	10,000  72 / 126       159 / 275      174 / 266
func BenchmarkCommit(b *testing.B) {
	ctx, sw, target := realSwitch(b, "plofx")
	c, err := Dial(ctx, target)
	if err != nil {
		b.Fatal(err)
	}
	defer c.Close()
	clear := Tx{Flows: []FlowMod{{Command: Delete, Flow: Flow{Table: 201}}}}
	for _, n := range []int{1, 100, 10000} {
		mods := make([]FlowMod, n)
		for i := range mods {
			mods[i] = FlowMod{Flow: benchFlow(i)}
		}
		for name, add := range map[string]func() error{
			"platelet":       func() error { return c.Commit(ctx, Tx{Flows: mods}) },
			"ovs-ofctl":      ofctlBundle(ctx, b, sw, "plofx", mods),
			"go-openvswitch": goBundle(sw, "plofx", mods),
		} {
			b.Run(fmt.Sprintf("%s/%d", name, n), func(b *testing.B) { measure(ctx, b, c, clear, add) })
		}
	}
}

// measure reports the median and the 99th percentile, in ms.
func measure(ctx context.Context, b *testing.B, c *Conn, clear Tx, add func() error) {
	var took []time.Duration
	for b.Loop() {
		b.StopTimer()
		if err := c.Commit(ctx, clear); err != nil {
			b.Fatal(err)
		}
		b.StartTimer()
		start := time.Now()
		if err := add(); err != nil {
			b.Fatal(err)
		}
		took = append(took, time.Since(start))
	}
	slices.Sort(took)
	ms := func(q float64) float64 { return took[int(q*float64(len(took)-1))].Seconds() * 1e3 }
	b.ReportMetric(ms(0.5), "p50-ms")
	b.ReportMetric(ms(0.99), "p99-ms")
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

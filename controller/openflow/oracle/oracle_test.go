package oracle

import (
	"bytes"
	"context"
	"encoding/binary"
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/skydive-project/goloxi/of14"
	"pgregory.net/rapid"

	"github.com/platelet-sdn/platelet/controller/openflow"
	"github.com/platelet-sdn/platelet/lab/ovs"
)

func TestMain(m *testing.M) { os.Exit(ovs.Isolate(m.Run)) }

// listener stands between our client and the switch and keeps what the switch
// says.
type listener struct {
	mu   sync.Mutex
	said bytes.Buffer
}

func (l *listener) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.said.Write(b)
}

// serve forwards one connection.
func (l *listener) serve(ctx context.Context, path, target string) error {
	at, err := net.Listen("unix", path)
	if err != nil {
		return err
	}
	go func() {
		defer at.Close()
		client, err := at.Accept()
		if err != nil {
			return
		}
		defer client.Close()
		sw, err := (&net.Dialer{}).DialContext(ctx, "unix", target)
		if err != nil {
			return
		}
		defer sw.Close()
		go io.Copy(sw, client)
		io.Copy(client, io.TeeReader(sw, l))
	}()
	return nil
}

// flows takes what the switch has said and returns the flow statistics in it,
// as goloxi reads them.
func (l *listener) flows(t rapid.TB) (out []openflow.Flow) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for b := l.said.Bytes(); len(b) >= 8; {
		n := binary.BigEndian.Uint16(b[2:])
		message := b[:n]
		b = b[n:]
		const multipartReply, flowStats = 19, 1
		if message[1] != multipartReply || binary.BigEndian.Uint16(message[8:]) != flowStats {
			continue
		}
		m, err := of14.DecodeMessage(message)
		if err != nil {
			t.Fatalf("goloxi: %v", err)
		}
		for _, e := range m.(*of14.FlowStatsReply).Entries {
			f, err := flowOf(e)
			if err != nil {
				t.Fatalf("goloxi reads %v", err)
			}
			out = append(out, f)
		}
	}
	l.said.Reset()
	return out
}

// What we write to a switch, goloxi reads from it.
func TestGoloxiReadsWhatWeWrite(t *testing.T) {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	dir, err := os.MkdirTemp("", "pl")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	sw, err := ovs.Start(ctx, dir)
	if err != nil {
		t.Fatal(err)
	}
	defer sw.Stop()
	if err := sw.AddBridge(ctx, "ploracle", "netdev"); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{{"add-group", "group_id=9,type=all"}, {"add-meter", "meter=3,kbps,bands=type=drop,rate=9"}} {
		if _, err := sw.Ofctl(ctx, "-O", "OpenFlow14", args[0], sw.Mgmt("ploracle"), args[1]); err != nil {
			t.Fatal(err)
		}
	}
	l, path := &listener{}, filepath.Join(dir, "between")
	if err := l.serve(ctx, path, sw.Mgmt("ploracle")); err != nil {
		t.Fatal(err)
	}
	c, err := openflow.Dial(ctx, "unix:"+path)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	rapid.Check(t, func(t *rapid.T) {
		tx := openflow.Tx{Flows: []openflow.FlowMod{{Command: openflow.Delete, Flow: openflow.Flow{Table: openflow.TableAll}}}}
		want := map[openflow.FlowKey]*openflow.Flow{}
		for range rapid.IntRange(1, 20).Draw(t, "flows") {
			f := drawFlow(t)
			if f.Validate() != nil {
				continue
			}
			tx.Flows = append(tx.Flows, openflow.FlowMod{Flow: f})
			want[f.Key()] = &f
		}
		if err := c.Commit(ctx, tx); err != nil {
			t.Fatal(err)
		}
		l.flows(t) // what came before
		if _, err := c.Flows(ctx, openflow.FlowFilter{Table: openflow.TableAll}); err != nil {
			t.Fatal(err)
		}
		got := l.flows(t)
		if len(got) != len(want) {
			t.Errorf("%d flows, not %d", len(got), len(want))
		}
		for i := range got {
			g := &got[i]
			w := want[g.Key()]
			if w == nil || g.Cookie != w.Cookie || g.IdleTimeout != w.IdleTimeout || g.HardTimeout != w.HardTimeout ||
				g.Flags != w.Flags || g.Importance != w.Importance || g.Instructions.Key() != w.Instructions.Key() {
				t.Errorf("goloxi reads %s\nwe wrote     %v", g, w)
			}
		}
	})
}

func drawFlow(t *rapid.T) openflow.Flow {
	f := openflow.Flow{
		Table: 1, Priority: rapid.Uint16().Draw(t, "priority"), Cookie: rapid.Uint64().Draw(t, "cookie"),
		IdleTimeout: rapid.Uint16().Draw(t, "idle"), HardTimeout: rapid.Uint16().Draw(t, "hard"), Importance: rapid.Uint16().Draw(t, "importance"),
		Flags: rapid.SampledFrom([]uint16{0, openflow.FlagSendFlowRemoved, openflow.FlagNoByteCounts | openflow.FlagNoPacketCounts}).Draw(t, "flags"),
		Match: append(drawPacket(t), drawMetadata(t)...),
	}
	f.Meter = rapid.SampledFrom([]uint32{0, 3}).Draw(t, "meter")
	f.Actions = rapid.SliceOfN(rapid.Custom(drawAction), 0, 4).Draw(t, "actions")
	f.ClearActions = rapid.Bool().Draw(t, "clear")
	f.Metadata, f.MetadataMask = rapid.Uint64().Draw(t, "metadata"), rapid.Uint64().Draw(t, "metadata mask")
	if f.MetadataMask == 0 {
		f.Metadata = 0
	}
	if f.HasGoto = rapid.Bool().Draw(t, "has goto"); f.HasGoto {
		f.Goto = rapid.Uint8Range(2, 254).Draw(t, "goto")
	}
	return f
}

func drawMetadata(t *rapid.T) (m openflow.Match) {
	all := []openflow.OXM{
		openflow.InPort(rapid.Uint32Range(1, 0xfeff).Draw(t, "port")),
		openflow.Metadata(rapid.Uint64().Draw(t, "matched metadata"), rapid.Uint64().Draw(t, "metadata bits")),
		openflow.TunID(rapid.Uint64().Draw(t, "tunnel"), rapid.Uint64().Draw(t, "tunnel bits")),
		openflow.Reg(rapid.IntRange(0, 15).Draw(t, "reg"), rapid.Uint32().Draw(t, "reg value"), rapid.Uint32().Draw(t, "reg bits")),
		openflow.CTState(openflow.CTTracked|openflow.CTEstablished, openflow.CTTracked|openflow.CTEstablished|openflow.CTInvalid),
		openflow.CTZone(rapid.Uint16().Draw(t, "zone")),
		openflow.CTMark(rapid.Uint32().Draw(t, "mark"), rapid.Uint32().Draw(t, "mark bits")),
		openflow.EthSrc([6]byte(rapid.SliceOfN(rapid.Byte(), 6, 6).Draw(t, "source"))).WithMask(rapid.Uint64Range(0, 1<<48-1).Draw(t, "source bits")),
		openflow.EthDst([6]byte(rapid.SliceOfN(rapid.Byte(), 6, 6).Draw(t, "destination"))),
		rapid.SampledFrom([]openflow.OXM{openflow.VLAN(7), openflow.Tagged(), openflow.Untagged()}).Draw(t, "tag"),
	}
	for _, o := range all {
		if rapid.IntRange(0, 3).Draw(t, "take") == 0 {
			m = append(m, o)
		}
	}
	return m
}

func drawPacket(t *rapid.T) openflow.Match {
	port, mask := rapid.Uint16().Draw(t, "transport port"), uint64(rapid.Uint16().Draw(t, "port bits"))
	four := func(name string) netip.Addr {
		return netip.AddrFrom4([4]byte(rapid.SliceOfN(rapid.Byte(), 4, 4).Draw(t, name)))
	}
	six := func(name string) netip.Addr {
		return netip.AddrFrom16([16]byte(rapid.SliceOfN(rapid.Byte(), 16, 16).Draw(t, name)))
	}
	ip := openflow.Match{openflow.EthType(0x0800), openflow.IPSrcMasked(four("src"), four("src bits")), openflow.IPDstMasked(four("dst"), four("dst bits"))}
	if rapid.Bool().Draw(t, "ipv6") {
		ip = openflow.Match{openflow.EthType(0x86dd), openflow.IPSrcMasked(six("src"), six("src bits")), openflow.IPDstMasked(six("dst"), six("dst bits"))}
	}
	with := func(o ...openflow.OXM) openflow.Match { return append(ip[:len(ip):len(ip)], o...) }
	choices := []openflow.Match{
		nil, ip, with(openflow.IPDSCP(rapid.Uint8Range(0, 63).Draw(t, "dscp")), openflow.IPECN(rapid.Uint8Range(0, 3).Draw(t, "ecn"))),
		with(openflow.IPProto(6), openflow.TCPSrc(port), openflow.TCPDst(port).WithMask(mask), openflow.TCPFlags(port&0xfff, uint16(mask))),
		with(openflow.IPProto(17), openflow.UDPSrc(port).WithMask(mask), openflow.UDPDst(port)),
		with(openflow.IPProto(132), openflow.SCTPSrc(port), openflow.SCTPDst(port)),
		with(openflow.IPProto(1), openflow.ICMPType(uint8(port)), openflow.ICMPCode(uint8(mask))),
		with(openflow.IPProto(58), openflow.ICMPv6Type(uint8(port)), openflow.ICMPv6Code(uint8(mask))),
		{openflow.EthType(0x0806), openflow.ARPOp(port & 0xff), openflow.ARPSPA(netip.PrefixFrom(four("spa"), 32)), openflow.ARPTPA(netip.PrefixFrom(four("tpa"), 32))},
		{openflow.EthType(0x86dd), openflow.IPProto(58), openflow.ICMPv6Type(135), openflow.NDTarget(six("target"))},
		{openflow.EthType(rapid.Uint16Range(0x600, 0xffff).Draw(t, "type"))},
	}
	return rapid.SampledFrom(choices).Draw(t, "packet")
}

func drawAction(t *rapid.T) openflow.Action {
	n, bits := rapid.IntRange(0, 15).Draw(t, "n"), rapid.IntRange(1, 32).Draw(t, "bits")
	return rapid.SampledFrom([]openflow.Action{
		openflow.Output{Port: uint32(n) + 1}, openflow.Output{Port: openflow.PortController, MaxLen: uint16(n)}, openflow.ToGroup{ID: 9},
		openflow.PushVLAN{EtherType: 0x8100}, openflow.PopVLAN{}, openflow.DecTTL{}, openflow.SetQueue{ID: uint32(n)},
		openflow.SetField{Field: openflow.EthSrc([6]byte{2, 5: byte(n)})}, openflow.SetField{Field: openflow.Reg(n, uint32(bits), ^uint32(0))},
		openflow.SetField{Field: openflow.TCPDst(uint16(bits))}, openflow.Resubmit{Table: uint8(n)}, openflow.Resubmit{InPort: uint16(n) + 1, Table: 5},
		openflow.Load{Dst: openflow.RegBits(n, 32-bits, bits), Value: 1}, openflow.Controller{MaxLen: uint16(bits), ID: uint16(n), Reason: openflow.ReasonAction},
		openflow.Sample{Probability: uint16(n) + 1, CollectorSet: 5, Domain: 6, Point: uint32(bits)}, openflow.CTClear{},
		openflow.Conntrack{Commit: true, Force: n&1 != 0, Zone: uint16(n)}, openflow.Conntrack{Recirc: true, Table: uint8(n), Zone: uint16(bits)},
	}).Draw(t, "action")
}

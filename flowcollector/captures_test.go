package flowcollector_test

import (
	"net/netip"
	"testing"

	"github.com/platelet-sdn/platelet/flowcollector/flow"
	"github.com/platelet-sdn/platelet/flowcollector/netflow"
	"github.com/platelet-sdn/platelet/flowcollector/sflow"
)

func TestSFlowSequenceLoss(t *testing.T) {
	for _, tt := range []struct {
		name string
		want uint64
	}{
		{"ovs-sflow-s1-p5.pcap", 0},
		// Without a listener every second datagram died on the exporter's
		// socket: 238 arrived, so 237 are known to be missing.
		{"ovs-sflow-nolistener.pcap", 237},
	} {
		d := sflow.NewDecoder(sflow.Config{})
		sflowRecords(t, d, tt.name)
		if got := d.Counts().Lost; got != tt.want {
			t.Errorf("%s: %d datagrams lost, want %d", tt.name, got, tt.want)
		}
	}
}

func TestSFlowDropsAreVisible(t *testing.T) {
	var dropped, forwarded int
	d := sflow.NewDecoder(sflow.Config{})
	for _, r := range sflowRecords(t, d, "ovs-sflow-drop.pcap") {
		switch {
		case r.Proto == flow.ProtoUDP && r.DstPort == 7777 && r.Verdict == flow.VerdictDropped:
			dropped++
		case r.Proto == flow.ProtoUDP && r.DstPort == 7778 && r.Verdict == flow.VerdictForwarded:
			forwarded++
		case r.Proto == flow.ProtoUDP && (r.DstPort == 7777 || r.DstPort == 7778):
			t.Errorf("wrong verdict: %+v", r)
		}
	}
	if dropped != 10 || forwarded != 10 {
		t.Errorf("%d dropped, %d forwarded, want 10 and 10", dropped, forwarded)
	}
}

func TestSFlowCountersMapPorts(t *testing.T) {
	type port struct {
		openflow uint32
		name     string
	}
	got := map[uint32]port{}
	d := sflow.NewDecoder(sflow.Config{Counters: func(c *sflow.Counters) {
		if c.SourceType != 0 {
			return // the bridge as a whole, which is no interface
		}
		if !c.HasOpenFlow || !c.HasInterface || c.DatapathID == 0 {
			t.Errorf("incomplete counter sample: %+v", c)
		}
		if c.Interface.Index != c.SourceIndex {
			t.Errorf("interface %d in a sample of %d", c.Interface.Index, c.SourceIndex)
		}
		got[c.Interface.Index] = port{openflow: c.OpenFlowPort, name: string(c.Name)}
	}})
	sflowRecords(t, d, "ovs-sflow-s1-p5.pcap")
	want := map[uint32]port{12: {1, "telp1"}, 14: {2, "telp2"}, 16: {3, "telp3"}}
	for index, p := range want {
		if got[index] != p {
			t.Errorf("interface %d is %+v, want %+v", index, got[index], p)
		}
	}
}

func TestSFlowSignals(t *testing.T) {
	got := map[flow.Signal]int{}
	d := sflow.NewDecoder(sflow.Config{})
	for _, r := range sflowRecords(t, d, "ovs-sflow-s1-p5.pcap") {
		if r.Source != flow.SourceSFlow || r.Packets != 1 || r.Time != received() {
			t.Fatalf("wrong frame of reference: %+v", r)
		}
		got[r.Signal]++
	}
	for _, s := range []flow.Signal{
		flow.SignalAttempt, flow.SignalAccept, flow.SignalRefuse, flow.SignalUnreachable,
		flow.SignalUDP, flow.SignalARPRequest, flow.SignalARPReply, flow.SignalICMP,
	} {
		if got[s] == 0 {
			t.Errorf("no record has signal %d; there are %v", s, got)
		}
	}
	if c := d.Counts(); c.Headerless != 0 {
		t.Errorf("%d samples without header", c.Headerless)
	}
}

// The flow-sample capture exports every packet of port 1 on its own, so the
// scan's SYNs have to come out as attempts although Open vSwitch exports only
// running totals of flags.
func TestIPFIXFlagsFromTotals(t *testing.T) {
	scanner := netip.MustParseAddr("10.99.0.1")
	var attempts, other int
	d := netflow.NewDecoder(netflow.Config{})
	for _, r := range ipfixRecords(t, d, "ovs-ipfix-flow-sample.pcap") {
		if r.Proto != flow.ProtoTCP || r.Src != scanner || r.Packets != 1 {
			continue
		}
		if r.TCPFlags == flow.SYN && r.Signal == flow.SignalAttempt {
			attempts++
		} else {
			other++
		}
	}
	if attempts < 200 || other > 2 {
		t.Errorf("%d attempts, %d other single packets of the scanner", attempts, other)
	}
}

// In the bridge capture flows of several packets sit in a cache, so that
// totals cannot be attributed: those records must not get foreign flags.
func TestIPFIXFlagsAreNeverForeign(t *testing.T) {
	got := map[uint8]int{}
	unknown := 0
	d := netflow.NewDecoder(netflow.Config{})
	for _, r := range ipfixRecords(t, d, "ovs-ipfix-bridge-s1-t1.pcap") {
		if r.Proto != flow.ProtoTCP {
			continue
		}
		got[r.TCPFlags]++
		if r.TCPFlags == 0 {
			unknown++
			if r.Signal != flow.SignalNone {
				t.Errorf("signal without flags: %+v", r)
			}
		}
	}
	delete(got, 0)
	for flags, n := range got {
		if flags != flow.SYN && flags != flow.RST|flow.ACK {
			t.Errorf("%d records have flags %#x, the traffic of single packets has only SYN and RST+ACK", n, flags)
		}
	}
	if got[flow.SYN] < 900 || got[flow.RST|flow.ACK] < 390 || unknown > 25 {
		t.Errorf("flags %v, unknown %d", got, unknown)
	}
}

func TestIPFIXEgressAndNames(t *testing.T) {
	all := ipfixRecords(t, netflow.NewDecoder(netflow.Config{}), "ovs-ipfix-bridge-s1-t1.pcap")
	names := map[uint32]string{}
	d := netflow.NewDecoder(netflow.Config{
		SkipEgress: true,
		Interface: func(_ flow.Exporter, index uint32, name []byte) {
			names[index] = string(name)
		},
	})
	in := ipfixRecords(t, d, "ovs-ipfix-bridge-s1-t1.pcap")
	for _, r := range in {
		if r.OutPort != 0 {
			t.Fatalf("egress record: %+v", r)
		}
	}
	if got := d.Counts().Egress; got == 0 || int(got)+len(in) != len(all) {
		t.Errorf("%d egress records left out, %d left of %d", got, len(in), len(all))
	}
	for index, want := range map[uint32]string{12: "telp1", 14: "telp2", 16: "telp3"} {
		if names[index] != want {
			t.Errorf("interface %d is %q, want %q", index, names[index], want)
		}
	}
}

func TestIPFIXDuration(t *testing.T) {
	d := netflow.NewDecoder(netflow.Config{})
	rs := ipfixRecords(t, d, "ovs-ipfix-flow-sample.pcap")
	// The first record is of three pings within 408 ms.
	if r := rs[0]; r.Packets != 3 || r.Duration != 408e6 || r.Bytes != 252 || r.ICMPType != 8 || r.Signal != flow.SignalICMP {
		t.Errorf("first record: %+v", r)
	}
}

// The decoders must not make garbage for each datagram: an attack would buy
// collections with it.
func TestNoAllocs(t *testing.T) {
	sd, sDatagrams := sflow.NewDecoder(sflow.Config{}), datagrams(t, "ovs-sflow-s1-p5.pcap")
	nd, nDatagrams := netflow.NewDecoder(netflow.Config{}), datagrams(t, "ovs-ipfix-bridge-s1-t1.pcap")
	rs := ipfixRecords(t, nd, "ovs-ipfix-bridge-s1-t1.pcap")
	for _, tt := range []struct {
		name   string
		ds     [][]byte
		decode func(b []byte) error
	}{
		{"sflow", sDatagrams, func(b []byte) (err error) {
			rs, err = sd.Decode(rs[:0], b, received(), exporterAddr().Addr())
			return err
		}},
		{"ipfix", nDatagrams[len(nDatagrams)/2:], func(b []byte) (err error) {
			rs, err = nd.Decode(rs[:0], b, received(), exporterAddr())
			return err
		}},
	} {
		allocs := testing.AllocsPerRun(10, func() {
			for _, b := range tt.ds {
				if err := tt.decode(b); err != nil {
					t.Error(err)
				}
			}
		})
		if allocs != 0 {
			t.Errorf("%s: %v allocations for %d datagrams", tt.name, allocs, len(tt.ds))
		}
	}
}

package flowcollector_test

import (
	"errors"
	"io"
	"net/netip"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/gopacket/gopacket/pcapgo"

	"github.com/platelet-sdn/platelet/flowcollector/flow"
	"github.com/platelet-sdn/platelet/flowcollector/netflow"
	"github.com/platelet-sdn/platelet/flowcollector/sflow"
)

// payloadAt is where the UDP payload starts in the captures.
const payloadAt = 42

func sflowCaptures() []string {
	return []string{"ovs-sflow-s1-p5.pcap", "ovs-sflow-nolistener.pcap", "ovs-sflow-drop.pcap"}
}

func ipfixCaptures() []string {
	return []string{"ovs-ipfix-bridge-s1-t1.pcap", "ovs-ipfix-flow-sample.pcap", "ovs-ipfix-drop.pcap"}
}

// datagrams returns the UDP payloads of a capture.
func datagrams(t testing.TB, name string) (ds [][]byte) {
	t.Helper()
	f, err := os.Open(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	r, err := pcapgo.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	for {
		data, _, err := r.ReadPacketData()
		if errors.Is(err, io.EOF) {
			return ds
		}
		if err != nil {
			t.Fatal(err)
		}
		ds = append(ds, data[payloadAt:])
	}
}

func exporterAddr() netip.AddrPort { return netip.MustParseAddrPort("127.0.0.1:50000") }

func received() int64 { return time.Date(2026, 11, 23, 0, 0, 0, 0, time.UTC).UnixNano() }

// sflowRecords decodes a capture of sFlow.
func sflowRecords(t testing.TB, d *sflow.Decoder, name string) (rs []flow.Record) {
	t.Helper()
	for i, b := range datagrams(t, name) {
		var err error
		if rs, err = d.Decode(rs, b, received(), exporterAddr().Addr()); err != nil {
			t.Fatalf("%s: datagram %d: %v", name, i, err)
		}
	}
	return rs
}

// ipfixRecords decodes a capture of IPFIX.
func ipfixRecords(t testing.TB, d *netflow.Decoder, name string) (rs []flow.Record) {
	t.Helper()
	for i, b := range datagrams(t, name) {
		var err error
		if rs, err = d.Decode(rs, b, received(), exporterAddr()); err != nil {
			t.Fatalf("%s: datagram %d: %v", name, i, err)
		}
	}
	return rs
}

package replay_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"math"
	"os"
	"testing"

	"github.com/platelet-sdn/platelet/flowcollector/flow"
	"github.com/platelet-sdn/platelet/flowcollector/replay"
)

func FuzzZeek(f *testing.F)      { fuzz(f, "testdata/zeek.log", "testdata/iot23.log") }
func FuzzBinetflow(f *testing.F) { fuzz(f, "testdata/argus.binetflow", "testdata/ctu13.binetflow") }
func FuzzFlowCSV(f *testing.F)   { fuzz(f, "testdata/flows.csv") }
func FuzzJSONLines(f *testing.F) { fuzz(f, "testdata/zeek.json", "testdata/goflow.json") }

func FuzzPcap(f *testing.F) {
	packets := readCapture(f, "../testdata/ovs-sflow-drop.pcap")[:4]
	packets = append(packets, readCapture(f, "../testdata/ovs-ipfix-drop.pcap")[:4]...)
	packets = append(packets, plain(f)[:4]...)
	for _, order := range []byteOrder{binary.BigEndian, binary.LittleEndian} {
		for _, link := range []uint32{0, 1, 101, 113, 276} {
			f.Add(writePcap(packets, order, link == 1, link))
		}
	}
	fuzz(f, "testdata/traffic.pcapng")
}

// fuzz reads arbitrary inputs, seeded with whole files and their lines.
func fuzz(f *testing.F, seeds ...string) {
	for _, name := range seeds {
		data, err := os.ReadFile(name)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
		header, rest, _ := bytes.Cut(data, []byte("\n"))
		for _, row := range bytes.SplitN(rest, []byte("\n"), 20) {
			f.Add(bytes.Join([][]byte{header, row, nil}, []byte("\n")))
		}
	}
	f.Fuzz(check)
}

// check holds what is true of every input.
func check(t *testing.T, data []byte) {
	labels := 0
	r, err := replay.Open([]string{replay.Stdin}, replay.Options{
		Stdin: bytes.NewReader(data), Window: 64,
		Label: func(replay.Label) { labels++ },
	})
	if err != nil {
		return
	}
	last := int64(math.MinInt64)
	var n int64
	for {
		var rec flow.Record
		if err := r.Read(&rec); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatalf("bytes in memory cannot fail to be read: %v", err)
		}
		n++
		if rec.Time < last || rec.Time < 0 {
			t.Fatalf("time %d after %d", rec.Time, last)
		}
		last = rec.Time
		checkRecord(t, &rec)
	}
	if s := r.Stats(); s.Records != n || s.Last != max(last, 0) || len(s.Faults) > 10 || s.Malformed < int64(len(s.Faults)) {
		t.Fatalf("stats %+v after %d records, the last at %d", s, n, last)
	}
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
}

func checkRecord(t *testing.T, r *flow.Record) {
	if r.Source == 0 || !(r.Rate >= 1) || math.IsInf(r.Rate, 0) || r.Duration < 0 {
		t.Fatalf("%+v", r)
	}
	if r.Source != flow.SourceLog {
		return
	}
	switch r.Signal {
	case flow.SignalAttempt, flow.SignalAccept, flow.SignalRefuse, flow.SignalSilence:
		if r.Proto != flow.ProtoTCP && r.Proto != flow.ProtoUDP {
			t.Fatalf("%s", line(r))
		}
	case flow.SignalUnreachable:
		if r.Proto != flow.ProtoICMP && r.Proto != flow.ProtoICMPv6 {
			t.Fatalf("%s", line(r))
		}
	}
}

package replay_test

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/platelet-sdn/platelet/flowcollector/flow"
	"github.com/platelet-sdn/platelet/flowcollector/replay"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// recordings are the golden inputs.
func recordings() []string {
	names := []string{"zeek.log", "zeek.json", "argus.binetflow", "flows.csv", "goflow.json", "ctu13.binetflow", "iot23.log"}
	for i, n := range names {
		names[i] = filepath.Join("testdata", n)
	}
	return names
}

// readAll reads inputs to the end.
func readAll(t testing.TB, opts replay.Options, inputs ...string) ([]flow.Record, replay.Stats) {
	t.Helper()
	r, err := replay.Open(inputs, opts)
	if err != nil {
		t.Fatal(err)
	}
	records := drain(t, r)
	return records, r.Stats()
}

func drain(t testing.TB, r *replay.Reader) []flow.Record {
	t.Helper()
	var records []flow.Record
	for {
		var rec flow.Record
		err := r.Read(&rec)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		records = append(records, rec)
	}
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	return records
}

func signalName(s flow.Signal) string {
	return [...]string{
		"none", "attempt", "accept", "refuse", "unreachable", "udp", "arp-request", "arp-reply",
		"dropped", "finish", "icmp", "silence",
	}[s]
}

// line writes a record out for a golden file, with what is not zero.
func line(r *flow.Record) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s %-11s source=%d proto=%d %v:%d > %v:%d pkts=%d bytes=%d dur=%v ether=%04x",
		time.Unix(0, r.Time).UTC().Format("01-02T15:04:05.000000000"), signalName(r.Signal), r.Source, r.Proto,
		r.Src, r.SrcPort, r.Dst, r.DstPort, r.Packets, r.Bytes, time.Duration(r.Duration), r.EtherType)
	for _, f := range []struct {
		name string
		v    any
		show bool
	}{
		{"flags", fmt.Sprintf("%02x", r.TCPFlags), r.TCPFlags != 0},
		{"icmp", fmt.Sprintf("%d/%d", r.ICMPType, r.ICMPCode), r.Proto == flow.ProtoICMP || r.Proto == flow.ProtoICMPv6},
		{"inner", r.Inner, r.Inner.Valid()},
		{"smac", r.SrcMAC, !r.SrcMAC.IsZero()},
		{"dmac", r.DstMAC, !r.DstMAC.IsZero()},
		{"rate", r.Rate, r.Rate != 1},
		{"ports", fmt.Sprintf("%d/%d", r.InPort, r.OutPort), r.InPort != 0 || r.OutPort != 0},
		{"exporter", r.Exporter, r.Exporter != flow.Exporter{}},
		{"verdict", r.Verdict, r.Verdict != flow.VerdictUnknown},
		{"vlan", r.VLAN, r.VLAN != 0},
		{"ttl", r.TTL, r.TTL != 0},
	} {
		if f.show {
			fmt.Fprintf(&b, " %s=%v", f.name, f.v)
		}
	}
	return b.String()
}

func TestGolden(t *testing.T) {
	for _, input := range recordings() {
		t.Run(filepath.Base(input), func(t *testing.T) {
			var got bytes.Buffer
			opts := replay.Options{Label: func(l replay.Label) {
				fmt.Fprintf(&got, "label %v:%d > %v:%d class=%d %q %q\n", l.Src, l.SrcPort, l.Dst, l.DstPort, l.Class, l.Text, l.Detail)
			}}
			records, stats := readAll(t, opts, input)
			for i := range records {
				fmt.Fprintln(&got, line(&records[i]))
			}
			if stats.Malformed != 0 || stats.Late != 0 || stats.Records != int64(len(records)) {
				t.Errorf("stats %+v with %d records", stats, len(records))
			}
			golden := input + ".golden"
			if *update {
				if err := os.WriteFile(golden, got.Bytes(), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			compareLines(t, got.String(), string(want))
		})
	}
}

func compareLines(t *testing.T, got, want string) {
	t.Helper()
	g, w := strings.Split(got, "\n"), strings.Split(want, "\n")
	if len(g) != len(w) {
		t.Errorf("%d lines, want %d", len(g), len(w))
	}
	for i := range min(len(g), len(w)) {
		if g[i] != w[i] {
			t.Errorf("line %d\n got %s\nwant %s", i+1, g[i], w[i])
		}
	}
}

package evaluate

import (
	"cmp"
	"compress/gzip"
	"encoding/gob"
	"errors"
	"flag"
	"io"
	"math/rand/v2"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/platelet-sdn/platelet/controller/config"
	"github.com/platelet-sdn/platelet/detector"
	"github.com/platelet-sdn/platelet/flowcollector/flow"
	"github.com/platelet-sdn/platelet/flowcollector/replay"
)

// The excerpts in testdata/benign are what Open vSwitch exported (connection tap
// and sFlow) while a lab ran nothing but a profile of lab/benign: real time on
// the wire, of which each holds the minutes that its name says. To make one,
// record the export datagrams of a lab beside its controller,
//
//	tcpdump -i lo -w office.pcap udp
//	platelet lab measure lab/branch.clab.yml --benign office --warm-up 61m ...
//
// and then
//
//	go test ./controller/evaluate -run TestMakeExcerpt -args -from office.pcap -out testdata/benign/office-10m.gz
//
// Of what sFlow showed at 1:10 it keeps one sample in -thin, as sFlow at a lower
// rate would have shown; the tap is complete.
var (
	excerptFrom    = flag.String("from", "", "capture of export datagrams to make an excerpt of")
	excerptOut     = flag.String("out", "", "the excerpt to write")
	excerptMinutes = flag.Int("minutes", 10, "how much of it")
	excerptThin    = flag.Float64("thin", 10, "which part of the sFlow samples to keep")
)

// excerpt is a recording as columns. What most records have in common with others
// is said once.
type excerpt struct {
	Shapes           []flow.Record // without what the columns hold
	Shape            []uint32
	Gap              []uint32 // since the record before, microseconds
	Bytes            []uint32
	SrcPort, DstPort []uint16
	Seq, Ack         []uint32
}

func (x *excerpt) add(r flow.Record, shapes map[flow.Record]uint32, gap int64) {
	x.Gap = append(x.Gap, uint32(gap/1000))
	x.Bytes = append(x.Bytes, uint32(r.Bytes))
	x.SrcPort, x.DstPort = append(x.SrcPort, r.SrcPort), append(x.DstPort, r.DstPort)
	x.Seq, x.Ack = append(x.Seq, r.Seq), append(x.Ack, r.Ack)
	r.Time, r.Bytes, r.SrcPort, r.DstPort, r.Seq, r.Ack = 0, 0, 0, 0, 0, 0
	n, known := shapes[r]
	if !known {
		n = uint32(len(x.Shapes))
		shapes[r] = n
		x.Shapes = append(x.Shapes, r)
	}
	x.Shape = append(x.Shape, n)
}

// play hands out the records, begun at a time.
func (x *excerpt) play(at int64, f func(*flow.Record)) (end int64) {
	for i, n := range x.Shape {
		at += int64(x.Gap[i]) * 1000
		r := x.Shapes[n]
		r.Time, r.Bytes, r.SrcPort, r.DstPort = at, uint64(x.Bytes[i]), x.SrcPort[i], x.DstPort[i]
		r.Seq, r.Ack = x.Seq[i], x.Ack[i]
		f(&r)
	}
	return at
}

func loadExcerpt(t *testing.T, name string) *excerpt {
	t.Helper()
	f, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	x := &excerpt{}
	if err := gob.NewDecoder(z).Decode(x); err != nil {
		t.Fatal(err)
	}
	return x
}

// TestMakeExcerpt makes an excerpt when it is told of what.
func TestMakeExcerpt(t *testing.T) {
	if *excerptFrom == "" {
		t.Skip("only makes test data, with -args -from and -out")
	}
	in, err := replay.Open([]string{*excerptFrom}, replay.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	x, shapes, rng := &excerpt{}, map[flow.Record]uint32{}, rand.New(rand.NewPCG(1, 1))
	var r flow.Record
	var begin, last int64
	for {
		if err := in.Read(&r); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		begin = cmp.Or(begin, r.Time)
		if r.Time-begin > int64(*excerptMinutes)*minute {
			break
		}
		if r.Source == flow.SourceSFlow {
			if rng.Float64()**excerptThin >= 1 {
				continue
			}
			r.Rate *= *excerptThin
		}
		x.add(r, shapes, r.Time-cmp.Or(last, begin))
		last = r.Time
	}
	f, err := os.Create(*excerptOut)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	z, err := gzip.NewWriterLevel(f, gzip.BestCompression)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(gob.NewEncoder(z).Encode(x), z.Close()); err != nil {
		t.Fatal(err)
	}
	t.Logf("%d records of %d shapes", len(x.Shape), len(x.Shapes))
}

// licence is who scans in an excerpt because it is his task, as an operator tells
// the controller (detection.ignore).
func licence() map[string]string { return map[string]string{"scanner-10m": "10.77.0.14"} }

// Every profile of honest traffic is silent for an hour of recorded time. Of that
// hour the minutes in the file's name are real; they are played again and again,
// as an hour of the same profile has more of the same. What only a whole hour of
// real time shows is in the package documentation.
//
// The starter model has never learned from these networks, so they tell what its
// threshold is worth on others: no window may come nearer than half of it.
func TestBenignHourIsSilent(t *testing.T) {
	files, err := filepath.Glob("testdata/benign/*.gz")
	if err != nil || len(files) == 0 {
		t.Fatal("no excerpts", err)
	}
	for _, file := range files {
		name := strings.TrimSuffix(filepath.Base(file), ".gz")
		t.Run(name, func(t *testing.T) {
			x := loadExcerpt(t, file)
			cfg := config.Default()
			dc := cfg.DetectorConfig()
			dc.Seed = 1
			licensed, _ := netip.ParseAddr(licence()[name])
			dc.Ignore = func(a netip.Addr, k detector.Kind) bool { return a == licensed && k.Scanning() }
			records, wrong, highest := 0, 0, 0.0
			threshold := dc.Model.Threshold()
			dc.Model.Scored = func(w *detector.Window, score, _ float64) {
				if w.Host == licensed {
					return // a scanner by any measure
				}
				if !(score > highest) {
					return // or not a number: too little to judge
				}
				if highest = score; score > threshold/2 {
					t.Errorf("%v scores %.3f, the threshold is %.3f: %v", w.Host, score, threshold, w.Values)
				}
			}
			dc.Emit = func(f detector.Finding) {
				if f.State == detector.StateFiring {
					wrong++
					if wrong < 10 {
						t.Errorf("%v: %s %s by %v: %s", time.Unix(0, f.Time).UTC(), f.Severity, f.Kind, f.Host, describe(f))
					}
				}
			}
			e, err := detector.New(dc)
			if err != nil {
				t.Fatal(err)
			}
			play := detector.NewPlayback(e)
			const begin = int64(1_800_000_000e9)
			for at := begin; at-begin < hour; {
				at = x.play(at, func(r *flow.Record) {
					records++
					play.Observe(r)
				}) + int64(20*time.Millisecond)
			}
			play.Finish()
			t.Logf("%d records, highest learned score %.3f of %.3f, %+v", records, highest, threshold, e.Stats())
		})
	}
}

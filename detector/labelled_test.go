package detector

import (
	"cmp"
	"compress/gzip"
	"encoding/csv"
	"errors"
	"io"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/platelet-sdn/platelet/flowcollector/flow"
)

// labelled is a flow log with labels, as flows.csv.gz holds it: ts, dur, proto,
// src, sport, dst, dport, state, spkts, dpkts, sbytes, dbytes, label, detail.
// The full readers are elsewhere; this one knows only that form.
type labelled struct {
	records []flow.Record
	// hosts holds, per source, the worst label of its flows (1 malicious,
	// 0 benign, -1 unlabelled), services the distinct (dst, port) of its
	// malicious attempts.
	hosts    map[netip.Addr]int
	services map[netip.Addr]map[contactKey]bool
	hours    float64
	// flows counts the malicious flows of each source.
	flows map[netip.Addr]int
}

func readLabelled(t testing.TB, path string) *labelled {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var in io.Reader = f
	if strings.HasSuffix(path, ".gz") {
		if in, err = gzip.NewReader(f); err != nil {
			t.Fatal(err)
		}
	}
	rows := csv.NewReader(in)
	if _, err := rows.Read(); err != nil {
		t.Fatal(err)
	}
	l := &labelled{hosts: map[netip.Addr]int{}, services: map[netip.Addr]map[contactKey]bool{}, flows: map[netip.Addr]int{}}
	for {
		row, err := rows.Read()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		l.row(row)
	}
	slices.SortStableFunc(l.records, func(a, b flow.Record) int { return cmp.Compare(a.Time, b.Time) })
	if n := len(l.records); n > 0 {
		l.hours = float64(l.records[n-1].Time-l.records[0].Time) / 3600e9
	}
	return l
}

func (l *labelled) row(row []string) {
	src, err1 := netip.ParseAddr(row[3])
	dst, err2 := netip.ParseAddr(row[5])
	proto, ok := map[string]uint8{"tcp": flow.ProtoTCP, "udp": flow.ProtoUDP, "icmp": flow.ProtoICMP}[row[2]]
	if err1 != nil || err2 != nil || !ok {
		return
	}
	number := func(i int) float64 {
		x, _ := strconv.ParseFloat(row[i], 64)
		return x
	}
	label := int(number(12))
	if old, ok := l.hosts[src]; !ok || label > old {
		l.hosts[src] = label
	}
	if label == 1 {
		l.flows[src]++
	}
	start, dur := int64(number(0)*1e9), int64(number(1)*1e9)
	r := flow.Record{Time: start, Duration: dur, Source: flow.SourceLog, Rate: 1, Proto: proto,
		Packets: uint64(number(8)), Bytes: uint64(number(10)),
		Src: src, Dst: dst, SrcPort: uint16(number(4)), DstPort: uint16(number(6))}
	a := r
	a.Src, a.Dst, a.SrcPort, a.DstPort = r.Dst, r.Src, r.DstPort, r.SrcPort
	a.Packets, a.Bytes = uint64(number(9)), uint64(number(11))
	a.Time += min(dur, 100*ms)
	if proto == flow.ProtoICMP {
		r.Signal, r.ICMPType, r.SrcPort, r.DstPort = flow.SignalICMP, uint8(number(4)), 0, 0
		l.records = append(l.records, r)
		if a.Packets > 0 {
			a.Signal, a.SrcPort, a.DstPort = flow.SignalICMP, 0, 0
			l.records = append(l.records, a)
		}
		return
	}
	switch row[7] {
	case "SF", "S1", "S2", "S3", "RSTO", "RSTR":
		a.Signal = flow.SignalAccept
	case "REJ":
		a.Signal = flow.SignalRefuse
	case "S0", "RSTOS0", "SH":
		a.Signal = flow.SignalSilence
		a.Time = start + sec
	default:
		return
	}
	r.Signal = flow.SignalAttempt
	l.records = append(l.records, r, a)
	if label == 1 {
		if l.services[src] == nil {
			l.services[src] = map[contactKey]bool{}
		}
		l.services[src][contactKeyOf(addressOf(src), addressOf(dst), r.DstPort, proto)] = true
	}
}

// detect returns the hosts that findings name, with their kinds, and the first
// finding of each.
func (l *labelled) detect(t testing.TB) (map[netip.Addr][]Finding, Stats) {
	t.Helper()
	found := map[netip.Addr][]Finding{}
	cfg := DefaultConfig()
	cfg.Limit = LimitConfig{Hosts: 1 << 16, Contacts: 1 << 16, Pending: 1 << 14,
		Suspects: 1 << 12, MACs: 1 << 8, Cells: 1 << 12, Sessions: 1 << 14, Edges: 1 << 15, Windows: 1 << 14, Findings: 256}
	cfg.Emit = func(f Finding) {
		if f.State == StateFiring {
			found[f.Host] = append(found[f.Host], f)
		}
	}
	e, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	for i := range l.records {
		e.Observe(l.records[i : i+1])
		e.Advance(l.records[i].Time)
	}
	if n := len(l.records); n > 0 {
		e.Advance(l.records[n-1].Time + 10*sec)
	}
	return found, e.Stats()
}

// judge counts the sources with malicious contacts to four services or more, as
// many as the walk needs, those of them that were found, and the hosts found
// though none of their flows is malicious.
func (l *labelled) judge(t testing.TB, found map[netip.Addr][]Finding) (wide, caught int, others []netip.Addr) {
	t.Helper()
	for h, services := range l.services {
		if len(services) < 4 {
			continue
		}
		wide++
		if found[h] != nil {
			caught++
		} else {
			t.Logf("not found: %v, %d services", h, len(services))
		}
	}
	for h := range found {
		if l.hosts[h] != 1 {
			others = append(others, h)
		}
	}
	return wide, caught, others
}

// frequent counts the sources with ten malicious flows or more, and those of them
// that were found; in time are those found within ten flows or a minute.
func (l *labelled) frequent(t testing.TB, found map[netip.Addr][]Finding) (all, caught, inTime int) {
	t.Helper()
	for h, flows := range l.flows {
		if flows < 10 {
			continue
		}
		all++
		if found[h] == nil {
			t.Logf("not found: %v, %d flows", h, flows)
			continue
		}
		caught++
		before, first := 0, int64(0)
		for i := range l.records {
			r := &l.records[i]
			if r.Src != h || r.Signal != flow.SignalAttempt && r.Signal != flow.SignalICMP || r.Time > found[h][0].Time {
				continue
			}
			if before++; before == 1 {
				first = r.Time
			}
		}
		if before <= 10 || found[h][0].Time-first <= 60*sec {
			inTime++
		} else {
			t.Logf("found late: %v, after %d flows and %d s", h, before, (found[h][0].Time-first)/sec)
		}
	}
	return all, caught, inTime
}

func TestLabelledExcerpts(t *testing.T) {
	for _, c := range []struct {
		file         string
		wide, caught int
		others       []string
	}{
		{"benign-day.csv.gz", 0, 0, nil},
		{"exposed-host.csv.gz", 4, 4, nil},
		{"nmap.csv.gz", 0, 0, []string{"172.16.1.11"}}, // the scanner; its flows are not labelled
	} {
		t.Run(c.file, func(t *testing.T) {
			l := readLabelled(t, filepath.Join("testdata", c.file))
			found, stats := l.detect(t)
			wide, caught, others := l.judge(t, found)
			if wide != c.wide || caught != c.caught {
				t.Errorf("found %d of %d wide attackers, want %d of %d", caught, wide, c.caught, c.wide)
			}
			var names []string
			for _, h := range others {
				names = append(names, h.String())
			}
			if !slices.Equal(names, c.others) {
				t.Errorf("others found: %v, want %v", names, c.others)
			}
			if stats.Records != uint64(len(l.records)) || stats.Records == 0 {
				t.Errorf("%d records counted, %d given", stats.Records, len(l.records))
			}
		})
	}
}

// TestLabelledSets does the same for whole sets in directories below
// PLATELET_DATA, which the repository cannot carry, and reports the figures
// that the package documentation quotes.
func TestLabelledSets(t *testing.T) {
	files, err := filepath.Glob(filepath.Join(os.Getenv("PLATELET_DATA"), "*", "flows.csv.gz"))
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		t.Run(filepath.Base(filepath.Dir(file)), func(t *testing.T) {
			l := readLabelled(t, file)
			found, stats := l.detect(t)
			wide, caught, others := l.judge(t, found)
			for _, h := range others {
				if l.hosts[h] == 0 {
					t.Errorf("false alarm: %v: %+v", h, found[h][0])
				}
			}
			all, some, soon := l.frequent(t, found)
			t.Logf("sources of ten malicious flows or more: found %d of %d, %d within ten flows or a minute", some, all, soon)
			t.Logf("%.1f h, %d sources; wide attackers %d of %d; found %d, of these not labelled malicious %v; %+v",
				l.hours, len(l.hosts), caught, wide, len(found), others, stats)
		})
	}
}

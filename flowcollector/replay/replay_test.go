package replay_test

import (
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/platelet-sdn/platelet/flowcollector/flow"
	"github.com/platelet-sdn/platelet/flowcollector/replay"
)

const csvHeader = "ts,dur,proto,src,sport,dst,dport,state,spkts,dpkts,sbytes,dbytes,label,detail\n"

// fromStdin reads text as standard input.
func fromStdin(t testing.TB, text string, opts replay.Options) ([]flow.Record, replay.Stats) {
	t.Helper()
	opts.Stdin = strings.NewReader(text)
	return readAll(t, opts, replay.Stdin)
}

func compress(t testing.TB, data []byte) []byte {
	t.Helper()
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	if _, err := w.Write(data); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func TestGzipAndStandardInputReadTheSame(t *testing.T) {
	inputs := append(recordings(), "../testdata/ovs-sflow-drop.pcap")
	for _, input := range inputs {
		want, _ := readAll(t, replay.Options{}, input)
		data, err := os.ReadFile(input)
		if err != nil {
			t.Fatal(err)
		}
		// The name must not matter.
		path := filepath.Join(t.TempDir(), "recording")
		if err := os.WriteFile(path, compress(t, data), 0o600); err != nil {
			t.Fatal(err)
		}
		if got, _ := readAll(t, replay.Options{}, path); !slices.Equal(got, want) {
			t.Errorf("%s: compressed, it reads differently", input)
		}
		got, _ := readAll(t, replay.Options{Stdin: bytes.NewReader(data)}, replay.Stdin)
		if !slices.Equal(got, want) {
			t.Errorf("%s: from standard input, it reads differently", input)
		}
	}
}

func TestMalformedLinesAreCountedAndSkipped(t *testing.T) {
	zeek, err := os.ReadFile("testdata/zeek.log")
	if err != nil {
		t.Fatal(err)
	}
	row := "1655071231.749548\tC1\t192.0.2.1\t1\t192.0.2.2\t80\ttcp\t-\t-\t-\t-\tS0\tF\tT\t0\tS\t2\t80\t0\t0\t(empty)\tBenign\t-\n"
	header := zeek[:bytes.Index(zeek, []byte("#types"))]
	lines := strings.Count(string(header), "\n")
	text := string(header) +
		row +
		"too\tfew\n" +
		strings.Replace(row, "192.0.2.1", "192.0.2.x", 1) +
		strings.Replace(row, "1655071231.749548", "yesterday", 1) +
		"\n" + // empty lines are no rows
		strings.Repeat("x", 2<<20) + "\n" +
		strings.Replace(row, "tcp", "t\x00p", 1) +
		"#fields\tts\n" + // a header without the columns
		row +
		string(header) +
		row
	records, stats := fromStdin(t, text, replay.Options{})
	if len(records) != 4 {
		t.Errorf("%d records, want 4", len(records))
	}
	var got []string
	for _, f := range stats.Faults {
		got = append(got, f.Error())
	}
	want := []string{
		"2 fields where the header has 23",
		`id.orig_h: bad value "192.0.2.x"`,
		`ts: bad value "yesterday"`,
		"line too long",
		"line contains a NUL byte",
		"not a conn.log: no column id.orig_h",
		"row before a #fields line",
	}
	for i, at := range []int{2, 3, 4, 6, 7, 8, 9} {
		want[i] = fmt.Sprintf("-:%d: %s", lines+at, want[i])
	}
	if !slices.Equal(got, want) {
		t.Errorf("faults\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	if stats.Malformed != int64(len(want)) {
		t.Errorf("%d malformed, want %d", stats.Malformed, len(want))
	}
}

func TestOnlyTheFirstFaultsAreDescribed(t *testing.T) {
	_, stats := fromStdin(t, csvHeader+strings.Repeat("broken\n", 1000), replay.Options{})
	if stats.Malformed != 1000 || len(stats.Faults) != 10 {
		t.Errorf("%d malformed, %d described", stats.Malformed, len(stats.Faults))
	}
	var f *replay.Fault
	if !errors.As(error(stats.Faults[9]), &f) || f.Position != 11 {
		t.Errorf("the tenth fault is %v", stats.Faults[9])
	}
}

func TestUnknownFormatsAreRefused(t *testing.T) {
	for name, text := range map[string]string{
		"empty":           "",
		"prose":           "once upon a time\n",
		"other csv":       "src,dst,minute,label\n1,2,3,4\n",
		"other json":      `{"a":1}` + "\n",
		"broken json":     `{"a":` + "\n",
		"other zeek log":  "#separator \\x09\n#path\tdns\n#fields\tts\tid.orig_h\tquery\n",
		"no zeek fields":  "#separator \\x09\n",
		"binary":          "\x7fELF\x02\x01\x01",
		"short pcap":      "\xd4\xc3\xb2\xa1\x02\x00",
		"pcap of usb":     "\xd4\xc3\xb2\xa1\x02\x00\x04\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x04\x00\xdc\x00\x00\x00",
		"torn gzip":       "\x1f\x8b\x08",
		"gzip of nothing": string(compress(t, nil)),
	} {
		t.Run(name, func(t *testing.T) {
			r, err := replay.Open([]string{replay.Stdin}, replay.Options{Stdin: strings.NewReader(text)})
			if err == nil {
				t.Fatalf("opened: %+v", r.Stats())
			}
		})
	}
	_, err := replay.Open([]string{replay.Stdin}, replay.Options{Stdin: strings.NewReader("prose")})
	var unknown *replay.UnknownFormatError
	if !errors.As(err, &unknown) || !strings.Contains(err.Error(), "Argus") || !strings.Contains(err.Error(), `"prose"`) {
		t.Errorf("the error does not say what was looked for and found: %v", err)
	}
	if _, err := replay.Open([]string{"testdata/absent"}, replay.Options{}); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("absent file: %v", err)
	}
	if _, err := replay.Open(nil, replay.Options{}); err == nil {
		t.Error("opened nothing")
	}
	if _, err := replay.Open([]string{replay.Stdin}, replay.Options{}); err == nil {
		t.Error("opened a standard input that is not there")
	}
}

func TestTornFilesGiveWhatTheyHave(t *testing.T) {
	var text strings.Builder
	text.WriteString(csvHeader)
	rng := rand.New(rand.NewPCG(5, 6))
	for i := range 2000 {
		fmt.Fprintf(&text, "%d.%06d,1,tcp,192.0.2.1,%d,192.0.2.2,80,SF,1,1,%d,1,0,\n", 1000+i, rng.IntN(1e6), rng.IntN(65536), rng.Int64())
	}
	packed := compress(t, []byte(text.String()))
	records, stats := readAll(t, replay.Options{Stdin: bytes.NewReader(packed[:len(packed)/2])}, replay.Stdin)
	if len(records) < 1000 || stats.Malformed == 0 {
		t.Errorf("half of a gzip: %d records, %d malformed", len(records), stats.Malformed)
	}
	pcap, err := os.ReadFile("../testdata/ovs-sflow-drop.pcap")
	if err != nil {
		t.Fatal(err)
	}
	records, stats = readAll(t, replay.Options{Stdin: bytes.NewReader(pcap[:len(pcap)-10])}, replay.Stdin)
	if len(records) == 0 || stats.Malformed != 1 || !strings.Contains(stats.Faults[0].Error(), "broken off") {
		t.Errorf("torn pcap: %d records, %+v", len(records), stats)
	}
}

// randomRows makes a log of rows as loggers write them: in the order of their end.
func randomRows(rng *rand.Rand, n int) string {
	type row struct {
		end  float64
		text string
	}
	rows := make([]row, n)
	for i := range rows {
		ts, dur := 1e9+rng.Float64()*1e5, rng.ExpFloat64()*1e3
		state := []string{"SF", "S0", "REJ", "OTH"}[rng.IntN(4)]
		rows[i] = row{ts + dur, fmt.Sprintf("%.6f,%.6f,tcp,192.0.2.%d,%d,192.0.2.%d,80,%s,3,%d,120,120,0,\n",
			ts, dur, rng.IntN(256), rng.IntN(65536), rng.IntN(256), state, rng.IntN(2))}
	}
	slices.SortFunc(rows, func(a, b row) int {
		if a.end < b.end {
			return -1
		}
		return 1
	})
	var b strings.Builder
	b.WriteString(csvHeader)
	for _, r := range rows {
		b.WriteString(r.text)
	}
	return b.String()
}

func inOrder(records []flow.Record) bool {
	return slices.IsSortedFunc(records, func(a, b flow.Record) int { return int(min(1, max(-1, a.Time-b.Time))) })
}

func TestRecordsComeInOrderOfTime(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	for range 20 {
		text := randomRows(rng, 1+rng.IntN(800))
		sorted, stats := fromStdin(t, text, replay.Options{})
		if !inOrder(sorted) || stats.Late != 0 {
			t.Fatalf("out of order, %d late", stats.Late)
		}
		if stats.First != sorted[0].Time || stats.Last != sorted[len(sorted)-1].Time || stats.Records != int64(len(sorted)) {
			t.Fatalf("stats %+v", stats)
		}
		// With a window that is too small, time still never runs back, and
		// nothing is lost.
		squeezed, stats := fromStdin(t, text, replay.Options{Window: 1 + rng.IntN(50)})
		if !inOrder(squeezed) || len(squeezed) != len(sorted) {
			t.Fatalf("small window: %d records of %d, %d late", len(squeezed), len(sorted), stats.Late)
		}
	}
}

func TestASmallWindowCountsWhatIsLate(t *testing.T) {
	const row = ",0,igmp,192.0.2.1,0,224.0.0.22,0,S0,1,0,40,0,0,\n"
	text := csvHeader + "10" + row + "20" + row + "30" + row + "5" + row
	records, stats := fromStdin(t, text, replay.Options{Window: 2})
	var seconds []int64
	for _, r := range records {
		seconds = append(seconds, r.Time/int64(time.Second))
	}
	if !slices.Equal(seconds, []int64{10, 20, 20, 30}) || stats.Late != 1 {
		t.Errorf("times %v, %d late", seconds, stats.Late)
	}
}

func TestInputsAreMergedByTime(t *testing.T) {
	inputs := append(recordings(), "../testdata/ovs-sflow-drop.pcap", "../testdata/ovs-ipfix-drop.pcap")
	merged, stats := readAll(t, replay.Options{}, inputs...)
	if !inOrder(merged) || stats.Late != 0 {
		t.Errorf("out of order, %d late", stats.Late)
	}
	var separate []flow.Record
	for _, input := range inputs {
		records, _ := readAll(t, replay.Options{}, input)
		separate = append(separate, records...)
	}
	if len(merged) != len(separate) {
		t.Fatalf("%d records, want %d", len(merged), len(separate))
	}
	count := map[flow.Record]int{}
	for i := range merged {
		count[merged[i]]++
		count[separate[i]]--
	}
	for r, n := range count {
		if n != 0 {
			t.Errorf("%+d times %s", n, line(&r))
		}
	}
}

func TestCloseBeforeTheEnd(t *testing.T) {
	r, err := replay.Open(recordings(), replay.Options{})
	if err != nil {
		t.Fatal(err)
	}
	var rec flow.Record
	if err := r.Read(&rec); err != nil {
		t.Fatal(err)
	}
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	if err := r.Read(&rec); err == nil {
		t.Error("read after Close")
	}
}

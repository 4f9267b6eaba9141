package evaluate

import (
	"bytes"
	"net/netip"
	"os"
	"strings"
	"testing"

	"github.com/platelet-sdn/platelet/flowcollector/flow"
)

func TestReadLabels(t *testing.T) {
	labels, err := ReadLabels(strings.NewReader(`malicious,host,kind,from,to,set
# a comment
true,10.0.0.1,port-scan,2026-01-01T00:00:00Z,1767229200.5,day1
false,10.0.0.0/8,,,,
1,02:00:00:00:00:09,arp-spoof,,,day1/left
0,*,,,,
`))
	if err != nil {
		t.Fatal(err)
	}
	want := []HostLabel{
		{Set: "day1", Hosts: netip.MustParsePrefix("10.0.0.1/32"), From: 1767225600e9, To: 1767229200_500000000, Kind: "port-scan", Malicious: true},
		{Hosts: netip.MustParsePrefix("10.0.0.0/8")},
		{Set: "day1/left", MAC: flow.MAC{2, 0, 0, 0, 0, 9}, Kind: "arp-spoof", Malicious: true},
		{},
	}
	if len(labels) != len(want) {
		t.Fatalf("%d labels, want %d", len(labels), len(want))
	}
	for i := range want {
		if labels[i] != want[i] {
			t.Errorf("label %d: %+v, want %+v", i, labels[i], want[i])
		}
	}
}

func TestLabelErrorsNameTheLine(t *testing.T) {
	for text, want := range map[string]string{
		"":                                      "header",
		"host,kind\n":                           `no column "malicious"`,
		"host,malicious\n10.0.0.1,maybe\n":      `line 2: malicious: "maybe"`,
		"host,malicious\n\n10.0.0.x,true\n":     `line 3: host: "10.0.0.x"`,
		"host,malicious\n10.0.0.1,true,3\n":     "wrong number of fields",
		"host,from,malicious\n*,noon,true\n":    `line 2: from: "noon"`,
		"host,to,malicious\n*,-5,true\n":        `line 2: to: "-5"`,
		"host,malicious\n00:00:00:00:00:00,1\n": "line 2: host",
	} {
		if _, err := ReadLabels(strings.NewReader(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: error %v, want one with %s", text, err, want)
		}
	}
}

func TestPublicLabels(t *testing.T) {
	if labels, err := LoadLabels("testdata/public-labels.csv"); err != nil || len(labels) < 6 {
		t.Errorf("%d labels, %v", len(labels), err)
	}
}

func FuzzReadLabels(f *testing.F) {
	public, err := os.ReadFile("testdata/public-labels.csv")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(public)
	f.Add([]byte("host,malicious\n*,1\n::1/64,0\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		labels, err := ReadLabels(bytes.NewReader(data))
		if err != nil && labels != nil {
			t.Error("labels beside an error")
		}
		for i := range labels {
			labels[i].Covers(Host{Addr: netip.IPv6Unspecified()}, 1)
		}
	})
}

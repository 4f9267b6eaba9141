package sflow_test

import (
	"errors"
	"slices"
	"testing"

	"github.com/platelet-sdn/platelet/flowcollector/flow"
	"github.com/platelet-sdn/platelet/flowcollector/sflow"
)

// FuzzDecode feeds one datagram. Its corpus in testdata holds real ones.
func FuzzDecode(f *testing.F) {
	f.Add(datagram(1, 1, flowSample(64, 12, 14, rawHeader(1, 64, frame()))))
	f.Add(datagram(1, 1, expandedSample(64, [2]uint32{0, 12}, [2]uint32{1, 256}, rawHeader(11, 32, ip()))))
	f.Add(datagram(1, 1, structure(2, u32(1, 12, 4), counterRecords())))
	f.Add(datagram(1, 1, structure(1, u32(1, 2, 64, 9, 0, 12, 14, 0xffffffff), u32(1, 0))))
	f.Fuzz(func(t *testing.T, b []byte) {
		input := slices.Clone(b)
		samples := 0
		d := sflow.NewDecoder(sflow.Config{Counters: func(c *sflow.Counters) {
			samples++
			if len(c.Name) > 255 {
				t.Errorf("a name of %d bytes", len(c.Name))
			}
		}})
		rs, err := d.Decode(nil, b, now, home())
		if e := (*sflow.Error)(nil); err != nil && (!errors.As(err, &e) || e.Offset < 0 || e.Offset > len(b)) {
			t.Errorf("error %v for %d bytes", err, len(b))
		}
		// A sample takes at least a format and a length.
		if n := len(rs) + samples + int(d.Counts().Headerless); n > len(b)/8 {
			t.Errorf("%d samples from %d bytes", n, len(b))
		}
		for i := range rs {
			if r := &rs[i]; r.Source != flow.SourceSFlow || r.Rate < 1 || r.Packets != 1 || r.Time != now || !r.Exporter.Addr.IsValid() {
				t.Errorf("incomplete record %+v", r)
			}
		}
		if !slices.Equal(b, input) {
			t.Error("the datagram was changed")
		}
		again, err2 := sflow.NewDecoder(sflow.Config{}).Decode(nil, b, now, home())
		if !slices.Equal(again, rs) || (err == nil) != (err2 == nil) {
			t.Error("a second decoder reads something else")
		}
	})
}

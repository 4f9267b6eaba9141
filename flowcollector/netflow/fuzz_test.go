package netflow_test

import (
	"encoding/binary"
	"errors"
	"slices"
	"testing"

	"github.com/platelet-sdn/platelet/flowcollector/flow"
	"github.com/platelet-sdn/platelet/flowcollector/netflow"
)

// chunks joins datagrams, each behind its length in two octets, because data
// means something only behind its template.
func chunks(ds ...[]byte) (b []byte) {
	for _, d := range ds {
		b = append(b, words(uint16(len(d)))...)
		b = append(b, d...)
	}
	return b
}

// unchunk is the inverse of chunks; what is cut short counts as a datagram.
func unchunk(b []byte) (ds [][]byte) {
	for len(b) >= 2 {
		n := int(binary.BigEndian.Uint16(b))
		b = b[2:]
		n = min(n, len(b))
		ds, b = append(ds, b[:n]), b[n:]
	}
	return ds
}

// FuzzDecode feeds a sequence of datagrams. Its corpus in testdata holds real
// ones.
func FuzzDecode(f *testing.F) {
	one := template(256, fields{4, 1, 82, 0xffff, 0x8000 | 898, 0xffff, 27, 16})
	f.Add(chunks(ipfix(1, 0, set(2, one), set(256, []byte{6, 1, 'x', 0}, make([]byte, 16)))))
	f.Add(chunks(ipfix(flow.TapDomain(1), 0, set(2, template(300, append(fiveTuple(), 138, 4, 86, 8, 218, 8))))))
	f.Add(chunks(v9(1, 0, set(0, template(256, fiveTuple()))), v9(1, 1, set(256, fiveTupleRecord(6, 1, 2)))))
	f.Add(chunks(ipfix(1, 0, set(2, words(256, 0)), set(256, make([]byte, 4)))))
	f.Add(chunks(ipfix(1, 0, set(2, template(256, fields{8, 0})), set(256, make([]byte, 4)))))
	f.Fuzz(func(t *testing.T, b []byte) {
		input := slices.Clone(b)
		limits := netflow.Limits{Templates: 32, Fields: 64, Bytes: 1 << 16, ExporterBytes: 1 << 16}
		ts := netflow.NewTemplates(limits)
		d := netflow.NewDecoder(netflow.Config{Templates: ts})
		restored := &store{}
		for _, dg := range unchunk(b) {
			rs, err := d.Decode(nil, dg, now, home())
			if e := (*netflow.Error)(nil); err != nil && (!errors.As(err, &e) || e.Offset < 0 || e.Offset > len(dg)) {
				t.Errorf("error %v for %d bytes", err, len(dg))
			}
			if len(rs) > len(dg) {
				t.Errorf("%d records from %d bytes", len(rs), len(dg))
			}
			for i := range rs {
				if r := &rs[i]; r.Rate < 1 || r.Time != now || r.Duration < 0 || r.Source != flow.SourceIPFIX && r.Source != flow.SourceTap {
					t.Errorf("incomplete record %+v", r)
				}
			}
		}
		if n := ts.Len(); n > limits.Templates {
			t.Errorf("%d templates", n)
		}
		if !slices.Equal(b, input) {
			t.Error("the datagrams were changed")
		}
		// What was accepted survives the store.
		if err := ts.Save(t.Context(), restored); err != nil {
			t.Fatal(err)
		}
		again := netflow.NewTemplates(limits)
		if err := again.Load(t.Context(), restored, now); err != nil || again.Len() != ts.Len() {
			t.Errorf("%d templates, %d restored: %v", ts.Len(), again.Len(), err)
		}
	})
}

package model

import (
	"bytes"
	"errors"
	"math"
	"testing"
)

// Whatever Decode accepts can be scored with and is written back the same.
func FuzzDecode(f *testing.F) {
	raw, err := trained(f).Encode()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(raw)
	f.Add([]byte(`{"format":"platelet-model","version":1,"sha256":"","model":{}}`))
	f.Add([]byte(`{"format":"platelet-model","version":1,"sha256":"44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a","model":{}}`))
	f.Add(raw[:len(raw)/3])
	f.Fuzz(func(t *testing.T, data []byte) {
		check(t, data)
		// The hash would hide everything behind it: once more with a right one.
		check(t, seal(data))
	})
}

func seal(data []byte) []byte {
	var b bytes.Buffer
	b.WriteString(`{"format":"platelet-model","version":1,"sha256":"` + digest(data) + `","model":`)
	b.Write(data)
	b.WriteString("}")
	return b.Bytes()
}

func check(t *testing.T, data []byte) {
	t.Helper()
	m, err := Decode(bytes.NewReader(data))
	if err != nil {
		if !errors.Is(err, ErrFile) || m != nil {
			t.Fatalf("%v", err)
		}
		return
	}
	var s Scratch
	v := make([]float64, len(m.Schema.Names))
	for i := range v {
		v[i] = float64(i*i) - 3
	}
	score, base, parts := m.Explain(v, &s)
	for _, p := range parts {
		base += p.LogOdds
	}
	if c := m.Calibration.Ceiling; math.IsNaN(score) || math.Abs(sigmoid(base)-score) > 1e-6 && score != c {
		t.Fatalf("score %v, explained as %v", score, sigmoid(base))
	}
	if _, err := m.Encode(); err != nil {
		t.Fatalf("accepted, but not written back: %v", err)
	}
}

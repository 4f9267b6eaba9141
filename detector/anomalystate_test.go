package detector

import (
	"bytes"
	"encoding/binary"
	"errors"
	"slices"
	"testing"
)

// resume is a new engine, as after a restart, that goes on with what another
// fleet has learned.
func (f *fleet) resume(t testing.TB, learned []byte) *fleet {
	t.Helper()
	g := newFleet(t, 0, 0, 0)
	g.now = f.now
	for _, m := range f.members {
		m := *m
		g.members = append(g.members, &m)
		_, h, _ := g.e.hosts.Put(m.addr, 1)
		h.inPort = m.port
	}
	if err := g.e.ImportLearned(learned); err != nil {
		t.Fatal(err)
	}
	return g
}

func (f *fleet) export() []byte {
	f.t.Helper()
	l, err := f.e.Learned()
	if err != nil {
		f.t.Fatal(err)
	}
	b, err := l.MarshalBinary()
	if err != nil {
		f.t.Fatal(err)
	}
	return b
}

func TestDamagedStateIsRefused(t *testing.T) {
	f := newFleet(t, 2, 0, 0)
	f.minutes(90, nil)
	b := f.export()
	flipped := slices.Clone(b)
	flipped[len(flipped)/2] ^= 1
	meaning := slices.Clone(b)
	meaning[8] ^= 1
	for name, bad := range map[string][]byte{
		"empty": nil, "cut short": b[:len(b)-1], "a bit flipped": flipped, "other features": meaning,
		"too long": make([]byte, maxLearned+1),
	} {
		if err := f.e.ImportLearned(bad); !errors.Is(err, ErrLearned) {
			t.Errorf("%s: %v", name, err)
		}
		if !bytes.Equal(f.export(), b) {
			t.Errorf("%s: refused, but something has changed", name)
		}
	}
}

// Behind the checksum the fuzzer finds what a bug or a forger would write.
func FuzzRestoreLearned(f *testing.F) {
	small := newFleet(f, 1, 0, 0)
	small.minutes(62, nil)
	l, err := small.e.Learned()
	if err != nil {
		f.Fatal(err)
	}
	body, err := l.body()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(uint32(0), []byte{1})
	f.Add(uint32(binary.Size(learnedShared{})), []byte{0xff, 0xff, 0xff, 0xff})
	f.Add(uint32(len(body)), []byte(nil))
	f.Fuzz(func(t *testing.T, at uint32, patch []byte) {
		b := slices.Clone(body[:min(int(at), len(body))])
		b = append(b, patch...)
		if len(b) < len(body) {
			b = append(b, body[len(b):]...)
		}
		g := newFleet(t, 1, 0, 0)
		if g.e.anomaly.restore(b) == nil {
			g.minutes(3, nil)
			g.export()
		}
	})
}

package capture

import (
	"bytes"
	"testing"
	"time"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
	"github.com/gopacket/gopacket/pcapgo"
)

// recording makes a capture file of small packets at the given times.
func recording(t *testing.T, times ...time.Time) []byte {
	t.Helper()
	var b bytes.Buffer
	w := pcapgo.NewWriterNanos(&b)
	if err := w.WriteFileHeader(snapLength, layers.LinkTypeEthernet); err != nil {
		t.Fatal(err)
	}
	for _, at := range times {
		info := gopacket.CaptureInfo{Timestamp: at, CaptureLength: 14, Length: 60}
		if err := w.WritePacket(info, make([]byte, 14)); err != nil {
			t.Fatal(err)
		}
	}
	return b.Bytes()
}

func TestReadTimes(t *testing.T) {
	want := []time.Time{time.Unix(1000, 1), time.Unix(1000, 2000), time.Unix(1001, 999_999_999)}
	file := recording(t, want...)
	for cut, n := range map[int]int{0: 3, 1: 2, 14: 2, 30: 2, 31: 1, len(file) - 24: 0, len(file): 0} {
		got, err := readTimes(bytes.NewReader(file[:len(file)-cut]))
		if err != nil || len(got) != n {
			t.Fatalf("%d bytes cut off: %d packets, %v; want %d", cut, len(got), err, n)
		}
		for i := range got {
			if !got[i].Equal(want[i]) {
				t.Errorf("packet %d at %v, want %v", i, got[i], want[i])
			}
		}
	}
	if _, err := readTimes(bytes.NewReader([]byte("this is no capture file, is it?"))); err == nil {
		t.Error("took nonsense for a capture")
	}
}

package packet_test

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/gopacket/gopacket/pcapgo"
)

// capturedFrames returns the frames of all captures in testdata.
func capturedFrames(t testing.TB) [][]byte {
	t.Helper()
	names, err := filepath.Glob("testdata/*.pcap")
	if err != nil || len(names) < 3 {
		t.Fatalf("captures in testdata: %v, %v", names, err)
	}
	var frames [][]byte
	for _, name := range names {
		f, err := os.Open(name)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		r, err := pcapgo.NewReader(f)
		if err != nil {
			t.Fatal(err)
		}
		for {
			frame, _, err := r.ReadPacketData()
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
			frames = append(frames, frame)
		}
	}
	return frames
}

package oftest

import (
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"time"

	of "github.com/platelet-sdn/platelet/controller/openflow"
)

// probe is the EtherType of frames that tell us that the switch has dealt
// with everything that came before; they leave by probePort.
const (
	probe     uint16 = 0x88b6
	probePort uint32 = 4
)

// probeFlow sends probes on.
func probeFlow() of.Flow {
	return of.Flow{Priority: 65535, Cookie: 0xfffe, Match: of.Match{of.EthType(probe)},
		Instructions: of.Instructions{Actions: []of.Action{of.Output{Port: probePort}}}}
}

// wire sends frames into the real switch and reads what comes out.
type wire struct {
	*rig
	read map[uint32]int64 // how much of each port's capture was read
	now  time.Time
}

// newWire stops the real switch's clock, which only pass moves.
func newWire(r *rig) *wire {
	r.must("time/stop")
	return &wire{rig: r, read: map[uint32]int64{}, now: time.Unix(1000, 0)}
}

func (w *wire) clock() time.Time { return w.now }

// pass lets time pass on both switches.
func (w *wire) pass(d time.Duration) {
	w.now = w.now.Add(d)
	// In one leap: the clock is all that matters here.
	w.must("time/warp", fmt.Sprint(d.Milliseconds()))
}

// send puts a frame into a port, waits until the switch is done with it and
// returns the frames that left, by port, other than probes.
func (w *wire) send(port uint32, data []byte) map[uint32][][]byte {
	name := fmt.Sprintf("p%d", port)
	w.must("netdev-dummy/receive", name, hex.EncodeToString(data))
	w.must("netdev-dummy/receive", name, hex.EncodeToString(frame(w.t, Packet{EthType: probe})))
	out := map[uint32][][]byte{}
	for deadline := time.Now().Add(20 * time.Second); !w.probed(out); {
		if time.Now().After(deadline) {
			w.t.Fatal("the switch does not forward")
		}
		time.Sleep(50 * time.Microsecond)
	}
	for _, p := range ports {
		out[p] = append(out[p], w.captured(p)...)
	}
	return out
}

// probed reports whether the probe has left, which is after all that came
// before it; what else left by its port goes to out.
func (w *wire) probed(out map[uint32][][]byte) bool {
	seen := false
	for _, f := range w.captured(probePort) {
		if binary.BigEndian.Uint16(f[12:]) == probe {
			seen = true
			continue
		}
		out[probePort] = append(out[probePort], f)
	}
	return seen
}

// captured returns the frames that have left a port since it was last asked.
func (w *wire) captured(port uint32) (out [][]byte) {
	f, err := os.Open(filepath.Join(w.sw.Dir, fmt.Sprintf("p%d.pcap", port)))
	if err != nil {
		w.t.Fatal(err)
	}
	defer f.Close()
	const fileHeader, recordHeader = 24, 16
	at := max(w.read[port], fileHeader)
	for {
		var h [recordHeader]byte
		if _, err := f.ReadAt(h[:], at); err != nil {
			break
		}
		data := make([]byte, binary.NativeEndian.Uint32(h[8:]))
		if _, err := f.ReadAt(data, at+recordHeader); err != nil {
			break // not written wholly yet
		}
		out = append(out, data)
		at += recordHeader + int64(len(data))
	}
	w.read[port] = at
	return out
}

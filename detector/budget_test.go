package detector

import (
	"runtime"
	"testing"

	"github.com/platelet-sdn/platelet/flowcollector/flow"
)

// A million hosts, each of which is seen in samples, one in sixteen of them when it
// opens a conversation that is answered, within a gigabyte of heap, at default
// settings: the budget of the controller's design.
func TestAMillionHostsFitIntoAGigabyte(t *testing.T) {
	if testing.Short() {
		t.Skip("takes more than a million records")
	}
	const hosts, budget = 1_000_000, 1 << 30
	before := heap()
	cfg := DefaultConfig()
	e, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	e.Advance(t0 - 3600*sec)
	batch := make([]flow.Record, 0, 3000)
	for n := 0; n < hosts; n++ {
		now := t0 + int64(n)*10_000
		r := syn(clientAddr(n), hostAddr(n&4095), 443)
		r.Time = now
		sample := r
		sample.Source, sample.Signal, sample.Rate, sample.TCPFlags = flow.SourceSFlow, flow.SignalNone, 64, flow.ACK
		if n%16 == 0 {
			a := answer(r, flow.SignalAccept)
			a.Time = now
			batch = append(batch, r, a)
		}
		batch = append(batch, sample)
		if len(batch) > cap(batch)-3 {
			e.Observe(batch)
			e.Advance(now)
			batch = batch[:0]
		}
	}
	used := heap() - before
	st := e.Stats()
	t.Logf("%d hosts, %d edges, %d windows: %d MB of heap, %.0f bytes a host", st.HostsTracked, st.Edges, st.Windows, used>>20, float64(used)/hosts)
	if st.HostsTracked < hosts*99/100 {
		t.Errorf("%d of %d hosts are known", st.HostsTracked, hosts)
	}
	if used > budget {
		t.Errorf("%d MB, the budget is %d MB", used>>20, budget>>20)
	}
	runtime.KeepAlive(e)
}

func heap() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

package detector

import (
	"testing"

	"github.com/platelet-sdn/platelet/flowcollector/flow"
)

func TestSYNFloodSpoofed(t *testing.T) {
	s := newSim(t).warm()
	n := 0
	for i := range 5000 {
		r := syn(clientAddr(i*7919), hostAddr(2), 80)
		s.at(int64(i)*ms/100, r)
		n++
	}
	s.run(sec)
	f := s.only(KindSYNFlood)
	if d := f.Time - t0; d > 10*ms {
		t.Errorf("decided after %d us", d/1000)
	}
	if !f.Spoofed || f.Host.IsValid() || f.DstPort != 80 || f.Victims[0] != hostAddr(2) {
		t.Errorf("finding %+v", f)
	}
}

func TestSYNFloodOneSource(t *testing.T) {
	s := newSim(t).warm()
	for i := range 5000 {
		r := syn(hostAddr(1), hostAddr(2), 80)
		s.at(int64(i)*ms/100, r)
		s.at(int64(i)*ms/100+ms/10, answer(r, flow.SignalAccept))
	}
	s.run(sec)
	f := s.only(KindSYNFlood)
	if f.Spoofed || f.Host != hostAddr(1) {
		t.Errorf("finding %+v", f)
	}
}

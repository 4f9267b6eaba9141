package detector

import (
	"testing"

	"github.com/platelet-sdn/platelet/flowcollector/flow"
)

func TestPortScanRefused(t *testing.T) {
	s := newSim(t)
	for i := range 1000 {
		s.probe(int64(i)*ms, hostAddr(1), hostAddr(2), uint16(i+1), ms/5, flow.SignalRefuse)
	}
	s.run(2 * sec)
	f := s.only(KindPortScan)
	if d := f.Time - t0; d > 4*ms {
		t.Errorf("decided after %d us, want at the fourth refusal", d/1000)
	}
	if f.Host != hostAddr(1) || f.InPort != 1 || f.Victims[0] != hostAddr(2) || !f.Sequential || f.Technique != "T1046" {
		t.Errorf("finding %+v", f)
	}
}

func TestPortScanSilent(t *testing.T) {
	s := newSim(t)
	for i := range 1000 {
		s.probe(int64(i)*ms, hostAddr(1), hostAddr(2), uint16(i+1), 0, flow.SignalNone)
	}
	s.run(2 * sec)
	f := s.only(KindPortScan)
	if d := f.Time - t0; d > 60*ms {
		t.Errorf("decided after %d ms, want the cap on unanswered contacts to do it", d/ms)
	}
}

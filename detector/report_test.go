package detector

import (
	"slices"
	"testing"
)

func TestKindsAreComplete(t *testing.T) {
	seen := map[Kind]bool{}
	for _, k := range Kinds() {
		if k.Kind == "" || k.About == "" || k.Severity == "" || k.Family == "" || k.Source == "" || seen[k.Kind] {
			t.Errorf("%+v is incomplete or there twice", k)
		}
		seen[k.Kind] = true
	}
	if _, ok := Kind("nonsense").Info(); ok {
		t.Error("an unknown kind is known")
	}
}

// deaf owns findings and counts those that are over.
type deaf struct{ over int }

func (d *deaf) resolved(findingKey) { d.over++ }

func say(s *sim, d *deaf, kind Kind, score float64, sequential bool) {
	host := addressOf(hostAddr(1))
	s.e.ledger.report(&report{key: findingKey{kind: kind, host: host}, state: StateFiring, first: s.e.clock.now, owner: d,
		host: host, score: score, confidence: 1, sequential: sequential})
}

// One vote alerts; two of different families may contain; two of one family
// are one vote; what is unlikely is none.
func TestTwoFamiliesMayContain(t *testing.T) {
	for _, c := range []struct {
		name  string
		votes func(s *sim, d *deaf)
		may   []Kind
	}{
		{"one vote", func(s *sim, d *deaf) { say(s, d, KindBeacon, 0.99, false) }, nil},
		{"a sequential test", func(s *sim, d *deaf) { say(s, d, KindPortScan, 0.99, true) }, []Kind{KindPortScan}},
		{"two families", func(s *sim, d *deaf) {
			say(s, d, KindBeacon, 0.99, false)
			say(s, d, KindExfiltration, 0.96, false)
		}, []Kind{KindBeacon, KindExfiltration}},
		{"one family", func(s *sim, d *deaf) {
			say(s, d, KindBruteForce, 0.99, false)
			say(s, d, KindExfiltration, 0.99, false)
		}, nil},
		{"an unlikely one", func(s *sim, d *deaf) {
			say(s, d, KindBeacon, 0.99, false)
			say(s, d, KindAnomaly, 0.94, false)
		}, nil},
		{"that becomes likely", func(s *sim, d *deaf) {
			say(s, d, KindBeacon, 0.99, false)
			say(s, d, KindAnomaly, 0.5, false)
			say(s, d, KindAnomaly, 0.97, false)
		}, []Kind{KindAnomaly, KindBeacon}},
		{"a vote for a scan's host", func(s *sim, d *deaf) {
			say(s, d, KindPortScan, 0.99, true)
			say(s, d, KindBeacon, 0.99, false)
		}, []Kind{KindBeacon, KindPortScan}},
	} {
		t.Run(c.name, func(t *testing.T) {
			s, d := newSim(t).warm(), &deaf{}
			s.run(sec)
			c.votes(s, d)
			var may, told []Kind
			for _, f := range s.e.Active() {
				if f.MayContain() {
					may = append(may, f.Kind)
				}
			}
			for _, f := range s.fired() {
				if f.MayContain() && !slices.Contains(told, f.Kind) {
					told = append(told, f.Kind)
				}
			}
			slices.Sort(may)
			slices.Sort(told)
			if !slices.Equal(may, c.may) || !slices.Equal(told, c.may) {
				t.Errorf("%v may contain, %v were told of, want %v", may, told, c.may)
			}
			s.run(100 * sec)
			if n := len(s.e.Active()); n != 0 || d.over == 0 || len(s.e.ledger.byHost) != 0 {
				t.Errorf("%d findings stay, %d were ended, %d hosts are held", n, d.over, len(s.e.ledger.byHost))
			}
		})
	}
}

// The records behind a finding are kept, the latest of them.
func TestExcerpt(t *testing.T) {
	s := newSim(t).warm()
	for i := range 40 {
		s.probe(int64(i)*10*ms, hostAddr(1), hostAddr(2), uint16(i+1), ms, 3)
	}
	s.run(2 * sec)
	s.only(KindPortScan)
	f := s.e.Active()[0]
	if len(f.Excerpt) != maxExcerpt {
		t.Fatalf("%d records kept", len(f.Excerpt))
	}
	for i, r := range f.Excerpt {
		if want := uint16(40 - maxExcerpt + 1 + i); r.SrcPort != want {
			t.Errorf("record %d is of port %d, want %d", i, r.SrcPort, want)
		}
	}
}

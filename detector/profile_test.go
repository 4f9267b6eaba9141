package detector

import (
	"math"
	"testing"
)

// usual is a feature of a profile.
func (p *Profile) usual(t *testing.T, name string) Usual {
	t.Helper()
	for _, u := range p.Features {
		if u.Feature == name {
			return u
		}
	}
	t.Fatalf("%s is not in %+v", name, p)
	return Usual{}
}

// What a finding says was normal is what the host did: how much, since when, in
// what role, and compared with others of it.
func TestProfile(t *testing.T) {
	t.Parallel()
	f := learned(t)
	w := f.e.anomaly
	device := w.profile(f.members[40].addr)
	if device.Role != "device" || !device.Inside || device.Minutes < 24*60 || device.Since != t0 && device.Since != t0+windowLength {
		t.Errorf("role %s, %d minutes, since %d", device.Role, device.Minutes, device.Since-t0)
	}
	opens := device.usual(t, "opens")
	if math.Abs(opens.Value-6) > 0.5 || opens.Unit != "1/min" || opens.Low > 6 || opens.High < 6 || math.Abs(opens.Peers-6) > 1 {
		t.Errorf("a device that begins six conversations a minute: %+v", opens)
	}
	server := w.profile(f.members[30].addr)
	served := server.usual(t, "served")
	if server.Role != "server" || served.Value < 5 || served.Low >= served.Value || served.High <= served.Value || served.Low < 0 {
		t.Errorf("a %s: %+v", server.Role, served)
	}
	for name, h := range map[string]address{"a stranger inside": addressOf(hostAddr(9999)), "outside": addressOf(mustAddr("203.0.113.1"))} {
		if p := w.profile(h); p.Features != nil || p.Minutes != 0 || p.Role != "unknown" || p.Inside != (name == "a stranger inside") {
			t.Errorf("%s: %+v", name, p)
		}
	}
	restored := f.resume(t, f.export()).e.anomaly.profile(f.members[40].addr)
	if restored.Since != device.Since || restored.usual(t, "opens") != opens {
		t.Errorf("after a restart %+v, before %+v", restored, device)
	}
	// What sampling hides is not said to be zero.
	_, b := w.hosts.Find(f.members[40].addr)
	b.partial = true
	for _, u := range w.profile(f.members[40].addr).Features {
		if u.Feature == "opens" || u.Feature == "failed" {
			t.Errorf("%s is hidden by sampling", u.Feature)
		}
	}
}

// A finding carries the profile of its host, or of its victim where the attacker
// is not known, as it was before.
func TestFindingCarriesProfile(t *testing.T) {
	t.Parallel()
	s := newSim(t)
	client, server := hostAddr(1), hostAddr(2)
	for now := int64(0); now < 2*hour; now += 10 * sec {
		r := syn(client, server, 443)
		r.SrcPort = uint16(30_000 + now/sec%20_000)
		s.connection(now, r, ms, 50*ms)
	}
	for i := range 50 {
		s.probe(2*hour+int64(i)*ms, client, server, uint16(1000+i), ms/5, 3)
	}
	for i := range 3000 {
		s.at(2*hour+100*ms+int64(i)*ms/100, syn(clientAddr(i), server, 80))
	}
	s.playback()
	seen := map[Kind]bool{}
	for _, f := range s.fired() {
		seen[f.Kind] = true
		want, feature := client, "opens"
		if f.Kind == KindSYNFlood {
			want, feature = server, "served"
		}
		if f.Usual == nil || f.Usual.Host != want || f.Usual.Minutes < 100 {
			t.Fatalf("%s: %+v", f.Kind, f.Usual)
		}
		if u := f.Usual.usual(t, feature); math.Abs(u.Value-6) > 0.5 {
			t.Errorf("%s: usually %+v, want 6", f.Kind, u)
		}
	}
	if !seen[KindPortScan] || !seen[KindSYNFlood] {
		t.Errorf("found %v", seen)
	}
}

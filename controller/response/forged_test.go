package response

import (
	"errors"
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/platelet-sdn/platelet/flowcollector/flow"
	"github.com/platelet-sdn/platelet/segmentation"
	"github.com/platelet-sdn/platelet/topology"
)

// A scanner among decoys is one station, and takes one quarantine of the budget;
// what is known to be behind it goes on.
func TestDecoysAreOneStation(t *testing.T) {
	p := testPlace()
	mac := flow.MAC{2, 0, 0, 0, 0, 9}
	at := topology.PortID{Switch: "s1", Port: "p9"}
	p.s.Hosts = map[netip.Addr]topology.Host{host(90): {Addr: host(90), MAC: mac, Port: at, Bound: true}}
	for n := byte(20); n < 30; n++ { // seen, and never answered there: nobody's own MAC has so many
		p.s.Hosts[host(n)] = topology.Host{Addr: host(n), MAC: mac, Port: at}
	}
	r := newRig(t, testConfig())
	r.where = p
	for n := byte(20); n < 30; n++ {
		f := scanBy(n, 9, 1)
		f.HostMAC = mac
		r.consider(t.Context(), f)
	}
	if len(r.lives) != 1 || len(r.led.rules) != 1 {
		t.Fatalf("%d containments stand, rules of %d", len(r.lives), len(r.led.rules))
	}
	var d *Decision
	for id := range r.lives {
		d = r.all[id]
	}
	if !d.Target.Forged || d.Target.MAC != mac || d.Target.Host.IsValid() || d.State != StateApplied {
		t.Errorf("contained: %s, %+v", d.State, d.Target)
	}
	if spared := d.spared(); len(spared) == 0 || spared[0] != host(90) {
		t.Errorf("spares %v", spared)
	}
	refused := 0
	for _, e := range r.Decisions() {
		if e.State == StateRefused {
			refused++
		}
	}
	if refused > 0 {
		t.Errorf("%d of the decoys were refused for the budget", refused)
	}
	// Who is spared can still come to be contained.
	f := scanBy(90, 9, 1)
	f.HostMAC = mac
	r.consider(t.Context(), f)
	if e := r.all[r.id(t, 90)]; e.State != StateApplied || e.Target.Forged {
		t.Errorf("the spared address attacks, and is %s: %+v", e.State, e.Target)
	}
	// Traffic of the station is the attack's, that of the spared address is not.
	w := r.lives[d.ID].w
	record := func(src byte, s flow.Signal) flow.Record {
		return flow.Record{Time: w.since + 1, Source: flow.SourceTap, Signal: s, Rate: 1, Packets: 1, SrcMAC: mac, Src: host(src), Dst: host(8), InPort: 9}
	}
	r.watch.Observe([]flow.Record{record(25, flow.SignalDropped), record(77, flow.SignalAttempt), record(90, flow.SignalAttempt)})
	if dropped, passed := w.dropped.Load(), w.passed.Load(); dropped != 1 || passed != 1 {
		t.Errorf("%d dropped and %d passed, want one of each", dropped, passed)
	}
}

// Hosts behind a router are known from the answers that they got: each has its own
// quarantine, and the router none.
func TestRoutedHostsAreManyStations(t *testing.T) {
	p := testPlace()
	mac := flow.MAC{2, 0, 0, 0, 0, 9}
	p.s.Hosts = map[netip.Addr]topology.Host{}
	for n := byte(20); n < 30; n++ {
		p.s.Hosts[host(n)] = topology.Host{Addr: host(n), MAC: mac, Bound: true, Port: topology.PortID{Switch: "s1", Port: "p9"}}
	}
	r := newRig(t, testConfig())
	r.where = p
	var have string
	for n := byte(20); n < 23; n++ {
		f := scanBy(n, 9, 1)
		f.HostMAC = mac
		r.consider(t.Context(), f)
		d := r.all[r.id(t, n)]
		have += fmt.Sprint(d.State, " ", d.Target.Forged, " ")
	}
	if have != "applied false applied false applied false " {
		t.Errorf("decisions: %s", have)
	}
}

// Addresses that a host forges do not make it a router; those of a router's hosts do.
func TestForgedNeighboursMakeNoRouter(t *testing.T) {
	mac := flow.MAC{2, 0, 0, 0, 0, 9}
	at := topology.PortID{Switch: "s1", Port: "p9"}
	off := func(n byte) netip.Addr { return netip.AddrFrom4([4]byte{198, 51, 100, n}) }
	for name, c := range map[string]struct {
		others func(n byte) netip.Addr
		bound  bool
		own    bool
	}{
		"forged neighbours": {func(n byte) netip.Addr { return host(20 + n) }, false, true},
		"its hosts":         {func(n byte) netip.Addr { return host(20 + n) }, true, false},
		"from far away":     {off, false, false},
	} {
		t.Run(name, func(t *testing.T) {
			p := testPlace()
			p.s.Hosts = map[netip.Addr]topology.Host{host(9): {Addr: host(9), MAC: mac, Port: at, Bound: true}, host(10): {Addr: host(10), MAC: mac, Port: at, Bound: true}}
			for n := range byte(9) {
				p.s.Hosts[c.others(n)] = topology.Host{Addr: c.others(n), MAC: mac, Port: at, Bound: c.bound}
			}
			r := newRig(t, testConfig())
			r.where = p
			f := scanBy(9, 9, 1)
			f.HostMAC = mac
			r.consider(t.Context(), f)
			own, spares := false, false
			for _, in := range r.only(t).Intents {
				own = own || in.Action == segmentation.ActionDeny && in.Match == segmentation.Match{InPort: "p9", SrcMAC: mac}
				spares = spares || in.Action == segmentation.ActionAllow && in.Match.SrcMAC == mac && in.Match.Src.Contains(host(10))
			}
			if own != c.own || own && !spares {
				t.Errorf("the whole station is cut off: %v, sparing its other address: %v", own, spares)
			}
		})
	}
}

// Who is exempt is left alone among forgers too, and a switch that does not take the
// cut keeps what it has.
func TestStationCutThatIsNot(t *testing.T) {
	mac := flow.MAC{2, 0, 0, 0, 0, 9}
	cfg := testConfig()
	cfg.Exempt = []Exemption{{Hosts: []netip.Prefix{prefix("10.0.0.22/32")}}}
	r := newRig(t, cfg)
	find := func(n byte) Decision {
		f := scanBy(n, 9, 1)
		f.HostMAC = mac
		r.consider(t.Context(), f)
		all := r.Decisions()
		return all[len(all)-1]
	}
	// Two masks of one station, each in a quarantine of its own.
	for n := byte(20); n < 22; n++ {
		f := scanBy(n, 9, 1)
		d, ok := Propose(cfg, f, Circumstances{})
		if !ok {
			t.Fatal("nothing is proposed")
		}
		d.Target.Switch, d.Target.Port, d.Target.MAC = "s1", "p9", mac
		if !r.guardCompile(&d, f) {
			t.Fatal(d.lastVerdict())
		}
		r.apply(t.Context(), &d, time.Now(), func() {})
	}
	if d := find(22); d.State != StateRefused || d.Target.Forged {
		t.Errorf("an exempt host: %s, %+v", d.State, d.Target)
	}
	r.led.applyErr = errors.New("no room")
	if d := find(23); d.State != StateRolledBack || !d.Target.Forged || len(r.led.rules) != 2 {
		t.Errorf("refused by the switch: %s, rules of %d", d.State, len(r.led.rules))
	}
	r.led.applyErr = nil
	if d := find(24); d.State != StateApplied || !d.Target.Forged || len(r.led.rules) != 1 {
		t.Errorf("afterwards: %s, rules of %d", d.State, len(r.led.rules))
	}
}

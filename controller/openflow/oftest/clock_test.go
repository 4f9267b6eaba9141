package oftest

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	of "github.com/platelet-sdn/platelet/controller/openflow"
	"pgregory.net/rapid"
)

// rateLimits are meters of both kinds, with a burst and without.
func rateLimits() []of.Meter {
	return []of.Meter{
		{ID: 1, Flags: of.MeterPktps | of.MeterBurst | of.MeterStats, Rate: 2, Burst: 3},
		{ID: 2, Flags: of.MeterPktps | of.MeterStats, Rate: 4},
		{ID: 3, Flags: of.MeterKbps | of.MeterBurst | of.MeterStats, Rate: 1, Burst: 2},
		{ID: 4, Flags: of.MeterKbps | of.MeterStats, Rate: 3},
	}
}

// limited are flows that each send another protocol to a meter, and end at
// different times.
func limited() []of.Flow {
	var out []of.Flow
	for i, m := range rateLimits() {
		out = append(out, of.Flow{
			Priority: 10, Cookie: uint64(m.ID), IdleTimeout: uint16(5 * i), HardTimeout: uint16(20 * (i % 2)), Flags: of.FlagSendFlowRemoved,
			Match:        of.Match{of.EthType(EtherIPv4), of.IPProto(ProtoUDP), of.UDPDst(1000 + uint16(m.ID))},
			Instructions: of.Instructions{Meter: m.ID, Actions: []of.Action{of.Output{Port: outPort}}},
		})
	}
	return append(out, probeFlow())
}

// counted returns each flow that is left with its counters, and what meters
// have counted, as text.
func (w *wire) counted(v *Switch) (virtual, real []string, err error) {
	for _, r := range v.Rules() {
		if r.Cookie < 0xff {
			virtual = append(virtual, fmt.Sprintf("flow %d: %d packets, %d bytes", r.Cookie, r.Packets, r.Bytes))
		}
	}
	stats, err := w.conn.Flows(w.ctx, of.FlowFilter{Table: of.TableAll})
	if err != nil {
		return nil, nil, err
	}
	for _, s := range stats {
		if s.Cookie < 0xff {
			real = append(real, fmt.Sprintf("flow %d: %d packets, %d bytes", s.Cookie, s.Packets, s.Bytes))
		}
	}
	meters, err := w.conn.MeterCounters(w.ctx, of.MeterAll)
	if err != nil {
		return nil, nil, err
	}
	line := func(c of.MeterCounters) string {
		return fmt.Sprintf("meter %d of %d flows: %d packets, %d bytes, %d dropped, %d bytes", c.ID, c.Flows, c.Packets, c.Bytes, c.DroppedPackets, c.DroppedBytes)
	}
	for _, m := range meters {
		real = append(real, line(m))
		if c, ok := v.MeterCounters(m.ID); ok {
			virtual = append(virtual, line(c))
		}
	}
	slices.Sort(virtual)
	slices.Sort(real)
	return virtual, real, nil
}

// removals returns the flow-removed messages of the real switch so far.
func (w *wire) removals() (out []string) {
	for {
		select {
		case m := <-w.conn.Async():
			// Those that the test before deleted may still be reported.
			if r, err := of.DecodeFlowRemoved(m); err == nil && r.Reason != of.RemovedDelete {
				out = append(out, removal(r))
			}
		default:
			return out
		}
	}
}

func removal(r of.FlowRemoved) string {
	return fmt.Sprintf("flow %d: reason %d, %d packets, %d bytes", r.Cookie, r.Reason, r.Packets, r.Bytes)
}

// Meters let the same packets pass, flows count them and end when they do on
// the real switch, which says the same of it.
func TestMetersAndTimeoutsAsOpenVSwitchKeepsThem(t *testing.T) {
	w := newWire(newRig(t))
	removed := 0
	rapid.Check(t, func(rt *rapid.T) {
		g := gen{t: rt}
		v := New(Config{Ports: ports, Now: w.clock})
		w.renew(rt, v)
		var said, ended, endedReal []string
		for range 3 + g.n("steps", 20) {
			if g.chance("pause", 3) {
				d := pick(g, "for", 100*time.Millisecond, 450*time.Millisecond, 1300*time.Millisecond, 3700*time.Millisecond, 8300*time.Millisecond)
				w.must("revalidator/purge") // so that flows know when they were used
				w.pass(d)
				said = append(said, d.String())
				w.agree(rt, said, func() (virtual, real []string) {
					virtual, real, err := w.installed(v)
					if err != nil {
						rt.Fatal(err)
					}
					return virtual, real
				})
				w.must("revalidator/purge") // so that the datapath knows as well
			}
			if g.chance("change a meter", 8) {
				m := rateLimits()[g.n("which", 3)]
				m.Rate += uint32(g.n("rate", 3))
				said = append(said, m.String())
				if refused, err := w.commit(v, of.Tx{ModifyMeters: []of.Meter{m}}); err != nil || refused != nil {
					rt.Fatal(refused, err)
				}
			}
			p := UDP(endpoints()[0], endpoints()[1]).From(1)
			p.DstPort, p.Payload = 1000+uint16(1+g.n("flow", 3)), 10+g.n("payload", 200)
			data := frame(w.t, p)
			p.Length = len(data)
			res := v.Process(p)
			out := w.send(1, data)
			said = append(said, fmt.Sprintf("port %d, %d bytes", p.DstPort, p.Length))
			if got, want := len(res.Outputs()), len(out[outPort]); got != want {
				rt.Fatalf("%d left the virtual switch, %d the real one\n%s\n%s", got, want, &res, strings.Join(said, "\n"))
			}
		}
		w.must("revalidator/purge")
		w.agree(rt, said, func() (virtual, real []string) {
			virtual, real, err := w.counted(v)
			if err != nil {
				rt.Fatal(err)
			}
			for _, r := range v.Removed() {
				ended = append(ended, removal(r))
			}
			endedReal = append(endedReal, w.removals()...)
			slices.Sort(ended)
			slices.Sort(endedReal)
			return append(virtual, ended...), append(real, endedReal...)
		})
		removed += len(ended)
	})
	if removed == 0 {
		t.Error("no flow ever ended")
	}
}

// renew puts limited flows and their meters on both switches.
func (w *wire) renew(rt *rapid.T, v *Switch) {
	w.dial()
	if err := w.conn.SetAsync(w.ctx, of.Async{FlowRemoved: true}); err != nil {
		rt.Fatal(err)
	}
	if refused, err := w.program(v, nil); err != nil || refused != nil {
		rt.Fatal(refused, err)
	}
	have, err := w.conn.Meters(w.ctx)
	if err != nil {
		rt.Fatal(err)
	}
	var gone of.Tx
	for _, m := range have {
		gone.DeleteMeters = append(gone.DeleteMeters, m.ID)
	}
	if err := w.conn.Commit(w.ctx, gone); err != nil {
		rt.Fatal(err)
	}
	tx := of.Tx{AddMeters: rateLimits()}
	for _, f := range limited() {
		tx.Flows = append(tx.Flows, of.FlowMod{Flow: f})
	}
	if refused, err := w.commit(v, tx); err != nil || refused != nil {
		rt.Fatal(refused, err)
	}
	w.must("revalidator/purge")
	w.removals()
	v.Removed()
}

// agree waits until both sides say the same: the real switch looks after its
// flows when it gets round to it.
func (w *wire) agree(rt *rapid.T, said []string, look func() (virtual, real []string)) {
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(time.Millisecond) {
		virtual, real := look()
		if slices.Equal(virtual, real) {
			return
		}
		if time.Now().After(deadline) {
			rt.Fatalf("virtual %q\nreal    %q\nafter\n%s", virtual, real, strings.Join(said, "\n"))
		}
	}
}

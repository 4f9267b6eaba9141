package oftest

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
	"time"

	of "github.com/platelet-sdn/platelet/controller/openflow"
	"pgregory.net/rapid"
)

// wirePacket draws a packet that frame can build and that comes in without
// anything that only the pipeline knows.
func (g gen) wirePacket() Packet {
	for {
		p := g.packet()
		p.Metadata, p.TunID, p.Regs = 0, 0, [16]uint32{}
		echo := p.isICMPv4() && p.ICMPType != 3 || p.isICMPv6() && p.ICMPType >= 128 && !p.isND(ndSolicit, ndAdvert)
		if p.Fragment == NotFragment && (p.isL4(ProtoTCP) || p.isL4(ProtoUDP) || echo) {
			p.Payload = 60 + g.n("payload", 100)        // no padding
			p.InPort = pick(g, "in_port", ports[:3]...) // probes leave by the last one
			return p
		}
	}
}

// Random rule sets and real packets: what leaves the real switch is byte for
// byte what leaves the virtual one, and the trackers say the same.
func TestRandomRulesAsOpenVSwitchForwards(t *testing.T) {
	w := newWire(newRig(t))
	sent, left := 0, 0
	first := New(Config{Ports: ports, Now: w.clock})
	w.furnish(first)
	rapid.Check(t, func(rt *rapid.T) {
		g := gen{t: rt, untagged: true}
		g.stateful = g.chance("stateful", 2)
		v := first.clone()
		v.tracker = newTracker(0)
		packets := make([]Packet, 10)
		for i := range packets {
			packets[i] = g.wirePacket()
		}
		flows, groups := append(g.flows(packets), probeFlow()), g.groups()
		text := rulesText(flows, groups)
		refused, err := w.program(v, flows, groups...)
		if err != nil {
			rt.Fatalf("%v\n%s", err, text)
		}
		if refused != nil {
			return
		}
		w.pass(time.Second) // meters are full again
		w.must("revalidator/purge")
		w.must("dpctl/flush-conntrack")
		for _, p := range packets {
			data := frame(t, p)
			p.Length = len(data)
			res := v.Process(p)
			if len(res.Ambiguous()) > 0 {
				return // and what follows depends on it
			}
			if err := w.sameFrames(&res, w.send(p.InPort, data)); err != nil {
				rt.Fatalf("%v\npacket: %s\n%s\n%s", err, p, &res, text)
			}
			sent++
			left += len(res.Outputs())
		}
	})
	t.Logf("%d packets went in, %d came out", sent, left)
}

// sameFrames compares what left both switches, port by port.
func (w *wire) sameFrames(res *Result, out map[uint32][][]byte) error {
	virtual := map[uint32][][]byte{}
	for _, e := range res.Effects {
		if o, ok := e.(Output); ok {
			virtual[o.Port] = append(virtual[o.Port], frame(w.t, o.Packet))
		}
	}
	var wrong []string
	for _, port := range ports {
		if !bytes.Equal(bytes.Join(virtual[port], nil), bytes.Join(out[port], nil)) {
			wrong = append(wrong, fmt.Sprintf("port %s:\nvirtual %x\nreal    %x", of.PortText(port), virtual[port], out[port]))
		}
	}
	if wrong != nil {
		return fmt.Errorf("%s", strings.Join(wrong, "\n"))
	}
	return nil
}

package oftest

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	of "github.com/platelet-sdn/platelet/controller/openflow"
)

// effectsOf returns effects in the words of datapath.
func effectsOf(effects []Effect) (out []string) {
	for _, e := range effects {
		switch e := e.(type) {
		case Output:
			out = append(out, fmt.Sprintf("output %d %s", e.Port, onTheWire(e.Packet)))
		case Metered:
			out = append(out, "meter")
		case ToController:
			out = append(out, "controller")
		}
	}
	return out
}

// compare traces a packet on both switches and returns how they differ.
func (r *rig) compare(v *Switch, p Packet, next ...CTState) error {
	args := []string{bridge, p.String()}
	for _, s := range next {
		args = append(args, "--ct-next", strings.ReplaceAll(s.String(), "|", ","))
	}
	text, err := r.ctl.call("ofproto/trace", args...)
	if err != nil {
		log, _ := os.ReadFile(filepath.Join(r.sw.Dir, "ovs-vswitchd.log"))
		return fmt.Errorf("%w\npacket: %s, ct-next %v\n%s", err, p, next, log[max(0, len(log)-1000):])
	}
	res := v.Trace(p, next...)
	if err := differ(&res, text); err != nil {
		return fmt.Errorf("%w\npacket: %s, ct-next %v\n--- virtual\n%s--- real\n%s", err, p, next, &res, text)
	}
	return nil
}

func differ(res *Result, text string) error {
	tr, err := parseTrace(text)
	if err != nil {
		return err
	}
	if got := visitsOf(res.Steps); !slices.Equal(got, tr.visits) {
		return fmt.Errorf("rules: virtual %v, real %v", got, tr.visits)
	}
	i := slices.IndexFunc(res.Effects, func(e Effect) bool {
		d, ok := e.(Dropped)
		return ok && d.Why != noFlow
	})
	if (i >= 0) != (tr.failed != "") {
		return fmt.Errorf("translation failed: virtual %v, real %q", i >= 0, tr.failed)
	}
	if tr.failed != "" {
		return nil
	}
	var real []string
	for i, final := range tr.finals {
		want, err := ParsePacket(final)
		if err != nil {
			return fmt.Errorf("final flow %q: %w", final, err)
		}
		if got, want := comparable(res.Finals[i]), comparable(want); got != want {
			return fmt.Errorf("final flow of pass %d: virtual %s, real %s", i+1, got, want)
		}
		start, err := ParsePacket(tr.starts[i])
		if err != nil {
			return fmt.Errorf("flow %q: %w", tr.starts[i], err)
		}
		part, err := datapath(start, tr.actions[i])
		if err != nil {
			return err
		}
		real = append(real, part...)
	}
	real = slices.DeleteFunc(real, func(s string) bool { return s == "recirc" || strings.HasPrefix(s, "ct") })
	if got := effectsOf(res.Effects); !slices.Equal(got, real) {
		return fmt.Errorf("effects:\nvirtual %q\nreal    %q", got, real)
	}
	return nil
}

// comparable forgets what a trace does not print.
func comparable(p Packet) Packet {
	p.Length, p.ICMPID, p.Quoted, p.CT.Orig = 0, 0, Tuple{}, Tuple{}
	p.Seq, p.Ack, p.Window, p.Payload = 0, 0, 0, 0
	return p
}

func TestTraceOfSimpleFlows(t *testing.T) {
	r := newRig(t)
	v := New(Config{Ports: ports})
	flows := []of.Flow{
		{Priority: 10, Cookie: 1, Match: of.Match{of.EthType(EtherARP)}, Instructions: of.Instructions{Actions: []of.Action{of.Resubmit{Table: 1}, of.Output{Port: 2}}}},
		{Priority: 5, Cookie: 2, Match: of.Match{of.EthType(EtherIPv4)}, Instructions: of.Instructions{Actions: []of.Action{of.DecTTL{}, of.Output{Port: 3}, of.PushVLAN{EtherType: EtherVLAN}, of.Output{Port: 4}}}},
	}
	if refused, err := r.program(v, flows); err != nil || refused != nil {
		t.Fatal(refused, err)
	}
	for _, text := range []string{"arp,in_port=1", "tcp,in_port=1,nw_src=1.2.3.4,tp_dst=80,nw_ttl=64", "tcp6,in_port=2,ipv6_src=fe80::1", "icmp,in_port=3,nw_ttl=1"} {
		p, err := ParsePacket(text)
		if err != nil {
			t.Fatal(err)
		}
		if err := r.compare(v, p); err != nil {
			t.Error(err)
		}
	}
}

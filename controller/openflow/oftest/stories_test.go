package oftest

import (
	"net/netip"
	"strings"
	"testing"
	"time"
)

// line is a packet of a story, and what both switches must make of it: the
// state that show wrote, "committed" for what the policy lets in, "dropped",
// or a pause.
type line struct {
	p     Packet
	want  string
	pause time.Duration
}

// stories are told on "commit what is allowed": port 1 may begin
// connections, port 2 may answer.
func stories() map[string][]line {
	addr := netip.MustParseAddrPort
	a, b := addr("10.0.0.1:1024"), addr("10.0.0.2:80")
	out := func(flags uint16, want string) line { return line{p: TCP(a, b, flags).From(1), want: want} }
	in := func(flags uint16, want string) line { return line{p: TCP(b, a, flags).From(2), want: want} }
	echo := func(t uint8, from, to netip.AddrPort, port uint32, want string) line {
		p := ICMP(from.Addr(), to.Addr(), t, 0).From(port)
		p.ICMPID = 9
		return line{p: p, want: want}
	}
	unreachable := ICMP(netip.MustParseAddr("10.0.0.9"), a.Addr(), 3, 3).From(2)
	unreachable.Quoted = Tuple{Src: a.Addr(), Dst: b.Addr(), Proto: ProtoUDP, SrcPort: a.Port(), DstPort: b.Port()}
	pause := func(d time.Duration) line { return line{pause: d} }
	const est, rpl = "est|trk zone 1 mark 0x1234", "est|rpl|trk zone 1 mark 0x1234"
	return map[string][]line{
		"handshake and end": {out(SYN, "committed"), in(SYN|ACK, rpl), out(ACK, est), in(ACK|PSH, rpl),
			out(FIN|ACK, est), in(FIN|ACK, rpl), out(ACK, est), pause(31 * time.Second), in(ACK, "dropped")},
		"a retransmitted SYN is still new": {out(SYN, "committed"), out(SYN, "committed"), out(SYN, "committed"), in(SYN|ACK, rpl)},
		"a SYN after the end is new":       {out(SYN, "committed"), in(RST|ACK, rpl), out(SYN, "committed")},
		"answers alone begin nothing":      {in(SYN|ACK, "dropped"), in(ACK, "dropped"), in(SYN, "dropped"), out(SYN, "committed")},
		"picked up in the middle":          {out(ACK, "committed"), in(ACK, rpl), out(ACK|PSH, est)},
		"flags that nobody sends":          {in(SYN|FIN, "dropped"), in(0, "dropped"), in(FIN, "dropped"), out(SYN, "committed"), in(SYN|FIN, "dropped")},
		"reset":                            {out(SYN, "committed"), in(RST|ACK, rpl), in(RST|ACK, rpl), pause(31 * time.Second), in(RST, "dropped")},
		"UDP both ways": {{p: UDP(a, b).From(1), want: "committed"}, {p: UDP(a, b).From(1), want: "committed"}, {p: UDP(b, a).From(2), want: rpl},
			{p: UDP(a, b).From(1), want: est}, pause(31 * time.Second), {p: UDP(b, a).From(2), want: "dropped"}},
		"echo": {echo(0, b, a, 2, "dropped"), echo(8, a, b, 1, "committed"), echo(0, b, a, 2, rpl), echo(8, b, a, 2, "dropped")},
		"an error about a connection": {{p: unreachable, want: "dropped"}, {p: UDP(a, b).From(1), want: "committed"},
			{p: unreachable, want: "rel|rpl|trk zone 1 mark 0x1234"}},
	}
}

func TestConntrackStories(t *testing.T) {
	w := newWire(newRig(t))
	for name, lines := range stories() {
		t.Run(name, func(t *testing.T) {
			w.t = t
			w.dial()
			v := New(Config{Ports: ports, Now: w.clock})
			if refused, err := w.program(v, pipelines()["commit what is allowed"]); err != nil || refused != nil {
				t.Fatal(refused, err)
			}
			w.must("revalidator/purge")
			w.must("dpctl/flush-conntrack")
			for i, l := range lines {
				if l.pause != 0 {
					w.pass(l.pause)
					continue
				}
				got, err := w.both(v, l.p)
				if err != nil {
					t.Fatalf("%d: %v", i, err)
				}
				if !tells(got, l.want) {
					t.Fatalf("%d: %s: got %q, want %s", i, l.p, got, l.want)
				}
			}
			if err := w.connections(v); err != nil {
				t.Fatal(err)
			}
		})
	}
}

// tells reports whether what left the switch is what a line wants.
func tells(got []string, want string) bool {
	switch want {
	case "dropped":
		return len(got) == 0
	case "committed": // the policy's own mark on new connections
		return len(got) == 1 && strings.HasPrefix(got[0], "port 3: "+CTState(newlyCommitted).String()+" ")
	}
	return len(got) == 1 && strings.HasPrefix(got[0], "port 3: "+want)
}

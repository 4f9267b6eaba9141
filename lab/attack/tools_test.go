package attack_test

import (
	"context"
	"math"
	"slices"
	"testing"
	"time"

	"github.com/platelet-sdn/platelet/lab/attack"
)

// pair is an attack by our own agents and the same by a tool.
type pair struct {
	ours, tool string
	// ports is how many destination ports it goes over, each once.
	ports int
}

// look is what packets have in common, whoever sent them.
type look struct {
	kind   string
	flags  uint8
	length int
}

// TestAgentsLookLikeTools plays each attack that a tool plays, too, and
// compares the packets that leave: their form, length, ports and targets, and
// of those that keep a rate the rate. Floods are as fast as the machine lets
// them be, and nmap chooses its own speed for ARP.
func TestAgentsLookLikeTools(t *testing.T) {
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Minute)
	defer cancel()
	s := newStage(ctx, t, "../first.clab.yml")
	const ports = 8000
	for _, p := range []pair{
		{"port-scan", "nmap-port-scan", ports}, {"port-scan-silent", "nmap-port-scan-silent", ports}, {"connect-scan", "nmap-connect-scan", ports},
		{"fin-scan", "nmap-fin-scan", ports}, {"null-scan", "nmap-null-scan", ports}, {"xmas-scan", "nmap-xmas-scan", ports},
		{"udp-scan", "nmap-udp-scan", ports}, {"host-sweep", "nmap-host-sweep", 1}, {"arp-sweep", "nmap-arp-sweep", 1},
		{"syn-flood", "hping3-syn-flood", 1}, {"syn-flood-direct", "hping3-syn-flood-direct", 1},
		{"udp-flood", "hping3-udp-flood", 1}, {"icmp-flood", "hping3-icmp-flood", 1},
	} {
		t.Run(p.ours, func(t *testing.T) {
			ours, tool := s.leaving(ctx, t, p.ours), s.leaving(ctx, t, p.tool)
			if a, b := typical(ours), typical(tool); a != b {
				t.Errorf("ours %+v, the tool's %+v", a, b)
			}
			for by, frames := range map[string][]frame{"ours": ours, "the tool's": tool} {
				seen, dst, src := map[uint16]bool{}, map[string]bool{}, map[string]bool{}
				for _, f := range frames {
					seen[f.port], dst[f.dst], src[f.src] = true, true, true
				}
				if p.ports == ports && (len(seen) < len(frames)*9/10 || seen[0]) || p.ports == 1 && len(seen) != 1 {
					t.Errorf("%s: %d ports in %d packets", by, len(seen), len(frames))
				}
				if sweep := p.ports == 1 && p.ours[len(p.ours)-5:] == "sweep"; sweep && len(dst) < 25 || !sweep && len(dst) != 1 {
					t.Errorf("%s: %d targets", by, len(dst))
				}
				if spoofed := p.ours == "syn-flood"; spoofed && len(src) < len(frames)/2 || !spoofed && len(src) != 1 {
					t.Errorf("%s: %d sources in %d packets", by, len(src), len(frames))
				}
			}
			a, b := rate(ours), rate(tool)
			t.Logf("%d packets at %.0f/s, the tool's %d at %.0f/s", len(ours), a, len(tool), b)
			// A tool that was kept waiting for the processor catches up.
			for again := 0; p.ports == ports && math.Abs(a-b) > b/5 && again < 3; again++ {
				a, b = rate(s.leaving(ctx, t, p.ours)), rate(s.leaving(ctx, t, p.tool))
				t.Logf("again: %.0f/s, the tool's %.0f/s", a, b)
			}
			if p.ports == ports && math.Abs(a-b) > b/5 {
				t.Errorf("rate %.0f/s, the tool's %.0f/s", a, b)
			}
		})
	}
}

// leaving captures what leaves the attacker, until that is enough.
func (s stage) leaving(ctx context.Context, t *testing.T, name string) []frame {
	t.Helper()
	a, err := attack.Find(name)
	if err != nil {
		t.Fatal(err)
	}
	enough := uint64(400)
	switch {
	case a.Flood:
		enough = 5000
	case a.Finding == "arp-sweep":
		enough = 50
	}
	return s.recordSome(ctx, t, a, attack.Settings{}, enough).sent
}

// typical is the form of most packets.
func typical(frames []frame) look {
	count := map[look]int{}
	var best look
	for _, f := range frames {
		l := look{f.kind, f.flags, f.length}
		if count[l]++; count[l] > count[best] {
			best = l
		}
	}
	return best
}

// rate is the median of the rates in windows of a hundred packets: tools
// pause at their start.
func rate(frames []frame) float64 {
	const window = 100
	var all []float64
	for i := window; i < len(frames); i += window {
		all = append(all, window/frames[i].at.Sub(frames[i-window].at).Seconds())
	}
	if len(all) == 0 {
		return 0
	}
	slices.Sort(all)
	return all[len(all)/2]
}

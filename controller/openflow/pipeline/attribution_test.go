package pipeline_test

import (
	"fmt"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/platelet-sdn/platelet/controller/openflow/pipeline"
	"github.com/platelet-sdn/platelet/flowcollector/flow"
	"github.com/platelet-sdn/platelet/flowcollector/netflow"
	"github.com/platelet-sdn/platelet/segmentation/policy"
)

// reports are the flow records that a lab's switch exports.
type reports struct {
	mu   sync.Mutex
	list []flow.Record
}

// collect has the samples of collector set 7 sent to us, and decodes them.
func (l *lab) collect() *reports {
	l.t.Helper()
	conn, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		l.t.Fatal(err)
	}
	l.ctl("--", "--id=@br", "get", "bridge", l.bridge, "--", "--id=@ipfix", "create", "IPFIX", fmt.Sprintf(`targets="%s"`, conn.LocalAddr()),
		"cache_active_timeout=0", "cache_max_flows=0",
		"--", "create", "Flow_Sample_Collector_Set", "id=7", "bridge=@br", "ipfix=@ipfix")
	out := &reports{}
	var wg sync.WaitGroup
	l.t.Cleanup(func() { conn.Close(); wg.Wait() })
	wg.Go(func() {
		d := netflow.NewDecoder(netflow.Config{})
		buf := make([]byte, 1<<16)
		for {
			n, from, err := conn.ReadFromUDPAddrPort(buf)
			if err != nil {
				return
			}
			list, err := d.Decode(nil, buf[:n], time.Now().UnixNano(), from)
			if err != nil {
				continue // before the templates
			}
			out.mu.Lock()
			out.list = append(out.list, list...)
			out.mu.Unlock()
		}
	})
	return out
}

// of counts the reports of a signal that name a rule.
func (r *reports) of(b *running, s flow.Signal, rule policy.RuleID) (n int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for i := range r.list {
		if id, ok := b.PolicyRule(r.list[i].Rule); ok && id == rule && r.list[i].Signal == s {
			n++
		}
	}
	return n
}

// What policies deny and what they log is reported with the rule: each
// connection that is logged, by what opens it, and a few of the packets that
// are denied.
func TestReportsNameTheRule(t *testing.T) {
	l := newLab(t, "at", 2)
	seen := l.collect()
	accepted := l.echo(1, 9000)
	b := l.start()
	if err := b.SetTap(l.ctx, pipeline.TapConfig{CollectorSet: 7, Domain: flow.TapDomain(3), Probability: map[flow.Signal]uint16{flow.SignalRefuse: 65535}}); err != nil {
		t.Fatal(err)
	}
	allow := l.rule("allow", policy.TierApplication, 1, policy.ActionAllow, 1, flow.ProtoTCP, 9000)
	watched := l.rule("watched", policy.TierApplication, 2, policy.ActionDeny, 1, flow.ProtoTCP, 9001)
	udp := l.rule("udp", policy.TierApplication, 3, policy.ActionAllow, 1, flow.ProtoUDP, 9002)
	deny := l.rule("deny", policy.TierBaseline, 1, policy.ActionDeny, 1, 0, 0)
	allow.log, watched.log, udp.log = true, true, true
	l.enforce(b, allow, watched, udp, deny)

	l.session(0, 1, 9000).flows(l)
	up := l.stream(0, 1, 9002, time.Millisecond)
	l.eventually("a thousand datagrams that nobody answers", func() bool { return up.received.Load() > 1000 })
	l.tries(l.met(b, "watched"), 0, 1, 9001, accepted)
	// Seldom ones come with enough packets.
	denied := l.stream(0, 1, 9003, 100*time.Microsecond)
	l.eventually("reports of what is denied", func() bool { return seen.of(b, flow.SignalDropped, deny.id()) > 0 })
	denied.stop()
	l.eventually("the report of a connection", func() bool { return seen.of(b, flow.SignalLogged, allow.id()) > 0 })
	l.eventually("reports of denied openings", func() bool { return seen.of(b, flow.SignalDropped, watched.id()) >= 3 })
	if n := seen.of(b, flow.SignalLogged, allow.id()); n > 3 { // a SYN may be repeated
		t.Errorf("%d reports of one connection", n)
	}
	if n := seen.of(b, flow.SignalLogged, udp.id()); n == 0 || n > 3 {
		t.Errorf("%d reports of datagrams of one conversation", n)
	}
	if n, hits := seen.of(b, flow.SignalDropped, deny.id()), l.hits(b, "deny").Packets; uint64(n) > hits/100+10 {
		t.Errorf("%d reports of %d denied packets", n, hits)
	}
	seen.mu.Lock()
	defer seen.mu.Unlock()
	for _, r := range seen.list {
		if r.Rule != 0 && (r.Source != flow.SourceTap || !r.Src.IsValid() || r.Dst != l.addr(1) || (r.Verdict == flow.VerdictDropped) != (r.Signal == flow.SignalDropped)) {
			t.Fatalf("%+v", r)
		}
	}
}

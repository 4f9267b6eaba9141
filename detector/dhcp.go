package detector

import (
	"math"

	"github.com/platelet-sdn/platelet/flowcollector/flow"
)

// configurerKey names who configures hosts: a DHCP server, or a router that
// advertises itself.
type configurerKey struct {
	mac      flow.MAC
	exporter uint16
}

// lanKey names a broadcast domain.
type lanKey struct {
	vlan     uint16
	exporter uint16
}

// server is what is remembered of one.
type server struct {
	first, last int64
	answers     uint32
	// excess counts answers above questions: a server speaks when it is asked
	// (RFC 2131, section 3.1), once to each question.
	excess  float64
	asked   uint32 // questions when it last answered
	names   uint32
	known   bool // it may be there
	routers bool // it advertises routers, and is no DHCP server
	firing  bool
	cleared int64 // when a finding of it was last over
}

func (s *server) worth() int64 {
	switch {
	case s.firing:
		return rank(2, s.last)
	case s.known:
		return rank(1, s.last)
	}
	return rank(0, s.last)
}

// lan is what is known of a broadcast domain.
type lan struct {
	last   int64
	asked  uint32   // questions to DHCP servers
	router flow.MAC // the latest station that was found to route
	// The server, and the advertising router, that was there first.
	server, advertiser  flow.MAC
	serverAt, advertise int64
	names               uint32 // what the server tells clients to use
}

const (
	// answersTooMany is how many answers more than questions decide.
	answersTooMany = 8
	// excessLeak forgives answers, per second: a question may have been missed.
	excessLeak = 0.1
	// questionWorth is how many answers one question excuses, for it may have
	// been copied once and answered again.
	questionWorth = 2
	// incumbent is how long somebody must have been there for others to be new.
	incumbent = int64(600e9)
)

func (w *linkWatch) lan(r *flow.Record) *lan {
	_, s, _ := w.lans.Put(lanKey{r.VLAN, w.e.exporters.number(r.Exporter)}, rank(0, w.e.clock.now))
	if s == nil {
		s = &lan{} // no room: nothing is known of it
	}
	s.last = w.e.clock.now
	return s
}

// configures handles a message by which hosts are configured.
func (w *linkWatch) configures(r *flow.Record, n *neighbour) {
	seg := w.lan(r)
	if r.Claim.Flags&flow.ClaimClient != 0 {
		seg.asked++
		return
	}
	advertises := r.ICMPType == flow.ICMPv6RouterAdvertisement && r.Proto == flow.ProtoICMPv6
	if r.Claim.Flags&flow.ClaimServer == 0 && !advertises {
		return
	}
	now := w.e.clock.now
	_, s, fresh := w.servers.Put(configurerKey{r.SrcMAC, w.e.exporters.number(r.Exporter)}, rank(0, now))
	if s == nil {
		return
	}
	if fresh {
		s.first, s.last, s.asked, s.routers = now, now, seg.asked-min(seg.asked, 1), advertises
	}
	s.excess = math.Max(s.excess-excessLeak*float64(now-s.last)/1e9, 0)
	s.last = now
	s.answers++
	if advertises {
		w.advertised(r, n, s, seg)
		return
	}
	w.answered(r, n, s, seg)
}

// answered handles a message of a DHCP server.
func (w *linkWatch) answered(r *flow.Record, n *neighbour, s *server, seg *lan) {
	s.names = r.Claim.Names
	if may := w.e.cfg.Link.DHCPServer; may != nil {
		if s.known = may(r.Src); !s.known {
			w.raiseDHCP(r, n, s, seg, 0.99, true, Evidence{"not_a_configured_server", 1, 0, 1})
		}
		return
	}
	if r.Rate <= 1 { // where packets are sampled, questions are missing
		s.excess = math.Max(s.excess+1-questionWorth*float64(seg.asked-s.asked), 0)
		s.asked = seg.asked
	}
	self := r.Claim.Flags&(flow.ClaimSelf|flow.ClaimRelayed) == flow.ClaimSelf
	// It names itself, but it is another that hosts are routed by.
	pretends := self && n.routed == 0 && !seg.router.IsZero() && seg.router != r.SrcMAC
	floods := s.excess >= answersTooMany
	incumbents := seg.server != (flow.MAC{}) && seg.server != r.SrcMAC
	differs := incumbents && s.names != 0 && seg.names != 0 && s.names != seg.names
	now := w.e.clock.now
	fresh := now-s.first < incumbent
	switch {
	case floods, s.firing && fresh:
		// Nobody who is there to help offers to those who did not ask.
		w.raiseDHCP(r, n, s, seg, 0.99, floods && self && fresh)
	case s.known:
		w.serves(r, s, seg)
	case pretends && differs:
		w.raiseDHCP(r, n, s, seg, 0.99, false)
	case pretends:
		w.raiseDHCP(r, n, s, seg, 0.96, false)
	case differs && now-seg.serverAt > incumbent:
		w.raiseDHCP(r, n, s, seg, 0.9, false)
	case !incumbents, !differs && s.names != 0:
		// The first, or one that tells clients the same: a failover pair.
		s.known = true
		w.serves(r, s, seg)
	}
}

// serves notes the server that a segment has.
func (w *linkWatch) serves(r *flow.Record, s *server, seg *lan) {
	if seg.server.IsZero() {
		seg.server, seg.serverAt = r.SrcMAC, w.e.clock.now
	}
	if s.names != 0 && seg.server == r.SrcMAC {
		seg.names = s.names
	}
}

// advertised handles a router advertisement (RFC 4861): a new one where another
// has been for long, by a station that routes for nobody (RFC 6104).
func (w *linkWatch) advertised(r *flow.Record, n *neighbour, s *server, seg *lan) {
	now := w.e.clock.now
	switch {
	case r.Claim.Flags&flow.ClaimRouter == 0 || s.known:
	case seg.advertiser.IsZero():
		seg.advertiser, seg.advertise, s.known = r.SrcMAC, now, true
	case now-seg.advertise < incumbent || n.routed != 0:
		s.known = true
	default:
		w.raiseDHCP(r, n, s, seg, 0.9, false, Evidence{"router_advertisements", float64(s.answers), 0, 1})
	}
}

func (w *linkWatch) raiseDHCP(r *flow.Record, n *neighbour, s *server, seg *lan, score float64, sequential bool, why ...Evidence) {
	exporter := w.e.exporters.number(r.Exporter)
	rep := report{
		key:   findingKey{kind: KindRogueDHCP, mac: r.SrcMAC, exporter: exporter},
		state: StateFiring, first: max(s.first, s.cleared), owner: w, host: n.name(), mac: r.SrcMAC, exporter: exporter, inPort: r.InPort,
		proto: r.Proto, port: r.DstPort, score: score, confidence: 0.95, sequential: sequential, records: int64(s.answers),
		evidence: why,
	}
	if rep.host == (address{}) {
		rep.host = addressOf(r.Src)
	}
	if score < corroborating {
		rep.severity = SeverityMedium
	}
	for _, ev := range why {
		rep.limits = append(rep.limits, Limit{ev.Feature, 0})
	}
	if len(why) == 0 {
		named := 0.0
		if r.Claim.Flags&flow.ClaimSelf != 0 {
			named = 1
		}
		incumbents := 0.0
		if seg.server != (flow.MAC{}) && seg.server != r.SrcMAC {
			incumbents = 1
		}
		rep.evidence = []Evidence{
			{"names_itself_though_another_routes", named, 0, 0.5},
			{"answers_nobody_asked_for", s.excess, 0, 0.4},
			{"other_servers", incumbents, 0, 0.1},
		}
		switch {
		case s.excess >= answersTooMany:
			rep.limits = []Limit{{"answers_nobody_asked_for", answersTooMany - 1}}
		case named > 0:
			rep.limits = []Limit{{"names_itself_though_another_routes", 0}}
		default:
			rep.limits = []Limit{{"other_servers", 0}}
		}
	}
	s.firing = true
	w.e.ledger.report(&rep)
}

package pipeline

import (
	"context"
	"net"
	"time"

	"github.com/platelet-sdn/platelet/controller/openflow"
	"github.com/platelet-sdn/platelet/controller/openflow/refusal"
	"github.com/platelet-sdn/platelet/flowcollector/flow"
	"github.com/platelet-sdn/platelet/segmentation"
)

// Copy is a packet by which the hosts of a link find each other or are
// configured: the tap reports that it was there, the copy what it says.
type Copy struct {
	// InPort is the OpenFlow port by which it came in, and Port its name, ""
	// where two ports share it.
	InPort uint32
	Port   string
	From   net.Addr // the switch
	// Frame is what was copied of it. It is not ours to keep.
	Frame []byte
}

// copyClass says which packets are copied, and which share a meter.
type copyClass uint8

const (
	notCopied copyClass = iota
	// copyAnswers are ARP replies, neighbour and router advertisements and DHCP,
	// of both sides: an answer whose question was lost would look unasked.
	copyAnswers
	// copyQuestions are ARP requests and neighbour solicitations. They are more
	// frequent than answers, and a sweep must not keep those away.
	copyQuestions
	// copyRefusals are packets that a policy rejects: we answer them.
	copyRefusals
	copyClasses = 3
)

// copyID is our connections' controller ID: other controllers' connections
// have another, 0 unless they ask for one, and never get our copies.
const copyID = 0x504c

// copyLimit is how many packets of a class are copied. The meter is that of
// the copies: the packets themselves go on whatever it says.
func copyLimit(c copyClass) segmentation.Limit {
	if c == copyAnswers || c == copyRefusals {
		return segmentation.Limit{PacketsPerSecond: 200, Burst: 200}
	}
	return segmentation.Limit{PacketsPerSecond: 100, Burst: 100}
}

// copying reports whether packets of a class are to be copied. The caller holds
// mu.
func (b *Bridge) copying(c copyClass) bool {
	wanted := b.cfg.Copied != nil && b.tap.CollectorSet != 0
	if c == copyRefusals {
		wanted = b.policy.rejects()
	}
	return wanted && b.attached && !b.leaving
}

// chooseCopyMeters finds or allocates the meters of copies, and returns those to
// add. Without a meter nothing is copied. A meter that was taken from the switch
// gets another ID: the flows that name it know the old one by what it was. The
// caller holds mu.
func (b *Bridge) chooseCopyMeters(have map[uint32]openflow.Meter, taken map[uint32]bool) (add []openflow.Meter) {
	for i := range b.copyMeters {
		m := &b.copyMeters[i]
		if !b.copying(copyClass(i + 1)) {
			*m = openflow.Meter{}
			continue
		}
		if m.ID != 0 && have[m.ID] == *m {
			taken[m.ID] = true
			continue
		}
		if m.ID != 0 {
			taken[m.ID] = true
		}
		var err error
		if *m, err = b.meters.allocate(copyLimit(copyClass(i+1)), taken); err != nil {
			b.log.WithError(err).Debug("no packets are copied: they would not be limited")
			continue
		}
		taken[m.ID] = true
		add = append(add, *m)
	}
	return add
}

// copies returns the action that copies packets of a class, none without a
// meter. The caller holds mu.
func (b *Bridge) copies(c copyClass) []openflow.Action {
	if c == notCopied || b.copyMeters[c-1].ID == 0 {
		return nil
	}
	return []openflow.Action{openflow.Controller{MaxLen: 0xffff, ID: copyID, Reason: openflow.ReasonAction, Meter: b.copyMeters[c-1].ID}}
}

// onPacket takes a packet that the switch sent us.
func (b *Bridge) onPacket(m openflow.Message) {
	p, err := openflow.DecodePacketIn(m)
	if err != nil {
		b.log.WithError(err).Warn("packet-in")
		return
	}
	switch {
	case !isOurs(p.Cookie):
	case cookieCategory(p.Cookie) == CategoryTap && b.cfg.Copied != nil:
		b.onCopy(p)
	case cookieCategory(p.Cookie).policy():
		b.onRejected(p)
	}
}

// refuseTimeout bounds the sending of a refusal: a switch that is busy has more
// to do than that.
const refuseTimeout = 100 * time.Millisecond

// onRejected answers a packet that a policy rejects, in the name of whom it was
// for, by the port that it came in by.
func (b *Bridge) onRejected(p openflow.PacketIn) {
	answer, ok := refusal.Answer(p.Data)
	b.mu.Lock()
	conn := b.conn
	b.mu.Unlock()
	if !ok || conn == nil || p.InPort == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), refuseTimeout)
	defer cancel()
	if err := conn.PacketOut(ctx, openflow.PacketOut{Actions: []openflow.Action{openflow.Output{Port: p.InPort}}, Data: answer}); err != nil {
		b.log.WithError(err).Debug("not refused")
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.status.Refused++
}

// onCopy hands a copy on.
func (b *Bridge) onCopy(p openflow.PacketIn) {
	b.mu.Lock()
	b.status.Copied++
	name, conn := b.ports.name(p.InPort), b.conn
	b.mu.Unlock()
	if conn == nil {
		return
	}
	b.cfg.Copied(Copy{InPort: p.InPort, Port: name, From: conn.RemoteAddr(), Frame: p.Data})
}

// copiedTaps are the packets that are copied but of no signal of their own.
func copiedTaps() []tapMatch {
	udp := func(ether uint16, ports ...openflow.OXM) tapMatch {
		match := openflow.Match{openflow.EthType(ether), openflow.IPProto(flow.ProtoUDP)}
		return tapMatch{signal: flow.SignalUDP, priority: tapDHCP, etherType: ether, match: append(match, ports...), copied: copyAnswers}
	}
	advert := icmpTap(flow.SignalNone, flow.ICMPv6RouterAdvertisement, 0)
	advert.copied = copyAnswers
	return []tapMatch{
		udp(flow.EtherIPv4, openflow.UDPSrc(67)), udp(flow.EtherIPv4, openflow.UDPSrc(68), openflow.UDPDst(67)),
		udp(flow.EtherIPv6, openflow.UDPSrc(547)), udp(flow.EtherIPv6, openflow.UDPSrc(546), openflow.UDPDst(547)),
		advert,
	}
}

package connection

import (
	"time"

	"github.com/platelet-sdn/platelet/flowcollector/flow"
)

// Openers tells by a record alone which way it goes: from who opened, or to him.
type Openers struct {
	tcp, udp ports // those of well-known services
}

// ports is a set of port numbers.
type ports [1 << 10]uint64

func (p *ports) add(port uint16)      { p[port>>6] |= 1 << (port & 63) }
func (p *ports) has(port uint16) bool { return p[port>>6]>>(port&63)&1 != 0 }

// NewOpeners returns what knows the well-known services.
func NewOpeners() *Openers {
	o := &Openers{}
	for _, s := range wellKnown() {
		if s.TCP {
			o.tcp.add(s.Port)
		}
		if s.UDP {
			o.udp.add(s.Port)
		}
	}
	return o
}

// Proof is what a record proves of its connection.
type Proof struct {
	// Up: it was sent by who opened, as far as Opening says.
	Up      bool
	Opening Opening
	Phase   Phase
}

// Phase is what a record is to a conversation.
type Phase uint8

// Phases of a conversation.
const (
	GoesOn  Phase = iota
	Opens         // begins it
	Accepts       // agrees to it
	Refuses       // ends it as a reset does
	Silent        // stands for no packet: nobody answered, says a log
)

// Of says what a record proves; false for ICMP that neither asks nor answers.
func (o *Openers) Of(r *flow.Record) (Proof, bool) {
	switch r.Proto {
	case flow.ProtoTCP, flow.ProtoUDP, flow.ProtoSCTP:
	case flow.ProtoICMP, flow.ProtoICMPv6:
		_, answer, ok := exchange(r.Proto, r.ICMPType)
		switch {
		case r.Signal == flow.SignalSilence: // of the responder
			return Proof{false, Seen, Silent}, ok
		case answer:
			return Proof{false, Seen, Accepts}, ok
		}
		return Proof{true, Seen, Opens}, ok
	default:
		return Proof{true, Guessed, GoesOn}, true
	}
	phase := GoesOn
	switch r.Signal {
	case flow.SignalAttempt:
		return Proof{true, Seen, Opens}, true
	case flow.SignalProbe:
		return Proof{true, Seen, GoesOn}, true
	case flow.SignalAccept:
		return Proof{false, Seen, Accepts}, true
	case flow.SignalSilence:
		return Proof{false, Seen, Silent}, true
	case flow.SignalRefuse:
		phase = Refuses
	case flow.SignalUDP:
		phase = Opens
	}
	up, how := o.side(r)
	return Proof{up, how, phase}, true
}

// services returns what a record's connection is for if its sender opened it, and if
// its receiver did: a port, or the type and code of an ICMP question.
func services(r *flow.Record) (there, here uint16) {
	switch r.Proto {
	case flow.ProtoTCP, flow.ProtoUDP, flow.ProtoSCTP:
		return r.DstPort, r.SrcPort
	case flow.ProtoICMP, flow.ProtoICMPv6:
		question, _, _ := exchange(r.Proto, r.ICMPType)
		there = uint16(question)<<8 | uint16(r.ICMPCode)
	}
	return there, there
}

// exchange returns the type of the question that an ICMP message (RFC 792, RFC
// 950; RFC 4443, RFC 4620) asks or answers.
func exchange(proto, kind uint8) (question uint8, answer, ok bool) {
	if proto == flow.ProtoICMPv6 {
		switch kind {
		case 128, 139:
			return kind, false, true
		case 129, 140:
			return kind - 1, true, true
		}
		return 0, false, false
	}
	switch kind {
	case 8, 13, 15, 17:
		return kind, false, true
	case 0:
		return 8, true, true
	case 14, 16, 18:
		return kind - 1, true, true
	}
	return 0, false, false
}

const (
	// reserved is the first port that needs no privilege, ephemeral the first
	// that hosts take for themselves (Linux; IANA's range begins at 49152).
	reserved, ephemeral = 1024, 32768
)

// side tells by the ports whether the opener sent a record: Guessed where they look
// alike, else Likely.
func (o *Openers) side(r *flow.Record) (up bool, how Opening) {
	from, to := false, false
	switch r.Proto {
	case flow.ProtoTCP:
		from, to = o.tcp.has(r.SrcPort), o.tcp.has(r.DstPort)
	case flow.ProtoUDP:
		from, to = o.udp.has(r.SrcPort), o.udp.has(r.DstPort)
	}
	switch {
	case from != to:
		return to, Likely
	case r.SrcPort == r.DstPort:
		return true, Guessed
	case r.DstPort < reserved && r.SrcPort >= reserved, r.DstPort < ephemeral && r.SrcPort >= ephemeral:
		return true, Likely
	case r.SrcPort < reserved && r.DstPort >= reserved, r.SrcPort < ephemeral && r.DstPort >= ephemeral:
		return false, Likely
	}
	return r.DstPort < r.SrcPort, Guessed
}

// Tappable reports whether a signal is of what opens, refuses and closes connections:
// what the tap shows each of.
func Tappable(s flow.Signal) bool {
	switch s {
	case flow.SignalAttempt, flow.SignalAccept, flow.SignalRefuse, flow.SignalFinish, flow.SignalProbe:
		return true
	}
	return false
}

// Tapped knows where the connection tap tells of the packets that open, refuse and
// close connections. What samples tell of them there it told before, exactly or, where
// it is thinned, in a number of its own: both together would be too many.
type Tapped struct {
	minutes [256]uint32 // the latest, by the ingress port's low bits
}

// Again reports whether a record is of what the tap tells of. It knows that by the
// tap's records that it was asked about.
func (t *Tapped) Again(r *flow.Record) bool {
	if !Tappable(r.Signal) {
		return false
	}
	now, told := uint32(r.Time/int64(time.Minute)), &t.minutes[r.InPort%uint32(len(t.minutes))]
	switch r.Source {
	case flow.SourceTap:
		*told = max(*told, now)
	case flow.SourceSFlow:
		return *told != 0 && *told+1 >= now
	}
	return false
}

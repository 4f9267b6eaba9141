package detector

import (
	"time"

	"github.com/platelet-sdn/platelet/flowcollector/flow"
)

// contactKey names a first contact: source, target and service. Keyed by
// source and target alone, vertical scans and attackers from outside would
// be missed (one target is all they need).
type contactKey struct {
	src, dst address
	service  uint64 // protocol<<16 | port
}

func contactKeyOf(src, dst address, port uint16, proto uint8) contactKey {
	if proto == flow.ProtoICMP || proto == flow.ProtoICMPv6 {
		port = 0
	}
	return contactKey{src, dst, uint64(proto)<<16 | uint64(port)}
}

func (k contactKey) port() uint16 { return uint16(k.service) }
func (k contactKey) proto() uint8 { return uint8(k.service >> 16) }

type outcome uint8

const (
	unanswered  outcome = iota // no answer yet
	succeeded                  // accepted
	refused                    // reset
	unreachable                // refused by ICMP
	silent                     // no answer in time; may be taken back
	unknown                    // cannot be judged
	odd                        // begun by a segment that no honest stack sends
	stray                      // begun by the end of a connection that nobody saw
)

// contact is what became of a first contact.
type contact struct {
	at    int64 // of the attempt
	host  uint32
	state outcome
	epoch uint8 // of the host
	// aged is set when the contact is counted in its host's focus.
	aged bool
	// young is set for the only contact of a host: a spoofed flood has
	// nothing else, so these replace each other.
	young bool
	// counted is set when the failure went into the walk, weight says by
	// how much, so that a late answer can take it back.
	counted bool
	weight  float32
}

// open reports whether an answer would still say something.
func (c *contact) open() bool {
	return c.state == unanswered || c.state == silent || c.state == unknown
}

// contactIdle is how long a contact keeps its precedence in a full table.
const contactIdle = int64(24 * time.Hour)

func (c *contact) worth(now int64) int64 {
	if c.young || now-c.at > contactIdle {
		return rank(0, c.at)
	}
	return rank(1, c.at)
}

// eligible reports whether an attempt is a contact with one host whose answer
// would be seen.
func (w *scanWatch) eligible(r *flow.Record, src, dst address) bool {
	if !src.unicast() || !dst.unicast() || src == dst || group(r.DstMAC) {
		return false
	}
	if r.Proto != flow.ProtoTCP && dst.looksBroadcast() {
		return false
	}
	if r.Rate > 1 {
		// Where packets are sampled, "no answer seen" is not "no answer".
		w.e.stats.Abstained++
		return false
	}
	return r.Proto != flow.ProtoUDP || r.DstPort < ephemeral
}

// ephemeral is the first port that hosts take for themselves (Linux from 32768,
// IANA from 49152). UDP to one is no question to a service but the answer to
// an unseen one (SSDP replies to a multicast query), media, a peer, or
// traceroute from 33434 on, and rarely answered.
const ephemeral = 32768

// isReplyPort reports whether a datagram comes from a well-known port to one
// of the others: the answer to a query that was not seen.
func isReplyPort(r *flow.Record) bool { return r.SrcPort < 1024 && r.DstPort >= 1024 }

func isEchoRequest(r *flow.Record) bool {
	return r.Proto == flow.ProtoICMP && r.ICMPType == 8 || r.Proto == flow.ProtoICMPv6 && r.ICMPType == 128
}

func isEchoReply(r *flow.Record) bool {
	return r.Proto == flow.ProtoICMP && r.ICMPType == 0 || r.Proto == flow.ProtoICMPv6 && r.ICMPType == 129
}

package flow

// DNS is what a datagram of port 53 or 5353 says as a DNS message (RFC 1035,
// section 4; RFC 6762), as far as it was captured. It is a summary of fixed
// size: the name itself is not kept.
type DNS struct {
	// Zone is a hash of the domain that the name was registered under (see
	// packet.Parse), 0 where the name was cut before its end. Name is a hash
	// of the name as far as it was captured. Both disregard case. Neither is
	// keyed: two names with one hash can be made, so that a count of distinct
	// names is evidence when it is high and none when it is low.
	Zone, Name uint32
	// Type is the type of the question, 0 where it was cut off.
	Type uint16
	// Length counts the octets of the captured name as text, without the
	// final dot; Carried those in front of its zone, which is what a name can
	// carry; Longest those of its longest label.
	Length, Carried, Longest uint8
	// Labels counts the labels.
	Labels uint8
	// Entropy is the collision entropy (Renyi's, of order 2) of the carried
	// characters in 1/32 bit per character; 0 below eight characters, which
	// tell nothing.
	Entropy uint8
	// Flags say what kind of message it is.
	Flags DNSFlags
}

// DNSFlags are properties of a DNS message.
type DNSFlags uint8

// Properties of DNS messages; none are set where there is no message. The low
// four bits are the response code (RFC 1035, section 4.1.1) of a response.
const (
	DNSQuery    DNSFlags = 1 << 4
	DNSResponse DNSFlags = 1 << 5
	// DNSCut says that the name goes on beyond what was captured.
	DNSCut DNSFlags = 1 << 6
	// DNSReverse says that the name is an address in reverse (in-addr.arpa,
	// ip6.arpa).
	DNSReverse DNSFlags = 1 << 7

	dnsCode DNSFlags = 0x0f
)

// DNS types (IANA) that the project tells apart.
const (
	DNSTypeA     uint16 = 1
	DNSTypeCNAME uint16 = 5
	DNSTypeNULL  uint16 = 10
	DNSTypeMX    uint16 = 15
	DNSTypeTXT   uint16 = 16
	DNSTypeAAAA  uint16 = 28
	// DNSTypePrivate is what iodine takes where NULL is filtered: the first
	// type for private use.
	DNSTypePrivate uint16 = 65399
)

// Valid reports whether there is a message at all.
func (d *DNS) Valid() bool { return d.Flags&(DNSQuery|DNSResponse) != 0 }

// Code is the response code; 0, no error, for queries.
func (d *DNS) Code() uint8 { return uint8(d.Flags & dnsCode) }

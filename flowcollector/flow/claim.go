package flow

// Claim is what a message says by which the hosts of a link find each other and
// are configured: ARP (RFC 826), neighbour discovery (RFC 4861) and DHCP (RFC
// 2131, RFC 8415), as far as it was captured. Whoever sends it may lie.
type Claim struct {
	// MAC is the Ethernet address that Src is said to have: ARP's sender
	// hardware address, or the link-layer address option of neighbour
	// discovery. It need not be SrcMAC.
	MAC MAC
	// Type is the type of a DHCP message (RFC 2132, section 9.6, or RFC 8415,
	// section 7.3), 0 where it was cut off.
	Type  uint8
	Flags ClaimFlags
	// Names is a hash of the routers and resolvers that are named, 0 for none.
	// It is not keyed: equal ones prove nothing, different ones do.
	Names uint32
}

// ClaimFlags say what kind of message it is.
type ClaimFlags uint8

// Properties of claims.
const (
	ClaimServer   ClaimFlags = 1 << iota // DHCP, from a server
	ClaimClient                          // DHCP, from a client
	ClaimRelayed                         // DHCP, by way of a relay
	ClaimRouter                          // a router is named: by DHCP or a router advertisement
	ClaimResolver                        // a resolver is named
	// ClaimSelf says that the sender itself is among the routers and
	// resolvers that it names.
	ClaimSelf
)

// DHCP message types that the project tells apart.
const (
	DHCPOffer uint8 = 2
	DHCPAck   uint8 = 5
	DHCPNak   uint8 = 6
)

// ICMPv6 types of neighbour discovery (RFC 4861, section 4).
const (
	ICMPv6RouterAdvertisement uint8 = 134
	ICMPv6Solicitation        uint8 = 135
	ICMPv6Advertisement       uint8 = 136
)

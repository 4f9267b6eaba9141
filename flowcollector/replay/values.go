package replay

import (
	"fmt"
	"math"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"github.com/platelet-sdn/platelet/flowcollector/flow"
)

// maxSeconds bounds recorded times to what fits in Unix nanoseconds, with room
// for the delays that are added.
const maxSeconds = math.MaxInt64/int64(time.Second) - 10

// fieldError says which field of a row is wrong.
type fieldError struct {
	field, value string
}

// Error implements the error interface.
func (e *fieldError) Error() string { return fmt.Sprintf("%s: bad value %.60q", e.field, e.value) }

// unset reports whether a log left a field empty.
func unset(s string) bool { return s == "" || s == "-" || s == "(empty)" }

// parseSeconds reads decimal seconds as nanoseconds. It does not go through
// float64, which cannot hold today's time in nanoseconds.
func parseSeconds(field, s string) (int64, error) {
	if unset(s) {
		return 0, nil
	}
	whole, frac, _ := strings.Cut(s, ".")
	sec, err := strconv.ParseInt(whole, 10, 64)
	if err != nil || !digits(frac) {
		return parseFloatSeconds(field, s)
	}
	if sec < 0 || sec > maxSeconds {
		return 0, &fieldError{field, s}
	}
	const nanoDigits = 9
	if len(frac) > nanoDigits {
		frac = frac[:nanoDigits]
	}
	var ns int64
	for i := range nanoDigits {
		ns *= 10
		if i < len(frac) {
			ns += int64(frac[i] - '0')
		}
	}
	return sec*int64(time.Second) + ns, nil
}

// parseFloatSeconds reads what parseSeconds does not: exponents (7.5e-05).
func parseFloatSeconds(field, s string) (int64, error) {
	f, err := strconv.ParseFloat(s, 64)
	if err != nil || math.IsNaN(f) || f < 0 || f > float64(maxSeconds) {
		return 0, &fieldError{field, s}
	}
	return int64(math.Round(f * float64(time.Second))), nil
}

func digits(s string) bool {
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return false
		}
	}
	return true
}

// parseTime reads a point in time: Unix seconds, or a date, taken as UTC unless
// it says otherwise.
func parseTime(field, s string) (int64, error) {
	if unset(s) {
		return 0, &fieldError{field, s}
	}
	if !strings.ContainsAny(s, ":") {
		return parseSeconds(field, s)
	}
	for _, layout := range []string{"2006/01/02 15:04:05", "2006-01-02 15:04:05", "2006-01-02T15:04:05", time.RFC3339Nano} {
		// Parse takes a fraction of a second even where the layout has none.
		if t, err := time.Parse(layout, s); err == nil {
			if t.Unix() < 0 || t.Unix() > maxSeconds {
				break
			}
			return t.UnixNano(), nil
		}
	}
	return 0, &fieldError{field, s}
}

// parseCount reads a counter; one that the log left empty is 0. Some exports
// write whole numbers as 12.0.
func parseCount(field, s string) (uint64, error) {
	if unset(s) {
		return 0, nil
	}
	n, err := strconv.ParseUint(strings.TrimSuffix(s, ".0"), 10, 64)
	if err != nil {
		return 0, &fieldError{field, s}
	}
	return n, nil
}

// parsePort reads a port: decimal, or hexadecimal with 0x.
func parsePort(field, s string) (uint16, error) {
	if unset(s) {
		return 0, nil
	}
	n, err := strconv.ParseUint(strings.TrimSuffix(s, ".0"), 0, 16)
	if err != nil {
		// Base 0 takes 010 for octal and 08 for an error; a log means ten.
		n, err = strconv.ParseUint(s, 10, 16)
	}
	if err != nil {
		return 0, &fieldError{field, s}
	}
	return uint16(n), nil
}

// endpoint is an IP address or, in rows below IP, an Ethernet address.
type endpoint struct {
	addr netip.Addr
	mac  flow.MAC
}

func parseEndpoint(field, s string) (endpoint, error) {
	if addr, err := netip.ParseAddr(s); err == nil {
		return endpoint{addr: addr.WithZone("").Unmap()}, nil
	}
	mac, ok := parseMAC(s)
	if !ok {
		return endpoint{}, &fieldError{field, s}
	}
	return endpoint{mac: mac}, nil
}

func parseMAC(s string) (mac flow.MAC, ok bool) {
	if s == "" || mac.UnmarshalText([]byte(s)) != nil {
		return flow.MAC{}, false
	}
	return mac, true
}

// etherLLDP is the EtherType of IEEE 802.1AB.
const etherLLDP uint16 = 0x88cc

// parseProto returns the IP protocol and the EtherType of a protocol by name or
// number. A name that we do not know is protocol 0: the row is still traffic.
func parseProto(name string, ipv6 bool) (proto uint8, etherType uint16) {
	etherType = flow.EtherIPv4
	if ipv6 {
		etherType = flow.EtherIPv6
	}
	if n, err := strconv.ParseUint(name, 10, 8); err == nil {
		return uint8(n), etherType
	}
	switch strings.ToLower(name) {
	case "tcp":
		return flow.ProtoTCP, etherType
	case "udp", "rtp", "rtcp", "udt": // Argus names what it guesses inside UDP
		return flow.ProtoUDP, etherType
	case "icmp":
		if ipv6 {
			return flow.ProtoICMPv6, etherType
		}
		return flow.ProtoICMP, etherType
	case "icmp6", "icmpv6", "ipv6-icmp":
		return flow.ProtoICMPv6, etherType
	case "sctp":
		return flow.ProtoSCTP, etherType
	case "arp":
		return 0, flow.EtherARP
	case "lldp":
		return 0, etherLLDP
	}
	return otherProto(strings.ToLower(name)), etherType
}

// otherProto knows the rest of the names that logs use (IANA numbers).
func otherProto(name string) uint8 {
	switch name {
	case "igmp":
		return 2
	case "ipnip", "ipip", "ipv4":
		return 4
	case "ipv6":
		return 41
	case "gre":
		return 47
	case "esp":
		return 50
	case "ah":
		return 51
	case "ospf", "ospfigp":
		return 89
	case "pim":
		return 103
	case "vrrp":
		return 112
	}
	return 0
}

package openflow

import (
	"encoding/binary"
	"fmt"
)

// Validate reports what the switch would reject: an unencodable field, a
// field given twice, or a missing prerequisite (*PrereqError).
func (m Match) Validate() error {
	var seen [fieldEnd]bool
	for i := range m {
		f := m[i].field
		if f == fieldUnknown || f >= fieldEnd {
			if m[i].raw == "" {
				return fmt.Errorf("match: field %d cannot be encoded", i)
			}
			continue
		}
		if seen[f] {
			return fmt.Errorf("match: %s is given twice", f)
		}
		seen[f] = true
		if err := m[i].check(); err != nil {
			return err
		}
		if need := m.missing(fields[f].needs); need != "" {
			return &PrereqError{Field: f, Needs: need}
		}
	}
	return nil
}

// check reports what is wrong with a known field by itself.
func (o OXM) check() error {
	if err := o.checkBits(); err != nil {
		return fmt.Errorf("match: %w", err)
	}
	o, _ = o.normal()
	info := &fields[o.field]
	switch {
	case info.access&othersAlone != 0:
		return fmt.Errorf("match: %s is for the flows of others", o.field)
	case info.access&actionAlone != 0:
		return fmt.Errorf("match: %s is for load and move alone", info.nxm)
	case o.masked && info.access&matchMasked == 0:
		return fmt.Errorf("match: %s cannot be masked", o.field)
	case o.field == FieldCTIPProto && o.value[0] == 0:
		return fmt.Errorf("match: %s: no connection has protocol 0", o)
	case o.field == FieldIPFrag && o.fragName() == "":
		return fmt.Errorf("match: %s is no kind of fragment that there is", o)
	case o.field == FieldInPort:
		if p := binary.BigEndian.Uint32(o.value[:]); p >= maxPort && p < PortInPort&^0xff {
			return fmt.Errorf("match: no port has the number 0x%x", p)
		}
	}
	return nil
}

// checkBits reports a value that has more bits than the field.
func (o OXM) checkBits() error {
	for i, valid := range o.field.validBits() {
		v := o.value[i]
		if o.masked {
			v &= o.mask[i]
		}
		if v&^valid != 0 {
			return fmt.Errorf("%s has %d bits", o.field, o.field.Bits())
		}
	}
	return nil
}

// transports gives, per prerequisite, the IP protocol number it stands for.
var transports = map[prerequisite]struct {
	name   string
	number uint32
}{prereqTCP: {"tcp", 6}, prereqUDP: {"udp", 17}, prereqSCTP: {"sctp", 132}}

// missing names what the match lacks to satisfy a prerequisite.
func (m Match) missing(p prerequisite) string {
	if p == prereqNone {
		return ""
	}
	ethType, _ := m.exact(FieldEthType)
	ipProto, _ := m.exact(FieldIPProto)
	isIP := ethType == 0x0800 || ethType == 0x86dd
	switch p {
	case prereqVLAN:
		return unless(m.tagged(), "a VLAN (vlan_vid with its presence bit)")
	case prereqIP:
		return unless(isIP, "eth_type 0x0800 or 0x86dd")
	case prereqIPv4:
		return unless(ethType == 0x0800, "eth_type 0x0800")
	case prereqIPv6:
		return unless(ethType == 0x86dd, "eth_type 0x86dd")
	case prereqARP:
		return unless(ethType == 0x0806 || ethType == 0x8035, "eth_type 0x0806 or 0x8035")
	case prereqICMP:
		return unless(ethType == 0x0800 && ipProto == 1, "eth_type 0x0800 and ip_proto 1 (icmp)")
	case prereqICMPv6:
		return unless(ethType == 0x86dd && ipProto == 58, "eth_type 0x86dd and ip_proto 58 (icmp6)")
	case prereqND, prereqNDSolicit, prereqNDAdvert:
		return m.missingND(p)
	case prereqCT, prereqCTIPv4, prereqCTIPv6, prereqCTPorts:
		return m.missingCT(p)
	}
	t := transports[p]
	if m.laterFragments() {
		return "a packet with ports, not a later fragment"
	}
	if isIP && ipProto == t.number {
		return ""
	}
	return fmt.Sprintf("eth_type 0x0800 or 0x86dd and ip_proto %d (%s)", t.number, t.name)
}

func unless(ok bool, need string) string {
	if ok {
		return ""
	}
	return need
}

// tagged says whether the match selects tagged packets alone.
func (m Match) tagged() bool {
	for i := range m {
		if m[i].field == FieldVLAN {
			return m[i].value[0]&(vlanPresent>>8) != 0 && (!m[i].masked || m[i].mask[0]&(vlanPresent>>8) != 0)
		}
	}
	return false
}

// laterFragments says whether the match selects fragments without ports.
func (m Match) laterFragments() bool {
	for i := range m {
		if m[i].field == FieldIPFrag {
			o, _ := m[i].normal()
			return o.value[0]&fragLater != 0
		}
	}
	return false
}

// missingND asks for the ICMPv6 types of neighbour discovery.
func (m Match) missingND(p prerequisite) string {
	const solicit, advert = 135, 136
	t, ok := m.exact(FieldICMPv6Type)
	if code, given := m.exact(FieldICMPv6Code); given && code != 0 {
		return "icmp6 code 0"
	}
	switch p {
	case prereqNDSolicit:
		return unless(ok && t == solicit, "icmp6 type 135")
	case prereqNDAdvert:
		return unless(ok && t == advert, "icmp6 type 136")
	}
	return unless(ok && (t == solicit || t == advert), "icmp6 type 135 or 136")
}

// missingCT asks for what makes a connection's own tuple meaningful. Of what
// stands here Open vSwitch itself checks the state alone, and forgets the rest
// of the tuple without a word when it lists the flow.
func (m Match) missingCT(p prerequisite) string {
	ethType, _ := m.exact(FieldEthType)
	proto, _ := m.exact(FieldCTIPProto)
	switch {
	case p == prereqCTIPv4 && ethType != 0x0800:
		return "eth_type 0x0800"
	case p == prereqCTIPv6 && ethType != 0x86dd:
		return "eth_type 0x86dd"
	case p == prereqCTPorts && ethType != 0x0800 && ethType != 0x86dd:
		return "eth_type 0x0800 or 0x86dd"
	case p == prereqCTPorts && proto == 0:
		return "ct_nw_proto"
	}
	return unless(m.tracked(), "ct_state with +trk-inv, or +new, +est, +rel, +rpl, +snat or +dnat")
}

// tracked says whether the match selects packets of valid connections alone,
// which have a tuple of their own: a state bit that only those have is set,
// or they are tracked and not invalid.
func (m Match) tracked() bool {
	for i := range m {
		if m[i].field != FieldCTState {
			continue
		}
		value, mask := binary.BigEndian.Uint32(m[i].value[:]), ^uint32(0)
		if m[i].masked {
			mask = binary.BigEndian.Uint32(m[i].mask[:])
		}
		const valid = CTNew | CTEstablished | CTRelated | CTReply | CTSrcNAT | CTDstNAT
		return value&mask&valid != 0 || value&mask&CTTracked != 0 && mask&CTInvalid != 0 && value&CTInvalid == 0
	}
	return false
}

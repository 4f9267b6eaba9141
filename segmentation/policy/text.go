package policy

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"gopkg.in/yaml.v3"

	"github.com/platelet-sdn/platelet/flowcollector/flow"
	"github.com/platelet-sdn/platelet/segmentation/strictyaml"
)

// words are the texts of an enumeration, by value; "" is no word.
type words []string

func (w words) of(v uint8) string {
	if int(v) < len(w) && w[v] != "" {
		return w[v]
	}
	return strconv.Itoa(int(v))
}

func (w words) read(what string, text []byte) (uint8, error) {
	if i := slices.Index(w, string(text)); i >= 0 && len(text) > 0 {
		return uint8(i), nil
	}
	return 0, unknownWord(what, string(text), w)
}

// unknownWord is the error about a word that is not one of the valid ones.
func unknownWord(what, word string, valid []string) error {
	valid = slices.DeleteFunc(slices.Clone(valid), func(s string) bool { return s == "" })
	if near := strictyaml.Nearest(word, valid); near != "" {
		return fmt.Errorf("unknown %s %q (did you mean %q?)", what, word, near)
	}
	return fmt.Errorf("unknown %s %q (valid: %s)", what, word, strings.Join(valid, ", "))
}

func tierWords() words { return words{"", "emergency", "admin", "application", "baseline"} }
func modeWords() words { return words{"", "staged", "enforce"} }
func establishedWords() words {
	return words{"recheck", "keep"}
}
func actionWords() words    { return words{"", "allow", "deny", "reject", "pass", "rate-limit"} }
func riskWords() words      { return words{"", "low", "medium", "high", "critical"} }
func directionWords() words { return words{"", "ingress", "egress"} }

// String is the tier's word.
func (t Tier) String() string { return tierWords().of(uint8(t)) }

// MarshalText writes the word.
func (t Tier) MarshalText() ([]byte, error) { return []byte(t.String()), nil }

// UnmarshalText reads the word.
func (t *Tier) UnmarshalText(text []byte) (err error) {
	v, err := tierWords().read("tier", text)
	*t = Tier(v)
	return err
}

// String is the mode's word.
func (m Mode) String() string { return modeWords().of(uint8(m)) }

// MarshalText writes the word.
func (m Mode) MarshalText() ([]byte, error) { return []byte(m.String()), nil }

// UnmarshalText reads the word.
func (m *Mode) UnmarshalText(text []byte) (err error) {
	v, err := modeWords().read("mode", text)
	*m = Mode(v)
	return err
}

// String is the word.
func (e Established) String() string { return establishedWords().of(uint8(e)) }

// MarshalText writes the word.
func (e Established) MarshalText() ([]byte, error) { return []byte(e.String()), nil }

// UnmarshalText reads the word.
func (e *Established) UnmarshalText(text []byte) (err error) {
	v, err := establishedWords().read("value of established", text)
	*e = Established(v)
	return err
}

// String is the action's word.
func (a Action) String() string { return actionWords().of(uint8(a)) }

// MarshalText writes the word.
func (a Action) MarshalText() ([]byte, error) { return []byte(a.String()), nil }

// UnmarshalText reads the word.
func (a *Action) UnmarshalText(text []byte) (err error) {
	v, err := actionWords().read("action", text)
	*a = Action(v)
	return err
}

// String is the risk's word.
func (r Risk) String() string { return riskWords().of(uint8(r)) }

// MarshalText writes the word.
func (r Risk) MarshalText() ([]byte, error) { return []byte(r.String()), nil }

// UnmarshalText reads the word.
func (r *Risk) UnmarshalText(text []byte) (err error) {
	v, err := riskWords().read("risk", text)
	*r = Risk(v)
	return err
}

// String is the direction's word.
func (d Direction) String() string { return directionWords().of(uint8(d)) }

// MarshalText writes the word.
func (d Direction) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

// UnmarshalText reads the word.
func (d *Direction) UnmarshalText(text []byte) (err error) {
	v, err := directionWords().read("direction", text)
	*d = Direction(v)
	return err
}

// protoNames are the protocols that have a word.
func protoNames() map[string]Proto {
	return map[string]Proto{"any": 0, "icmp": Proto(flow.ProtoICMP), "tcp": Proto(flow.ProtoTCP), "udp": Proto(flow.ProtoUDP),
		"icmp6": Proto(flow.ProtoICMPv6), "sctp": Proto(flow.ProtoSCTP)}
}

// String is the protocol's word, or its number.
func (p Proto) String() string {
	for name, n := range protoNames() {
		if n == p {
			return name
		}
	}
	return strconv.Itoa(int(p))
}

// HasPorts reports whether the protocol has ports.
func (p Proto) HasPorts() bool {
	switch uint8(p) {
	case flow.ProtoTCP, flow.ProtoUDP, flow.ProtoSCTP:
		return true
	}
	return false
}

// IsICMP reports whether the protocol has types and codes.
func (p Proto) IsICMP() bool { return uint8(p) == flow.ProtoICMP || uint8(p) == flow.ProtoICMPv6 }

// MarshalText writes the word or the number.
func (p Proto) MarshalText() ([]byte, error) { return []byte(p.String()), nil }

// UnmarshalText reads a word or a number from 1 to 255.
func (p *Proto) UnmarshalText(text []byte) error {
	if n, ok := protoNames()[string(text)]; ok {
		*p = n
		return nil
	}
	n, err := strconv.ParseUint(string(text), 10, 8)
	if err != nil || n == 0 {
		return unknownWord("protocol", string(text), []string{"tcp", "udp", "sctp", "icmp", "icmp6", "any", "1 to 255"})
	}
	*p = Proto(n)
	return nil
}

// String is "5432" or "8000-8100".
func (r PortRange) String() string {
	if r.First == r.Last {
		return strconv.Itoa(int(r.First))
	}
	return fmt.Sprintf("%d-%d", r.First, r.Last)
}

// MarshalYAML writes a number where it is one.
func (r PortRange) MarshalYAML() (any, error) {
	if r.First == r.Last {
		return r.First, nil
	}
	return r.String(), nil
}

// UnmarshalText reads a port or a range.
func (r *PortRange) UnmarshalText(text []byte) error {
	a, b, isRange := strings.Cut(string(text), "-")
	if !isRange {
		b = a
	}
	first, err := strconv.ParseUint(a, 10, 16)
	last, err2 := strconv.ParseUint(b, 10, 16)
	switch {
	case err != nil || err2 != nil:
		return fmt.Errorf("%q is neither a port nor a range such as 8000-8100", text)
	case first > last:
		return fmt.Errorf("range %q ends before it begins", text)
	}
	r.First, r.Last = uint16(first), uint16(last)
	return nil
}

// MarshalText writes an address for a prefix of one.
func (p Prefix) MarshalText() ([]byte, error) { return []byte(Peer{Prefix: p.Prefix}.String()), nil }

// UnmarshalText reads a CIDR or an address.
func (p *Prefix) UnmarshalText(text []byte) error {
	x, ok, err := parsePrefix(string(text))
	if err == nil && !ok {
		err = fmt.Errorf("%q is neither an address nor a CIDR", text)
	}
	p.Prefix = x
	return err
}

// parsePrefix reads an address or a CIDR; ok is false for what looks like
// neither.
func parsePrefix(text string) (p netip.Prefix, ok bool, err error) {
	if a, err := netip.ParseAddr(text); err == nil {
		if a.Zone() != "" || a.Is4In6() {
			return p, true, fmt.Errorf("%q has a zone, or is IPv4 written as IPv6", text)
		}
		return netip.PrefixFrom(a, a.BitLen()), true, nil
	}
	p, err = netip.ParsePrefix(text)
	switch {
	case err != nil && strings.ContainsAny(text, "/:"):
		return p, true, fmt.Errorf("%q is not a CIDR", text)
	case err != nil:
		return p, false, nil
	case p.Addr().Is4In6():
		return p, true, fmt.Errorf("%q is IPv4 written as IPv6", text)
	case p != p.Masked():
		return p, true, fmt.Errorf("%q has bits outside its mask (did you mean %s?)", text, p.Masked())
	}
	return p, true, nil
}

// UnmarshalStrict reads a word or a mapping.
func (p *Peer) UnmarshalStrict(n strictyaml.Node) error {
	if n.Kind() == yaml.MappingNode {
		var m struct {
			Group string  `yaml:"group"`
			IP    *Prefix `yaml:"ip"`
			CIDR  *Prefix `yaml:"cidr"`
		}
		if err := n.Decode(&m); err != nil {
			return err
		}
		switch {
		case m.Group != "" && m.IP == nil && m.CIDR == nil:
			p.Group = m.Group
		case m.Group == "" && m.IP != nil && m.CIDR == nil && m.IP.IsSingleIP():
			p.Prefix = m.IP.Prefix
		case m.Group == "" && m.IP == nil && m.CIDR != nil:
			p.Prefix = m.CIDR.Prefix
		default:
			return n.Errorf("a peer has one of the keys group, ip (one address) and cidr")
		}
		return nil
	}
	var word string
	if err := n.Decode(&word); err != nil {
		return err
	}
	x, ok, err := parsePrefix(word)
	if err != nil {
		return n.Errorf("%v", err)
	}
	if ok {
		p.Prefix = x
	} else {
		p.Group = word
	}
	return nil
}

// MarshalYAML writes one word.
func (p Peer) MarshalYAML() (any, error) { return p.String(), nil }

// UnmarshalStrict holds a service to saying its protocol: without one it would
// be everything.
func (s *Service) UnmarshalStrict(n strictyaml.Node) error {
	var m struct {
		Proto *Proto      `yaml:"proto"`
		Ports []PortRange `yaml:"ports"`
		Type  *uint8      `yaml:"type"`
		Code  *uint8      `yaml:"code"`
	}
	if err := n.Decode(&m); err != nil {
		return err
	}
	if m.Proto == nil {
		return n.Errorf("proto is missing (valid: tcp, udp, sctp, icmp, icmp6, any, 1 to 255)")
	}
	*s = Service{Proto: *m.Proto, Ports: m.Ports, Type: m.Type, Code: m.Code}
	return nil
}

// UnmarshalStrict reads a name or a mapping.
func (s *ServiceRef) UnmarshalStrict(n strictyaml.Node) error {
	if n.Kind() == yaml.MappingNode {
		s.Inline = &Service{}
		return n.Decode(s.Inline)
	}
	return n.Decode(&s.Name)
}

// MarshalYAML writes the name or the service.
func (s ServiceRef) MarshalYAML() (any, error) {
	if s.Inline != nil {
		return s.Inline, nil
	}
	return s.Name, nil
}

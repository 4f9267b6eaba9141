package openflow

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"strings"
)

// Conntrack sends the packet through the connection tracker (nicira-ext,
// NXAST_CT).
type Conntrack struct {
	Commit bool // makes the connection an entry of the tracker
	Force  bool // takes the packet's direction for the original one
	Zone   uint16
	// ZoneSrc takes the zone from 16 bits of a field instead.
	ZoneSrc *Subfield
	// Table is where the tracked packet goes on, with its state, when Recirc
	// is set.
	Table  uint8
	Recirc bool
	Alg    uint16 // port of a helper's protocol: 21 for ftp, 69 for tftp
	NAT    *NAT   // nil is none
	// Exec writes ct_mark and ct_label of a committed connection: Load,
	// Move, SetField.
	Exec []Action
}

const (
	ctCommit uint16 = 1 << 0
	ctForce  uint16 = 1 << 1
	// ctNoRecirc is NX_CT_RECIRC_NONE.
	ctNoRecirc = 0xff
	ctLen      = 24

	portFTP  = 21
	portTFTP = 69
)

func (a Conntrack) append(b []byte) []byte {
	start := len(b)
	b = appendNicira(b, 0, nxCT)
	var flags uint16
	if a.Commit {
		flags |= ctCommit
	}
	if a.Force {
		flags |= ctForce
	}
	b = binary.BigEndian.AppendUint16(b, flags)
	if a.ZoneSrc != nil {
		b = binary.BigEndian.AppendUint32(b, a.ZoneSrc.Field.nxmHeader())
		b = binary.BigEndian.AppendUint16(b, a.ZoneSrc.ofsNBits())
	} else {
		b = binary.BigEndian.AppendUint16(zeros(b, 4), a.Zone)
	}
	table := byte(ctNoRecirc)
	if a.Recirc {
		table = a.Table
	}
	b = append(b, table, 0, 0, 0)
	b = binary.BigEndian.AppendUint16(b, a.Alg)
	if a.NAT != nil {
		b = a.NAT.append(b)
	}
	return finishAction(appendActions(b, a.Exec), start)
}

// decodeConntrack reads NXAST_CT; b has at least its fixed part. It returns
// nil for what our fields cannot say.
func decodeConntrack(b []byte, depth int) (Action, error) {
	flags := binary.BigEndian.Uint16(b[10:])
	if flags&^(ctCommit|ctForce) != 0 {
		return nil, nil
	}
	a := Conntrack{
		Commit: flags&ctCommit != 0, Force: flags&ctForce != 0, Alg: binary.BigEndian.Uint16(b[22:]),
	}
	if table := b[18]; table != ctNoRecirc {
		a.Table, a.Recirc = table, true
	}
	zone := binary.BigEndian.Uint16(b[16:])
	if binary.BigEndian.Uint32(b[12:]) == 0 {
		a.Zone = zone
	} else {
		src, ok := decodeOfsNBits(zone, b[12:])
		if !ok {
			return nil, nil
		}
		a.ZoneSrc = &src
	}
	nested, err := decodeNested(b[ctLen:], depth+1)
	if err != nil {
		return nil, err
	}
	if len(nested) > 0 {
		if nat, ok := nested[0].(NAT); ok {
			a.NAT, nested = &nat, nested[1:]
		}
	}
	if len(nested) > 0 {
		a.Exec = nested
	}
	return a, nil
}

func (a Conntrack) check(s *situation) error {
	if err := s.needAlways("ct", prereqIP); err != nil {
		return err
	}
	if a.ZoneSrc != nil {
		if err := s.checkRead(*a.ZoneSrc); err != nil {
			return err
		}
		if a.ZoneSrc.Bits != 16 {
			return fmt.Errorf("a zone has 16 bits, not %d", a.ZoneSrc.Bits)
		}
	}
	switch {
	case a.Force && !a.Commit:
		return errors.New("force needs commit")
	case len(a.Exec) > 0 && !a.Commit:
		return errors.New("exec needs commit")
	case a.Recirc && a.Table == ctNoRecirc:
		return errors.New("recirculation to table 255")
	}
	if err := a.checkAlg(s); err != nil {
		return err
	}
	if a.NAT != nil {
		if err := a.NAT.check(s); err != nil {
			return err
		}
		if !a.Commit && (a.NAT.Src || a.NAT.Dst) {
			return errors.New("nat(src) and nat(dst) need commit")
		}
	}
	// Open vSwitch allows writes of the connection's mark and label here.
	inside := &situation{match: s.match, tags: s.tags, exec: true}
	for i, e := range a.Exec {
		switch e.(type) {
		case Load, Move, SetField:
		default:
			return fmt.Errorf("exec takes no %s", e)
		}
		if err := e.check(inside); err != nil {
			return fmt.Errorf("exec %d: %w", i, err)
		}
	}
	return nil
}

// checkAlg holds that a helper gets packets of its protocol.
func (a Conntrack) checkAlg(s *situation) error {
	switch a.Alg {
	case 0:
	case portFTP:
		return s.needAlways("alg=ftp", prereqTCP)
	case portTFTP:
		return s.needAlways("alg=tftp", prereqUDP)
	default:
		return fmt.Errorf("no helper for port %d: there are 21 (ftp) and 69 (tftp)", a.Alg)
	}
	return nil
}

func (a Conntrack) String() string {
	var parts []string
	if a.Commit {
		parts = append(parts, "commit")
	}
	if a.Force {
		parts = append(parts, "force")
	}
	if a.Recirc {
		parts = append(parts, fmt.Sprintf("table=%d", a.Table))
	}
	switch {
	case a.ZoneSrc != nil:
		parts = append(parts, "zone="+a.ZoneSrc.String())
	case a.Zone != 0:
		parts = append(parts, fmt.Sprintf("zone=%d", a.Zone))
	}
	if a.NAT != nil {
		parts = append(parts, a.NAT.String())
	}
	if len(a.Exec) > 0 {
		parts = append(parts, "exec("+actionsText(a.Exec)+")")
	}
	switch a.Alg {
	case 0:
	case portFTP:
		parts = append(parts, "alg=ftp")
	case portTFTP:
		parts = append(parts, "alg=tftp")
	default:
		parts = append(parts, fmt.Sprintf("alg=%d", a.Alg))
	}
	if len(parts) == 0 {
		return "ct"
	}
	return "ct(" + strings.Join(parts, ",") + ")"
}

// CTClear forgets what the connection tracker said of the packet (nicira-ext,
// NXAST_CT_CLEAR).
type CTClear struct{}

func (CTClear) append(b []byte) []byte { return zeros(appendNicira(b, 16, nxCTClear), 6) }
func (CTClear) check(*situation) error { return nil }
func (CTClear) String() string         { return "ct_clear" }

// NAT translates addresses as part of Conntrack (nicira-ext, NXAST_NAT). The
// zero value translates packets of connections that are translated already.
type NAT struct {
	Src, Dst     bool       // which address; not both
	Min, Max     netip.Addr // valid ones are the range; Max may stay invalid
	MinPort      uint16     // 0 is any port
	MaxPort      uint16     // 0 is MinPort
	Persistent   bool       // the same mapping after the tracker's restart
	Hash, Random bool       // how ports are chosen; not both
}

// Flags of NXAST_NAT, and the parts of its range.
const (
	natSrc        uint16 = 1 << 0
	natDst        uint16 = 1 << 1
	natPersistent uint16 = 1 << 2
	natHash       uint16 = 1 << 3
	natRandom     uint16 = 1 << 4

	natIPv4Min uint16 = 1 << 0
	natIPv4Max uint16 = 1 << 1
	natIPv6Min uint16 = 1 << 2
	natIPv6Max uint16 = 1 << 3
	natPortMin uint16 = 1 << 4
	natPortMax uint16 = 1 << 5

	natLen = 16
)

func (a NAT) flags() (f uint16) {
	for _, x := range [...]struct {
		on  bool
		bit uint16
	}{{a.Src, natSrc}, {a.Dst, natDst}, {a.Persistent, natPersistent}, {a.Hash, natHash}, {a.Random, natRandom}} {
		if x.on {
			f |= x.bit
		}
	}
	return f
}

func (a NAT) append(b []byte) []byte {
	start := len(b)
	b = zeros(appendNicira(b, 0, nxNAT), 2)
	b = binary.BigEndian.AppendUint16(b, a.flags())
	at := len(b)
	b = append(b, 0, 0)
	var present uint16
	put := func(addr netip.Addr, v4, v6 uint16) {
		switch {
		case addr.Is4():
			present |= v4
		case addr.Is6():
			present |= v6
		}
		b = append(b, addr.AsSlice()...)
	}
	put(a.Min, natIPv4Min, natIPv6Min)
	put(a.Max, natIPv4Max, natIPv6Max)
	if a.MinPort != 0 {
		present |= natPortMin
		b = binary.BigEndian.AppendUint16(b, a.MinPort)
	}
	if a.MaxPort != 0 {
		present |= natPortMax
		b = binary.BigEndian.AppendUint16(b, a.MaxPort)
	}
	binary.BigEndian.PutUint16(b[at:], present)
	return finishAction(b, start)
}

// decodeNAT returns nil for what our fields cannot say.
func decodeNAT(b []byte) Action {
	flags, present := binary.BigEndian.Uint16(b[12:]), binary.BigEndian.Uint16(b[14:])
	a := NAT{
		Src: flags&natSrc != 0, Dst: flags&natDst != 0, Persistent: flags&natPersistent != 0,
		Hash: flags&natHash != 0, Random: flags&natRandom != 0,
	}
	rest := b[natLen:]
	take := func(bit uint16, n int) (v []byte) {
		if present&bit == 0 || len(rest) < n {
			return nil
		}
		v, rest = rest[:n], rest[n:]
		return v
	}
	for _, x := range [...]struct {
		bit uint16
		n   int
		dst *netip.Addr
	}{{natIPv4Min, 4, &a.Min}, {natIPv4Max, 4, &a.Max}, {natIPv6Min, 16, &a.Min}, {natIPv6Max, 16, &a.Max}} {
		if v := take(x.bit, x.n); v != nil {
			*x.dst, _ = netip.AddrFromSlice(v)
		}
	}
	if v := take(natPortMin, 2); v != nil {
		a.MinPort = binary.BigEndian.Uint16(v)
	}
	if v := take(natPortMax, 2); v != nil {
		a.MaxPort = binary.BigEndian.Uint16(v)
	}
	if string(a.append(nil)) != string(b) {
		return nil
	}
	return a
}

func (a NAT) check(s *situation) error {
	family := prereqIP
	switch {
	case a.Min.Is4():
		family = prereqIPv4
	case a.Min.Is6():
		family = prereqIPv6
	}
	if err := s.needAlways("nat", family); err != nil {
		return err
	}
	switch {
	case a.Src && a.Dst:
		return errors.New("nat is for src or for dst")
	case a.Hash && a.Random:
		return errors.New("nat chooses ports by hash or at random")
	case !a.Src && !a.Dst && a != NAT{}:
		return errors.New("nat without src or dst takes no range and no flags")
	case a.Max.IsValid() && !a.Min.IsValid() || a.MaxPort != 0 && a.MinPort == 0:
		return errors.New("nat range without its begin")
	case a.MinPort != 0 && !a.Min.IsValid():
		return errors.New("nat ports without an address")
	case a.Max.IsValid() && (a.Max.Is4() != a.Min.Is4() || a.Max.Less(a.Min)), a.MaxPort != 0 && a.MaxPort < a.MinPort:
		return errors.New("nat range ends before it begins")
	}
	return nil
}

func (a NAT) String() string {
	var s strings.Builder
	switch {
	case a.Src:
		s.WriteString("src")
	case a.Dst:
		s.WriteString("dst")
	default:
		return "nat"
	}
	if a.Min.IsValid() {
		s.WriteString("=" + a.rangeText())
	}
	for _, x := range [...]struct {
		on   bool
		name string
	}{{a.Persistent, "persistent"}, {a.Hash, "hash"}, {a.Random, "random"}} {
		if x.on {
			s.WriteString("," + x.name)
		}
	}
	return "nat(" + s.String() + ")"
}

func (a NAT) rangeText() string {
	text := func(x netip.Addr) string {
		if x.Is6() && a.MinPort != 0 {
			return "[" + x.String() + "]"
		}
		return x.String()
	}
	s := text(a.Min)
	if a.Max.IsValid() {
		s += "-" + text(a.Max)
	}
	if a.MinPort != 0 {
		s += fmt.Sprintf(":%d", a.MinPort)
	}
	if a.MaxPort != 0 {
		s += fmt.Sprintf("-%d", a.MaxPort)
	}
	return s
}

package oftest

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"

	of "github.com/platelet-sdn/platelet/controller/openflow"
)

// visit is a table that a trace passed through; a miss has priority -1.
type visit struct {
	table    uint8
	priority int
	cookie   uint64
}

func (v visit) String() string {
	if v.priority < 0 {
		return fmt.Sprintf("table %d: no match", v.table)
	}
	return fmt.Sprintf("table %d: priority %d, cookie 0x%x", v.table, v.priority, v.cookie)
}

// realTrace is what ofproto/trace printed.
type realTrace struct {
	visits []visit
	// starts, finals and actions are one for each pass.
	starts, finals, actions []string
	failed                  string // why the translation was given up
}

var (
	ruleLine = regexp.MustCompile(`^ *(\d+)\. (?:(No match)\.|.*\bpriority (\d+)(?:, cookie (0x[0-9a-f]+))?)$`)
	failLine = regexp.MustCompile(`^Translation failed \((.*)\)`)
)

func parseTrace(text string) (tr realTrace, err error) {
	for line := range strings.Lines(text) {
		line = strings.TrimRight(line, "\n")
		switch {
		case strings.HasPrefix(line, "Flow: "):
			tr.starts = append(tr.starts, line[len("Flow: "):])
		case strings.HasPrefix(line, "Final flow: "):
			final := line[len("Final flow: "):]
			if final == "unchanged" {
				final = tr.starts[len(tr.starts)-1]
			}
			tr.finals = append(tr.finals, final)
		case strings.HasPrefix(line, "Datapath actions: "):
			tr.actions = append(tr.actions, line[len("Datapath actions: "):])
		default:
			if m := failLine.FindStringSubmatch(line); m != nil {
				tr.failed = m[1]
			}
			if m := ruleLine.FindStringSubmatch(line); m != nil {
				v, err := parseVisit(m)
				if err != nil {
					return tr, fmt.Errorf("%q: %w", line, err)
				}
				tr.visits = append(tr.visits, v)
			}
		}
	}
	if len(tr.finals) == 0 || len(tr.finals) != len(tr.starts) || len(tr.actions) != len(tr.finals) {
		return tr, fmt.Errorf("%d flows, %d final flows, %d lists of actions", len(tr.starts), len(tr.finals), len(tr.actions))
	}
	return tr, nil
}

func parseVisit(m []string) (v visit, err error) {
	table, err := strconv.ParseUint(m[1], 10, 8)
	if err != nil {
		return v, err
	}
	v = visit{table: uint8(table), priority: -1}
	if m[2] != "" {
		return v, nil
	}
	if v.priority, err = strconv.Atoi(m[3]); err != nil || m[4] == "" {
		return v, err
	}
	v.cookie, err = strconv.ParseUint(m[4], 0, 64)
	return v, err
}

func visitsOf(steps []Step) (out []visit) {
	for _, s := range steps {
		v := visit{table: s.Table, priority: -1}
		if s.Rule != nil {
			v.priority, v.cookie = int(s.Rule.Priority), s.Rule.Cookie
		}
		out = append(out, v)
	}
	return out
}

// item is one datapath action: name(args) or name.
type item struct {
	name string
	args string
}

// items splits a list of datapath actions at its outermost commas.
func items(text string) (out []item) {
	depth, start := 0, 0
	cut := func(end int) {
		if s := strings.TrimSpace(text[start:end]); s != "" {
			name, args, _ := strings.Cut(s, "(")
			out = append(out, item{name, strings.TrimSuffix(args, ")")})
		}
		start = end + 1
	}
	for i, c := range text {
		switch {
		case c == '(':
			depth++
		case c == ')':
			depth--
		case c == ',' && depth == 0:
			cut(i)
		}
	}
	cut(len(text))
	return out
}

// datapath carries out a list of datapath actions on a packet and returns
// what came of it, in the words of effectsOf.
func datapath(p Packet, list string) (out []string, err error) {
	for _, it := range items(list) {
		switch it.name {
		case "drop":
		case "push_vlan":
			v := VLAN{TPID: EtherVLAN}
			for _, kv := range items(it.args) {
				key, value, _ := strings.Cut(kv.name, "=")
				n, err := strconv.ParseUint(value, 0, 16)
				if err != nil {
					return nil, err
				}
				switch key {
				case "tpid":
					v.TPID = uint16(n)
				case "vid":
					v.ID = uint16(n)
				case "pcp":
					v.Priority = uint8(n)
				}
			}
			p.VLANs[1], p.VLANs[0] = p.VLANs[0], v
		case "pop_vlan":
			p.popVLAN()
		case "set":
			if err := applySet(&p, it.args); err != nil {
				return nil, err
			}
		case "ct":
			out = append(out, "ct "+it.args)
		case "ct_clear":
			out = append(out, "ct_clear")
		case "meter":
			out = append(out, "meter")
		case "recirc":
			out = append(out, "recirc")
		case "userspace":
			out = append(out, "controller")
		default:
			port, err := strconv.ParseUint(it.name, 10, 32)
			if err != nil {
				return nil, fmt.Errorf("datapath action %q", it.name)
			}
			out = append(out, fmt.Sprintf("output %d %s", port, onTheWire(p)))
		}
	}
	return out, nil
}

// onTheWire forgets what does not leave with a packet.
func onTheWire(p Packet) Packet {
	p.InPort, p.Metadata, p.TunID, p.Mark, p.Regs, p.CT = 0, 0, 0, 0, [16]uint32{}, Conntrack{}
	return p
}

// datapathField is a key of the datapath's set action: the field, and the
// name by which a packet's text has it.
type datapathField struct {
	field of.Field
	name  string
}

// datapathFields gives the fields of each header.
var datapathFields = map[string]map[string]datapathField{
	"eth": {"src": {of.FieldEthSrc, "dl_src"}, "dst": {of.FieldEthDst, "dl_dst"}},
	"ipv4": {"src": {of.FieldIPv4Src, "nw_src"}, "dst": {of.FieldIPv4Dst, "nw_dst"}, "ttl": {of.FieldIPTTL, "nw_ttl"},
		"tos": {of.FieldIPToS, "nw_tos"}},
	"ipv6": {"src": {of.FieldIPv6Src, "ipv6_src"}, "dst": {of.FieldIPv6Dst, "ipv6_dst"}, "hlimit": {of.FieldIPTTL, "nw_ttl"},
		"tclass": {of.FieldIPToS, "nw_tos"}, "label": {of.FieldIPv6Label, "ipv6_label"}},
	"tcp":  {"src": {of.FieldTCPSrc, "tp_src"}, "dst": {of.FieldTCPDst, "tp_dst"}},
	"udp":  {"src": {of.FieldUDPSrc, "tp_src"}, "dst": {of.FieldUDPDst, "tp_dst"}},
	"sctp": {"src": {of.FieldSCTPSrc, "tp_src"}, "dst": {of.FieldSCTPDst, "tp_dst"}},
	"arp": {"sip": {of.FieldARPSPA, "arp_spa"}, "tip": {of.FieldARPTPA, "arp_tpa"}, "op": {of.FieldARPOp, "arp_op"},
		"sha": {of.FieldARPSHA, "arp_sha"}, "tha": {of.FieldARPTHA, "arp_tha"}},
}

// applySet carries out set(header(key=value/mask,...)).
func applySet(p *Packet, args string) error {
	h := items(args)
	if len(h) != 1 {
		return fmt.Errorf("set(%s)", args)
	}
	switch h[0].name {
	case "skb_priority", "skb_mark", "tunnel":
		return nil
	}
	for _, kv := range items(h[0].args) {
		key, value, _ := strings.Cut(kv.name, "=")
		f, ok := datapathFields[h[0].name][key]
		if !ok {
			return fmt.Errorf("set(%s): key %s", args, key)
		}
		value, mask, masked := strings.Cut(value, "/")
		v, err := parseBits(*p, f, value)
		if err != nil {
			return fmt.Errorf("set(%s): %w", args, err)
		}
		m := ones(128)
		if masked {
			if m, err = parseBits(*p, f, mask); err != nil {
				return fmt.Errorf("set(%s): %w", args, err)
			}
		}
		p.set(f.field, p.get(f.field).replace(v, m))
	}
	return nil
}

// parseBits reads a field's value by way of a packet like p.
func parseBits(p Packet, f datapathField, text string) (bits, error) {
	if err := p.parseField(f.name, text); err != nil {
		return bits{}, err
	}
	return p.get(f.field), nil
}

package ovsimport

import (
	"cmp"
	"context"
	"fmt"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// versions lets ovs-ofctl agree with the switch on the newest version that
// the bridge speaks: only OpenFlow 1.5 knows all that a bridge can hold.
const versions = "OpenFlow10,OpenFlow11,OpenFlow12,OpenFlow13,OpenFlow14,OpenFlow15"

// Platelet's own flows are known by the first 16 bits of their cookie, "PL".
const (
	ownCookie      = 0x504c
	ownCookieShift = 48
)

// flow is one flow as ovs-ofctl prints it, with numbers for ports.
type flow struct {
	table, priority int
	cookie          uint64
	text            string
}

// ofctl asks a bridge for a dump.
func (t tools) ofctl(ctx context.Context, b *bridge, versions, verb string, options ...string) (string, error) {
	args := append([]string{"--timeout=30", "--no-names", "-O", versions}, options...)
	out, err := run(ctx, "ovs-ofctl", append(args, verb, "unix:"+filepath.Join(t.runDir, b.name+".mgmt"))...)
	if err != nil {
		return "", fmt.Errorf("%s: %w", strings.TrimPrefix(verb, "dump-"), err)
	}
	return out, nil
}

// readOpenFlow reads a bridge's flows, groups and meters, and the settings of
// its ports that only OpenFlow knows.
func (t tools) readOpenFlow(ctx context.Context, b *bridge) error {
	own, err := t.readFlows(ctx, b)
	if err != nil {
		return err
	}
	protocols := b.row["protocols"].set
	oldest := versions
	if len(protocols) == 0 || slices.Contains(protocols, "OpenFlow10") {
		oldest = "OpenFlow10" // later ones hide whether a port is flooded to
	}
	out, err := t.ofctl(ctx, b, oldest, "dump-ports-desc")
	if err != nil {
		return err
	}
	b.flags = parsePortFlags(out)
	if out, err = t.ofctl(ctx, b, versions, "dump-tlv-map"); err != nil {
		return err
	}
	b.tunnelFields = parseTunnelFields(out)
	if len(protocols) > 0 && !slices.ContainsFunc(protocols, newer) {
		return nil // OpenFlow before 1.3 knows no meters; before 1.1, no groups
	}
	if out, err = t.ofctl(ctx, b, versions, "dump-groups"); err != nil {
		return err
	}
	if b.groups, err = parseGroups(out); err != nil {
		return err
	}
	if out, err = t.ofctl(ctx, b, versions, "dump-meters"); err != nil {
		return err
	}
	return b.takeMeters(out, own)
}

// readFlows reads the flows, without Platelet's own, whose meters it returns.
func (t tools) readFlows(ctx context.Context, b *bridge) (own map[string]bool, err error) {
	out, err := t.ofctl(ctx, b, versions, "dump-flows", "--no-stats")
	if err != nil {
		return nil, err
	}
	flows, err := parseFlows(out)
	if err != nil {
		return nil, err
	}
	own = map[string]bool{}
	for _, f := range flows {
		if f.cookie>>ownCookieShift != ownCookie {
			b.flows = append(b.flows, f)
			continue
		}
		b.skipped++
		for _, m := range metersOf(f.text) {
			own[m] = true
		}
	}
	slices.SortFunc(b.flows, func(x, y flow) int {
		return cmp.Or(cmp.Compare(x.table, y.table), cmp.Compare(y.priority, x.priority), cmp.Compare(x.text, y.text))
	})
	return own, nil
}

var (
	portHead    = regexp.MustCompile(`^([0-9]+)\(.*\): addr:`)
	tunnelField = regexp.MustCompile(`^(0x[0-9a-f]+|0)\s+(0x[0-9a-f]+|0)\s+([0-9]+)\s+(tun_metadata[0-9]+)$`)
)

// parsePortFlags reads from dump-ports-desc what a controller told ports not
// to do.
func parsePortFlags(reply string) map[int][]string {
	words := map[string]string{"NO_RECV": "no-receive", "NO_FLOOD": "no-flood", "NO_FWD": "no-forward", "NO_PACKET_IN": "no-packet-in"}
	out, port := map[int][]string{}, 0
	for _, line := range body(reply) {
		if m := portHead.FindStringSubmatch(line); m != nil {
			port, _ = strconv.Atoi(m[1])
			continue
		}
		if strings.HasPrefix(line, "LOCAL(") {
			port = 0
		}
		if flags, ok := strings.CutPrefix(line, "config:"); ok && port > 0 {
			for _, f := range strings.Fields(flags) {
				if w, known := words[f]; known {
					out[port] = append(out[port], w)
				}
			}
		}
	}
	return out
}

// parseTunnelFields reads from dump-tlv-map which tunnel options the flows
// know as fields.
func parseTunnelFields(reply string) []string {
	var out []string
	for _, line := range body(reply) {
		if m := tunnelField.FindStringSubmatch(line); m != nil {
			out = append(out, fmt.Sprintf("{class=%s,type=%s,len=%s}->%s", m[1], m[2], m[3], m[4]))
		}
	}
	slices.Sort(out)
	return out
}

// newer reports whether a protocol knows groups and meters.
func newer(protocol string) bool {
	return protocol == "OpenFlow13" || protocol == "OpenFlow14" || protocol == "OpenFlow15"
}

// takeMeters keeps the meters, except those that only Platelet's flows use.
func (b *bridge) takeMeters(dump string, own map[string]bool) error {
	meters, err := parseMeters(dump)
	if err != nil {
		return err
	}
	for _, f := range b.flows {
		for _, m := range metersOf(f.text) {
			delete(own, m)
		}
	}
	for _, g := range b.groups {
		for _, m := range metersOf(g) {
			delete(own, m)
		}
	}
	for _, m := range meters {
		if id, _, _ := strings.Cut(strings.TrimPrefix(m, "meter="), ","); own[id] {
			b.skipped++
			continue
		}
		b.meters = append(b.meters, m)
	}
	return nil
}

var meterAction = regexp.MustCompile(`\bmeter:([0-9]+)`)

func metersOf(actions string) []string {
	var out []string
	for _, m := range meterAction.FindAllStringSubmatch(actions, -1) {
		out = append(out, m[1])
	}
	return out
}

// body yields the lines of a reply without its headings.
func body(reply string) []string {
	var out []string
	for line := range strings.Lines(reply) {
		line = strings.TrimSpace(line)
		if line == "" || heading.MatchString(line) {
			continue
		}
		out = append(out, line)
	}
	return out
}

var heading = regexp.MustCompile(`^(OFPST|NXST|OFPT|NXT|ONFST)[A-Z_0-9]* .*\(xid=0x[0-9a-f]+\):`)

// parseFlows reads the reply of dump-flows --no-stats.
func parseFlows(reply string) ([]flow, error) {
	var out []flow
	for _, line := range body(reply) {
		f, err := parseFlow(line)
		if err != nil {
			return nil, err
		}
		out = append(out, f)
	}
	return out, nil
}

// parseFlow reads one flow. Everything that it does not need to know stays
// as the switch printed it.
func parseFlow(line string) (flow, error) {
	f := flow{priority: 0x8000}
	match, actions, ok := strings.Cut(line, "actions=")
	if !ok {
		return f, fmt.Errorf("flow %q: has no actions", line)
	}
	var words []string
	for _, w := range strings.FieldsFunc(match, func(r rune) bool { return r == ',' || r == ' ' }) {
		key, value, _ := strings.Cut(w, "=")
		var err error
		switch key {
		case "table":
			var n uint64
			n, err = strconv.ParseUint(value, 10, 8)
			f.table = int(n)
		case "priority":
			var n uint64
			n, err = strconv.ParseUint(value, 10, 16)
			f.priority = int(n)
		case "cookie":
			f.cookie, err = strconv.ParseUint(value, 0, 64)
		}
		if err != nil {
			return f, fmt.Errorf("flow %q: %s: %w", line, key, err)
		}
		words = append(words, w)
	}
	f.text = strings.Join(append(words, "actions="+strings.TrimSpace(actions)), ",")
	return f, nil
}

var (
	groupID  = regexp.MustCompile(`^group_id=([0-9]+),`)
	groupRef = regexp.MustCompile(`(?:\bgroup:|watch_group:)([0-9]+)`)
)

// parseGroups reads the reply of dump-groups, in an order in which each group
// comes after those that it leads to, as the switch wants them.
func parseGroups(reply string) ([]string, error) {
	text, ids := map[string]string{}, []string{}
	for _, line := range body(reply) {
		m := groupID.FindStringSubmatch(line)
		if m == nil {
			return nil, fmt.Errorf("group %q: does not begin with an ID", line)
		}
		if _, again := text[m[1]]; again {
			return nil, fmt.Errorf("group %s: is there twice", m[1])
		}
		text[m[1]] = line
		ids = append(ids, m[1])
	}
	slices.SortFunc(ids, func(a, b string) int { return cmp.Or(cmp.Compare(len(a), len(b)), cmp.Compare(a, b)) })
	out, done := make([]string, 0, len(ids)), map[string]bool{}
	var visit func(id string)
	visit = func(id string) {
		line, ok := text[id]
		if !ok || done[id] {
			return
		}
		done[id] = true
		for _, ref := range groupRef.FindAllStringSubmatch(line, -1) {
			visit(ref[1])
		}
		out = append(out, line)
	}
	for _, id := range ids {
		visit(id)
	}
	return out, nil
}

// parseMeters reads the reply of dump-meters, which takes a line for the
// meter and one for each band.
func parseMeters(reply string) ([]string, error) {
	var out []string
	for _, line := range body(reply) {
		fields := strings.Join(strings.Fields(line), ",")
		switch {
		case strings.HasPrefix(line, "meter="):
			out = append(out, fields)
		case strings.HasPrefix(line, "type=") && len(out) > 0:
			m := &out[len(out)-1]
			if !strings.HasSuffix(*m, "bands=") {
				*m += ","
			}
			*m += fields
		default:
			return nil, fmt.Errorf("meter %q: neither a meter nor a band", line)
		}
	}
	for _, m := range out {
		if strings.HasSuffix(m, "bands=") {
			return nil, fmt.Errorf("meter %q: has no bands", m)
		}
	}
	slices.SortFunc(out, func(a, b string) int {
		idA, _, _ := strings.Cut(a, ",")
		idB, _, _ := strings.Cut(b, ",")
		return cmp.Or(cmp.Compare(len(idA), len(idB)), cmp.Compare(idA, idB))
	})
	return out, nil
}

// Where OpenFlow text names a port. A place that is missing here keeps its
// number, which is as right and only harder to read.
var (
	portPlace = regexp.MustCompile(`(\bin_port=|\boutput:|\boutput\(port=|\bwatch_port:|\bresubmit[:(]|\bsampling_port=)([0-9]+)([,)]|$)`)
	portInto  = regexp.MustCompile(`(\bset_field:)([0-9]+)(->in_port\b)`)
	bundle    = regexp.MustCompile(`\b(?:members|slaves):[0-9,]*[0-9]`)
)

// nameNumbers writes names for port numbers. Ports without a name keep
// their number.
func nameNumbers(text string, names map[int]string) string {
	name := func(number string) string {
		n, err := strconv.Atoi(number)
		if s, ok := names[n]; ok && err == nil {
			return s
		}
		return number
	}
	for _, place := range []*regexp.Regexp{portPlace, portInto} {
		text = place.ReplaceAllStringFunc(text, func(s string) string {
			m := place.FindStringSubmatch(s)
			return m[1] + name(m[2]) + m[3]
		})
	}
	return bundle.ReplaceAllStringFunc(text, func(s string) string {
		head, list, _ := strings.Cut(s, ":")
		members := strings.Split(list, ",")
		for i := range members {
			members[i] = name(members[i])
		}
		return head + ":" + strings.Join(members, ",")
	})
}

// plainName is a name that ovs-ofctl reads as a port without quotes; those
// of reserved ports are not for ordinary ones.
var plainName = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_.-]*$`)

func reserved(name string) bool {
	return slices.Contains([]string{"in_port", "table", "normal", "flood", "all", "controller", "local", "any", "none", "unset", "drop"}, strings.ToLower(name))
}

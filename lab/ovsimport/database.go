package ovsimport

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"slices"
	"strconv"
	"strings"
)

// tools runs Open vSwitch's own programs against one instance.
type tools struct{ db, runDir string }

// run runs a program and returns what it printed.
func run(ctx context.Context, program string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, program, args...)
	var out, errOut bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errOut
	if err := cmd.Run(); err != nil {
		text := strings.TrimSpace(errOut.String())
		return "", fmt.Errorf("%s: %w: %s", program, err, text[strings.LastIndexByte(text, '\n')+1:])
	}
	return out.String(), nil
}

// bridge is a bridge with everything that the database and the switch say.
type bridge struct {
	row
	name        string
	ports       []*port // without LOCAL, by name
	mirrors     []row
	controllers []string

	flows          []flow
	flags          map[int][]string // of ports by OpenFlow number, as `ovs-ofctl mod-port` takes them
	tunnelFields   []string         // as `ovs-ofctl add-tlv-map` takes them
	groups, meters []string         // as ovs-ofctl reads them
	skipped        int              // flows and meters that are Platelet's
}

// port is a port: one interface, or the several of a bond.
type port struct {
	row
	name   string
	ifaces []*iface // by name
}

// iface is an interface.
type iface struct {
	row
	name, kind string
	bridge     *bridge
	port       *port
	ofport     int // 0 where the switch has none
	ids        map[string]string
}

// row is a row of the database by column.
type row map[string]column

// column is the value of a column: a set of zero or more values, or a map.
type column struct {
	set   []string
	pairs map[string]string
}

// one is the value of a column that holds at most one, or "".
func (r row) one(name string) string {
	if c := r[name]; len(c.set) > 0 {
		return c.set[0]
	}
	return ""
}

// UnmarshalJSON reads OVSDB's notation (RFC 7047, section 5.1): an atom,
// ["uuid", ID], ["set", [...]] or ["map", [[k, v], ...]].
func (c *column) UnmarshalJSON(data []byte) error {
	var list []json.RawMessage
	if len(data) == 0 || data[0] != '[' {
		value, err := atom(data)
		c.set = []string{value}
		return err
	}
	if err := json.Unmarshal(data, &list); err != nil {
		return err
	}
	var tag string
	if len(list) != 2 || json.Unmarshal(list[0], &tag) != nil {
		return fmt.Errorf("value %s: want a pair of a tag and a value", data)
	}
	switch tag {
	case "set":
		var values []json.RawMessage
		if err := json.Unmarshal(list[1], &values); err != nil {
			return err
		}
		for _, v := range values {
			value, err := atom(v)
			if err != nil {
				return err
			}
			c.set = append(c.set, value)
		}
		return nil
	case "map":
		return c.unmarshalMap(list[1])
	}
	value, err := atom(data)
	c.set = []string{value}
	return err
}

func (c *column) unmarshalMap(data []byte) error {
	var pairs [][2]json.RawMessage
	if err := json.Unmarshal(data, &pairs); err != nil {
		return err
	}
	c.pairs = make(map[string]string, len(pairs))
	for _, p := range pairs {
		key, err := atom(p[0])
		if err != nil {
			return err
		}
		if c.pairs[key], err = atom(p[1]); err != nil {
			return err
		}
	}
	return nil
}

// atom reads a string, number, boolean or UUID as text.
func atom(data []byte) (string, error) {
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.UseNumber()
	var v any
	if err := dec.Decode(&v); err != nil {
		return "", err
	}
	switch v := v.(type) {
	case string:
		return v, nil
	case json.Number:
		return v.String(), nil
	case bool:
		return strconv.FormatBool(v), nil
	case []any:
		if len(v) == 2 && (v[0] == "uuid" || v[0] == "named-uuid") {
			if id, ok := v[1].(string); ok {
				return id, nil
			}
		}
	}
	return "", fmt.Errorf("value %s: want a string, number, boolean or uuid", data)
}

// decodeTables reads what ovs-vsctl --format=json prints, one document per
// table.
func decodeTables(text string) ([][]row, error) {
	dec := json.NewDecoder(strings.NewReader(text))
	var tables [][]row
	for {
		var doc struct {
			Headings []string   `json:"headings"`
			Data     [][]column `json:"data"`
		}
		if err := dec.Decode(&doc); errors.Is(err, io.EOF) {
			return tables, nil
		} else if err != nil {
			return nil, fmt.Errorf("read the database: %w", err)
		}
		var rows []row
		for _, values := range doc.Data {
			if len(values) != len(doc.Headings) {
				return nil, fmt.Errorf("read the database: %d values for %d columns", len(values), len(doc.Headings))
			}
			r := row{}
			for i, h := range doc.Headings {
				r[h] = values[i]
			}
			rows = append(rows, r)
		}
		tables = append(tables, rows)
	}
}

// readDatabase reads the bridges, all tables as of one moment.
func (t tools) readDatabase(ctx context.Context, names []string) (bridges []*bridge, notes []string, err error) {
	args := []string{"--db=" + t.db, "--timeout=10", "--no-syslog", "--no-wait", "--format=json"}
	wanted := []string{"Open_vSwitch", "Bridge", "Port", "Interface", "Controller", "Mirror"}
	for i, table := range wanted {
		if i > 0 {
			args = append(args, "--")
		}
		args = append(args, "list", table)
	}
	out, err := run(ctx, "ovs-vsctl", args...)
	if err != nil {
		return nil, nil, fmt.Errorf("is Open vSwitch running at %s? %w", t.db, err)
	}
	tables, err := decodeTables(out)
	if err != nil {
		return nil, nil, err
	}
	if len(tables) != len(wanted) || len(tables[0]) != 1 {
		return nil, nil, fmt.Errorf("read the database: got %d tables, want %d with one root row", len(tables), len(wanted))
	}
	d := database{root: tables[0][0], byID: map[string]row{}}
	for _, table := range tables {
		for _, r := range table {
			d.byID[r.one("_uuid")] = r
		}
	}
	for _, r := range tables[1] {
		if name := r.one("name"); len(names) == 0 || slices.Contains(names, name) {
			b, more := d.bridge(r)
			bridges, notes = append(bridges, b), append(notes, more...)
		}
	}
	slices.SortFunc(bridges, func(a, b *bridge) int { return cmp.Compare(a.name, b.name) })
	if limit, ok := d.root["other_config"].pairs["vlan-limit"]; ok {
		notes = append(notes, "the switch's vlan-limit="+limit+", which is one for all its bridges")
	}
	return bridges, notes, d.check(bridges, names)
}

// database is the tables, for following references.
type database struct {
	root row
	byID map[string]row
}

// check refuses bridges that are not there, and OVN's.
func (d database) check(bridges []*bridge, names []string) error {
	for _, name := range names {
		if !slices.ContainsFunc(bridges, func(b *bridge) bool { return b.name == name }) {
			return fmt.Errorf("there is no bridge %q", name)
		}
	}
	if len(bridges) == 0 {
		return errors.New("there is no bridge to import")
	}
	for _, b := range bridges {
		if d.ownedByOVN(b.name) {
			return fmt.Errorf("bridge %s: %w (ovn-controller writes its flows from OVN's databases, without which they mean nothing): name the other bridges to import those", b.name, ErrOVN)
		}
	}
	return nil
}

// ownedByOVN reports whether ovn-controller runs a bridge. Its settings may
// carry the chassis name as a suffix, for hosts with several chassis.
func (d database) ownedByOVN(name string) bool {
	ids := d.root["external_ids"].pairs
	remote, own := false, ids["ovn-bridge"] == "" && name == "br-int"
	for key, value := range ids {
		switch {
		case key == "ovn-remote-probe-interval", key == "ovn-bridge-mappings", key == "ovn-bridge-datapath-type":
		case key == "ovn-remote", strings.HasPrefix(key, "ovn-remote-"):
			remote = remote || value != ""
		case key == "ovn-bridge", strings.HasPrefix(key, "ovn-bridge-"):
			own = own || value == name
		}
	}
	return remote && own
}

func (d database) bridge(r row) (*bridge, []string) {
	b := &bridge{row: r, name: r.one("name")}
	var notes []string
	note := func(format string, args ...any) {
		notes = append(notes, "bridge "+b.name+": "+fmt.Sprintf(format, args...))
	}
	for _, id := range r["controller"].set {
		if c, ok := d.byID[id]; ok {
			b.controllers = append(b.controllers, c.one("target"))
		}
	}
	slices.Sort(b.controllers)
	for _, c := range b.controllers {
		note("controller %s", c)
	}
	for _, what := range []string{"netflow", "sflow", "ipfix", "auto_attach", "flow_tables"} {
		if c := r[what]; len(c.set)+len(c.pairs) > 0 {
			note("%s", what)
		}
	}
	for _, id := range r["mirrors"].set {
		if m, ok := d.byID[id]; ok {
			b.mirrors = append(b.mirrors, m)
		}
	}
	slices.SortFunc(b.mirrors, func(x, y row) int { return cmp.Compare(x.one("name"), y.one("name")) })
	for _, id := range r["ports"].set {
		p, ok := d.byID[id]
		if !ok || p.one("name") == b.name {
			continue // LOCAL comes with every bridge
		}
		b.ports = append(b.ports, d.port(b, p, note))
	}
	slices.SortFunc(b.ports, func(x, y *port) int { return cmp.Compare(x.name, y.name) })
	return b, notes
}

func (d database) port(b *bridge, r row, note func(string, ...any)) *port {
	p := &port{row: r, name: r.one("name")}
	if len(r["qos"].set) > 0 {
		note("port %s: its queues (QoS)", p.name)
	}
	for _, id := range r["interfaces"].set {
		i, ok := d.byID[id]
		if !ok {
			continue
		}
		n := &iface{row: i, name: i.one("name"), kind: i.one("type"), bridge: b, port: p, ids: i["external_ids"].pairs}
		if v, err := strconv.Atoi(i.one("ofport")); err == nil && v > 0 {
			n.ofport = v
		} else {
			note("interface %s has no OpenFlow port (%s)", n.name, cmp.Or(i.one("error"), "the switch has not made it"))
		}
		p.ifaces = append(p.ifaces, n)
	}
	slices.SortFunc(p.ifaces, func(x, y *iface) int { return cmp.Compare(x.name, y.name) })
	return p
}

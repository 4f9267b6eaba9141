package ovsimport

import (
	"cmp"
	"fmt"
	"maps"
	"net"
	"slices"
	"strings"
)

const (
	// inlineFlows is how many flows of a bridge may stand in the topology
	// itself.
	inlineFlows = 200
	// scriptMax bounds one command line; Linux takes 128 KiB.
	scriptMax = 60 << 10
	// restoreVersions know all that the importer reads, and bundles.
	restoreVersions = "OpenFlow14,OpenFlow15"
)

// planRestore writes the commands that give the new switch what it has by
// more than its cables. The order matters: a bridge forgets its flows when
// its fail mode changes, and flows name ports by the numbers that these have
// at the moment.
func (p *plan) planRestore() error {
	bridges := p.sortedBridges()
	p.do("Only bridges that this lab made.", p.guard())
	p.do("This machine may have addresses of the imported one, and must not answer for them at the switch's ports.", p.silence())
	for _, b := range bridges {
		p.do("Settings of "+p.bridgeOf[b]+", and the OpenFlow numbers of its ports.", p.configure(b))
		p.do("", p.portStates(b)...)
	}
	for _, b := range bridges {
		if err := p.program(b); err != nil {
			return fmt.Errorf("bridge %s: %w", b.name, err)
		}
	}
	for _, b := range bridges {
		p.do("", p.conclude(b))
	}
	return nil
}

// step is a command of the host's node, with a comment for people.
type step struct{ comment, line string }

// do adds commands; the comment stands above the first.
func (p *plan) do(comment string, lines ...string) {
	for _, l := range lines {
		if l != "" {
			p.exec = append(p.exec, step{comment, l})
			comment = ""
		}
	}
}

// silence keeps the machine's own network stack, which sees what arrives at
// the ports of a userspace switch, from answering there.
func (p *plan) silence() string {
	ports := slices.Sorted(maps.Values(p.ifaceOf))
	if len(ports) == 0 {
		return ""
	}
	return "sh -c '\nfor port in " + strings.Join(ports, " ") + "; do\n" +
		"  echo 8 >/proc/sys/net/ipv4/conf/$port/arp_ignore\n" +
		"  ! test -d /proc/sys/net/ipv6/conf/$port || echo 1 >/proc/sys/net/ipv6/conf/$port/disable_ipv6\ndone'"
}

// guard refuses to touch bridges that are not the lab's own, should the file
// be brought up where the imported bridges still are.
func (p *plan) guard() string {
	var bridges []string
	for _, b := range p.sortedBridges() {
		bridges = append(bridges, p.bridgeOf[b])
	}
	return "sh -c " + "'\nfor bridge in " + strings.Join(bridges, " ") + "; do\n" +
		`  ovs-vsctl --bare --columns=name find bridge name=$bridge "external_ids:` + labKey + `=\"` + p.o.Lab + `\"" | grep -qxF -- $bridge || {` + "\n" +
		`    echo "bridge $bridge is not one that lab ` + p.o.Lab + ` made: it stays as it is" >&2; exit 1; }` + "\ndone'"
}

// vsctl collects the commands of one ovs-vsctl transaction.
type vsctl struct {
	line strings.Builder
	any  bool
}

// do adds a command of words that need no quotes for Open vSwitch.
func (v *vsctl) do(words ...string) {
	v.line.WriteString("\n--")
	for _, w := range words {
		v.line.WriteString(" " + quoteShell(w))
	}
	v.any = true
}

// set adds a "set" command, unless there is nothing to set.
func (v *vsctl) set(table, record string, settings []string) {
	if len(settings) > 0 {
		v.do(append([]string{"set", table, record}, settings...)...)
	}
}

// String is the command line; "" when nothing was added.
func (v *vsctl) String() string {
	if !v.any {
		return ""
	}
	return "ovs-vsctl" + v.line.String()
}

// settings writes columns of a row for "set": those that hold anything and
// are not false or zero, which is the default of them all.
func (p *plan) settings(r row, where string, columns ...string) []string {
	var out []string
	for _, name := range columns {
		c := r[name]
		for _, k := range slices.Sorted(maps.Keys(c.pairs)) {
			if !carriable(k) || !carriable(c.pairs[k]) {
				p.note("%s: %s:%q, whose text a topology file cannot hold", where, name, k)
				continue
			}
			out = append(out, name+":"+quoteOVS(k)+"="+quoteOVS(c.pairs[k]))
		}
		if len(c.set) == 0 || c.set[0] == "false" || len(c.set) == 1 && c.set[0] == "0" && name != "tag" && name != "trunks" && name != "cvlans" && name != "flood_vlans" {
			continue
		}
		values := slices.Clone(c.set)
		slices.SortFunc(values, func(a, b string) int { return cmp.Or(cmp.Compare(len(a), len(b)), cmp.Compare(a, b)) })
		for i := range values {
			if !plainShell.MatchString(values[i]) {
				values[i] = quoteOVS(values[i])
			}
		}
		out = append(out, name+"="+strings.Join(values, ","))
	}
	return out
}

// idsOf writes external_ids for "set".
func idsOf(pairs map[string]string) []string {
	var out []string
	for _, k := range slices.Sorted(maps.Keys(pairs)) {
		out = append(out, "external_ids:"+quoteOVS(k)+"="+quoteOVS(pairs[k]))
	}
	return out
}

// withOrigin adds the name on the imported host, where it is another.
func (p *plan) withOrigin(name string, pairs map[string]string) map[string]string {
	if was := p.wasCalled[name]; was != "" && carriable(was) {
		pairs = maps.Clone(pairs)
		if pairs == nil {
			pairs = map[string]string{}
		}
		pairs[importedKey] = was
	}
	return pairs
}

// configure sets a bridge, its ports, interfaces and mirrors.
func (p *plan) configure(b *bridge) string {
	v, name := &vsctl{}, p.bridgeOf[b]
	where := "bridge " + b.name
	set := p.settings(b.row, where, "fail_mode", "mcast_snooping_enable", "flood_vlans")
	for _, s := range p.settings(b.row, where, "other_config") {
		// Two bridges of one identity on one machine confuse whoever goes
		// by it.
		if p.bridgeOf[b] != b.name && (strings.HasPrefix(s, "other_config:datapath-id=") || strings.HasPrefix(s, "other_config:hwaddr=")) {
			p.note("%s: %s, as its name is another here", where, s)
			continue
		}
		set = append(set, s)
	}
	v.set("bridge", name, append(set, idsOf(p.withOrigin(name, p.plainIDs(b.row["external_ids"].pairs, where)))...))
	ports := slices.Clone(b.ports)
	slices.SortFunc(ports, func(x, y *port) int { return cmp.Compare(p.portOf[x], p.portOf[y]) })
	for _, port := range ports {
		p.configurePort(v, name, port)
	}
	for at, m := range b.mirrors {
		p.mirror(v, b, m, at)
	}
	return v.String()
}

// portStates are the commands for what the database does not hold: ports
// that are down, and what a controller told ports not to do.
func (p *plan) portStates(b *bridge) []string {
	var out []string
	for _, port := range b.ports {
		for _, i := range port.ifaces {
			name := p.ifaceOf[i]
			if l := p.kernel.root.link(i.name); l != nil && i.kind != "internal" && l.Attrs().Flags&net.FlagUp == 0 {
				out = append(out, "ip link set dev "+name+" down")
			}
			for _, flag := range b.flags[i.ofport] {
				// Only the first version knows all the flags, and to
				// call ports by numbers is safe for any name.
				out = append(out, fmt.Sprintf("ovs-ofctl -O OpenFlow10 mod-port %s %d %s", p.bridgeOf[b], i.ofport, flag))
			}
		}
	}
	slices.Sort(out)
	return out
}

// portColumns are the columns of a port that decide what passes.
var portColumns = []string{"vlan_mode", "tag", "trunks", "cvlans", "protected", "other_config"}

func (p *plan) configurePort(v *vsctl, bridge string, port *port) {
	name, where := p.portOf[port], "port "+port.name
	set := p.settings(port.row, where, portColumns...)
	bond := len(port.ifaces) != 1 || port.ifaces[0].name != port.name
	if bond {
		p.bond(v, bridge, port)
		set = append(set, p.settings(port.row, where, "bond_mode", "bond_updelay", "bond_downdelay", "bond_fake_iface")...)
		if lacp := port.row.one("lacp"); lacp != "" && lacp != "off" {
			p.note("bond %s: LACP, which nobody speaks at the other end", port.name)
		}
	}
	own := p.plainIDs(port.row["external_ids"].pairs, where)
	if bond {
		own = p.withOrigin(name, own)
		own[labKey] = p.o.Lab // the next import keeps its name
	}
	v.set("port", name, append(set, idsOf(own)...))
	for _, i := range port.ifaces {
		p.configureIface(v, i, bond)
	}
}

// configureIface sets what an interface has beside the labels of its node. A
// member of a bond was added anew, without them.
func (p *plan) configureIface(v *vsctl, i *iface, anew bool) {
	name := p.ifaceOf[i]
	var set []string
	if i.ofport > 0 {
		set = append(set, fmt.Sprintf("ofport_request=%d", i.ofport))
	}
	where := "interface " + i.name
	set = append(set, p.settings(i.row, where, "ingress_policing_rate", "ingress_policing_burst", "ingress_policing_kpkts_rate", "ingress_policing_kpkts_burst", "other_config")...)
	pairs := p.withOrigin(name, p.extra[i])
	if anew {
		pairs = p.withOrigin(name, p.labels(i))
		pairs[labKey] = p.o.Lab
		if node := p.behindName(i); node != "" {
			pairs[nodeKey] = node
		}
	}
	v.set("interface", name, append(set, idsOf(pairs)...))
}

// behindName is the node that an interface's cable leads to.
func (p *plan) behindName(i *iface) string {
	for _, l := range p.links {
		switch p.ifaceOf[i] {
		case l.a.nic:
			if l.a.node == p.bridgeOf[i.bridge] {
				return l.b.node
			}
		case l.b.nic:
			return l.a.node
		}
	}
	return ""
}

// bond makes one port of those that the runner attached one by one.
func (p *plan) bond(v *vsctl, bridge string, port *port) {
	var members []string
	for _, i := range port.ifaces {
		members = append(members, p.ifaceOf[i])
	}
	slices.Sort(members)
	for _, m := range members {
		v.do("del-port", bridge, m)
	}
	v.do(append([]string{"add-bond", bridge, p.portOf[port]}, members...)...)
}

// mirror makes a mirror; one that names a port that is not there is lost.
func (p *plan) mirror(v *vsctl, b *bridge, m row, at int) {
	id := fmt.Sprintf("@m%d", at)
	words := []string{"--id=" + id, "create", "mirror", "name=" + quoteOVS(m.one("name"))}
	words = append(words, p.settings(m, "mirror "+m.one("name"), "select_all", "select_vlan", "output_vlan", "snaplen")...)
	refs := map[string]string{}
	for _, column := range []string{"select_src_port", "select_dst_port", "output_port"} {
		var list []string
		for _, uuid := range m[column].set {
			name := b.portByID(p, uuid)
			if name == "" {
				p.note("bridge %s: mirror %s, which names a port of no known name", b.name, m.one("name"))
				return
			}
			ref := "@p" + fmt.Sprint(at) + "_" + fmt.Sprint(len(refs))
			if old, again := refs[name]; again {
				ref = old
			} else {
				refs[name] = ref
				v.do("--id="+ref, "get", "port", name)
			}
			list = append(list, ref)
		}
		slices.Sort(list)
		if len(list) > 0 {
			words = append(words, column+"="+strings.Join(list, ","))
		}
	}
	v.do(words...)
	v.do("add", "bridge", p.bridgeOf[b], "mirrors", id)
}

// portByID is the name in the lab of a bridge's port.
func (b *bridge) portByID(p *plan, uuid string) string {
	for _, port := range b.ports {
		if port.row.one("_uuid") == uuid {
			return p.portOf[port]
		}
	}
	return ""
}

// program loads a bridge's meters, groups and flows, in the order in which
// they need each other.
func (p *plan) program(b *bridge) error {
	name := p.bridgeOf[b]
	names := map[int]string{}
	for _, port := range b.ports {
		for _, i := range port.ifaces {
			if n := p.ifaceOf[i]; plainName.MatchString(n) && !reserved(n) && i.ofport > 0 {
				names[i.ofport] = n
			}
		}
	}
	ofctl := "ovs-ofctl -O " + restoreVersions + " "
	if len(b.tunnelFields) > 0 {
		p.do("", ofctl+"add-tlv-map "+name+" "+quoteShell(strings.Join(b.tunnelFields, ",")))
	}
	for _, m := range b.meters {
		p.do("", ofctl+"add-meter "+name+" "+quoteShell(m))
	}
	var groups []string
	for _, g := range b.groups {
		groups = append(groups, nameNumbers(g, names))
	}
	p.do("", scripts(ofctl+"--bundle add-groups "+name, groups)...)
	flows := []string{"delete"} // what a new bridge has by itself
	for _, f := range b.flows {
		flows = append(flows, nameNumbers(f.text, names))
	}
	if p.o.Dir == "" || len(b.flows) <= inlineFlows {
		p.do("", scripts(ofctl+"--bundle add-flows "+name, flows)...)
		return nil
	}
	file := p.o.Lab + "." + name + ".flows"
	p.files[file] = []byte(strings.Join(flows, "\n") + "\n")
	path := dirVariable + p.o.Dir + "}/" + file
	p.do("", ofctl+"--bundle add-flows "+name+" '"+strings.ReplaceAll(path, "'", `'\''`)+"'")
	return nil
}

// dirVariable is where the files beside the topology are, for a topology
// that was moved since.
const dirVariable = "${PLATELET_LAB_DIR:-"

// scripts feeds text to a command, as many times as its length asks for.
func scripts(command string, text []string) []string {
	var out []string
	for len(text) > 0 {
		n, size := 0, 0
		for n < len(text) && (n == 0 || size+len(text[n]) < scriptMax) {
			size += len(text[n]) + 1
			n++
		}
		script := "\n" + command + " - <<\"END\"\n" + strings.Join(text[:n], "\n") + "\nEND"
		out = append(out, "sh -c '"+strings.ReplaceAll(script, "'", `'\''`)+"'")
		text = text[n:]
	}
	return out
}

// conclude sets what must come last: the protocols may shut out the commands
// before, and until the flows are there spanning tree keeps loops harmless.
func (p *plan) conclude(b *bridge) string {
	v := &vsctl{}
	set := p.settings(b.row, "bridge "+b.name, "protocols", "stp_enable")
	v.set("bridge", p.bridgeOf[b], append(set, "rstp_enable="+cmp.Or(b.row.one("rstp_enable"), "false")))
	return v.String()
}

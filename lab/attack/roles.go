package attack

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/platelet-sdn/platelet/lab/runner"
)

// Roles are the nodes that take part, found by their labels.
type Roles struct {
	Attacker, Victim string
	// AttackerIface, VictimIface are their interfaces.
	AttackerIface, VictimIface string
	AttackerMAC                string
	AttackerAddr, VictimAddr   netip.Addr
	// VictimAddr6 is the victim's first IPv6 address; the zero Addr when it
	// has none.
	VictimAddr6 netip.Addr
	// Gateway and Near are the router and a host on the first attacker's own
	// link, the victim if it is there; without a node when there is none.
	Gateway, Near Host
	// AttackerAddrs are all addresses that the attacker goes by.
	AttackerAddrs []netip.Addr
	// Subnet is the victim's.
	Subnet netip.Prefix
	// Bystanders are the other hosts that may be swept.
	Bystanders []string
	// Port is the switch port that the attacker is behind.
	Port string
	// Attackers are all nodes that attack, the one above first.
	Attackers []Party
}

// Host is a node by one of its IPv4 addresses.
type Host struct {
	Node, Iface string
	Addr        netip.Addr
}

// Party is one attacking node.
type Party struct {
	Node, Iface, MAC string
	Addr             netip.Addr // the first IPv4 address
	Addrs            []netip.Addr
	Port             string // the switch port it is behind
}

// Cast finds the nodes for an attack: the victim is app=web, attackers are
// role=attacker, of which index says who comes first.
func Cast(lab *runner.Lab, index int) (Roles, error) {
	attackers := lab.Select("role", "attacker")
	if len(attackers) == 0 {
		return Roles{}, fmt.Errorf("lab %s: an attack needs a node labelled role=attacker", lab.Name())
	}
	index %= len(attackers)
	return cast(lab, slices.Concat(attackers[index:], attackers[:index]))
}

// CastFrom is Cast with a certain node as the first attacker, whatever its
// labels.
func CastFrom(lab *runner.Lab, node string) (Roles, error) {
	if !lab.Isolated(node) {
		return Roles{}, fmt.Errorf("lab %s: %q is no node that can attack (nodes: %s)", lab.Name(), node, strings.Join(lab.Nodes(), ", "))
	}
	rest := slices.DeleteFunc(lab.Select("role", "attacker"), func(n string) bool { return n == node })
	return cast(lab, append([]string{node}, rest...))
}

func cast(lab *runner.Lab, attackers []string) (Roles, error) {
	victims := slices.DeleteFunc(lab.Select("app", "web"), func(n string) bool { return n == attackers[0] })
	if len(victims) == 0 {
		return Roles{}, fmt.Errorf("lab %s: an attack needs a victim labelled app=web", lab.Name())
	}
	r := Roles{Victim: victims[0]}
	r.Bystanders = append(lab.Select("role", "client"), victims[1:]...)
	r.Bystanders = append(r.Bystanders, lab.Select("app", "dns")...)
	for _, node := range attackers {
		p, err := party(lab, node)
		if err != nil {
			return Roles{}, err
		}
		r.Attackers = append(r.Attackers, p)
	}
	first := r.Attackers[0]
	r.Attacker, r.AttackerIface, r.AttackerMAC, r.AttackerAddr = first.Node, first.Iface, first.MAC, first.Addr
	r.AttackerAddrs, r.Port = first.Addrs, first.Port
	var err error
	if r.VictimIface, err = lab.Interface(r.Victim); err != nil {
		return Roles{}, err
	}
	victim, err := lab.Addr(r.Victim, r.VictimIface)
	if err != nil {
		return Roles{}, err
	}
	r.VictimAddr, r.Subnet = victim.Addr(), victim.Masked()
	return r, r.look(lab)
}

// look finds what else attacks need to know of the lab.
func (r *Roles) look(lab *runner.Lab) error {
	all, err := lab.Addrs(r.Victim, r.VictimIface)
	if err != nil {
		return err
	}
	for _, a := range all {
		if a.Addr().Is6() && a.Addr().IsGlobalUnicast() && !r.VictimAddr6.IsValid() {
			r.VictimAddr6 = a.Addr()
		}
	}
	link, err := lab.Addr(r.Attacker, r.AttackerIface)
	if err != nil {
		return err
	}
	hosts := slices.Concat([]string{r.Victim}, r.Bystanders)
	if r.Near, err = onLink(lab, hosts, link); err != nil {
		return err
	}
	r.Gateway, err = onLink(lab, Equipment(lab), link)
	return err
}

// Equipment lists the nodes of a lab that pass packets on for others.
func Equipment(lab *runner.Lab) []string {
	var nodes []string
	for _, role := range []string{"gateway", "router", "edge"} {
		nodes = append(nodes, lab.Select("role", role)...)
	}
	return nodes
}

// onLink finds the first of some nodes with an address in a subnet; without a
// node when there is none.
func onLink(lab *runner.Lab, nodes []string, link netip.Prefix) (Host, error) {
	for _, node := range nodes {
		for _, iface := range lab.Interfaces(node) {
			addrs, err := lab.Addrs(node, iface)
			if err != nil {
				return Host{}, err
			}
			for _, a := range addrs {
				if link.Masked().Contains(a.Addr()) && a.Addr() != link.Addr() {
					return Host{node, iface, a.Addr()}, nil
				}
			}
		}
	}
	return Host{}, nil
}

// party looks one attacking node up.
func party(lab *runner.Lab, node string) (Party, error) {
	iface, err := lab.Interface(node)
	if err != nil {
		return Party{}, err
	}
	p := Party{Node: node, Iface: iface}
	mac, err := lab.MAC(node, iface)
	if err != nil {
		return Party{}, err
	}
	p.MAC = mac.String()
	addr, err := lab.Addr(node, iface)
	if err != nil {
		return Party{}, err
	}
	p.Addr = addr.Addr()
	all, err := lab.Addrs(node, iface)
	if err != nil {
		return Party{}, err
	}
	for _, a := range all {
		p.Addrs = append(p.Addrs, a.Addr())
	}
	p.Port, err = lab.HostSide(node, iface)
	return p, err
}

package attack

import (
	"fmt"
	"net/netip"

	"github.com/platelet-sdn/platelet/lab/runner"
)

// Roles are the nodes that take part, found by their labels.
type Roles struct {
	Attacker, Victim string
	// AttackerIface, VictimIface are their interfaces.
	AttackerIface, VictimIface string
	AttackerMAC                string
	AttackerAddr, VictimAddr   netip.Addr
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
	attackers, victims := lab.Select("role", "attacker"), lab.Select("app", "web")
	if len(attackers) == 0 || len(victims) == 0 {
		return Roles{}, fmt.Errorf("lab %s: an attack needs a node labelled role=attacker and one labelled app=web", lab.Name())
	}
	r := Roles{Victim: victims[0]}
	r.Bystanders = append(lab.Select("role", "client"), victims[1:]...)
	r.Bystanders = append(r.Bystanders, lab.Select("app", "dns")...)
	for i := range attackers {
		p, err := party(lab, attackers[(index+i)%len(attackers)])
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
	return r, nil
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

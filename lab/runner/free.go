package runner

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strings"

	"github.com/platelet-sdn/platelet/lab/clab"
	"github.com/platelet-sdn/platelet/lab/namespace"
	"github.com/vishvananda/netlink"
)

// checkFree makes sure that every name the plan takes is free, so that
// removing by name later removes only what was made. It names all that are
// not, marks the missing bridges as ours to make, and creates nothing.
func (s *state) checkFree(ctx context.Context, h *netlink.Handle) error {
	links, err := linkList(h)
	if err != nil {
		return fmt.Errorf("list interfaces: %w", err)
	}
	there := map[string]netlink.Link{}
	for _, l := range links {
		there[l.Attrs().Name] = l
	}
	var taken []string
	taken = append(taken, s.takenNames(there)...)
	bridges, err := s.takenBridges(ctx, there)
	if err != nil {
		return err
	}
	taken = append(taken, bridges...)
	if len(taken) > 0 {
		return fmt.Errorf("lab %s cannot have these names (if it is up already, \"lab down\" or --reconfigure clears it away):\n  %s", s.Lab, strings.Join(taken, "\n  "))
	}
	return s.checkParents(h)
}

// checkParents looks for the interfaces of the host that links stand on.
func (s *state) checkParents(h *netlink.Handle) error {
	made := map[string]bool{}
	for i := range s.Links {
		for _, e := range s.Links[i].ends() {
			made[e.Name] = made[e.Name] || e.Namespace == ""
		}
	}
	var errs []error
	for _, l := range s.Links {
		parent := ""
		switch {
		case l.Type == clab.LinkMacvlan:
			parent = l.B.Name
		case l.VXLAN != nil:
			parent = l.VXLAN.Parent
		}
		if parent == "" || made[parent] {
			continue
		}
		if _, err := h.LinkByName(parent); err != nil {
			errs = append(errs, fmt.Errorf("link %s: parent interface %s: %w", l, parent, err))
		}
	}
	return errors.Join(errs...)
}

// takenNames lists the namespaces and interfaces that are there, and the
// names that two things of the plan would have.
func (s *state) takenNames(there map[string]netlink.Link) []string {
	var out []string
	planned := map[string]string{}
	claim := func(key, what string) {
		if first, ok := planned[key]; ok {
			out = append(out, fmt.Sprintf("%s would be %s and %s", key, first, what))
		}
		planned[key] = what
	}
	for _, n := range s.Nodes {
		if n.Namespace == "" || n.Shares {
			continue
		}
		claim("namespace "+n.Namespace, "node "+n.Name)
		if _, err := os.Lstat(namespace.Path(n.Namespace)); err == nil {
			out = append(out, fmt.Sprintf("namespace %s of node %s is already there", n.Namespace, n.Name))
		}
	}
	for _, b := range s.Bridges {
		if b.Namespace == "" {
			claim("interface "+b.Name, "bridge "+b.Node)
		}
	}
	for i := range s.Links {
		for _, e := range s.Links[i].ends() {
			if e.Namespace != "" {
				continue
			}
			claim("interface "+e.Name, "an end of link "+s.Links[i].String())
			if l, ok := there[e.Name]; ok {
				out = append(out, fmt.Sprintf("interface %s of link %s is already there%s", e.Name, s.Links[i], ownedBy(l)))
			}
		}
	}
	return out
}

// ownedBy says which lab an interface belongs to.
func ownedBy(l netlink.Link) string {
	if lab, ok := strings.CutPrefix(l.Attrs().Alias, markKey+"="); ok {
		return ", of lab " + lab
	}
	return ""
}

// takenBridges lists the bridges that cannot be used: those of another lab,
// because two labs on one bridge would be one, and what is no bridge. The
// others that are there are used and stay; the missing ones are ours to make.
func (s *state) takenBridges(ctx context.Context, there map[string]netlink.Link) ([]string, error) {
	owners, err := s.ovsBridges(ctx)
	if err != nil {
		return nil, err
	}
	var out []string
	for i := range s.Bridges {
		b := &s.Bridges[i]
		l, exists := there[b.Name]
		owner, inOVS := owners[b.Name]
		switch {
		case b.Namespace != "":
		case b.OVS && inOVS && owner.lab != "":
			out = append(out, fmt.Sprintf("bridge %s of node %s belongs to lab %s", b.Name, b.Node, owner.lab))
		case b.OVS && inOVS && b.Loop && !owner.tree:
			out = append(out, fmt.Sprintf("bridge %s of node %s stands in a loop, and has no spanning tree: \"ovs-vsctl set bridge %s rstp_enable=true\" guards it", b.Name, b.Node, b.Name))
		case b.OVS && !inOVS && exists:
			out = append(out, fmt.Sprintf("bridge %s of node %s: there is an interface of the name, a %s", b.Name, b.Node, l.Type()))
		case !b.OVS && exists && l.Type() != "bridge":
			out = append(out, fmt.Sprintf("bridge %s of node %s: there is an interface of the name, a %s", b.Name, b.Node, l.Type()))
		case !b.OVS && exists && strings.HasPrefix(l.Attrs().Alias, markKey+"="):
			out = append(out, fmt.Sprintf("bridge %s of node %s is already there%s", b.Name, b.Node, ownedBy(l)))
		default:
			b.Made = !exists && !inOVS
		}
	}
	return out, nil
}

// ovsBridge is what is known of a bridge that is there.
type ovsBridge struct {
	lab  string // whose it is; empty when no lab's
	tree bool   // a spanning tree is on
}

// ovsBridges lists the bridges of Open vSwitch, if the lab needs any.
func (s *state) ovsBridges(ctx context.Context) (map[string]ovsBridge, error) {
	if !slices.ContainsFunc(s.Bridges, func(b bridge) bool { return b.OVS }) {
		return nil, nil
	}
	out, err := s.vsctl(ctx, 10, "--format=json", "--columns=name,external_ids,rstp_enable,stp_enable", "list", "bridge")
	if err != nil {
		return nil, fmt.Errorf("list bridges: is Open vSwitch running at %s? %w", s.DB, err)
	}
	var table struct {
		Data [][]json.RawMessage `json:"data"`
	}
	if err := json.Unmarshal([]byte(out), &table); err != nil {
		return nil, fmt.Errorf("list bridges: %w", err)
	}
	bridges := map[string]ovsBridge{}
	for _, row := range table.Data {
		var name string
		var rstp, stp bool
		ids, err := ovsMap(row[1])
		if err := errors.Join(err, json.Unmarshal(row[0], &name), json.Unmarshal(row[2], &rstp), json.Unmarshal(row[3], &stp)); err != nil {
			return nil, fmt.Errorf("list bridges: %w", err)
		}
		bridges[name] = ovsBridge{lab: ids[markKey], tree: rstp || stp}
	}
	return bridges, nil
}

// ovsMap reads a map as OVSDB writes it: ["map", [[key, value], ...]].
func ovsMap(raw json.RawMessage) (map[string]string, error) {
	var tagged [2]json.RawMessage
	var pairs [][2]string
	if err := json.Unmarshal(raw, &tagged); err != nil {
		return nil, err
	}
	if err := json.Unmarshal(tagged[1], &pairs); err != nil {
		return nil, err
	}
	out := map[string]string{}
	for _, kv := range pairs {
		out[kv[0]] = kv[1]
	}
	return out, nil
}

// checkSubnets refuses a management network whose subnets the host has on
// another interface already: the host could not reach both.
func (s *state) checkSubnets(h *netlink.Handle) error {
	if s.Mgmt == nil {
		return nil
	}
	links, err := linkList(h)
	if err != nil {
		return fmt.Errorf("list interfaces: %w", err)
	}
	for _, l := range links {
		if l.Attrs().Name == s.Mgmt.Bridge {
			continue
		}
		addrs, err := addrList(h, l)
		if err != nil {
			return fmt.Errorf("addresses of %s: %w", l.Attrs().Name, err)
		}
		for _, a := range addrs {
			ip, ok := netip.AddrFromSlice(a.IP)
			for _, subnet := range []netip.Prefix{s.Mgmt.IPv4, s.Mgmt.IPv6} {
				if ok && subnet.IsValid() && subnet.Masked().Contains(ip.Unmap()) {
					return fmt.Errorf("management network %s: interface %s has %s already, of the same subnet %s", s.Mgmt.Network, l.Attrs().Name, ip.Unmap(), subnet.Masked())
				}
			}
		}
	}
	return nil
}

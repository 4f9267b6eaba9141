package main

import (
	"bytes"
	"fmt"
	"net/netip"
	"os"
	"slices"

	"github.com/google/shlex"
	"github.com/spf13/cobra"
	"gopkg.in/yaml.v3"

	"github.com/platelet-sdn/platelet/lab/clab"
	"github.com/platelet-sdn/platelet/lab/ipcmd"
	"github.com/platelet-sdn/platelet/segmentation/policy"
)

const inventoryUsage = "workloads: a list in YAML or JSON, or a containerlab topology; groups by labels, places and risk are empty without"

func inventoryFlag(cmd *cobra.Command, file *string) {
	cmd.Flags().StringVar(file, "inventory", "", inventoryUsage)
}

// readInventory reads what groups are resolved against; nothing is empty.
func readInventory(file string) (policy.Inventory, error) {
	if file == "" {
		return policy.Inventory{}, nil
	}
	raw, err := readFile(file)
	if err != nil {
		return policy.Inventory{}, fmt.Errorf("inventory: %w", err)
	}
	var top map[string]yaml.Node
	if yaml.NewDecoder(bytes.NewReader(raw)).Decode(&top) == nil {
		if _, ok := top["topology"]; ok {
			t, err := clab.Parse(file, raw, os.LookupEnv)
			if err != nil {
				return policy.Inventory{}, err
			}
			return labInventory(t), nil
		}
	}
	return policy.ReadInventory(policy.Source{Name: file, Data: raw})
}

// labInventory takes a topology's nodes for workloads: their labels, the
// addresses that their exec lines and links give them, and the switch port at
// the other end of their first link to a bridge.
func labInventory(t *clab.Topology) policy.Inventory {
	var inv policy.Inventory
	isBridge := func(name string) bool {
		n, ok := t.Node(name)
		return ok && (n.Kind == clab.KindOVSBridge || n.Kind == clab.KindBridge)
	}
	for _, n := range t.Nodes {
		if isBridge(n.Name) {
			continue
		}
		w := policy.Workload{Name: n.Name, Labels: n.Labels}
		for _, l := range t.Links {
			for _, e := range [][2]clab.Endpoint{{l.A, l.B}, {l.B, l.A}} {
				mine, other := e[0], e[1]
				if mine.Node != n.Name {
					continue
				}
				take(&w, mine.IPv4, mine.IPv6)
				if w.Port == "" && isBridge(other.Node) {
					w.Switch, w.Port = other.Node, other.Interface
					copy(w.MAC[:], mine.MAC)
				}
			}
		}
		for _, line := range n.Exec {
			if a, ok := addressOf(line); ok {
				take(&w, a)
			}
		}
		inv.Workloads = append(inv.Workloads, w)
	}
	return inv
}

// take adds addresses, with or without the length of a prefix.
func take(w *policy.Workload, texts ...string) {
	for _, text := range texts {
		p, err := netip.ParsePrefix(text)
		if err == nil && !slices.Contains(w.Addrs, p.Addr()) {
			w.Addrs = append(w.Addrs, p.Addr())
		}
	}
}

// addressOf reads a line that gives an interface an address.
func addressOf(line string) (string, bool) {
	words, err := shlex.Split(line)
	if err != nil || len(words) == 0 || words[0] != "ip" {
		return "", false
	}
	c, err := ipcmd.Parse(words[1:])
	if err != nil || c.Object != ipcmd.ObjectAddress || c.Verb != ipcmd.VerbAdd && c.Verb != ipcmd.VerbReplace {
		return "", false
	}
	return c.Address.Prefix.String(), true
}

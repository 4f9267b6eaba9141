package runner

import (
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/platelet-sdn/platelet/lab/namespace"
)

// Container is one running node in the shape of `containerlab inspect`.
type Container struct {
	LabName     string `json:"lab_name" yaml:"lab_name"`
	LabPath     string `json:"labPath" yaml:"labPath"`
	AbsLabPath  string `json:"absLabPath" yaml:"absLabPath"`
	Name        string `json:"name" yaml:"name"`
	ContainerID string `json:"container_id" yaml:"container_id"`
	Image       string `json:"image" yaml:"image"`
	Kind        string `json:"kind" yaml:"kind"`
	Group       string `json:"group,omitempty" yaml:"group,omitempty"`
	State       string `json:"state" yaml:"state"`
	Status      string `json:"status" yaml:"status"`
	IPv4Address string `json:"ipv4_address" yaml:"ipv4_address"`
	IPv6Address string `json:"ipv6_address" yaml:"ipv6_address"`
	Owner       string `json:"owner,omitempty" yaml:"owner,omitempty"`
}

// List lists the running labs and their nodes by lab name.
func List(o Options) (map[string][]Container, error) {
	o = o.withDefaults()
	names, err := labs(o.StateDir)
	if err != nil {
		return nil, err
	}
	out := make(map[string][]Container, len(names))
	for _, name := range names {
		lab, err := Open(name, o)
		if err != nil {
			return nil, err
		}
		out[name] = lab.containers()
	}
	return out, nil
}

func (l *Lab) containers() []Container {
	path := l.state.Topology
	if wd, err := os.Getwd(); err == nil {
		if rel, err := filepath.Rel(wd, path); err == nil {
			path = rel
		}
	}
	out := make([]Container, 0, len(l.state.Nodes))
	for _, n := range l.state.Nodes {
		c := Container{
			LabName: l.state.Lab, LabPath: path, AbsLabPath: l.state.Topology,
			Name: n.LongName, ContainerID: n.Namespace, Image: n.Image, Kind: n.Kind, Group: n.Group, Owner: l.state.Owner,
			State: "running", Status: "Up " + time.Since(l.state.Created).Round(time.Second).String(),
			IPv4Address: "N/A", IPv6Address: "N/A",
		}
		if n.Container && n.Namespace == "" {
			c.ContainerID = n.LongName // in the host's network
		} else if n.Namespace == "" || !n.Container {
			// Bridges and the host go by their own names, without a
			// container's.
			c.Name, c.Image, c.ContainerID = n.Name, "N/A", "N/A"
		} else if !namespace.Exists(n.Namespace) {
			c.State, c.Status = "exited", "Exited"
		} else {
			l.fillAddresses(&c, n)
		}
		out = append(out, c)
	}
	return out
}

// fillAddresses shows a node's addresses in the management network, or else
// its first ones; a node that cannot be asked
// just has none to show.
func (l *Lab) fillAddresses(c *Container, n node) {
	if n.IPv4.IsValid() {
		c.IPv4Address = n.IPv4.String()
	}
	if n.IPv6.IsValid() {
		c.IPv6Address = n.IPv6.String()
	}
	addrs, err := l.Addrs(n.Name, "")
	if err != nil {
		c.Status = fmt.Sprintf("%s (%v)", c.Status, err)
		return
	}
	for _, a := range addrs {
		switch {
		case a.Addr().IsLinkLocalUnicast(): // every interface has one
		case a.Addr().Is4() && c.IPv4Address == "N/A":
			c.IPv4Address = a.String()
		case a.Addr().Is6() && c.IPv6Address == "N/A":
			c.IPv6Address = a.String()
		}
	}
}

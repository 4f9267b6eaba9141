package runner

import (
	"errors"
	"fmt"
	"os/exec"
	"slices"
	"strings"

	"github.com/google/shlex"
	"github.com/platelet-sdn/platelet/lab/clab"
	"github.com/platelet-sdn/platelet/lab/namespace"
	"github.com/platelet-sdn/platelet/segmentation/strictyaml"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Verify is Check and Probe in one: everything in a topology that cannot be
// brought up here.
func Verify(t *clab.Topology) error {
	var all, some strictyaml.Errors
	for _, err := range []error{Check(t), Probe(t)} {
		if errors.As(err, &some) {
			all = append(all, some...)
		}
	}
	return all.Err()
}

// Probe refuses by name what a topology needs and this machine has not:
// programs, dummy and vxlan interfaces, and network emulation in exec lines. It
// tries in a namespace that vanishes again, which needs the rights to make
// one; without them it knows nothing and refuses nothing. Faults come as
// strictyaml.Errors.
func Probe(t *clab.Topology) error {
	var faults strictyaml.Errors
	tried := map[string]error{}
	try := func(path, what string, f func() error) {
		err, done := tried[what]
		if !done {
			err = namespace.Scratch(f)
			tried[what] = err
		}
		if err != nil && !errors.Is(err, unix.EPERM) {
			faults = append(faults, t.Errorf(path, "this machine's kernel has no %s: %v", what, err))
		}
	}
	for _, n := range t.Nodes {
		faults = append(faults, missingPrograms(t, n)...)
	}
	for _, l := range t.Links {
		if l.Type == clab.LinkDummy {
			try(l.Path, "dummy interfaces", tryDummy)
		}
		if l.Type == clab.LinkVxlan {
			try(l.Path, "vxlan interfaces", tryVXLAN)
		}
	}
	for _, n := range t.Nodes {
		lines := slices.Clone(n.Exec)
		for _, plan := range n.Stages {
			for _, e := range plan.Exec {
				lines = append(lines, e.Command)
			}
		}
		for _, line := range lines {
			if words, err := shlex.Split(line); err == nil && slices.Contains(words, "tc") && slices.Contains(words, "netem") {
				try("topology.nodes."+n.Name+".exec", "network emulation (netem)", tryNetem)
			}
		}
	}
	return faults.Err()
}

// missingPrograms refuses the commands of a node that this machine has not.
// What a bind may bring is left to the node.
func missingPrograms(t *clab.Topology, n clab.Node) strictyaml.Errors {
	var faults strictyaml.Errors
	path := "topology.nodes." + n.Name
	look := func(key string, words []string) {
		words = Options{Program: "/proc/self/exe"}.program(words)
		if len(words) == 0 || len(n.Binds) > 0 {
			return
		}
		if _, err := exec.LookPath(words[0]); err != nil {
			faults = append(faults, t.Errorf(path+"."+key, "this machine has no program %q", words[0]))
		}
	}
	if n.Kind != clab.KindLinux && n.Kind != clab.KindHost {
		return nil
	}
	if words, err := mainWords(n.Definition); err == nil && n.Kind == clab.KindLinux {
		look("cmd", words)
	}
	for _, line := range n.Exec {
		// A path may be made by a line before.
		if words, err := shlex.Split(line); err == nil && len(words) > 0 && !strings.Contains(words[0], "/") {
			look("exec", words)
		}
	}
	return faults
}

func tryDummy() error {
	attrs := netlink.NewLinkAttrs()
	attrs.Name = "probe"
	return netlink.LinkAdd(&netlink.Dummy{LinkAttrs: attrs})
}

func tryVXLAN() error {
	attrs := netlink.NewLinkAttrs()
	attrs.Name = "probe"
	return netlink.LinkAdd(&netlink.Vxlan{LinkAttrs: attrs, VxlanId: 1, Port: defaultVXLANPort})
}

func tryNetem() error {
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		return fmt.Errorf("loopback: %w", err)
	}
	return netlink.QdiscAdd(netlink.NewNetem(netlink.QdiscAttrs{LinkIndex: lo.Attrs().Index, Handle: netlink.MakeHandle(1, 0), Parent: netlink.HANDLE_ROOT}, netlink.NetemQdiscAttrs{}))
}

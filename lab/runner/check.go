package runner

import (
	"fmt"
	"slices"
	"strings"

	"github.com/platelet-sdn/platelet/lab/clab"
	"github.com/platelet-sdn/platelet/segmentation/strictyaml"
)

// Check refuses by name what this runner cannot bring up faithfully, before
// anything is created. Faults come as strictyaml.Errors.
func Check(t *clab.Topology) error {
	var faults strictyaml.Errors
	report := func(path, format string, args ...any) {
		faults = append(faults, t.Errorf(path, format, args...))
	}
	for _, n := range t.Nodes {
		checkNode(n, report)
	}
	for _, l := range t.Links {
		checkLink(t, l, report)
	}
	return faults.Err()
}

var kinds = []string{clab.KindLinux, clab.KindBridge, clab.KindOVSBridge, clab.KindHost}

func checkNode(n clab.Node, report func(path, format string, args ...any)) {
	path := "topology.nodes." + n.Name
	if !slices.Contains(kinds, n.Kind) {
		hint := ""
		if near := strictyaml.Nearest(n.Kind, kinds); near != "" {
			hint = fmt.Sprintf(" (did you mean %q?)", near)
		}
		report(path+".kind", "kind %q is not supported%s: the embedded runner brings up %s", n.Kind, hint, strings.Join(kinds, ", "))
		return
	}
	if n.Kind == clab.KindBridge || n.Kind == clab.KindOVSBridge {
		if len(n.Name) > nameMax {
			report(path, "a bridge is a network interface, whose name has at most %d characters", nameMax)
		}
		return
	}
	checkUnsupported(n, path, report)
	if n.Kind == clab.KindLinux && !hostEquivalent(n.Image) {
		report(path+".image", "image %q has no equivalent on the host: the embedded runner runs the host's own programs", n.Image)
	}
	for key := range n.Sysctls {
		if !strings.HasPrefix(key, "net.") {
			report(path+".sysctls."+key, "only sysctls under net. belong to a node")
		}
	}
}

// checkUnsupported refuses keys that would change the lab's behaviour and
// that nothing here acts on.
func checkUnsupported(n clab.Node, path string, report func(path, format string, args ...any)) {
	for _, key := range []struct {
		name string
		set  bool
	}{
		{"binds", len(n.Binds) > 0}, {"env-files", len(n.EnvFiles) > 0}, {"stages", len(n.Stages) > 0},
		{"dns", n.DNS.Set()}, {"user", n.User != ""}, {"devices", len(n.Devices) > 0},
		{"startup-config", n.StartupConfig != ""}, {"startup-delay", n.StartupDelay != 0}, {"license", n.License != ""},
		{"mgmt-ipv4", n.MgmtIPv4 != ""}, {"mgmt-ipv6", n.MgmtIPv6 != ""}, {"volumes", len(n.Volumes) > 0},
		{"network-mode", n.Kind == clab.KindLinux && n.NetworkMode != "" && n.NetworkMode != "none" && n.NetworkMode != "bridge"},
		{"cmd", n.Kind == clab.KindHost && n.Cmd != ""},
	} {
		if key.set {
			report(path+"."+key.name, "%s is not supported by the embedded runner", key.name)
		}
	}
}

func checkLink(t *clab.Topology, l clab.Link, report func(path, format string, args ...any)) {
	if l.Type != clab.LinkVeth && l.Type != clab.LinkHost {
		report(l.Path, "link type %q is not supported: the embedded runner makes veth and host links", l.Type)
		return
	}
	for _, e := range []clab.Endpoint{l.A, l.B} {
		if e.IPv4 != "" || e.IPv6 != "" {
			report(l.Path, "addresses on links are not supported: use exec, for example \"ip addr add … dev %s\"", e.Interface)
		}
		if n, ok := t.Node(e.Node); ok && n.Kind == clab.KindHost {
			report(l.Path, "a link to the host is written host:%s, not by the node %q", e.Interface, e.Node)
		}
	}
}

// hostImages are images that bring nothing but a Linux userland and the
// usual network tools, which the host has as well.
var hostImages = []string{
	"", labImage, "alpine", "busybox", "debian", "ubuntu", "fedora",
	"nicolaka/netshoot", "wbitt/network-multitool", "praqma/network-multitool",
	"ghcr.io/srl-labs/network-multitool", "ghcr.io/srl-labs/alpine",
}

// labImage holds our own binary and nothing else.
const labImage = "platelet-lab"

func hostEquivalent(image string) bool { return slices.Contains(hostImages, imageName(image)) }

// imageName strips an image of the default registry and of its tag.
func imageName(image string) string {
	image = strings.TrimPrefix(strings.TrimPrefix(image, "docker.io/"), "library/")
	image, _, _ = strings.Cut(image, "@")
	if i := strings.LastIndexByte(image, ':'); i > strings.LastIndexByte(image, '/') {
		image = image[:i]
	}
	return image
}

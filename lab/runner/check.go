package runner

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/google/shlex"
	"github.com/platelet-sdn/platelet/lab/clab"
	"github.com/platelet-sdn/platelet/segmentation/strictyaml"
)

// Check refuses by name what this runner cannot bring up faithfully, before
// anything is created, all of it at once. Faults come as strictyaml.Errors.
// What the machine has besides, such as interfaces of the same names, is found
// out by Up.
func Check(t *clab.Topology) error {
	c := checker{t: t}
	for _, n := range t.Nodes {
		c.node(n)
	}
	for _, l := range t.Links {
		c.link(l)
	}
	c.cycles()
	return c.faults.Err()
}

// Notes says what of a topology is read, and changes nothing here: keys that
// are about containers, and keys of other kinds.
func Notes(t *clab.Topology) []string {
	var out []string
	for _, n := range t.Nodes {
		if n.Kind != clab.KindLinux {
			continue
		}
		var keys []string
		keys = append(keys, n.Ignored...)
		for _, k := range []struct {
			name string
			set  bool
		}{{"startup-config", n.StartupConfig != ""}, {"license", n.License != ""}, {"tmpfs", len(n.Tmpfs) > 0}} {
			if k.set {
				keys = append(keys, k.name)
			}
		}
		if len(keys) > 0 {
			out = append(out, fmt.Sprintf("node %s: %s: without effect on a process of the host", n.Name, strings.Join(keys, ", ")))
		}
	}
	if t.Mgmt.ExternalAccess != nil && *t.Mgmt.ExternalAccess {
		out = append(out, "mgmt: external-access: the management network leads to this host and no further")
	}
	for _, l := range t.Links {
		if l.A.IPv4+l.A.IPv6+l.B.IPv4+l.B.IPv6 != "" {
			out = append(out, fmt.Sprintf("link %s:%s: its addresses are written to %s; like containerlab, nothing sets them on interfaces of kind linux", l.A.Node, l.A.Interface, exportName))
		}
	}
	return out
}

type checker struct {
	t      *clab.Topology
	faults strictyaml.Errors
}

func (c *checker) report(path, format string, args ...any) {
	c.faults = append(c.faults, c.t.Errorf(path, format, args...))
}

func kinds() []string {
	return []string{clab.KindLinux, clab.KindBridge, clab.KindOVSBridge, clab.KindHost}
}

func (c *checker) node(n clab.Node) {
	path := "topology.nodes." + n.Name
	if !slices.Contains(kinds(), n.Kind) {
		hint := ""
		if near := strictyaml.Nearest(n.Kind, kinds()); near != "" {
			hint = fmt.Sprintf(" (did you mean %q?)", near)
		}
		c.report(path+".kind", "kind %q is not supported%s: the embedded runner brings up %s", n.Kind, hint, strings.Join(kinds(), ", "))
		return
	}
	c.stages(n, path)
	switch n.Kind {
	case clab.KindBridge, clab.KindOVSBridge:
		c.bridge(n, path)
	case clab.KindLinux:
		c.container(n, path)
	}
	for _, line := range n.Exec {
		if words, err := shlex.Split(line); err != nil || len(words) == 0 {
			c.report(path+".exec", "%q cannot be split into words", line)
		}
	}
}

func (c *checker) bridge(n clab.Node, path string) {
	name, _, _ := strings.Cut(n.Name, "|")
	if len(name) > nameMax {
		c.report(path, "a bridge is a network interface, whose name has at most %d characters", nameMax)
	}
	if inside, ok := strings.CutPrefix(n.NetworkMode, "container:"); ok && n.Kind == clab.KindBridge {
		if n.Name != name+"|"+inside {
			c.report(path, "a bridge inside node %q is called %s|%s", inside, name, inside)
		}
		c.reference(inside, path)
	} else if n.NetworkMode != "" && n.NetworkMode != "host" && n.Kind == clab.KindBridge {
		c.report(path+".network-mode", "a bridge has network-mode host or container:NODE, got %q", n.NetworkMode)
	}
}

// reference checks a node whose namespace another wants to share.
func (c *checker) reference(name, path string) {
	if other, ok := c.t.Node(name); !ok || other.Kind != clab.KindLinux {
		c.report(path+".network-mode", "there is no container %q in the topology: those of Docker are not supported", name)
	}
}

func (c *checker) container(n clab.Node, path string) {
	if !hostEquivalent(n.Image) {
		c.report(path+".image", "image %q has no equivalent on the host: the embedded runner runs the host's own programs", n.Image)
	}
	if other, ok := strings.CutPrefix(n.NetworkMode, "container:"); ok {
		c.reference(other, path)
	}
	if len(n.Volumes) > 0 {
		c.report(path+".volumes", "volumes are not supported by the embedded runner: use binds")
	}
	if n.IssueCertificate {
		c.report(path+".certificate", "certificates are not issued by the embedded runner")
	}
	for key := range n.Sysctls {
		if !strings.HasPrefix(key, "net.") {
			c.report(path+".sysctls."+key, "only sysctls under net. belong to a node")
		} else if n.NetworkMode == "host" {
			c.report(path+".sysctls."+key, "a node in the host's network has no sysctls of its own")
		}
	}
	if _, err := mainWords(n.Definition); err != nil {
		c.report(path+".cmd", "%v", err)
	}
	c.machine(n, path)
	c.mgmtAddresses(n, path)
}

// machine checks what a node needs of the machine.
func (c *checker) machine(n clab.Node, path string) {
	file, err := filepath.Abs(c.t.File)
	if err != nil {
		file = c.t.File
	}
	p := planner{state: &state{Topology: file, LabDir: labDir(c.t, c.t.Name, Options{})}, t: c.t}
	for _, b := range n.Binds {
		m, err := bindMount(p.magic(n.Name).Replace(b), file)
		if err == nil {
			_, err = os.Stat(m.Source)
		}
		if err != nil {
			c.report(path+".binds", "%s", c.local(err))
		}
	}
	for _, f := range n.EnvFiles {
		if _, err := clab.ReadEnvFile(resolve(f, file)); err != nil {
			c.report(path+".env-files", "%s", c.local(err))
		}
	}
	for _, f := range []struct{ key, file string }{{"startup-config", n.StartupConfig}, {"license", n.License}} {
		if f.file == "" || strings.Contains(f.file, "\n") || strings.Contains(f.file, "://") {
			continue // nothing, a text of its own, or a download that nobody needs
		}
		if _, err := os.Stat(resolve(p.magic(n.Name).Replace(f.file), file)); err != nil {
			c.report(path+"."+f.key, "%s", c.local(err))
		}
	}
	for _, d := range n.Devices {
		if _, err := os.Stat(d); err != nil {
			c.report(path+".devices", "%v", err)
		}
	}
	if n.User != "" {
		if _, err := credentialOf(n.User); err != nil {
			c.report(path+".user", "%v", err)
		}
	}
}

// local shortens paths to what the file's author wrote.
func (c *checker) local(err error) string {
	dir, absErr := filepath.Abs(filepath.Dir(c.t.File))
	if absErr != nil {
		return err.Error()
	}
	return strings.ReplaceAll(err.Error(), dir+string(filepath.Separator), "")
}

// mgmtAddresses checks static addresses against the network.
func (c *checker) mgmtAddresses(n clab.Node, path string) {
	for _, f := range []struct{ key, addr, subnet string }{{"mgmt-ipv4", n.MgmtIPv4, c.t.Mgmt.IPv4Subnet}, {"mgmt-ipv6", n.MgmtIPv6, c.t.Mgmt.IPv6Subnet}} {
		if f.addr == "" {
			continue
		}
		if !c.t.UsesMgmt(n) {
			c.report(path+"."+f.key, "a node with network-mode %s is not in the management network", n.NetworkMode)
			continue
		}
		addr, err := netip.ParseAddr(f.addr)
		subnet, subnetErr := netip.ParsePrefix(f.subnet)
		if err == nil && (subnetErr != nil || !subnet.Contains(addr)) {
			c.report(path+"."+f.key, "%s is not in the management network %q", addr, f.subnet)
		}
	}
	if c.t.Mgmt.IPv4Subnet == "auto" || c.t.Mgmt.IPv6Subnet == "auto" {
		c.report("mgmt", "automatic subnets are not supported by the embedded runner")
	}
}

// stages refuses stages that a node never completes.
func (c *checker) stages(n clab.Node, path string) {
	for _, stage := range clab.AllStages() {
		plan := n.Stages[stage]
		for _, e := range plan.Exec {
			if words, err := shlex.Split(e.Command); err != nil || len(words) == 0 {
				c.report(path+".stages."+string(stage)+".exec", "%q cannot be split into words", e.Command)
			} else if !e.OnHost && n.Kind == clab.KindLinux && stage == clab.StageCreate && !e.OnExit {
				c.report(path+".stages."+string(stage)+".exec", "%q is to run in the node before that exists", e.Command)
			}
		}
		for _, w := range plan.WaitFor {
			c.completes(w, path+".stages."+string(stage)+".wait-for")
		}
	}
	if plan, ok := n.Stages[clab.StageHealthy]; ok && len(plan.Exec) > 0 && n.Healthcheck == nil {
		c.report(path+".stages.healthy", "a node without a healthcheck never is healthy")
	}
	if n.Healthcheck != nil {
		if _, err := healthWords(n.Healthcheck); err != nil {
			c.report(path+".healthcheck", "%v", err)
		}
	}
}

// completes refuses to wait for what never comes.
func (c *checker) completes(w clab.WaitFor, path string) {
	other, _ := c.t.Node(w.Node)
	switch {
	case w.Stage == clab.StageHealthy && other.Healthcheck == nil:
		c.report(path, "node %q has no healthcheck by which it could be healthy", w.Node)
	case w.Stage == clab.StageExit && (other.Kind != clab.KindLinux || other.Cmd+other.Entrypoint == ""):
		c.report(path, "node %q has no command whose end could be waited for", w.Node)
	}
}

func (c *checker) link(l clab.Link) {
	switch l.Type {
	case clab.LinkVeth, clab.LinkHost, clab.LinkMgmtNet, clab.LinkDummy, clab.LinkMacvlan, clab.LinkVxlan:
	default:
		c.report(l.Path, "link type %q is not supported: the embedded runner makes veth, host, mgmt-net, dummy, macvlan and vxlan links", l.Type)
		return
	}
	if l.Type == clab.LinkMacvlan && !slices.Contains([]string{"", "bridge", "vepa", "passthru", "private", "source"}, l.Mode) {
		c.report(l.Path+".mode", "unknown mode %q", l.Mode)
	}
	if _, err := netip.ParseAddr(l.Remote); l.Type == clab.LinkVxlan && err != nil {
		c.report(l.Path+".remote", "needs an address, got %q", l.Remote)
	}
	if l.Type == clab.LinkVxlan && (l.VNI < 1 || l.VNI >= 1<<24) {
		c.report(l.Path+".vni", "needs 1 to %d, got %d", 1<<24-1, l.VNI)
	}
	single := l.Type == clab.LinkDummy || l.Type == clab.LinkMacvlan || l.Type == clab.LinkVxlan
	for _, e := range []clab.Endpoint{l.A, l.B} {
		if len(e.Interface) > nameMax || strings.ContainsAny(e.Interface, "/ \t") {
			c.report(l.Path, "interface name %q: needs at most %d characters without spaces or slashes", e.Interface, nameMax)
		}
		n, _ := c.t.Node(e.Node)
		if single && (n.Kind == clab.KindBridge || n.Kind == clab.KindOVSBridge) {
			c.report(l.Path, "a %s link at a bridge is not supported", l.Type)
		}
	}
}

// labImage holds our own binary and nothing else.
const labImage = "platelet-lab"

// hostImages are images that bring nothing but a Linux userland and the
// usual network tools, which the host has as well.
func hostImages() []string {
	return []string{
		"", labImage, "alpine", "busybox", "debian", "ubuntu", "fedora",
		"nicolaka/netshoot", "wbitt/network-multitool", "praqma/network-multitool",
		"ghcr.io/srl-labs/network-multitool", "ghcr.io/srl-labs/alpine",
	}
}

func hostEquivalent(image string) bool { return slices.Contains(hostImages(), imageName(image)) }

// imageName strips an image of the default registry and of its tag.
func imageName(image string) string {
	image = strings.TrimPrefix(strings.TrimPrefix(image, "docker.io/"), "library/")
	image, _, _ = strings.Cut(image, "@")
	if i := strings.LastIndexByte(image, ':'); i > strings.LastIndexByte(image, '/') {
		image = image[:i]
	}
	return image
}

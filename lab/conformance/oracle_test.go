package conformance

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/hellt/envsubst"
	"github.com/srl-labs/containerlab/links"
	"github.com/srl-labs/containerlab/types"
	"gopkg.in/yaml.v2"

	"github.com/platelet-sdn/platelet/lab/clab"
)

// config is the outermost mapping of a topology file. Containerlab's own
// type of it is in a package that drags in every node kind; this one has the
// same fields, made of containerlab's own types.
type config struct {
	Name     string
	Prefix   *string
	Mgmt     *types.MgmtNet
	Settings *types.Settings
	Topology *types.Topology
	Debug    bool
}

// theirs reads a topology the way containerlab's core does: variables, then
// strict YAML, then imported environments, then addresses of endpoints.
func theirs(data []byte) (*config, error) {
	text, err := envsubst.BytesRestrictedNoReplace(data, false, false, true, true)
	if err != nil {
		return nil, err
	}
	c := &config{Mgmt: new(types.MgmtNet), Topology: types.NewTopology()}
	if err := yaml.UnmarshalStrict(text, c); err != nil {
		return nil, err
	}
	c.Topology.ImportEnvs()
	return c, nil
}

func ours(data []byte) (*clab.Topology, error) {
	return clab.Parse("t.clab.yml", data, os.LookupEnv)
}

// facts are what a reader makes of a topology, one per line, sorted.
type facts []string

func (f *facts) add(format string, args ...any) { *f = append(*f, fmt.Sprintf(format, args...)) }

// words writes a list or a map so that nothing and empty are the same.
func words[T ~[]string | ~map[string]string](v T) string {
	if len(v) == 0 {
		return "-"
	}
	return fmt.Sprintf("%q", v)
}

// theirFacts asks containerlab's types for every field of every node.
func theirFacts(c *config) (facts, error) {
	var f facts
	t := c.Topology
	for name := range t.Nodes {
		binds, err := t.GetNodeBinds(name)
		if err != nil {
			return nil, err
		}
		volumes, err := t.GetNodeVolumes(name)
		if err != nil {
			return nil, err
		}
		stages, err := t.GetStages(name)
		if err != nil {
			return nil, err
		}
		dns := t.GetNodeDns(name)
		mgmt4, mgmt6 := "", ""
		if n := t.Nodes[name]; n != nil {
			mgmt4, mgmt6 = n.MgmtIPv4, n.MgmtIPv6
		}
		cert := t.GetCertificateConfig(name)
		f.add("%s kind %q group %q type %q image %q user %q mode %q", name, strings.ToLower(t.GetNodeKind(name)), t.GetNodeGroup(name),
			t.GetNodeType(name), t.GetNodeImage(name), t.GetNodeUser(name), t.GetNodeNetworkMode(name))
		f.add("%s entrypoint %q cmd %q exec %s", name, t.GetNodeEntrypoint(name), t.GetNodeCmd(name), words(t.GetNodeExec(name)))
		f.add("%s env %s files %s labels %s sysctls %s", name, words(t.GetNodeEnv(name)), words(t.GetNodeEnvFiles(name)), words(t.GetNodeLabels(name)), words(t.GetSysCtl(name)))
		f.add("%s binds %s volumes %s tmpfs %s devices %s", name, words(binds), words(volumes), words(t.GetNodeTmpfs(name)), words(t.GetNodeDevices(name)))
		f.add("%s mgmt %q %q aliases %s delay %d", name, mgmt4, mgmt6, words(t.GetNodeAliases(name)), t.GetNodeStartupDelay(name))
		f.add("%s dns %s %s %s", name, words(dns.Servers), words(dns.Search), words(dns.Options))
		f.add("%s startup %q license %q restart %q issue %t", name, t.GetNodeStartupConfig(name), t.GetNodeLicense(name), t.GetRestartPolicy(name), *cert.Issue)
		if h := t.GetHealthCheckConfig(name); h != nil {
			f.add("%s health %s %d %d %d %d", name, words(h.Test), h.Interval, h.Timeout, h.Retries, h.StartPeriod)
		}
		for stage, list := range stages.GetWaitFor() {
			for i, w := range list {
				f.add("%s stage %s waits %d for %s %s", name, stage, i, w.Node, w.Stage)
			}
		}
		for stage, base := range map[string]types.StageBase{"create": stages.Create.StageBase, "create-links": stages.CreateLinks.StageBase,
			"configure": stages.Configure.StageBase, "healthy": stages.Healthy.StageBase, "exit": stages.Exit.StageBase} {
			for i, e := range base.Execs {
				f.add("%s stage %s exec %d %q host %t exit %t", name, stage, i, e.Command, e.Target == types.CommandTargetHost, e.Phase == types.CommandExecutionPhaseExit)
			}
		}
	}
	m := c.Mgmt
	f.add("mgmt %q %q %q %q %q %q %q %q", m.Bridge, m.IPv4Gw, m.IPv4Range, m.IPv6Gw, m.IPv6Range, words(m.DriverOpts), fmt.Sprint(m.SkipWhenUnused), m.Network)
	for i, l := range t.Links {
		f.add("link %d %s", i, theirLink(l))
	}
	slices.Sort(f)
	return f, nil
}

// ourFacts writes the same of our model.
func ourFacts(t *clab.Topology) facts {
	var f facts
	for _, n := range t.Nodes {
		f.add("%s kind %q group %q type %q image %q user %q mode %q", n.Name, n.Kind, n.Group, n.Type, n.Image, n.User, n.NetworkMode)
		f.add("%s entrypoint %q cmd %q exec %s", n.Name, n.Entrypoint, n.Cmd, words(n.Exec))
		f.add("%s env %s files %s labels %s sysctls %s", n.Name, words(n.Env), words(n.EnvFiles), words(n.Labels), words(n.Sysctls))
		f.add("%s binds %s volumes %s tmpfs %s devices %s", n.Name, words(n.Binds), words(n.Volumes), words(n.Tmpfs), words(n.Devices))
		f.add("%s mgmt %q %q aliases %s delay %d", n.Name, n.MgmtIPv4, n.MgmtIPv6, words(n.Aliases), n.StartupDelay)
		f.add("%s dns %s %s %s", n.Name, words(n.DNS.Servers), words(n.DNS.Search), words(n.DNS.Options))
		f.add("%s startup %q license %q restart %q issue %t", n.Name, n.StartupConfig, n.License, n.RestartPolicy, n.IssueCertificate)
		if h := n.Healthcheck; h != nil {
			f.add("%s health %s %d %d %d %d", n.Name, words(h.Test), h.Interval, h.Timeout, h.Retries, h.StartPeriod)
		}
		for stage, plan := range n.Stages {
			for i, w := range plan.WaitFor {
				f.add("%s stage %s waits %d for %s %s", n.Name, stage, i, w.Node, w.Stage)
			}
			for i, e := range plan.Exec {
				f.add("%s stage %s exec %d %q host %t exit %t", n.Name, stage, i, e.Command, e.OnHost, e.OnExit)
			}
		}
	}
	m := t.Mgmt
	network := m.Network
	if network == clab.DefaultMgmtNetwork {
		network = "" // theirs fills it in later
	}
	f.add("mgmt %q %q %q %q %q %q %q %q", m.Bridge, m.IPv4Gateway, m.IPv4Range, m.IPv6Gateway, m.IPv6Range, words(m.DriverOpts), fmt.Sprint(m.SkipWhenUnused), network)
	for i, l := range t.Links {
		f.add("link %d %s", i, ourLink(l))
	}
	slices.Sort(f)
	return f
}

func theirLink(l *links.LinkDefinition) string {
	switch r := l.Link.(type) {
	case *links.LinkVEthRaw:
		return theirPair("veth", mtu(r.MTU), r.Endpoints[0], r.Endpoints[1])
	case *links.LinkVEthStitchedRaw:
		return theirPair("veth-stitch", mtu(r.MTU), r.Endpoints[0], r.Endpoints[1])
	case *links.LinkHostRaw:
		return theirPair("host", mtu(r.MTU), r.Endpoint, &links.EndpointRaw{Iface: r.HostInterface})
	case *links.LinkMgmtNetRaw:
		return theirPair("mgmt-net", mtu(r.MTU), r.Endpoint, &links.EndpointRaw{Iface: r.HostInterface})
	case *links.LinkMacVlanRaw:
		return theirPair("macvlan "+r.Mode, mtu(r.MTU), r.Endpoint, &links.EndpointRaw{Iface: r.HostInterface})
	case *links.LinkVxlanRaw:
		port := r.DstPort
		if port == 0 {
			port = r.UdpPort
		}
		return theirPair(fmt.Sprintf("%s %s %d %d %d %s", r.LinkType, r.Remote, r.VNI, port, r.SrcPort, r.ParentInterface), vxlanMTU(r), &r.Endpoint, &links.EndpointRaw{})
	case *links.LinkDummyRaw:
		return theirPair("dummy", mtu(r.MTU), r.Endpoint, &links.EndpointRaw{})
	}
	return fmt.Sprintf("%T", l.Link)
}

func mtu(v int) int {
	if v == 0 {
		return 9500
	}
	return v
}

// vxlanMTU leaves a plain vxlan link's to the kernel.
func vxlanMTU(r *links.LinkVxlanRaw) int {
	if r.LinkType == links.LinkTypeVxlan {
		return r.MTU
	}
	return mtu(r.MTU)
}

func theirPair(kind string, mtu int, a, b *links.EndpointRaw) string {
	// Nodes called host and mgmt-net are special to them when resolved.
	if kind == "veth" {
		for _, pair := range [][2]*links.EndpointRaw{{a, b}, {b, a}} {
			if far := pair[1]; far.Node == "host" || far.Node == "mgmt-net" {
				node := far.Node
				plain := *far
				plain.Node = ""
				return theirPair(node, mtu, pair[0], &plain)
			}
		}
	}
	end := func(e *links.EndpointRaw) string {
		return fmt.Sprintf("%s:%s %s %s %s %v", e.Node, e.Iface, e.MAC, e.IPv4, e.IPv6, len(e.Vars))
	}
	return fmt.Sprintf("%s %d [%s] [%s]", kind, mtu, end(a), end(b))
}

func ourLink(l clab.Link) string {
	kind := string(l.Type)
	switch l.Type {
	case clab.LinkMacvlan:
		kind += " " + l.Mode
	case clab.LinkVxlan, clab.LinkVxlanStitch:
		kind = fmt.Sprintf("%s %s %d %d %d %s", l.Type, l.Remote, l.VNI, l.DstPort, l.SrcPort, l.Parent)
	}
	end := func(e clab.Endpoint) string {
		return fmt.Sprintf("%s:%s %s %s %s %v", e.Node, e.Interface, e.MAC, e.IPv4, e.IPv6, len(e.Vars))
	}
	return fmt.Sprintf("%s %d [%s] [%s]", kind, l.MTU, end(l.A), end(l.B))
}

// module is containerlab's directory in the module cache.
func module(t *testing.T) string {
	t.Helper()
	out, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "github.com/srl-labs/containerlab").Output()
	if err != nil {
		t.Fatalf("find containerlab's module: %v", err)
	}
	return strings.TrimSpace(string(out))
}

// labs are the topologies of ours, and the public ones.
func labs(t *testing.T) []string {
	t.Helper()
	var out []string
	for _, pattern := range []string{"../*.clab.yml", "../clab/testdata/public/*.yml"} {
		files, err := filepath.Glob(pattern)
		if err != nil || len(files) == 0 {
			t.Fatalf("%s: %v, %v", pattern, files, err)
		}
		out = append(out, files...)
	}
	return out
}

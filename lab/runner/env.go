package runner

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/platelet-sdn/platelet/lab/clab"
	"github.com/platelet-sdn/platelet/lab/namespace"
)

// labEnv is the variable by which the processes of a node are known that
// lives in the host's own network namespace.
const labEnv = "PLATELET_LAB"

// environment is a node's as containerlab makes it: the files' variables, the
// node's own, those about proxies, the labels and the number of interfaces.
func (p *planner) environment(n clab.Node, planned node) ([]string, error) {
	env := map[string]string{}
	for _, file := range n.EnvFiles {
		vars, err := clab.ReadEnvFile(resolve(file, p.Topology))
		if err != nil {
			return nil, fmt.Errorf("node %s: %w", n.Name, err)
		}
		maps.Copy(env, vars)
	}
	maps.Copy(env, n.Env)
	noProxy(p.t, env)
	for _, labels := range []map[string]string{n.Labels, planned.Marks} {
		for k, v := range labels {
			env["CLAB_LABEL_"+envName(k)] = v
		}
	}
	interfaces := 0
	for _, l := range p.t.Links {
		for _, e := range []clab.Endpoint{l.A, l.B} {
			if e.Node == n.Name {
				interfaces++
			}
		}
	}
	env["CLAB_INTFS"] = strconv.Itoa(interfaces)
	env[labEnv] = p.Lab
	out := switchEnv(n.Kind, p.DB)
	for k, v := range env {
		out = append(out, k+"="+v)
	}
	slices.Sort(out)
	return out, nil
}

// noProxy lists what must be reached without a proxy: the node itself, all
// nodes, and the management network.
func noProxy(t *clab.Topology, env map[string]string) {
	own := []string{"localhost", "127.0.0.1", "::1", "*.local"}
	list, lower := env["no_proxy"]
	upperList, upper := env["NO_PROXY"]
	switch {
	case !lower && !upper:
		list = strings.Join(own, ",")
	case !lower:
		list = upperList
	}
	for _, entry := range own {
		if !strings.Contains(list, entry) {
			list += "," + entry
		}
	}
	var lab []string
	for _, n := range t.Nodes {
		lab = append(lab, n.Name)
		for _, a := range []string{n.MgmtIPv4, n.MgmtIPv6} {
			if a != "" {
				lab = append(lab, a)
			}
		}
	}
	for _, subnet := range []string{t.Mgmt.IPv4Subnet, t.Mgmt.IPv6Subnet} {
		if subnet != "" {
			lab = append(lab, subnet)
		}
	}
	slices.Sort(lab)
	list += "," + strings.Join(lab, ",")
	env["no_proxy"], env["NO_PROXY"] = list, list
}

// envName makes an environment variable's name of a label's.
func envName(label string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z':
			return r - 'a' + 'A'
		case r >= 'A' && r <= 'Z', r >= '0' && r <= '9', r == '_':
			return r
		case strings.ContainsRune("-+./", r):
			return '_'
		}
		return -1
	}, label)
}

// containerEnv is what Docker gives every process, before the node's own.
func containerEnv(hostname string) []string {
	path := os.Getenv("PATH")
	if path == "" {
		path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
	}
	return []string{"PATH=" + path, "HOSTNAME=" + hostname, "HOME=/root", "TERM=xterm"}
}

// resolve makes a path absolute: from the home directory, or from where the
// topology is.
func resolve(path, topology string) string {
	if rest, ok := strings.CutPrefix(path, "~"); ok {
		if home, err := os.UserHomeDir(); err == nil {
			return filepath.Join(home, rest)
		}
	}
	if path == "" || filepath.IsAbs(path) {
		return path
	}
	return filepath.Join(filepath.Dir(topology), path)
}

// mounts are a node's binds.
func (p *planner) mounts(n clab.Node) ([]namespace.Mount, error) {
	var out []namespace.Mount
	for _, b := range n.Binds {
		m, err := bindMount(p.magic(n.Name).Replace(b), p.Topology)
		if err != nil {
			return nil, fmt.Errorf("node %s: %w", n.Name, err)
		}
		out = append(out, m)
	}
	return out, nil
}

// bindMount reads "source:target" or "source:target:options".
func bindMount(bind, topology string) (namespace.Mount, error) {
	parts := strings.Split(bind, ":")
	if len(parts) < 2 {
		return namespace.Mount{}, fmt.Errorf("bind %q has no source", bind)
	}
	m := namespace.Mount{Source: resolve(parts[0], topology), Target: filepath.Clean(parts[1])}
	if !filepath.IsAbs(m.Target) || m.Target == "/" {
		return m, fmt.Errorf("bind %q: the target needs a path from the root, and below it", bind)
	}
	if len(parts) < 3 {
		return m, nil
	}
	for option := range strings.SplitSeq(parts[2], ",") {
		switch option {
		case "ro":
			m.ReadOnly = true
		case "rw", "z", "Z", "": // the latter two are about SELinux labels
		default:
			return m, fmt.Errorf("bind %q: option %q is not supported", bind, option)
		}
	}
	return m, nil
}

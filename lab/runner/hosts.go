package runner

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/platelet-sdn/platelet/lab/clab"
)

// nodeFile is a file that a node has of its own instead of the machine's.
type nodeFile struct{ name, target string }

func nodeFiles() []nodeFile {
	return []nodeFile{{"hosts", "/etc/hosts"}, {"resolv.conf", "/etc/resolv.conf"}}
}

// prepareDirs writes the nodes' own files.
func (b *builder) prepareDirs() error {
	for i, n := range b.Nodes {
		if !n.Container {
			continue
		}
		dir := nodeDir(b.o.StateDir, b.Lab, n.Name)
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return fmt.Errorf("node %s: %w", n.Name, err)
		}
		files := map[string]string{}
		if n.Hostname != "" {
			files["hosts"] = b.hosts(n, b.t.Nodes[i])
		}
		if d := b.t.Nodes[i].DNS; d.Set() {
			files["resolv.conf"] = resolvConf(d)
		}
		for name, text := range files {
			if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
				return fmt.Errorf("node %s: %w", n.Name, err)
			}
		}
	}
	return nil
}

// hosts is a node's /etc/hosts: what Docker writes, with the static addresses
// that containerlab adds, and the block of all nodes that containerlab writes
// into the machine's own, which we leave alone. Names and aliases that
// Docker's resolver would know stand there as well.
func (b *builder) hosts(n node, def clab.Node) string {
	var s strings.Builder
	s.WriteString("127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\nfe00::0\tip6-localnet\nff00::0\tip6-mcastprefix\nff02::1\tip6-allnodes\nff02::2\tip6-allrouters\n")
	for _, other := range b.t.Nodes {
		for _, a := range []string{other.MgmtIPv4, other.MgmtIPv6} {
			if a != "" && !def.SharesNamespace() {
				fmt.Fprintf(&s, "%s\t%s\n", a, other.Name)
			}
		}
	}
	if n.IPv4.IsValid() {
		fmt.Fprintf(&s, "%s\t%s\n", n.IPv4.Addr(), n.Hostname)
	}
	if n.IPv6.IsValid() {
		fmt.Fprintf(&s, "%s\t%s\n", n.IPv6.Addr(), n.Hostname)
	}
	if b.Mgmt == nil {
		return s.String()
	}
	for i, other := range b.Nodes { // in Docker's network, its resolver's
		names := append([]string{other.Name}, b.t.Nodes[i].Aliases...)
		if other.IPv4.IsValid() {
			fmt.Fprintf(&s, "%s\t%s\n", other.IPv4.Addr(), strings.Join(names, " "))
		}
		if other.IPv6.IsValid() {
			fmt.Fprintf(&s, "%s\t%s\n", other.IPv6.Addr(), strings.Join(names, " "))
		}
	}
	fmt.Fprintf(&s, "###### CLAB-%s-START ######\n", b.Lab)
	for _, other := range b.Nodes {
		if other.IPv4.IsValid() {
			fmt.Fprintf(&s, "%s\t%s\t# Kind: %s\n", other.IPv4.Addr(), other.LongName, other.Kind)
		}
	}
	for _, other := range b.Nodes {
		if other.IPv6.IsValid() {
			fmt.Fprintf(&s, "%s\t%s\t# Kind: %s\n", other.IPv6.Addr(), other.LongName, other.Kind)
		}
	}
	fmt.Fprintf(&s, "###### CLAB-%s-END ######\n", b.Lab)
	return s.String()
}

// resolvConf is a node's resolver configuration, with the machine's servers
// where the file gives none.
func resolvConf(d clab.DNS) string {
	var s strings.Builder
	if len(d.Search) > 0 {
		s.WriteString("search " + strings.Join(d.Search, " ") + "\n")
	}
	servers := d.Servers
	if len(servers) == 0 {
		machine, err := os.ReadFile("/etc/resolv.conf")
		for line := range strings.Lines(string(machine)) {
			if f := strings.Fields(line); err == nil && len(f) > 1 && f[0] == "nameserver" {
				servers = append(servers, f[1])
			}
		}
	}
	for _, a := range servers {
		s.WriteString("nameserver " + a + "\n")
	}
	if len(d.Options) > 0 {
		s.WriteString("options " + strings.Join(d.Options, " ") + "\n")
	}
	return s.String()
}

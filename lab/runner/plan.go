package runner

import (
	"crypto/sha256"
	"fmt"
	"net"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/platelet-sdn/platelet/lab/clab"
)

var labName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_.-]*$`)

// plan decides every name of a lab. It makes nothing and asks nothing, so
// the same topology and options always give the same plan.
func plan(t *clab.Topology, o Options) (*state, error) {
	file, err := filepath.Abs(t.File)
	if err != nil {
		return nil, fmt.Errorf("topology path: %w", err)
	}
	s := &state{Lab: t.Name, Topology: file, DB: o.DB, Created: time.Now().UTC().Truncate(time.Second)}
	// Under its own name a lab uses the file's interface names, as
	// containerlab does; under another it must not collide with itself.
	global := func(name string) string { return name }
	if o.Name != "" && o.Name != t.Name {
		if !labName.MatchString(o.Name) {
			return nil, fmt.Errorf("lab name %q: needs letters, digits, '-', '_' or '.', beginning with a letter or digit", o.Name)
		}
		s.Lab = o.Name
		global = func(name string) string { return rename(s.Lab, name) }
	}
	for _, n := range t.Nodes {
		switch n.Kind {
		case clab.KindBridge, clab.KindOVSBridge:
			s.Bridges = append(s.Bridges, bridge{Node: n.Name, Name: global(n.Name), OVS: n.Kind == clab.KindOVSBridge})
		}
		planned := planNode(t, s.Lab, n)
		planned.Env = append(planned.Env, switchEnv(n.Kind, o.DB)...)
		s.Nodes = append(s.Nodes, planned)
	}
	for _, l := range t.Links {
		s.Links = append(s.Links, link{A: s.planEnd(l.A, global), B: s.planEnd(l.B, global), MTU: l.MTU})
	}
	s.markLoops()
	return s, nil
}

func planNode(t *clab.Topology, lab string, n clab.Node) node {
	out := node{Name: n.Name, LongName: t.LongName(lab, n.Name), Kind: n.Kind, Image: n.Image, Labels: n.Labels}
	if n.Kind == clab.KindLinux {
		out.Namespace = out.LongName
	}
	for k, v := range n.Env {
		out.Env = append(out.Env, k+"="+v)
	}
	for k, v := range n.Labels {
		out.Env = append(out.Env, "CLAB_LABEL_"+envName(k)+"="+v)
	}
	interfaces := 0
	for _, l := range t.Links {
		for _, e := range []clab.Endpoint{l.A, l.B} {
			if e.Node == n.Name {
				interfaces++
			}
		}
	}
	out.Env = append(out.Env, "CLAB_INTFS="+strconv.Itoa(interfaces))
	slices.Sort(out.Env)
	return out
}

// switchEnv points Open vSwitch's programs, where the host itself runs them,
// at the lab's switch when that is not the machine's own.
func switchEnv(kind, db string) []string {
	socket, local := strings.CutPrefix(db, "unix:")
	if kind != clab.KindHost || !local || db == SystemDB {
		return nil
	}
	return []string{"OVS_RUNDIR=" + filepath.Dir(socket)}
}

// envName makes an environment variable's name of a label's.
func envName(label string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z':
			return r - 'a' + 'A'
		case r >= 'A' && r <= 'Z', r >= '0' && r <= '9':
			return r
		}
		return '_'
	}, label)
}

func (s *state) planEnd(e clab.Endpoint, global func(string) string) end {
	out := end{Node: e.Node, Interface: e.Interface, Name: e.Interface, MAC: e.MAC.String()}
	if e.MAC == nil {
		out.MAC = stableMAC(s.Lab, e.Node, e.Interface).String()
	}
	if n, err := s.node(e.Node); err == nil && n.Namespace != "" {
		out.Namespace = n.Namespace
		return out
	}
	out.Name = global(e.Interface)
	for _, b := range s.Bridges {
		if b.Node == e.Node {
			out.Bridge = b.Name
		}
	}
	return out
}

// stableMAC gives an interface the same address in every run, under the
// prefix that containerlab uses too.
func stableMAC(parts ...string) net.HardwareAddr {
	sum := sha256.Sum256([]byte(strings.Join(parts, "/")))
	return net.HardwareAddr{0xaa, 0xc1, 0xab, sum[0], sum[1], sum[2]}
}

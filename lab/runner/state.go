package runner

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/platelet-sdn/platelet/lab/clab"
	"github.com/platelet-sdn/platelet/lab/namespace"
	"golang.org/x/sys/unix"
)

// state records a lab before anything of it is made, so that whatever a
// crash leaves behind can be found by name.
type state struct {
	Lab      string    `json:"lab"`
	Topology string    `json:"topology"` // absolute path
	LabDir   string    `json:"lab_dir"`  // where topology-data.json is
	Owner    string    `json:"owner,omitempty"`
	DB       string    `json:"db"`
	Created  time.Time `json:"created"`
	Nodes    []node    `json:"nodes"`
	Links    []link    `json:"links"` // the file's in its order, then those to the management network
	Bridges  []bridge  `json:"bridges"`
	Mgmt     *mgmtNet  `json:"mgmt,omitempty"`
}

// node is a node as it runs.
type node struct {
	Name     string `json:"name"`
	LongName string `json:"long_name"`
	Kind     string `json:"kind"`
	Image    string `json:"image,omitempty"`
	Group    string `json:"group,omitempty"`
	// Namespace is the name of its network namespace; empty in the host's.
	Namespace string `json:"namespace,omitempty"`
	// Shares is true when the namespace is another node's.
	Shares bool `json:"shares,omitempty"`
	// Container is true for kind linux: its processes have a view and an
	// environment of their own.
	Container bool              `json:"container,omitempty"`
	Hostname  string            `json:"hostname,omitempty"`
	User      string            `json:"user,omitempty"`
	Labels    map[string]string `json:"labels,omitempty"` // the file's
	Marks     map[string]string `json:"marks,omitempty"`  // containerlab's labels
	Env       []string          `json:"env,omitempty"`
	Mounts    []namespace.Mount `json:"mounts,omitempty"`
	IPv4      netip.Prefix      `json:"mgmt_ipv4,omitzero"`
	IPv6      netip.Prefix      `json:"mgmt_ipv6,omitzero"`
}

// link is a link as it runs.
type link struct {
	Type clab.LinkType `json:"type"`
	A    end           `json:"a"`
	B    end           `json:"b"`
	MTU  int           `json:"mtu"`
	Mode string        `json:"mode,omitempty"` // of macvlan
	// VXLAN is set for a vxlan link.
	VXLAN *vxlan `json:"vxlan,omitempty"`
}

// vxlan is the tunnel of a vxlan link.
type vxlan struct {
	Remote  netip.Addr `json:"remote"`
	VNI     int        `json:"vni"`
	DstPort int        `json:"dst_port"`
	SrcPort int        `json:"src_port,omitempty"`
	Parent  string     `json:"parent,omitempty"` // empty: where the route leads
}

// ends are the interfaces that the link makes.
func (l *link) ends() []*end {
	if l.Type == clab.LinkDummy || l.Type == clab.LinkMacvlan || l.Type == clab.LinkVxlan {
		return []*end{&l.A}
	}
	return []*end{&l.A, &l.B}
}

// end is one interface of a link.
type end struct {
	Node      string `json:"node,omitempty"`      // empty for the host
	Interface string `json:"interface"`           // as the file names it
	Namespace string `json:"namespace,omitempty"` // empty for the host's own
	Name      string `json:"name"`                // as the kernel names it
	MAC       string `json:"mac"`
	Bridge    string `json:"bridge,omitempty"` // the bridge it is a port of, in the same namespace
}

// bridge is a switch as it runs.
type bridge struct {
	Node      string `json:"node"`
	Name      string `json:"name"`
	Namespace string `json:"namespace,omitempty"` // empty for the host's own
	OVS       bool   `json:"ovs"`
	// Made is false when the bridge was there before.
	Made bool `json:"made"`
	// Loop is true when the bridge's links to other bridges form a loop.
	Loop bool `json:"loop,omitempty"`
}

func statePath(dir, lab string) string { return filepath.Join(dir, lab+".json") }

// logDir holds what the nodes' commands print.
func logDir(dir, lab string) string { return filepath.Join(dir, lab+".logs") }

// nodeDir holds a node's own files, such as its /etc/hosts.
func nodeDir(dir, lab, node string) string { return filepath.Join(dir, lab+".nodes", node) }

// lock keeps other runners of the state directory out until it is released:
// whoever decides which names and addresses are free must be alone.
func lock(dir string) (release func(), err error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, fmt.Errorf("lock: %w", err)
	}
	f, err := os.OpenFile(filepath.Join(dir, ".lock"), os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return nil, fmt.Errorf("lock: %w", err)
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX); err != nil {
		_ = f.Close()
		return nil, fmt.Errorf("lock %s: %w", f.Name(), err)
	}
	return func() { _ = f.Close() }, nil // closing releases it
}

// others reads the records of all labs but one.
func others(dir, lab string) ([]*state, error) {
	names, err := labs(dir)
	if err != nil {
		return nil, err
	}
	var out []*state
	for _, name := range names {
		if name == lab {
			continue
		}
		s, err := load(dir, name)
		if errors.Is(err, fs.ErrNotExist) {
			continue // taken down in the meantime
		}
		if err != nil {
			return nil, err
		}
		out = append(out, s)
	}
	return out, nil
}

// save writes the state of a lab that must not have one yet, all or nothing.
func (s *state) save(dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("record lab: %w", err)
	}
	data, err := json.MarshalIndent(s, "", " ")
	if err != nil {
		return fmt.Errorf("record lab: %w", err)
	}
	tmp, err := os.CreateTemp(dir, "."+s.Lab+"-*")
	if err != nil {
		return fmt.Errorf("record lab: %w", err)
	}
	defer os.Remove(tmp.Name())
	_, err = tmp.Write(data)
	if err := errors.Join(err, tmp.Close()); err != nil {
		return fmt.Errorf("record lab: %w", err)
	}
	// A link, unlike a rename, fails when another lab of the name is there.
	if err := os.Link(tmp.Name(), statePath(dir, s.Lab)); errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("lab %s is already up, or was left by a crash: take it down first", s.Lab)
	} else if err != nil {
		return fmt.Errorf("record lab: %w", err)
	}
	return nil
}

// load reads the state of a lab; it is fs.ErrNotExist when there is none.
func load(dir, lab string) (*state, error) {
	data, err := os.ReadFile(statePath(dir, lab))
	if err != nil {
		return nil, fmt.Errorf("lab %s: %w", lab, err)
	}
	s := &state{}
	if err := json.Unmarshal(data, s); err != nil {
		return nil, fmt.Errorf("lab %s: %s: %w", lab, statePath(dir, lab), err)
	}
	return s, nil
}

// forget removes the record of a lab, after what goes along with it: while
// the record is there, a crash in between leaves nothing unknown.
func forget(dir, lab string) error {
	for _, rest := range []string{logDir(dir, lab), filepath.Join(dir, lab+".nodes"), filepath.Join(dir, "clab-"+lab)} {
		if err := os.RemoveAll(rest); err != nil {
			return fmt.Errorf("forget lab %s: %w", lab, err)
		}
	}
	err := os.Remove(statePath(dir, lab))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("forget lab %s: %w", lab, err)
	}
	return nil
}

// tidy removes records that a crash left half-written. The caller holds the
// lock, so that nobody is writing one.
func tidy(dir string) error {
	half, err := filepath.Glob(filepath.Join(dir, ".*-*"))
	for _, path := range half {
		err = errors.Join(err, os.Remove(path))
	}
	return err
}

// labs lists the recorded labs.
func labs(dir string) ([]string, error) {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("list labs: %w", err)
	}
	var out []string
	for _, e := range entries {
		if name, ok := strings.CutSuffix(e.Name(), ".json"); ok && !strings.HasPrefix(name, ".") {
			out = append(out, name)
		}
	}
	return out, nil
}

// node finds a node by name.
func (s *state) node(name string) (node, error) {
	names := make([]string, 0, len(s.Nodes))
	for _, n := range s.Nodes {
		if n.Name == name {
			return n, nil
		}
		names = append(names, n.Name)
	}
	return node{}, fmt.Errorf("lab %s has no node %q (nodes: %s)", s.Lab, name, strings.Join(names, ", "))
}

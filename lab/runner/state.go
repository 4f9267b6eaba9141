package runner

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// state records a lab before anything of it is made, so that whatever a
// crash leaves behind can be found by name.
type state struct {
	Lab      string    `json:"lab"`
	Topology string    `json:"topology"` // absolute path
	DB       string    `json:"db"`
	Created  time.Time `json:"created"`
	Nodes    []node    `json:"nodes"`
	Links    []link    `json:"links"`
	Bridges  []bridge  `json:"bridges"`
}

// node is a node as it runs.
type node struct {
	Name      string            `json:"name"`
	LongName  string            `json:"long_name"`
	Kind      string            `json:"kind"`
	Image     string            `json:"image,omitempty"`
	Namespace string            `json:"namespace,omitempty"` // only kind linux
	Labels    map[string]string `json:"labels,omitempty"`
	Env       []string          `json:"env,omitempty"`
}

// link is a veth pair as it runs.
type link struct {
	A   end `json:"a"`
	B   end `json:"b"`
	MTU int `json:"mtu"`
}

// end is one interface of a veth pair.
type end struct {
	Node      string `json:"node,omitempty"`      // empty for the host
	Interface string `json:"interface"`           // as the file names it
	Namespace string `json:"namespace,omitempty"` // empty for the host's own
	Name      string `json:"name"`                // as the kernel names it
	MAC       string `json:"mac"`
	Bridge    string `json:"bridge,omitempty"` // the bridge it is a port of
}

// bridge is a switch as it runs.
type bridge struct {
	Node string `json:"node"`
	Name string `json:"name"`
	OVS  bool   `json:"ovs"`
	// Made is false when the bridge was there before.
	Made bool `json:"made"`
	// Loop is true when the bridge's links to other bridges form a loop.
	Loop bool `json:"loop,omitempty"`
}

func statePath(dir, lab string) string { return filepath.Join(dir, lab+".json") }

// logDir holds what the nodes' commands print.
func logDir(dir, lab string) string { return filepath.Join(dir, lab+".logs") }

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

// forget removes the record of a lab.
func forget(dir, lab string) error {
	err := os.Remove(statePath(dir, lab))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("forget lab %s: %w", lab, err)
	}
	if err := os.RemoveAll(logDir(dir, lab)); err != nil {
		return fmt.Errorf("forget lab %s: %w", lab, err)
	}
	return nil
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

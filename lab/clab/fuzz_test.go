package clab_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/platelet-sdn/platelet/lab/clab"
	"github.com/platelet-sdn/platelet/segmentation/strictyaml"
)

// FuzzParse reads arbitrary topologies: whatever they are, they are read or
// refused with a place, and what is read holds together.
func FuzzParse(f *testing.F) {
	files, err := filepath.Glob("testdata/public/*.yml")
	if err != nil || len(files) == 0 {
		f.Fatal(files, err)
	}
	for _, file := range append(files, "../first.clab.yml") {
		data, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	for _, text := range []string{"name: x\ntopology: {nodes: {a: }}\n", head + "  - {type: host, host-interface: x, endpoint: {node: a, interface: y}}\n", "name: ${A:-b}\n",
		"name: x\ntopology: {nodes: &n {a: {kind: linux, binds: [a:b, c:b]}}, kinds: *n}\n"} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		topo, err := clab.Parse("t.yml", data, func(string) (string, bool) { return "", false })
		var faults strictyaml.Errors
		if err != nil && !errors.As(err, &faults) {
			t.Fatalf("an error without a place: %v", err)
		}
		if err != nil {
			return
		}
		for _, n := range topo.Nodes {
			if n.Kind == "" || n.Kind != strings.ToLower(n.Kind) {
				t.Errorf("node %q has kind %q", n.Name, n.Kind)
			}
		}
		for _, l := range topo.Links {
			if _, ok := topo.Node(l.A.Node); !ok || l.A.Interface == "" || l.MTU == 0 && l.Type != clab.LinkVxlan {
				t.Errorf("link %+v", l)
			}
		}
	})
}

// FuzzParseEnv reads arbitrary env-files.
func FuzzParseEnv(f *testing.F) {
	for _, text := range []string{"A=b\n", "export A='b # c' # d\nB=\"${A}\\n\"\n", "A: b\n#\n\nB=\"x\ny\"", "A=\"\\", "=", "A=$B$(x)\\$C"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		env, err := clab.ParseEnv(text)
		if err != nil {
			var line int
			if _, scanErr := fmt.Sscanf(err.Error(), "%d:", &line); scanErr != nil || line < 1 {
				t.Errorf("an error without a line: %v", err)
			}
			return
		}
		for name := range env {
			if name == "" || strings.ContainsAny(name, "= \n") {
				t.Errorf("name %q", name)
			}
		}
	})
}

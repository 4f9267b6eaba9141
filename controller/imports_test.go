package controller_test

import (
	"encoding/json"
	"errors"
	"io"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/platelet-sdn/platelet/"

// stage is what a part of the tree may import of the project.
type stage struct {
	dir  string
	may  []string
	pure bool // no sockets, no processes, no drivers
}

// Imports point upstream: a stage knows those before it, never those behind.
func stages() []stage {
	return []stage{
		{dir: "flowcollector/flow", pure: true},
		{dir: "flowcollector/packet", may: []string{"flowcollector/flow"}, pure: true},
		{dir: "flowcollector/sflow", may: []string{"flowcollector/flow", "flowcollector/packet"}, pure: true},
		{dir: "flowcollector/netflow", may: []string{"flowcollector/flow", "flowcollector/packet"}, pure: true},
		{dir: "flowcollector", may: []string{"flowcollector"}},
		{dir: "detector", may: []string{"flowcollector/flow", "detector"}, pure: true},
		{dir: "topology", may: []string{"flowcollector/flow", "topology"}, pure: true},
		{dir: "segmentation", may: []string{"flowcollector/flow", "detector", "topology", "segmentation"}, pure: true},
		{dir: "controller/durable", pure: true},
		{dir: "controller/response", may: []string{"flowcollector/flow", "detector", "topology", "segmentation", "controller/response/exposure"}, pure: true},
		{dir: "controller/response/exposure", may: []string{"flowcollector/flow", "segmentation/connection"}, pure: true},
		{dir: "controller/response/playbook", may: []string{"flowcollector/flow", "detector", "segmentation", "controller/response"}, pure: true},
		{dir: "controller/response/learn", may: []string{"flowcollector/flow", "detector", "segmentation", "controller/response", "controller/durable"}, pure: true},
		{dir: "controller/response/run", may: []string{"flowcollector/flow", "detector", "segmentation", "controller/response"}, pure: true},
		{dir: "controller/metrics", may: []string{"detector", "controller/response"}},
		{dir: "controller/audit", may: []string{"flowcollector/flow", "detector", "segmentation", "controller/response", "controller/durable"}},
		{dir: "controller/openflow", may: []string{"flowcollector/flow", "topology", "segmentation", "controller/openflow"}},
		{dir: "controller/ovsdb", may: []string{"flowcollector/flow", "topology", "controller/ovsdb"}},
		{dir: "controller/ovsdb/internal/ovstest", may: []string{"controller/ovsdb", "lab/ovs"}}, // serves tests alone
		{dir: "controller/cmd", may: []string{"flowcollector", "detector", "topology", "segmentation", "controller", "lab"}},
		{dir: "controller", may: []string{"flowcollector", "detector", "topology", "segmentation", "controller"}},
		{dir: "lab", may: []string{"flowcollector", "segmentation/strictyaml", "lab"}},
	}
}

// impure packages open sockets or start processes.
func impure() []string {
	return []string{"net", "net/http", "os/exec", "syscall", "golang.org/x/sys/unix", "github.com/vishvananda/netlink",
		"github.com/ovn-kubernetes/libovsdb/client", "github.com/nats-io/nats.go"}
}

// netForTypes lists pure packages that use package net for address text alone.
func netForTypes() []string { return []string{"flowcollector/flow"} }

type listed struct {
	ImportPath string
	Imports    []string
}

func TestImportsPointUpstream(t *testing.T) {
	for _, p := range packages(t) {
		rel := strings.TrimPrefix(p.ImportPath, module)
		s, ok := stageOf(rel)
		if !ok {
			t.Errorf("%s: belongs to no stage", rel)
			continue
		}
		for _, bad := range []string{"util", "utils", "common", "types", "helpers"} {
			if slices.Contains(strings.Split(rel, "/"), bad) {
				t.Errorf("%s: a package is named for what it does, not %q", rel, bad)
			}
		}
		for _, i := range p.Imports {
			dep, ours := strings.CutPrefix(i, module)
			if ours && !slices.ContainsFunc(s.may, func(d string) bool { return within(dep, d) }) {
				t.Errorf("%s imports %s, which is not upstream of it", rel, dep)
			}
			if s.pure && slices.Contains(impure(), i) && !(i == "net" && slices.Contains(netForTypes(), rel)) {
				t.Errorf("%s imports %s, but must have no sockets and no processes", rel, i)
			}
		}
	}
}

// stageOf finds the innermost stage that holds a package.
func stageOf(rel string) (stage, bool) {
	var found stage
	for _, s := range stages() {
		if within(rel, s.dir) && len(s.dir) > len(found.dir) {
			found = s
		}
	}
	return found, found.dir != ""
}

func within(path, dir string) bool { return path == dir || strings.HasPrefix(path, dir+"/") }

func packages(t *testing.T) []listed {
	t.Helper()
	out, err := exec.Command("go", "list", "-json=ImportPath,Imports", module+"...").Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	dec := json.NewDecoder(strings.NewReader(string(out)))
	var all []listed
	for {
		var p listed
		if err := dec.Decode(&p); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		all = append(all, p)
	}
	if len(all) < 10 {
		t.Fatalf("only %d packages found", len(all))
	}
	return all
}

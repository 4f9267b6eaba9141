package runner

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/platelet-sdn/platelet/lab/clab"
)

// TestRenamedNamesCollide: under another name interfaces get short hashes,
// and two of them may turn out the same.
func TestRenamedNamesCollide(t *testing.T) {
	const lab = "other"
	seen := map[string]string{}
	var one, two string
	for i := 0; two == ""; i++ {
		name := fmt.Sprintf("collide-%d", i)
		short := rename(lab, name)
		if len(short) > nameMax {
			t.Fatalf("%q is too long", short)
		}
		if first, ok := seen[short]; ok {
			one, two = first, name
		}
		seen[short] = name
	}
	topo, err := clab.Parse("t.yml", fmt.Appendf(nil, "name: x\ntopology:\n  nodes: {a: {kind: linux, network-mode: none}}\n  links:\n  - endpoints: [a:eth1, host:%s]\n  - endpoints: [a:eth2, host:%s]\n", one, two), os.LookupEnv)
	if err != nil {
		t.Fatal(err)
	}
	s, err := plan(topo, Options{Name: lab, StateDir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	taken := s.takenNames(nil)
	if len(taken) != 1 || !strings.Contains(taken[0], "would be an end of link a:eth1") || !strings.Contains(taken[0], "a:eth2") {
		t.Errorf("got %q", taken)
	}
	if _, err := plan(topo, Options{Name: "a/b", StateDir: t.TempDir()}); err == nil {
		t.Error("a lab called a/b was planned")
	}
}

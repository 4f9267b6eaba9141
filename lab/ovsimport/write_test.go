package ovsimport

import (
	"strings"
	"testing"

	"github.com/google/shlex"

	"github.com/platelet-sdn/platelet/lab/clab"
)

// Whatever a host's names and labels contain, the topology says the same and
// nothing else.
func FuzzTopologyHoldsAnyText(f *testing.F) {
	f.Add("app", "web", "br0")
	f.Add("a: b", "- x\t#", "q\"t'\n- evil: [")
	f.Add("yes", "0x10", "fünf")
	f.Add("\u2028", "\ufeff", "\u0085")
	f.Add("\xdf", "\x9d", "\xff")
	f.Add("$", "{x}", "${")
	f.Add("${HOME}", "${HOME:-x}", "$HOME")
	f.Add("{{", "{{ .x }}", "${{{")
	f.Add("# {{{", "a\n# {{", "{{\n{{")
	f.Fuzz(func(t *testing.T, key, value, name string) {
		p := newPlan(Options{Lab: "x"}, nil, &kernel{}, nil)
		ids := p.plainIDs(map[string]string{key: value}, "interface "+name)
		p.note("port %s: lost", name)
		p.setup = "restore"
		n := &node{name: fit(name, nodeNameMax), labels: ids, exec: []string{"echo " + quoteShell(fit(name, nameMax))}}
		p.nodes = []*node{n}
		v := &vsctl{}
		set := idsOf(p.withOrigin("y", ids))
		v.set("interface", "y", set)
		p.do("Why.", v.String())
		text, err := p.write()
		if n.name == p.setup {
			t.Skip() // names are taken once elsewhere
		}
		if err != nil {
			t.Fatalf("%v\n%s", err, text)
		}
		topo, err := clab.Parse("x", text, func(string) (string, bool) { return "expanded", true })
		if err != nil {
			t.Fatalf("%v\n%s", err, text)
		}
		got, ok := topo.Node(n.name)
		if !ok || len(topo.Nodes) != 2 || len(got.Labels) != len(ids) || len(got.Exec) != 1 || got.Exec[0] != n.exec[0] {
			t.Fatalf("%+v\n%s", got, text)
		}
		for k, v := range ids {
			if got.Labels[k] != v {
				t.Errorf("label %q is %q, want %q\n%s", k, got.Labels[k], v, text)
			}
		}
		host, _ := topo.Node(p.setup)
		if len(set) == 0 {
			return
		}
		words, err := shlex.Split(host.Exec[0])
		if want := append([]string{"ovs-vsctl", "--", "set", "interface", "y"}, set...); err != nil || strings.Join(words, "\x00") != strings.Join(want, "\x00") {
			t.Errorf("%q, %v, want %q", words, err, want)
		}
	})
}

package main

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// The README's policies, invariants and commands about files, on the first
// lab.
func TestReadmePolicies(t *testing.T) {
	raw, err := os.ReadFile("../../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	_, section, found := strings.Cut(string(raw), "### Who may talk to whom\n")
	section, _, _ = strings.Cut(section, "\n### ")
	blocks := regexp.MustCompile("(?s)```yaml\n(.*?)```").FindAllStringSubmatch(section, -1)
	if !found || len(blocks) != 2 {
		t.Fatalf("the section has %d blocks of YAML", len(blocks))
	}
	lab, err := filepath.Abs("../../../lab/first.clab.yml")
	if err != nil {
		t.Fatal(err)
	}
	files := map[string]string{"workloads.yaml": lab, "policies.yaml": write(t, "policies.yaml", blocks[0][1]), "invariants.yaml": write(t, "invariants.yaml", blocks[1][1]),
		"new.yaml": write(t, "new.yaml", strings.Replace(blocks[0][1], "8000-8999", "8000-9999", 1))}
	run := map[string]int{}
	for _, commands := range regexp.MustCompile("(?s)```sh\n(.*?)```").FindAllStringSubmatch(section, -1) {
		for line := range strings.Lines(commands[1]) {
			line, _, _ = strings.Cut(line, " #")
			args := strings.Fields(line)[1:]
			if len(args) < 3 || strings.HasPrefix(args[2], "-") || args[1] == "import" {
				continue // asks a running controller, or for another file
			}
			for i, a := range args {
				if file, ok := files[a]; ok {
					args[i] = file
				}
			}
			out, code, err := call(t, args...)
			run[args[1]]++
			want, exit := map[string]string{"verify": "true   only-clients-browse\ntrue   clients-browse\n", "trace": "allow: 10.77.0.13",
				"diff": "deny -> allow: clients -> web, tcp 9000-9999 (IPv4 and IPv6, 4 pairs)"}[args[1]], map[string]int{"diff": 1}[args[1]]
			if code != exit || !strings.Contains(out, want) {
				t.Errorf("%s: exit %d, %v:\n%s", line, code, err, out)
			}
		}
	}
	for _, command := range []string{"trace", "verify", "diff", "print", "lint"} {
		if run[command] != 1 {
			t.Errorf("%s is run %d times", command, run[command])
		}
	}
}

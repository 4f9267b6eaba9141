package main

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// The README's commands about policies from recorded traffic do what it says.
func TestReadmePolicyCommands(t *testing.T) {
	const root = "../../../"
	raw, err := os.ReadFile(root + "README.md")
	if err != nil {
		t.Fatal(err)
	}
	section := regexp.MustCompile("(?s)### Policies from recorded traffic, and against it\n\n```sh\n(.*?)```").FindSubmatch(raw)
	if section == nil {
		t.Fatal("the section is gone from the README")
	}
	learned := filepath.Join(t.TempDir(), "learned.yaml")
	for line := range strings.Lines(string(section[1])) {
		args := strings.Fields(line)[1:]
		for i, a := range args {
			switch {
			case a == "learned.yaml":
				args[i] = learned
			case strings.HasPrefix(a, "detector/"):
				args[i] = root + a
			}
		}
		if out, code, err := call(t, args...); code != 0 || (out == "") != (args[1] == "recommend") {
			t.Errorf("%s: exit %d, %v: %s", strings.TrimSpace(line), code, err, out)
		}
	}
}

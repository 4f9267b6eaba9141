package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/platelet-sdn/platelet/lab/ovsimport"
)

// What an import reads and writes is tested on real switches in package
// ovsimport.
func TestImportWithoutASwitchLeavesNoFile(t *testing.T) {
	file := filepath.Join(t.TempDir(), "prod.clab.yml")
	_, code, err := call(t, "lab", "import", "--db", "unix:"+filepath.Join(t.TempDir(), "db.sock"), "-o", file)
	if code != 1 || !strings.Contains(err.Error(), "is Open vSwitch running at unix:") {
		t.Errorf("exit %d: %v", code, err)
	}
	if _, err := os.Stat(file); !os.IsNotExist(err) {
		t.Errorf("left behind: %v", err)
	}
}

func TestImportIsNamedAfterItsFile(t *testing.T) {
	for _, tc := range []struct{ file, name, want string }{
		{"/x/prod.clab.yml", "", "prod"}, {"prod.yaml", "", "prod"}, {"prod", "", "prod"}, {"prod.yml", "twin", "twin"}, {"", "", ""},
	} {
		if got := importName(tc.file, tc.name); got != tc.want {
			t.Errorf("%s, %s: %q, want %q", tc.file, tc.name, got, tc.want)
		}
	}
}

func TestImportWritesWhatBelongsTogether(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "prod.clab.yml")
	if err := writeImport(file, &ovsimport.Result{Topology: []byte("new"), Flows: map[string][]byte{"prod.br0.flows": []byte("delete\n")}}); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{"prod.clab.yml": "new", "prod.br0.flows": "delete\n"} {
		if got, err := os.ReadFile(filepath.Join(dir, name)); err != nil || string(got) != want {
			t.Errorf("%s: %q, %v", name, got, err)
		}
	}
	if err := writeImport(filepath.Join(dir, "none", "prod.yml"), &ovsimport.Result{}); err == nil {
		t.Error("wrote into a directory that is not there")
	}
	if entries, err := os.ReadDir(dir); err != nil || len(entries) != 2 {
		t.Errorf("left behind: %v, %v", entries, err)
	}
}

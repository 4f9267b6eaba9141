package durable_test

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/platelet-sdn/platelet/controller/durable"
)

func TestWholeOrNotAtAll(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "f")
	if err := durable.Replace(path, 0o600, durable.Bytes([]byte("one"))); err != nil {
		t.Fatal(err)
	}
	broken := errors.New("half of it")
	err := durable.Write(path, 0o644, func(w io.Writer) error {
		_, _ = io.WriteString(w, "tw")
		return broken
	})
	if !errors.Is(err, broken) {
		t.Errorf("got %v", err)
	}
	raw, err := os.ReadFile(path)
	info, statErr := os.Stat(path)
	left, globErr := os.ReadDir(dir)
	if err := errors.Join(err, statErr, globErr); err != nil {
		t.Fatal(err)
	}
	if string(raw) != "one" || info.Mode().Perm() != 0o600 || len(left) != 1 {
		t.Errorf("%q of mode %v, beside %d files", raw, info.Mode(), len(left)-1)
	}
	if err := durable.Write(path, 0o644, durable.Bytes([]byte("two"))); err != nil {
		t.Fatal(err)
	}
	if raw, err := os.ReadFile(path); err != nil || string(raw) != "two" {
		t.Errorf("%q, %v", raw, err)
	}
	if err := durable.Replace(filepath.Join(dir, "no", "f"), 0o600, durable.Bytes(nil)); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("in a directory that is not there: %v", err)
	}
}

package learning

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/platelet-sdn/platelet/controller/durable"
)

// maxState bounds the small JSON files of the directory.
const maxState = 1 << 20

// locked runs f while no other process changes the directory.
func locked(dir string, f func() error) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("make directory of models: %w", err)
	}
	l, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return fmt.Errorf("lock models: %w", err)
	}
	defer l.Close() // which unlocks
	if err := unix.Flock(int(l.Fd()), unix.LOCK_EX); err != nil {
		return fmt.Errorf("lock models: %w", err)
	}
	return f()
}

// readJSON reads a small file; a missing one leaves into as it is.
func readJSON(path string, into any) error {
	f, err := os.Open(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer f.Close()
	raw, err := io.ReadAll(io.LimitReader(f, maxState+1))
	if err != nil {
		return fmt.Errorf("read %s: %w", path, err)
	}
	if len(raw) > maxState {
		return fmt.Errorf("read %s: larger than %d bytes", path, maxState)
	}
	if err := json.Unmarshal(raw, into); err != nil {
		return fmt.Errorf("read %s: %w", path, err)
	}
	return nil
}

func writeJSON(path string, v any) error {
	raw, err := json.MarshalIndent(v, "", " ")
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return durable.Replace(path, 0o600, durable.Bytes(append(raw, '\n')))
}

// Package durable writes files that are there whole or not at all, whenever
// somebody looks or the machine stops.
package durable

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
)

// Write puts a file in the place of what was there, if anything: a reader, or a
// crash, sees the old content or the new one. Its name may get lost in a power
// cut; see Replace.
func Write(path string, mode fs.FileMode, write func(io.Writer) error) error {
	f, err := os.CreateTemp(filepath.Dir(path), ".new-*")
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	err = errors.Join(write(f), f.Chmod(mode), f.Sync(), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		_ = os.Remove(f.Name())
		return fmt.Errorf("write %s: %w", path, err)
	}
	return nil
}

// Replace is Write, and outlives a power cut behind it.
func Replace(path string, mode fs.FileMode, write func(io.Writer) error) error {
	if err := Write(path, mode, write); err != nil {
		return err
	}
	return SyncDir(filepath.Dir(path))
}

// Bytes writes them, for Write and Replace.
func Bytes(content []byte) func(io.Writer) error {
	return func(w io.Writer) error {
		_, err := w.Write(content)
		return err
	}
}

// SyncDir makes the names in a directory outlive a power cut.
func SyncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return fmt.Errorf("sync %s: %w", dir, err)
	}
	if err := errors.Join(d.Sync(), d.Close()); err != nil {
		return fmt.Errorf("sync %s: %w", dir, err)
	}
	return nil
}

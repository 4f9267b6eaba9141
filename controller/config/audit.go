package config

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"path/filepath"

	"gopkg.in/yaml.v3"
)

// AuditDir is the directory of the audit log; empty where there is none to keep
// it in.
func (f *File) AuditDir() string {
	if f.Audit.Dir == "" && f.State.Dir != "" {
		return filepath.Join(f.State.Dir, "audit")
	}
	return f.Audit.Dir
}

// AuditKey is the file of the key that signs the audit log.
func (f *File) AuditKey() string {
	return filepath.Join(cmp.Or(f.State.Dir, f.Audit.Dir), "audit.key")
}

// Digest is the SHA-256 of all settings, defaults included: two configurations
// that mean the same have the same one, however they are written.
func (f *File) Digest() (string, error) {
	raw, err := yaml.Marshal(f)
	if err != nil {
		return "", fmt.Errorf("digest of the configuration: %w", err)
	}
	sum := sha256.Sum256(raw)
	return hex.EncodeToString(sum[:]), nil
}

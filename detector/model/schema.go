package model

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"slices"
)

// ErrSchema says that a model was trained on other features than it is given.
var ErrSchema = errors.New("the model's features are not this program's")

// Feature is one place of a vector. Meaning is whatever changes when the number
// changes its sense: its unit and where it comes from.
type Feature struct{ Name, Meaning string }

// Schema says what a vector holds. The hash covers names, meanings and order.
type Schema struct {
	Names []string `json:"names"`
	Hash  string   `json:"hash"` // SHA-256, hex
}

// NewSchema describes vectors of the given features.
func NewSchema(features []Feature) Schema {
	s := Schema{Names: make([]string, len(features))}
	h := sha256.New()
	for i, f := range features {
		s.Names[i] = f.Name
		_, _ = fmt.Fprintf(h, "%d:%s%d:%s", len(f.Name), f.Name, len(f.Meaning), f.Meaning) // a hash takes everything
	}
	s.Hash = hex.EncodeToString(h.Sum(nil))
	return s
}

// Fits returns an error that wraps ErrSchema and says what differs, or nil.
func (s Schema) Fits(have Schema) error {
	for i, name := range s.Names {
		if i >= len(have.Names) || have.Names[i] != name {
			return fmt.Errorf("%w: it expects %q in place %d, here is %s", ErrSchema, name, i+1, place(have.Names, i))
		}
	}
	if len(have.Names) != len(s.Names) {
		return fmt.Errorf("%w: it knows %d, here are %d", ErrSchema, len(s.Names), len(have.Names))
	}
	if have.Hash != s.Hash {
		return fmt.Errorf("%w: the names are the same, their meaning has changed (hash %.12s, here %.12s)", ErrSchema, s.Hash, have.Hash)
	}
	return nil
}

func place(names []string, i int) string {
	if i >= len(names) {
		return "nothing"
	}
	return fmt.Sprintf("%q", names[i])
}

// valid checks what a file says of its features.
func (s Schema) valid() error {
	if len(s.Names) == 0 || len(s.Names) > maxFeatures {
		return fmt.Errorf("%d features, want 1 to %d", len(s.Names), maxFeatures)
	}
	for _, n := range s.Names {
		if n == "" || len(n) > maxName {
			return fmt.Errorf("a feature's name has %d bytes, want 1 to %d", len(n), maxName)
		}
	}
	sorted := slices.Sorted(slices.Values(s.Names))
	if len(slices.Compact(sorted)) != len(s.Names) {
		return errors.New("a feature is named twice")
	}
	if raw, err := hex.DecodeString(s.Hash); err != nil || len(raw) != sha256.Size {
		return errors.New("the features' hash is no SHA-256")
	}
	return nil
}

// HashOf is the SHA-256 of what r holds, in hex, as provenance names inputs.
func HashOf(r io.Reader) (string, error) {
	h := sha256.New()
	if _, err := io.Copy(h, r); err != nil {
		return "", fmt.Errorf("hash: %w", err)
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

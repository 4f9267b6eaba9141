package audit

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/mod/sumdb/note"

	"github.com/platelet-sdn/platelet/controller/durable"
)

// publicFile holds the public keys of all who signed checkpoints of a log, one
// a line.
const publicFile = "key.pub"

// key signs checkpoints.
type key struct {
	note.Signer
	public string
}

// loadKey reads the signing key, and makes one where there is none; only its
// owner can read it.
func loadKey(path string) (key, error) {
	raw, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		return makeKey(path)
	}
	if err != nil {
		return key{}, fmt.Errorf("read the key of the audit log: %w", err)
	}
	if err := os.Chmod(path, 0o600); err != nil {
		return key{}, fmt.Errorf("keep the key of the audit log to ourselves: %w", err)
	}
	k, err := parseKey(strings.TrimSpace(string(raw)))
	if err != nil {
		return key{}, fmt.Errorf("key of the audit log, %s: %w", path, err)
	}
	return k, nil
}

func makeKey(path string) (key, error) {
	var id [4]byte
	_, _ = rand.Read(id[:]) // never fails
	secret, _, err := note.GenerateKey(rand.Reader, "platelet-audit-"+hex.EncodeToString(id[:]))
	if err != nil {
		return key{}, fmt.Errorf("make the key of the audit log: %w", err)
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return key{}, fmt.Errorf("keep the key of the audit log: %w", err)
	}
	// A key of which half was written would never be read again.
	if err := durable.Replace(path, 0o600, durable.Bytes([]byte(secret+"\n"))); err != nil {
		return key{}, fmt.Errorf("keep the key of the audit log: %w", err)
	}
	return parseKey(secret)
}

// parseKey reads a private key of package note: PRIVATE+KEY+name+hash+base64.
func parseKey(secret string) (key, error) {
	signer, err := note.NewSigner(secret)
	if err != nil {
		return key{}, err
	}
	_, rest, _ := strings.Cut(secret, "+KEY+")
	parts := strings.SplitN(rest, "+", 3)
	data, err := base64.StdEncoding.DecodeString(parts[len(parts)-1])
	if err != nil || len(data) != 1+ed25519.SeedSize { // one byte names the algorithm
		return key{}, errors.New("is no Ed25519 key")
	}
	pub, ok := ed25519.NewKeyFromSeed(data[1:]).Public().(ed25519.PublicKey)
	if !ok {
		return key{}, errors.New("is no Ed25519 key")
	}
	public, err := note.NewEd25519VerifierKey(signer.Name(), pub)
	return key{signer, public}, err
}

// publish adds the public key to those in the log's directory; news is true
// where others are there and this one was not.
func (k key) publish(dir string) (news bool, err error) {
	path := filepath.Join(dir, publicFile)
	raw, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return false, err
	}
	known := strings.Fields(string(raw))
	if slices.Contains(known, k.public) {
		return false, nil
	}
	if len(raw) > 0 && !bytes.HasSuffix(raw, []byte("\n")) {
		raw = append(raw, '\n')
	}
	return len(known) > 0, durable.Replace(path, 0o600, durable.Bytes(append(raw, k.public+"\n"...)))
}

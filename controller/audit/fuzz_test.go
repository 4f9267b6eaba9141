package audit

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/mod/sumdb/note"
)

// Whatever stands in a log, reading it ends, and what passes for whole is in
// the form in which it is written.
func FuzzVerify(f *testing.F) {
	seed := func(name string) []byte {
		raw, err := os.ReadFile(filepath.Join("testdata/log", name))
		if err != nil {
			f.Fatal(err)
		}
		return raw
	}
	f.Add(seed(fileName(0)), seed(checkpointFile), seed(publicFile))
	f.Add([]byte("{}\n"), []byte("x\n1\ny\n\n— x y\n\n"), []byte("x"))
	f.Add([]byte(`{"edge":{"roots":[],"size":9223372036854775807},"event":"log.begun","prev":"`), []byte{}, []byte{})
	dir := f.TempDir()
	f.Fuzz(func(t *testing.T, entries, points, keys []byte) {
		for name, raw := range map[string][]byte{fileName(0): entries, checkpointFile: points, publicFile: keys} {
			if err := os.WriteFile(filepath.Join(dir, name), raw, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		for _, path := range []string{dir, filepath.Join(dir, fileName(0))} {
			r, err := Verify(path, Options{Each: func(Entry) error { return nil }, Archived: true, Outside: map[string][]byte{"kept": points}})
			if err != nil {
				t.Fatal(err)
			}
			if !r.OK() {
				continue
			}
			for line := range bytes.Lines(entries) {
				line, whole := bytes.CutSuffix(line, []byte("\n"))
				if again, err := canonicalText(line); whole && (err != nil || !bytes.Equal(again, line)) {
					t.Fatalf("passes for whole: %q", line)
				}
			}
		}
	})
}

// Signed notes are found in whatever somebody kept, and read.
func FuzzCheckpoints(f *testing.F) {
	seed, err := os.ReadFile(filepath.Join("testdata/log", checkpointFile))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(seed)
	f.Add([]byte("checkpoint=\"x\\n1\\ny\\n\\n— x y\\n\"\n"))
	f.Add([]byte(`{"checkpoint":"x"}`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		_, size := wholeNotes(raw)
		if size > len(raw) {
			t.Fatalf("%d of %d bytes", size, len(raw))
		}
		for _, n := range findNotes(raw) {
			if _, err := parseCheckpoint(n.text, note.VerifierList()); err == nil {
				t.Fatalf("believed without a key: %q", n.text)
			}
		}
	})
}

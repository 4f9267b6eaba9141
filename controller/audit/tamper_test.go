package audit

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// small is a log of a few entries in several files, closed in order.
func small(t testing.TB) (cfg Config, files map[string][]byte) {
	t.Helper()
	cfg = configIn(t.TempDir())
	cfg.FileSize = 1500
	for range 3 {
		written(t, cfg, 3)
	}
	if r := verify(t, cfg.Dir, Options{}); !r.OK() || r.Files < 3 {
		t.Fatalf("%+v", r)
	}
	entries, err := os.ReadDir(cfg.Dir)
	if err != nil {
		t.Fatal(err)
	}
	files = map[string][]byte{}
	for _, e := range entries {
		if files[e.Name()], err = os.ReadFile(filepath.Join(cfg.Dir, e.Name())); err != nil {
			t.Fatal(err)
		}
	}
	return cfg, files
}

// laid writes files into an empty directory.
func laid(t testing.TB, files map[string][]byte) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "pla")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	for name, raw := range files {
		if err := os.WriteFile(filepath.Join(dir, name), raw, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// place is a line of the log.
type place struct {
	name string
	line int // from 0
}

func lines(raw []byte) [][]byte { return slices.Collect(bytes.Lines(raw)) }

func places(files map[string][]byte) (all []place) {
	for name, raw := range files {
		if strings.HasPrefix(name, "audit-") {
			for i := range lines(raw) {
				all = append(all, place{name, i})
			}
		}
	}
	slices.SortFunc(all, func(a, b place) int {
		if a.name != b.name {
			return strings.Compare(a.name, b.name)
		}
		return a.line - b.line
	})
	return all
}

// with is a copy of the log with one file's lines changed.
func with(files map[string][]byte, name string, change func([][]byte) [][]byte) map[string][]byte {
	out := map[string][]byte{}
	for n, raw := range files {
		out[n] = raw
	}
	out[name] = bytes.Join(change(lines(files[name])), nil)
	return out
}

// Every change to any line is found, and the line is named.
func TestChangesAreFoundAtEveryPosition(t *testing.T) {
	_, files := small(t)
	all := places(files)
	for i, p := range all {
		for kind, change := range map[string]func([][]byte) [][]byte{
			"edit": func(l [][]byte) [][]byte {
				l[p.line] = bytes.Replace(l[p.line], []byte(`"who":"p`), []byte(`"who":"q`), 1)
				return l
			},
			"edit of the hash": func(l [][]byte) [][]byte {
				at := bytes.Index(l[p.line], []byte(`"prev":"`)) + len(`"prev":"`)
				l[p.line] = bytes.Clone(l[p.line])
				l[p.line][at] = map[bool]byte{true: 'B', false: 'A'}[l[p.line][at] == 'A']
				return l
			},
			"space": func(l [][]byte) [][]byte {
				l[p.line] = bytes.Replace(l[p.line], []byte(`"who":`), []byte(`"who": `), 1)
				return l
			},
			"deletion":   func(l [][]byte) [][]byte { return slices.Delete(l, p.line, p.line+1) },
			"repetition": func(l [][]byte) [][]byte { return slices.Insert(l, p.line, l[p.line]) },
			"insertion": func(l [][]byte) [][]byte {
				forged := bytes.Replace(l[p.line], []byte(`"who":"p`), []byte(`"who":"q`), 1)
				return slices.Insert(l, p.line, forged)
			},
			"reorder": func(l [][]byte) [][]byte {
				j := (p.line + 1) % len(l)
				l[p.line], l[j] = l[j], l[p.line]
				return l
			},
			"truncation": func(l [][]byte) [][]byte { return l[:p.line] },
			"half": func(l [][]byte) [][]byte {
				l[p.line] = l[p.line][:len(l[p.line])/2]
				return l[:p.line+1]
			},
		} {
			if kind == "reorder" && len(lines(files[p.name])) < 2 {
				continue
			}
			dir := laid(t, with(files, p.name, change))
			r := verify(t, dir, Options{})
			if r.OK() {
				t.Errorf("%s of line %d of %s was not found", kind, p.line+1, p.name)
				continue
			}
			if !names(r, p, all, i) {
				t.Errorf("%s of line %d of %s: found %v", kind, p.line+1, p.name, r.Faults)
			}
		}
	}
}

// names reports whether a fault names the line, or one beside it (which of two
// that do not fit was changed cannot always be told), or misses the entry. What
// is cut off at the end of the log has no line; it is the checkpoints that miss
// it.
func names(r *Report, p place, all []place, seq int) bool {
	end := all[len(all)-1].name == p.name
	return slices.ContainsFunc(r.Faults, func(f Fault) bool {
		var from, to int
		if n, _ := fmt.Sscanf(f.What, "entries %d to %d are missing", &from, &to); n == 2 && from <= seq && seq <= to {
			return true
		}
		if n, _ := fmt.Sscanf(f.What, "entry %d is missing", &from); n == 1 && from == seq {
			return true
		}
		near := f.File == p.name && f.Line >= p.line && f.Line <= p.line+2
		return near || end && f.File == checkpointFile || seq > 0 && (f.File == all[seq-1].name && f.Line == all[seq-1].line+1)
	})
}

// Of an edited line with others behind it, that line is named and no other,
// whether its content was edited or what ties it to the line before.
func TestTheEditedLineIsNamed(t *testing.T) {
	cfg := configIn(t.TempDir())
	written(t, cfg, 10)
	path := filepath.Join(cfg.Dir, fileName(0))
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for n := 2; n < 9; n++ {
		for _, edit := range []func(line []byte){
			func(line []byte) { copy(line[bytes.Index(line, []byte("playbook")):], "PLAYBOOK") },
			func(line []byte) { slices.Reverse(line[bytes.Index(line, []byte(`"prev":"`))+8:][:40]) },
		} {
			l := lines(bytes.Clone(raw))
			edit(l[n])
			if err := os.WriteFile(path, bytes.Join(l, nil), 0o600); err != nil {
				t.Fatal(err)
			}
			r := verify(t, cfg.Dir, Options{})
			want := fmt.Sprintf("%s:%d: was changed", fileName(0), n+1)
			if len(r.Faults) != 2 || !strings.HasPrefix(r.Faults[0].String(), want) || r.Faults[1].File != checkpointFile {
				t.Errorf("line %d: %v", n+1, r.Faults)
			}
		}
	}
}

// Whatever is done to the bytes of a log, it is found, unless what was done is
// nothing.
func TestNoChangeGoesUnnoticed(t *testing.T) {
	_, files := small(t)
	all := places(files)
	rapid.Check(t, func(rt *rapid.T) {
		p := rapid.SampledFrom(all).Draw(rt, "place")
		raw := bytes.Clone(files[p.name])
		switch rapid.SampledFrom([]string{"flip", "cut", "remove", "insert", "swap"}).Draw(rt, "how") {
		case "flip":
			raw[rapid.IntRange(0, len(raw)-1).Draw(rt, "at")] ^= byte(rapid.IntRange(1, 255).Draw(rt, "bits"))
		case "cut":
			raw = raw[:rapid.IntRange(0, len(raw)-1).Draw(rt, "at")]
		case "remove":
			at := rapid.IntRange(0, len(raw)-1).Draw(rt, "at")
			raw = slices.Delete(raw, at, rapid.IntRange(at+1, len(raw)).Draw(rt, "to"))
		case "insert":
			at := rapid.IntRange(0, len(raw)).Draw(rt, "at")
			raw = slices.Insert(raw, at, rapid.SliceOfN(rapid.Byte(), 1, 40).Draw(rt, "what")...)
		case "swap":
			l := lines(raw)
			i, j := rapid.IntRange(0, len(l)-1).Draw(rt, "i"), rapid.IntRange(0, len(l)-1).Draw(rt, "j")
			l[i], l[j] = l[j], l[i]
			raw = bytes.Join(l, nil)
		}
		if bytes.Equal(raw, files[p.name]) {
			return
		}
		changed := map[string][]byte{}
		for n, old := range files {
			changed[n] = old
		}
		changed[p.name] = raw
		dir := laid(t, changed)
		defer os.RemoveAll(dir)
		r := verify(t, dir, Options{})
		// What hangs behind the last line, without an end, is what a crash
		// leaves: it is shown, and no entry.
		if r.OK() && r.Torn == 0 {
			rt.Fatalf("unnoticed in %s", p.name)
		}
	})
}

// A missing file is missed, the last one as well; so is a foreign one.
func TestMissingFiles(t *testing.T) {
	_, files := small(t)
	for name := range files {
		if name == publicFile {
			continue
		}
		less := map[string][]byte{}
		for n, raw := range files {
			if n != name {
				less[n] = raw
			}
		}
		if r := verify(t, laid(t, less), Options{}); r.OK() {
			t.Errorf("%s is not missed", name)
		}
	}
	more := map[string][]byte{fileName(7777): files[fileName(0)]}
	for n, raw := range files {
		more[n] = raw
	}
	if r := verify(t, laid(t, more), Options{}); r.OK() {
		t.Error("a second copy of the first file is not noticed")
	}
}

// Who mends the chain and cuts the checkpoints is found by a checkpoint that
// somebody else has; who signs with a key of his own, by the key.
func TestForgery(t *testing.T) {
	cfg, files := small(t)
	own := verify(t, cfg.Dir, Options{})
	outside := files[checkpointFile]

	forger := configIn(t.TempDir())
	forger.FileSize = cfg.FileSize
	for range 3 {
		written(t, forger, 3)
	}
	if r := verify(t, forger.Dir, Options{}); !r.OK() {
		t.Fatal("a forged log is not even one")
	}
	if r := verify(t, forger.Dir, Options{Keys: own.Keys}); r.OK() || r.Proven != 0 {
		t.Errorf("signed with another key: %+v", r)
	}
	if r := verify(t, forger.Dir, Options{Outside: map[string][]byte{"kept": outside}}); r.OK() {
		t.Errorf("not the log of the checkpoint that was kept: %+v", r)
	}

	// The same key, a shorter log: all that is in the directory fits.
	notes, _ := wholeNotes(outside)
	short := map[string][]byte{fileName(0): files[fileName(0)], publicFile: files[publicFile]}
	for i := range notes {
		c, err := parseCheckpoint(notes[i].text, verifiers(t, own.Keys[0]))
		if err != nil {
			t.Fatal(err)
		}
		if c.Size <= int64(len(lines(files[fileName(0)]))) {
			short[checkpointFile] = append(short[checkpointFile], notes[i].text+"\n"...)
		}
	}
	dir := laid(t, short)
	if r := verify(t, dir, Options{}); !r.OK() {
		t.Fatalf("cut with its checkpoints, the log looks whole to whoever kept nothing; but: %v", r.Faults)
	}
	last := notes[len(notes)-1].text
	for name, kept := range map[string]string{
		"note": last, "file": string(outside),
		"text log": fmt.Sprintf("time=\"12:00:00\" level=info msg=\"audit checkpoint\" checkpoint=%q\n", last),
		"JSON log": fmt.Sprintf("x\nNov 23 host platelet[1]: {\"checkpoint\":%q,\"level\":\"info\"}\n", last),
	} {
		if r := verify(t, dir, Options{Outside: map[string][]byte{name: []byte(kept)}}); r.OK() || !strings.Contains(r.Faults[0].What, "was cut at its end") {
			t.Errorf("kept as %s: %v", name, r.Faults)
		}
		if r := verify(t, cfg.Dir, Options{Outside: map[string][]byte{name: []byte(kept)}}); !r.OK() {
			t.Errorf("kept as %s, the log is whole: %v", name, r.Faults)
		}
	}
}

// An edited checkpoint is none.
func TestEditedCheckpoints(t *testing.T) {
	_, files := small(t)
	raw := files[checkpointFile]
	for at := range raw {
		edited := bytes.Clone(raw)
		edited[at] ^= 1
		files[checkpointFile] = edited
		if r := verify(t, laid(t, files), Options{}); r.OK() && r.TornCheckpoint == 0 {
			t.Fatalf("byte %d of the checkpoints was changed, unnoticed: %q", at, edited[:at+40])
		}
	}
}

// A line of any length is read within bounds, named, and not the end of the log.
func TestLongLine(t *testing.T) {
	cfg := configIn(t.TempDir())
	written(t, cfg, 3)
	path := filepath.Join(cfg.Dir, fileName(0))
	if err := appendTo(path, strings.Repeat("x", 5*maxLine)+"\n"); err != nil {
		t.Fatal(err)
	}
	written(t, cfg, 3)
	r := verify(t, cfg.Dir, Options{})
	if r.OK() || r.Faults[0] != (Fault{fileName(0), 6, errLongLine.Error()}) || r.Torn != 0 {
		t.Errorf("%+v", r)
	}
	if entries, err := Story(cfg.Dir, "d-2"); err != nil || len(entries) != 2 {
		t.Errorf("%d entries behind and before it: %v", len(entries), err)
	}
}

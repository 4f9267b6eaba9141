package audit

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

// Options of Verify.
type Options struct {
	// Archived lets a log begin with a later file: those before it are kept
	// elsewhere.
	Archived bool
	// Keys are the public keys that are believed; none means those that lie
	// beside the log, which whoever changed it could have changed as well.
	Keys []string
	// Outside holds checkpoints that somebody else kept, by where they come
	// from: signed notes, or lines of a log that quote them.
	Outside map[string][]byte
	// Each is called with the entries, in order, whether they are believed or
	// not. It may be nil.
	Each func(Entry) error
}

// Report is what Verify found. Without faults the log is whole up to Proven
// entries; that those behind it are whole nobody has signed yet.
type Report struct {
	Dir     string    `json:"dir"`
	Files   int       `json:"files"`
	First   int64     `json:"first"`   // number of the first entry
	Entries int64     `json:"entries"` // that the log has, with those before First
	From    time.Time `json:"from,omitzero"`
	To      time.Time `json:"to,omitzero"`
	Root    tlog.Hash `json:"root"`
	// Checkpoints hold; the last of them is over Proven entries.
	Checkpoints int      `json:"checkpoints"`
	Proven      int64    `json:"proven"`
	Keys        []string `json:"keys"`
	// Torn is the length of half a line at the end, which is being written or
	// was left by a crash; the next start puts it aside.
	Torn int64 `json:"torn,omitempty"`
	// TornCheckpoint is the same of the checkpoints.
	TornCheckpoint int `json:"torn_checkpoint,omitempty"`

	Faults []Fault `json:"faults"`
	// More counts the faults beyond those listed.
	More int `json:"more,omitempty"`
}

// OK reports whether no fault was found.
func (r *Report) OK() bool { return len(r.Faults) == 0 }

const (
	// maxFaults is how many faults are listed.
	maxFaults = 100
	// maxCheckpoints bounds a checkpoint file, in bytes.
	maxCheckpoints = 256 << 20
)

// Verify reads a log, a directory or one of its files, and compares all that
// can be compared. It changes nothing. An error says that the log could not be
// read; what is wrong with it is in the report.
func Verify(path string, opt Options) (*Report, error) {
	v := &verifier{opt: opt, report: Report{Faults: []Fault{}, Keys: []string{}}}
	v.walk = newWalker(v.fault)
	info, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("audit log: %w", err)
	}
	v.dir = path
	if !info.IsDir() {
		v.dir = filepath.Dir(path)
	}
	// Checkpoints first: a controller that runs goes on writing, and none of
	// them must be newer than the entries.
	if err := v.checkpoints(); err != nil {
		return nil, err
	}
	if err := v.open(path, info.IsDir()); err != nil {
		return nil, err
	}
	if err := v.entries(); err != nil {
		return nil, err
	}
	v.compare()
	return v.finish(), nil
}

type verifier struct {
	opt    Options
	dir    string
	files  []logFile
	later  bool // the log has files behind the one that is looked at
	report Report
	walk   *walker
	points []Checkpoint
	faults []*Fault
}

func (v *verifier) fault(f Fault) *Fault {
	if len(v.faults) == maxFaults {
		v.report.More++
		return &f
	}
	v.faults = append(v.faults, &f)
	return &f
}

// open finds the files to look at.
func (v *verifier) open(path string, all bool) (err error) {
	if v.files, err = listFiles(v.dir); err != nil {
		return fmt.Errorf("audit log: %w", err)
	}
	if !all {
		i := slices.IndexFunc(v.files, func(f logFile) bool { return f.name() == filepath.Base(path) })
		if i < 0 {
			return fmt.Errorf("audit log: %s is no file of a log (audit-N.jsonl)", path)
		}
		v.later = i < len(v.files)-1
		v.files = v.files[i : i+1]
		v.walk.adopt = v.files[0].first > 0
	}
	v.walk.adopt = v.walk.adopt || v.opt.Archived
	v.report.Dir, v.report.Files = v.dir, len(v.files)
	return nil
}

// checkpoints reads those beside the log and those from outside.
func (v *verifier) checkpoints() error {
	keys := v.opt.Keys
	if len(keys) == 0 {
		raw, err := readBounded(filepath.Join(v.dir, publicFile), 1<<20)
		if err != nil {
			return err
		}
		keys = strings.Fields(string(raw))
	}
	var list []note.Verifier
	for _, k := range keys {
		verifier, err := note.NewVerifier(k)
		if err != nil {
			v.fault(Fault{File: publicFile, What: fmt.Sprintf("%q is no public key: %v", k, err)})
			continue
		}
		list = append(list, verifier)
		v.report.Keys = append(v.report.Keys, k)
	}
	known := note.VerifierList(list...)
	own, err := readBounded(filepath.Join(v.dir, checkpointFile), maxCheckpoints)
	if err != nil {
		return err
	}
	notes, size := wholeNotes(own)
	v.report.TornCheckpoint = len(own) - size
	v.signed(checkpointFile, notes, known)
	for name, raw := range v.opt.Outside {
		n := len(v.points)
		v.signed(name, findNotes(raw), known)
		if len(v.points) == n {
			v.fault(Fault{File: name, What: "holds no checkpoint of this log's keys"})
		}
	}
	return nil
}

// readBounded reads a file that may be missing.
func readBounded(path string, limit int64) ([]byte, error) {
	f, err := os.Open(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("audit log: %w", err)
	}
	defer f.Close()
	raw, err := io.ReadAll(io.LimitReader(f, limit))
	if err != nil {
		return nil, fmt.Errorf("audit log: %w", err)
	}
	return raw, nil
}

// signed takes the checkpoints of a file in.
func (v *verifier) signed(name string, notes []foundNote, known note.Verifiers) {
	for _, n := range notes {
		c, err := parseCheckpoint(n.text, known)
		if err != nil {
			v.fault(Fault{File: name, Line: n.line, What: fmt.Sprintf("is no checkpoint to believe: %v", err)})
			continue
		}
		c.File, c.Line = name, n.line
		v.points = append(v.points, c)
		v.walk.roots[c.Size] = tlog.Hash{}
	}
}

// entries walks over the files.
func (v *verifier) entries() error {
	started := false
	v.walk.entry = func(e Entry, file string, line int) error {
		if e.What == EventDamaged {
			v.fault(Fault{File: file, Line: line, What: "the controller found the log changed: " + e.Why})
		}
		if !started {
			started, v.report.First, v.report.From = true, e.Seq, e.Time
		}
		v.report.To = e.Time
		if v.opt.Each == nil {
			return nil
		}
		return v.opt.Each(e)
	}
	for i, f := range v.files {
		in, err := os.Open(f.path)
		if err != nil {
			return fmt.Errorf("audit log: %w", err)
		}
		began := v.walk.tree.size
		_, torn, err := v.walk.file(f, in)
		in.Close()
		if err != nil {
			return fmt.Errorf("audit log, %s: %w", f.name(), err)
		}
		last := i == len(v.files)-1 && !v.later
		switch {
		case torn > 0 && !last:
			v.fault(Fault{File: f.name(), What: "ends within a line, though the log goes on: it was cut"})
		case torn > 0:
			v.report.Torn = torn
		case v.walk.tree.size == began && !last:
			v.fault(Fault{File: f.name(), What: "is empty, though the log goes on: it was cut"})
		}
	}
	v.walk.end()
	return nil
}

// compare holds the checkpoints against the entries.
func (v *verifier) compare() {
	slices.SortStableFunc(v.points, func(a, b Checkpoint) int { return int(max(-1, min(1, a.Size-b.Size))) })
	size := v.walk.tree.size
	if len(v.points) == 0 && len(v.faults) == 0 && size > 1 { // the first one is written behind the first line
		v.fault(Fault{File: checkpointFile, What: "there is no checkpoint: nothing proves where the log ends"})
	}
	differs := false
	for _, c := range v.points {
		at := Fault{File: c.File, Line: c.Line}
		switch {
		case c.Size > size && v.later:
		case c.Size > size:
			at.What = fmt.Sprintf("%d entries were signed, but only %d are here: the log was cut at its end", c.Size, size)
			v.fault(at)
			return
		case v.walk.roots[c.Size] == tlog.Hash{}: // before the first file that is here
		case v.walk.roots[c.Size] != c.Root && !differs:
			differs = true
			at.What = fmt.Sprintf("the first %d entries are not those that were signed: the difference is behind the first %d", c.Size, v.report.Proven)
			v.fault(at)
		case v.walk.roots[c.Size] == c.Root:
			v.report.Checkpoints++
			v.report.Proven = max(v.report.Proven, c.Size)
		}
	}
}

func (v *verifier) finish() *Report {
	r := &v.report
	r.Entries, r.Root = v.walk.tree.size, v.walk.tree.hash()
	if len(v.files) == 0 {
		v.fault(Fault{File: v.dir, What: "there is no log here"})
	}
	for _, f := range v.faults {
		r.Faults = append(r.Faults, *f)
	}
	return r
}

// WriteText puts the report into words.
func (r *Report) WriteText(out io.Writer) error {
	var b strings.Builder
	for _, f := range r.Faults {
		fmt.Fprintln(&b, f)
	}
	if r.More > 0 {
		fmt.Fprintf(&b, "and %d more\n", r.More)
	}
	if r.OK() {
		fmt.Fprintf(&b, "whole: entries %d to %d in %d files, %s to %s\n", r.First, r.Entries-1, r.Files, r.From.Format(time.RFC3339), r.To.Format(time.RFC3339))
	}
	fmt.Fprintf(&b, "proven: the first %d entries, by %d signed checkpoints", r.Proven, r.Checkpoints)
	if behind := r.Entries - r.Proven; behind > 0 && r.OK() {
		fmt.Fprintf(&b, "; %d behind them hang together, but could be cut off", behind)
	}
	fmt.Fprintf(&b, "\nroot: %s\n", r.Root)
	for _, k := range r.Keys {
		fmt.Fprintf(&b, "key: %s\n", k)
	}
	if r.Torn > 0 {
		fmt.Fprintf(&b, "half a line of %d bytes at the end: it is being written, or a crash left it and the next start puts it aside\n", r.Torn)
	}
	if r.TornCheckpoint > 0 {
		fmt.Fprintf(&b, "half a checkpoint of %d bytes at the end: it is being written, a crash left it, or it was changed\n", r.TornCheckpoint)
	}
	_, err := io.WriteString(out, b.String())
	return err
}

package audit

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
	"golang.org/x/sys/unix"

	"github.com/platelet-sdn/platelet/controller/durable"
)

// store is the log on the disk. It belongs to one goroutine.
type store struct {
	cfg  Config
	key  key
	lock *os.File // the directory, which one process at a time writes to

	f    *os.File // nil when not open
	name string
	size int64 // of what is written and flushed

	tree tree
	prev tlog.Hash // of the last line
	next int64     // number of the next entry
	deed string    // what the last entry says that is not about the log itself

	points   *os.File
	proven   int64 // by the last checkpoint
	provenAt time.Time
	last     string // that checkpoint, as long as it has not been logged
	loggedAt time.Time
}

func newStore(cfg Config) *store { return &store{cfg: cfg} }

// open makes the log ready to be written to, and makes sure that it still is:
// the file has to be the one that was written to, as it was left.
func (s *store) open(stamp func(pending) Entry) error {
	if s.f != nil && s.untouched() {
		return nil
	}
	failed := s.f == nil && s.name != "" // else somebody else was at it
	s.drop()
	if failed && s.resume() {
		return nil
	}
	if err := s.recover(stamp); err != nil {
		s.drop()
		return err
	}
	return nil
}

// untouched reports whether the file has still its name and its size.
func (s *store) untouched() bool {
	there, err := os.Stat(s.path(s.name))
	if err != nil {
		return false
	}
	ours, err := s.f.Stat()
	return err == nil && os.SameFile(there, ours) && there.Size() == s.size
}

func (s *store) path(name string) string { return filepath.Join(s.cfg.Dir, name) }

// drop closes what is open.
func (s *store) drop() {
	if s.f != nil {
		_ = s.f.Close() // the error that led here is the one that is told
	}
	if s.points != nil {
		_ = s.points.Close()
	}
	s.f, s.points = nil, nil
}

// resume goes on after an error of the disk: whatever a write left behind what
// was flushed is cut off.
func (s *store) resume() bool {
	f, err := os.OpenFile(s.path(s.name), os.O_RDWR, 0)
	if err != nil {
		return false
	}
	info, err := f.Stat()
	if err != nil || info.Size() < s.size || !s.ends(f) || f.Truncate(s.size) != nil || s.seek(f) != nil || s.openPoints() != nil {
		_ = f.Close()
		return false
	}
	s.f = f
	return true
}

// ends reports whether what was flushed ends with the line that was written
// last.
func (s *store) ends(f *os.File) bool {
	from := max(0, s.size-maxEntry-1)
	raw := make([]byte, s.size-from)
	if _, err := f.ReadAt(raw, from); err != nil || len(raw) == 0 {
		return false
	}
	raw = raw[:len(raw)-1]
	if i := slices.Index(reversed(raw), '\n'); i >= 0 {
		raw = raw[len(raw)-i:]
	}
	return tlog.RecordHash(raw) == s.prev
}

func reversed(raw []byte) []byte {
	out := slices.Clone(raw)
	slices.Reverse(out)
	return out
}

func (s *store) seek(f *os.File) error {
	_, err := f.Seek(s.size, io.SeekStart)
	return err
}

// recover reads what is there, puts a torn end aside, and says in the chain
// what it found.
func (s *store) recover(stamp func(pending) Entry) error {
	if err := os.MkdirAll(s.cfg.Dir, 0o700); err != nil {
		return fmt.Errorf("make the directory of the audit log: %w", err)
	}
	if err := s.claim(); err != nil {
		return err
	}
	var err error
	if s.key, err = loadKey(s.cfg.Key); err != nil {
		return err
	}
	newKey, err := s.key.publish(s.cfg.Dir)
	if err != nil {
		return fmt.Errorf("publish the key of the audit log: %w", err)
	}
	known := s.tree
	found, err := s.scan(known.size)
	if err != nil {
		return err
	}
	if known.size > 0 && (s.tree.size < known.size || found.was != known.hash()) {
		found.faults = append(found.faults, Fault{File: s.cfg.Dir, What: fmt.Sprintf("the log was changed while the controller wrote it: it had %d entries, with root %s", known.size, known.hash())})
	}
	if err := s.openPoints(); err != nil {
		return err
	}
	var list []pending
	note := func(what, why string, detail map[string]string) {
		list = append(list, pending{event: Event{What: what, Who: "platelet", Why: cut(why), Detail: detail}})
	}
	if newKey {
		note(EventKey, "the key that signed before is not in the state directory any more", map[string]string{"key": s.key.public})
	}
	if found.aside != "" {
		note(EventCut, "a crash left half a line; it was put aside", map[string]string{"file": s.name, "bytes": strconv.FormatInt(found.torn, 10), "aside": found.aside})
	}
	if known.size == 0 && s.deed != "" && s.deed != EventStopped {
		note(EventCrashed, fmt.Sprintf("the run before, %s, did not end in order; its last entry is of %s", found.last.Run, found.last.Time.Format(time.RFC3339Nano)), nil)
	}
	for _, f := range found.faults {
		note(EventDamaged, f.String(), nil)
		s.cfg.Log.Error("the audit log was changed: " + f.String())
	}
	if s.size == 0 { // of a new log, or of a file whose first line was torn
		if err := s.begin(stamp); err != nil {
			return err
		}
	}
	if s.proven == 0 {
		if err := s.checkpoint(0); err != nil {
			return err
		}
	}
	if len(list) == 0 {
		return nil
	}
	return s.append(list, stamp)
}

// claim locks the directory; the lock goes with the process.
func (s *store) claim() error {
	if s.lock != nil {
		_ = s.lock.Close() // perhaps of a directory that is not there any more
		s.lock = nil
	}
	dir, err := os.Open(s.cfg.Dir)
	if err != nil {
		return fmt.Errorf("audit log: %w", err)
	}
	if err := unix.Flock(int(dir.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		_ = dir.Close()
		return fmt.Errorf("another platelet writes its audit log to %s: %w", s.cfg.Dir, err)
	}
	s.lock = dir
	return nil
}

// scanned is what recover found.
type scanned struct {
	faults []Fault
	was    tlog.Hash // root over as many entries as asked for
	last   Entry
	torn   int64
	aside  string // file that holds a torn end
}

// scan reads the last file, and as many of those before it as it takes to know
// the tree, and opens the last one for writing.
func (s *store) scan(known int64) (scanned, error) {
	var found scanned
	files, err := listFiles(s.cfg.Dir)
	if err != nil {
		return found, fmt.Errorf("read the audit log: %w", err)
	}
	w := newWalker(func(f Fault) *Fault {
		if len(found.faults) < 8 { // verify lists them all
			found.faults = append(found.faults, f)
		}
		return &f
	})
	last, err := s.lastCheckpoint()
	if err != nil {
		return found, err
	}
	w.roots[known], w.roots[last.Size] = tlog.Hash{}, tlog.Hash{}
	first := len(files) - 1
	for ; first > 0; first-- {
		if begins(files[first]) {
			w.adopt = true
			break
		}
	}
	s.tree, s.prev, s.next, s.size, s.name = tree{}, tlog.Hash{}, 0, 0, ""
	for i := max(0, first); i < len(files); i++ {
		if err := s.walk(w, files[i], i == len(files)-1, &found); err != nil {
			return found, fmt.Errorf("read the audit log: %s: %w", files[i].name(), err)
		}
	}
	s.tree, s.prev, s.next, s.deed = w.tree, w.prev, w.next, w.deed
	found.was, found.last = w.roots[known], w.last
	if root := w.roots[last.Size]; last.Size > s.tree.size {
		found.faults = append(found.faults, Fault{File: checkpointFile, What: fmt.Sprintf("%d entries were signed, but only %d are here: the log was cut at its end", last.Size, s.tree.size)})
	} else if (root != tlog.Hash{}) && root != last.Root {
		found.faults = append(found.faults, Fault{File: checkpointFile, What: fmt.Sprintf("the first %d entries are not those that were signed", last.Size)})
	}
	s.proven, s.provenAt = min(last.Size, s.tree.size), time.Now()
	return found, nil
}

// walk reads one file; the last one stays open and loses a torn end.
func (s *store) walk(w *walker, f logFile, last bool, found *scanned) error {
	in, err := os.OpenFile(f.path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	size, torn, err := w.file(f, in)
	if err != nil || !last {
		return errors.Join(err, in.Close())
	}
	s.f, s.name, s.size = in, f.name(), size
	if torn > 0 {
		if found.torn, found.aside, err = torn, fmt.Sprintf("%s.torn-%d", f.name(), size), s.putAside(size, torn); err != nil {
			return err
		}
	}
	return s.seek(in)
}

// putAside moves the end of the file, half a line, to a file of its own.
func (s *store) putAside(size, torn int64) error {
	aside := func(w io.Writer) error {
		_, err := io.Copy(w, io.NewSectionReader(s.f, size, torn))
		return err
	}
	if err := durable.Replace(s.path(fmt.Sprintf("%s.torn-%d", s.name, size)), 0o600, aside); err != nil {
		return err
	}
	return errors.Join(s.f.Truncate(size), s.f.Sync())
}

// begins reports whether a file begins as one of ours does.
func begins(f logFile) bool {
	in, err := os.Open(f.path)
	if err != nil {
		return false
	}
	defer in.Close()
	ok := false
	stop := errors.New("the first line is enough")
	_ = readLines(in, func(l rawLine) error {
		e, err := parseEntry(l.text)
		_, edge := e.Edge.tree()
		ok = l.whole && l.fault == nil && err == nil && e.What == EventBegun && edge
		return stop
	})
	return ok
}

// lastCheckpoint reads the one that was written last, and removes half of one
// that a crash left.
func (s *store) lastCheckpoint() (Checkpoint, error) {
	path := s.path(checkpointFile)
	raw, err := readBounded(path, maxCheckpoints)
	if err != nil {
		return Checkpoint{}, err
	}
	notes, whole := wholeNotes(raw)
	if whole < len(raw) {
		if err := os.Truncate(path, int64(whole)); err != nil {
			return Checkpoint{}, fmt.Errorf("audit checkpoints: %w", err)
		}
	}
	verifier, err := note.NewVerifier(s.key.public)
	if err != nil {
		return Checkpoint{}, err
	}
	for i := len(notes) - 1; i >= 0; i-- {
		if c, err := parseCheckpoint(notes[i].text, note.VerifierList(verifier)); err == nil {
			return c, nil
		}
	}
	return Checkpoint{}, nil // the first run, or another key: verify knows both
}

func (s *store) openPoints() error {
	f, err := os.OpenFile(s.path(checkpointFile), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("audit checkpoints: %w", err)
	}
	s.points = f
	return nil
}

// begin makes the next file, or gives an empty one its first line.
func (s *store) begin(stamp func(pending) Entry) error {
	if s.f == nil {
		name := fileName(s.next)
		f, err := os.OpenFile(s.path(name), os.O_CREATE|os.O_EXCL|os.O_RDWR, 0o600)
		if err != nil {
			return fmt.Errorf("begin a file of the audit log: %w", err)
		}
		s.f, s.name, s.size = f, name, 0
		if err := durable.SyncDir(s.cfg.Dir); err != nil {
			return err
		}
	}
	e := Event{What: EventBegun, Who: "platelet", Before: s.deed, Edge: s.tree.edge(), Detail: map[string]string{"key": s.key.public}}
	return s.write([]pending{{event: e}}, stamp)
}

// append writes events, and begins another file when this one is full.
func (s *store) append(list []pending, stamp func(pending) Entry) error {
	if err := s.write(list, stamp); err != nil {
		s.fail()
		return err
	}
	if s.size < s.cfg.FileSize {
		return nil
	}
	// What was asked for is written: what fails from here on is tried again
	// with the next events.
	if err := s.checkpoint(0); err != nil { // proves what is in a complete file
		s.cfg.Log.WithError(err).Error("a file of the audit log could not be completed")
		return nil
	}
	if err := s.f.Close(); err != nil {
		s.cfg.Log.WithError(err).Warn("a file of the audit log did not close well")
	}
	s.f = nil
	if err := s.begin(stamp); err != nil {
		s.cfg.Log.WithError(err).Error("a file of the audit log could not be begun")
		s.fail()
	}
	return nil
}

// write appends lines in one go and flushes them. On an error nothing of them
// counts.
func (s *store) write(list []pending, stamp func(pending) Entry) error {
	t, prev, next, deed := s.tree, s.prev, s.next, s.deed
	var text []byte
	for _, p := range list {
		e := stamp(p)
		e.Seq, e.Prev = next, prev
		line, err := e.line()
		if err != nil {
			e.Event = Event{What: e.What, Who: e.Who, Decision: e.Decision, Finding: e.Finding, Why: fmt.Sprintf("the details cannot be written down: %v", err)}
			if line, err = e.line(); err != nil {
				return err
			}
		}
		text = append(text, line...)
		prev = hashLine(line)
		t.add(prev)
		next++
		if !strings.HasPrefix(e.What, logPrefix) {
			deed = e.What
		}
	}
	if _, err := s.f.Write(text); err != nil {
		return fmt.Errorf("write the audit log: %w", err)
	}
	if err := s.f.Sync(); err != nil {
		return fmt.Errorf("flush the audit log: %w", err)
	}
	s.tree, s.prev, s.next, s.deed = t, prev, next, deed
	s.size += int64(len(text))
	return nil
}

// hashLine is the leaf hash of a line that is given with its newline.
func hashLine(line []byte) tlog.Hash { return tlog.RecordHash(line[:len(line)-1]) }

// fail leaves the file as it was before a write that failed, if the disk lets
// it; else resume does when it is tried again.
func (s *store) fail() {
	if s.f != nil {
		_ = s.f.Truncate(s.size)
	}
	s.drop()
}

// checkpoint signs the root when there are entries that none is over, and they
// are many or the last one is older than age.
func (s *store) checkpoint(age time.Duration) error {
	behind := s.tree.size - s.proven
	if s.points == nil || behind == 0 || age > 0 && behind < checkpointEntries && time.Since(s.provenAt) < age {
		s.tell(age)
		return nil
	}
	text, err := s.key.sign(&s.tree)
	if err != nil {
		return fmt.Errorf("sign an audit checkpoint: %w", err)
	}
	at, err := s.points.Seek(0, io.SeekEnd)
	if err != nil {
		return fmt.Errorf("audit checkpoint: %w", err)
	}
	_, err = s.points.WriteString(text + "\n")
	if err = errors.Join(err, s.points.Sync()); err != nil {
		_ = s.points.Truncate(at)
		return fmt.Errorf("write an audit checkpoint: %w", err)
	}
	s.proven, s.provenAt, s.last = s.tree.size, time.Now(), text
	s.tell(age)
	return nil
}

// tell logs the last checkpoint, for somebody else to keep: now and then, and
// at once where no age is given.
func (s *store) tell(age time.Duration) {
	if s.last == "" || age > 0 && time.Since(s.loggedAt) < logEvery {
		return
	}
	s.cfg.Log.WithField("checkpoint", s.last).Info("audit checkpoint")
	s.last, s.loggedAt = "", time.Now()
}

// close ends it.
func (s *store) close() error {
	var err error
	for _, f := range []*os.File{s.f, s.points, s.lock} {
		if f != nil {
			err = errors.Join(err, f.Close())
		}
	}
	s.f, s.points, s.lock = nil, nil, nil
	return err
}

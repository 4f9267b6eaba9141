package audit

import (
	"bufio"
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/mod/sumdb/tlog"
)

// maxLine is the longest line that is read, in bytes; longer ones are faults.
const maxLine = 1 << 20

var errLongLine = fmt.Errorf("is longer than %d bytes", maxLine)

// logFile is a file of the log and the number of its first entry.
type logFile struct {
	path  string
	first int64
}

func (f logFile) name() string { return filepath.Base(f.path) }

func fileName(first int64) string { return fmt.Sprintf("audit-%012d.jsonl", first) }

// firstOf reads the number of a file's first entry from its name.
func firstOf(name string) (int64, bool) {
	m := regexp.MustCompile(`^audit-(\d{12,18})\.jsonl$`).FindStringSubmatch(name)
	if m == nil {
		return 0, false
	}
	n, err := strconv.ParseInt(m[1], 10, 64)
	return n, err == nil && fileName(n) == name
}

// listFiles returns the files of a log in order.
func listFiles(dir string) ([]logFile, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	var files []logFile
	for _, e := range entries {
		if n, ok := firstOf(e.Name()); ok {
			files = append(files, logFile{filepath.Join(dir, e.Name()), n})
		}
	}
	slices.SortFunc(files, func(a, b logFile) int { return int(max(-1, min(1, a.first-b.first))) })
	return files, nil
}

// rawLine is a line of a file.
type rawLine struct {
	number int    // from 1
	text   []byte // without its newline; cut at maxLine
	size   int64  // in the file, with its newline
	whole  bool   // it has a newline
	fault  error  // errLongLine
}

// readLines calls do with each line, which is valid until do returns.
func readLines(r io.Reader, do func(rawLine) error) error {
	in := bufio.NewReaderSize(r, 64<<10)
	var long []byte
	for number := 1; ; number++ {
		text, err := in.ReadSlice('\n')
		l := rawLine{number: number, size: int64(len(text))}
		if errors.Is(err, bufio.ErrBufferFull) {
			long = append(long[:0], text...)
			for errors.Is(err, bufio.ErrBufferFull) {
				text, err = in.ReadSlice('\n')
				l.size += int64(len(text))
				long = append(long, text[:min(len(text), maxLine+1-len(long))]...)
			}
			l.whole = bytes.HasSuffix(text, []byte("\n"))
			text = long
		} else {
			l.whole = bytes.HasSuffix(text, []byte("\n"))
		}
		if err != nil && !errors.Is(err, io.EOF) {
			return err
		}
		if l.size == 0 {
			return nil
		}
		if l.size > maxLine {
			l.fault = errLongLine
		}
		l.text = bytes.TrimSuffix(text, []byte("\n"))
		if derr := do(l); derr != nil {
			return derr
		}
		if err != nil {
			return nil
		}
	}
}

// parseEntry reads a line, which has to be in canonical form: a text that means
// the same is not the same.
func parseEntry(line []byte) (Entry, error) {
	again, err := canonicalText(line)
	if err != nil {
		return Entry{}, fmt.Errorf("is no entry: %w", err)
	}
	if !bytes.Equal(again, line) {
		return Entry{}, errors.New("is not written as the log writes")
	}
	var e Entry
	if err := json.Unmarshal(line, &e); err != nil {
		return Entry{}, fmt.Errorf("is no entry: %w", err)
	}
	if e.What == "" || e.Seq < 0 {
		return Entry{}, errors.New("is no entry")
	}
	return e, nil
}

// Fault is something that is not as the log wrote it.
type Fault struct {
	File string `json:"file"`
	Line int    `json:"line,omitempty"` // 0 where it is about the file
	What string `json:"what"`
}

func (f Fault) String() string {
	if f.Line == 0 {
		return fmt.Sprintf("%s: %s", f.File, f.What)
	}
	return fmt.Sprintf("%s:%d: %s", f.File, f.Line, f.What)
}

// walker follows the chain over lines and files.
type walker struct {
	tree tree
	prev tlog.Hash // of the line before
	next int64     // number of the next entry
	last Entry     // that could be read
	deed string    // what the last entry says that is not about the log itself

	fault func(Fault) *Fault // takes a fault and returns it, to be amended
	entry func(e Entry, file string, line int) error
	roots map[int64]tlog.Hash // wanted: the roots over so many entries
	adopt bool                // the edge of the next file is believed: what is before it is not here

	before  Fault  // where the line before stands
	faulty  bool   // it has a fault of its own
	guessed *Fault // it did not fit the one before, which was blamed
}

func newWalker(fault func(Fault) *Fault) *walker {
	return &walker{fault: fault, roots: map[int64]tlog.Hash{}}
}

// file walks over a file. It returns the size of the whole lines and that of a
// last one without an end.
func (w *walker) file(f logFile, r io.Reader) (size, torn int64, err error) {
	err = readLines(r, func(l rawLine) error {
		if !l.whole {
			torn = l.size
			return nil
		}
		size += l.size
		return w.line(f, l)
	})
	return size, torn, err
}

func (w *walker) line(f logFile, l rawLine) error {
	at := Fault{File: f.name(), Line: l.number}
	e, err := parseEntry(l.text)
	if l.fault != nil {
		err = l.fault
	}
	if w.adopt && err == nil {
		w.start(e)
	}
	switch {
	case err != nil:
		w.blame(at, err.Error())
	case e.Seq != w.next:
		w.blame(at, misplaced(e.Seq, w.next))
		w.next = e.Seq
	default:
		w.link(at, e)
	}
	if l.number == 1 && err == nil {
		w.head(at, f, e)
	}
	hash := tlog.RecordHash(l.text)
	w.tree.add(hash)
	w.root()
	w.prev, w.before = hash, at
	w.next++
	if err != nil {
		return nil
	}
	w.last = e
	switch {
	case e.What == EventBegun:
		w.deed = cmp.Or(e.Before, w.deed)
	case !strings.HasPrefix(e.What, logPrefix):
		w.deed = e.What
	}
	if w.entry == nil {
		return nil
	}
	return w.entry(e, at.File, l.number)
}

// root keeps the root if somebody wants it.
func (w *walker) root() {
	if _, wanted := w.roots[w.tree.size]; wanted {
		w.roots[w.tree.size] = w.tree.hash()
	}
}

// start believes the first line of a file what was before it.
func (w *walker) start(e Entry) {
	if t, ok := e.Edge.tree(); ok && e.What == EventBegun {
		w.tree, w.next, w.prev = t, e.Seq, e.Prev
		w.root()
		w.before = Fault{File: "the file before"}
	}
	w.adopt = false
}

// blame finds fault with the line itself.
func (w *walker) blame(at Fault, what string) {
	at.What = what
	w.fault(at)
	w.faulty, w.guessed = true, nil
}

func misplaced(have, want int64) string {
	switch {
	case have == want+1:
		return fmt.Sprintf("entry %d is missing, or moved: entry %d stands in its place", want, have)
	case have > want:
		return fmt.Sprintf("entries %d to %d are missing, or moved: entry %d stands in their place", want, have-1, have)
	}
	return fmt.Sprintf("entry %d stands where entry %d belongs: something was inserted, repeated or moved", have, want)
}

// link compares a line with the one before it. Where they do not fit, that one
// was changed, unless this one does not fit the next one either.
func (w *walker) link(at Fault, e Entry) {
	faulty, guessed := w.faulty, w.guessed
	w.faulty, w.guessed = false, nil
	switch {
	case e.Prev == w.prev, faulty:
	case guessed != nil:
		*guessed = Fault{w.before.File, w.before.Line, "was changed: it fits neither the line before it nor the one after it"}
	case w.before.Line == 0 && w.before.File == "":
		at.What = "was changed: the first line of a log follows on nothing"
		w.fault(at)
	default:
		f := w.before
		f.What = "was changed: the line after it was written behind another text"
		w.guessed = w.fault(f)
	}
}

// head checks the first line of a file. Behind a fault it is believed, so that
// what comes after can be compared again.
func (w *walker) head(at Fault, f logFile, e Entry) {
	t, ok := e.Edge.tree()
	ok = ok && e.What == EventBegun
	fits := ok && t.size == w.tree.size && t.hash() == w.tree.hash()
	switch {
	case !ok:
		at.What = "is not the first line of a file"
	case f.first != e.Seq:
		at.What = fmt.Sprintf("begins with entry %d, but the file's name says %d", e.Seq, f.first)
	case !fits && !w.faulty:
		at.What = "does not go on from the files before it: they were changed, or this one was"
	}
	if at.What != "" {
		w.fault(at)
	}
	if ok && !fits {
		w.tree = t
		w.root()
	}
}

// end amends a last guess: nothing behind tells which of two lines is right.
func (w *walker) end() {
	if w.guessed != nil {
		w.guessed.What = "or the line after it was changed: the two do not fit"
	}
}

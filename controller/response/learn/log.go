package learn

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
)

const (
	// maxLine bounds a line of the log, maxFile a file of it, and keptFiles
	// how many there are: the oldest goes when another is begun.
	maxLine   = 64 << 10
	maxFile   = 8 << 20
	keptFiles = 8
)

// Dir is where a state directory keeps what the response learns from.
func Dir(stateDir string) string { return filepath.Join(stateDir, "response") }

// file names a file of the log, the latest being 0.
func file(dir string, age int) string {
	if age == 0 {
		return filepath.Join(dir, "choices.jsonl")
	}
	return filepath.Join(dir, "choices."+strconv.Itoa(age)+".jsonl")
}

// writer appends lines to the log. A crash cuts off at most the last line, which
// is taken off when the log is opened again.
type writer struct {
	dir  string
	f    *os.File // nil until something is written, and when that failed
	size int64
	most int64 // bytes of a file
}

func (w *writer) open() error {
	if err := os.MkdirAll(w.dir, 0o700); err != nil {
		return err
	}
	f, err := os.OpenFile(file(w.dir, 0), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return err
	}
	size, err := whole(f)
	if err == nil {
		err = f.Truncate(size)
	}
	if err == nil {
		_, err = f.Seek(size, io.SeekStart)
	}
	if err != nil {
		f.Close()
		return err
	}
	w.f, w.size = f, size
	return nil
}

// whole is how much of a file is whole lines.
func whole(f *os.File) (int64, error) {
	st, err := f.Stat()
	if err != nil {
		return 0, err
	}
	buf := make([]byte, 4096)
	for end := st.Size(); end > 0; {
		from := max(0, end-int64(len(buf)))
		part := buf[:end-from]
		if _, err := f.ReadAt(part, from); err != nil {
			return 0, err
		}
		if i := bytes.LastIndexByte(part, '\n'); i >= 0 {
			return from + int64(i) + 1, nil
		}
		end = from
	}
	return 0, nil
}

// append writes lines, each with a newline of its own. Where that fails the log is
// opened anew for the next ones, without the half line that there may be.
func (w *writer) append(lines []byte) (err error) {
	if w.f == nil {
		err = w.open()
	}
	if err == nil && w.size > 0 && w.size+int64(len(lines)) > w.most {
		err = w.rotate()
	}
	if err == nil {
		_, err = w.f.Write(lines)
		w.size += int64(len(lines))
	}
	if err != nil {
		if w.f != nil {
			w.f.Close()
		}
		w.f = nil
		return fmt.Errorf("log of choices: %w", err)
	}
	return nil
}

// rotate begins another file; the oldest goes.
func (w *writer) rotate() error {
	if err := w.f.Close(); err != nil {
		return err
	}
	for age := keptFiles - 2; age >= 0; age-- {
		if err := os.Rename(file(w.dir, age), file(w.dir, age+1)); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
	}
	return w.open()
}

func (w *writer) sync() error {
	if w.f == nil {
		return nil
	}
	return w.f.Sync()
}

func (w *writer) close() error {
	if w.f == nil {
		return nil
	}
	return errors.Join(w.f.Sync(), w.f.Close())
}

// Log is what was chosen and what came of it, oldest first.
type Log struct {
	Choices []Played
	// Outcomes are the last ones, by decision.
	Outcomes map[string]Outcome
	// Faults are lines that could not be read, as file:line, the first
	// hundred; a line that a crash cut off at the end is none.
	Faults []error
}

const maxFaults = 100

// ReadLog reads the log of a state directory. Where there is none it is empty.
func ReadLog(stateDir string) (*Log, error) {
	log := &Log{Outcomes: map[string]Outcome{}}
	for age := keptFiles - 1; age >= 0; age-- {
		name := file(Dir(stateDir), age)
		f, err := os.Open(name)
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("log of choices: %w", err)
		}
		err = log.read(name, f)
		f.Close()
		if err != nil {
			return nil, fmt.Errorf("log of choices: %w", err)
		}
	}
	log.drop()
	return log, nil
}

// read takes the lines of a file in.
func (l *Log) read(name string, from io.Reader) error {
	in := bufio.NewReaderSize(from, maxLine)
	for n := 1; ; n++ {
		line, err := in.ReadSlice('\n')
		switch {
		case errors.Is(err, io.EOF):
			return nil // what is not a whole line was cut off
		case errors.Is(err, bufio.ErrBufferFull):
			l.fault(name, n, fmt.Errorf("longer than %d bytes", maxLine))
			for errors.Is(err, bufio.ErrBufferFull) {
				_, err = in.ReadSlice('\n')
			}
			if errors.Is(err, io.EOF) {
				return nil
			}
			if err != nil {
				return err
			}
			continue
		case err != nil:
			return err
		}
		if line = bytes.TrimSpace(line); len(line) == 0 {
			continue
		}
		x, err := parse(line)
		switch x := x.(type) {
		case *Played:
			l.Choices = append(l.Choices, *x)
		case *Outcome:
			l.Outcomes[x.Decision] = *x
		default:
			l.fault(name, n, err)
		}
	}
}

func (l *Log) fault(name string, line int, err error) {
	if len(l.Faults) < maxFaults {
		l.Faults = append(l.Faults, fmt.Errorf("%s:%d: %w", name, line, err))
	}
}

// drop forgets repeated choices of one decision, which only damage could make,
// and outcomes of choices that are gone.
func (l *Log) drop() {
	seen := map[string]bool{}
	kept := l.Choices[:0]
	for _, c := range l.Choices {
		if !seen[c.Decision] {
			kept = append(kept, c)
		}
		seen[c.Decision] = true
	}
	l.Choices = kept
	for id := range l.Outcomes {
		if !seen[id] {
			delete(l.Outcomes, id)
		}
	}
}

func encode(x any) ([]byte, error) {
	raw, err := json.Marshal(x)
	if err != nil {
		return nil, fmt.Errorf("log of choices: %w", err)
	}
	return append(raw, '\n'), nil
}

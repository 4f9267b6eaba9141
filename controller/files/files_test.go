package files_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/platelet-sdn/platelet/controller/files"
)

func write(t *testing.T, name, text string) {
	t.Helper()
	must(t, os.WriteFile(name, []byte(text), 0o600))
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestGlob(t *testing.T) {
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	for _, name := range []string{"a.yaml", "b.yaml", ".c.yaml", "d.txt"} {
		write(t, at(name), "")
	}
	must(t, os.Symlink("nobody@nowhere.1", at(".#a.yaml"))) // as Emacs locks a file
	must(t, os.MkdirAll(at("sub/.git"), 0o700))
	write(t, at("sub/e.yaml"), "")
	write(t, at("sub/.git/f.yaml"), "")
	for _, c := range []struct {
		patterns, want string
	}{
		{"*.yaml", "a.yaml b.yaml"},
		{"b.yaml *.yaml", "b.yaml a.yaml"},
		{".c.*", ".c.yaml"},
		{"*/*.yaml", "sub/e.yaml"},
		{"*/*/*.yaml", ""},
		{"sub/.git/*.yaml", "sub/.git/f.yaml"},
		{"later/*.yaml", ""},
		{"*/later/*.yaml", ""},
	} {
		var patterns, want []string
		for _, p := range strings.Fields(c.patterns) {
			patterns = append(patterns, at(p))
		}
		for _, w := range strings.Fields(c.want) {
			want = append(want, at(w))
		}
		if got, err := files.Glob(patterns...); err != nil || !slices.Equal(got, want) {
			t.Errorf("%s: %v, %v; want %v", c.patterns, got, err, want)
		}
	}
	if _, err := files.Glob(at("e.yaml")); !errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), at("e.yaml")) {
		t.Errorf("a file that is named and not there: %v", err)
	}
	if got, err := files.Glob(at("d.txt/*.yaml")); err == nil { // what cannot be listed is not empty
		t.Errorf("files in a file: %v", got)
	}
}

func TestReadIsBounded(t *testing.T) {
	name := filepath.Join(t.TempDir(), "f")
	write(t, name, "12345")
	if raw, err := files.Read(name, 5); err != nil || string(raw) != "12345" {
		t.Errorf("%q, %v", raw, err)
	}
	if _, err := files.Read(name, 4); err == nil || !strings.Contains(err.Error(), "more than 4 bytes") {
		t.Errorf("%v", err)
	}
	if _, err := files.Read("/dev/zero", 1<<16); err == nil { // of no size
		t.Error("a file without an end was read")
	}
}

// watched is a watch whose clock the test moves.
type watched struct {
	*files.Watch
	t   *testing.T
	now time.Time
}

// watch has taken what is there.
func watch(t *testing.T, patterns ...string) *watched {
	w := &watched{files.NewWatch(func() ([]string, error) { return files.Glob(patterns...) }), t, time.Unix(1e9, 0)}
	w.take()
	return w
}

func (w *watched) take() {
	w.t.Helper()
	if _, err := files.Take(w.Watch, func() (int, error) { return 0, nil }); err != nil {
		w.t.Fatal(err)
	}
}

// after looks again when so much time has passed.
func (w *watched) after(d time.Duration) bool {
	w.now = w.now.Add(d)
	return w.Changed(w.now)
}

// settles expects that a change is told once it has settled and before it is
// taken, and not again.
func (w *watched) settles(what string) {
	w.t.Helper()
	if w.after(0) || w.after(files.Settle-1) {
		w.t.Errorf("%s: told before it has settled", what)
	}
	if !w.after(1) {
		w.t.Errorf("%s: not told", what)
	}
	w.take()
	if w.after(time.Hour) {
		w.t.Errorf("%s: told again", what)
	}
}

func TestWatchTellsOfWhatHasSettled(t *testing.T) {
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	write(t, at("a.yaml"), "one")
	w := watch(t, at("*.yaml"), at("later/*.yaml"))
	if w.after(time.Hour) {
		t.Error("a change is told where there is none")
	}

	write(t, at("a.yaml"), "on")
	if w.after(0) || w.after(files.Settle-1) {
		t.Error("half a file")
	}
	write(t, at("a.yaml"), "one two")
	w.settles("a file that was written in two steps")

	write(t, at("a.new"), "two one") // as long as it was, and as old
	info, err := os.Stat(at("a.yaml"))
	must(t, err)
	must(t, os.Chtimes(at("a.new"), info.ModTime(), info.ModTime()))
	must(t, os.Rename(at("a.new"), at("a.yaml")))
	w.settles("a file in the place of another")

	must(t, os.Chmod(at("a.yaml"), 0o400))
	w.settles("a file whose mode changed")

	must(t, os.Mkdir(at("later"), 0o700))
	write(t, at("later/b.yaml"), "")
	w.settles("a directory that came later")

	must(t, os.Remove(at("a.yaml")))
	w.settles("a file that has gone")
	must(t, os.RemoveAll(at("later")))
	w.settles("a directory that has gone")
}

// Editors put their files aside for a moment.
func TestWatchIgnoresAnAbsenceThatEnds(t *testing.T) {
	name := filepath.Join(t.TempDir(), "a.yaml")
	write(t, name, "one")
	w := watch(t, name)
	must(t, os.Rename(name, name+"~"))
	if w.after(0) || w.after(files.Settle/2) {
		t.Error("the absence is told")
	}
	write(t, name, "one two")
	w.settles("a file that is back")
	must(t, os.Remove(name))
	w.settles("a named file that has gone")
	write(t, name, "two")
	w.settles("a named file that is back")
}

// As the kubelet writes a ConfigMap: files are links into a directory that is a
// link, which it changes to another directory at once.
func TestWatchFollowsLinksOfDirectories(t *testing.T) {
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	version := func(name, text string) {
		must(t, os.Mkdir(at(name), 0o700))
		write(t, at(name+"/a.yaml"), text)
		must(t, os.Symlink(name, at("..data_tmp")))
		must(t, os.Rename(at("..data_tmp"), at("..data")))
	}
	version("..2026_11_23_1", "one")
	must(t, os.Symlink("..data/a.yaml", at("a.yaml")))
	w := watch(t, at("*.yaml"))
	version("..2026_11_23_2", "two")
	must(t, os.RemoveAll(at("..2026_11_23_1")))
	w.settles("another directory behind the link")
	if names, err := files.Glob(at("*.yaml"), at("*/*.yaml")); err != nil || len(names) != 1 {
		t.Errorf("%v, %v: each file is there once", names, err)
	}
}

// What is read while it changes is thrown away.
func TestTakeReadsAgainWhatChanged(t *testing.T) {
	name := filepath.Join(t.TempDir(), "a")
	write(t, name, "half")
	w := watch(t, name)
	reads := 0
	read := func(until int) func() (string, error) {
		return func() (string, error) {
			raw, err := os.ReadFile(name)
			if reads++; reads <= until {
				write(t, name, strings.Repeat("x", 10+reads))
			}
			return string(raw), err
		}
	}
	if got, err := files.Take(w.Watch, read(1)); err != nil || got != strings.Repeat("x", 11) || reads != 2 {
		t.Errorf("%q, %v in %d reads", got, err, reads)
	}
	if w.after(time.Hour) {
		t.Error("what was taken is told")
	}
	if got, err := files.Take(w.Watch, read(1<<30)); !errors.Is(err, files.ErrChanging) || got != "" {
		t.Errorf("%q, %v", got, err)
	}
	w.settles("what was never read whole")
}

// An error of the disk passes; one of what is written does not.
func TestTakeRetriesTheDisk(t *testing.T) {
	name := filepath.Join(t.TempDir(), "a")
	write(t, name, "x")
	w := watch(t, name)
	w.now = time.Now()
	for _, c := range []struct {
		err   error
		again bool
	}{{&fs.PathError{Op: "read", Path: name, Err: syscall.EIO}, true}, {errors.New("a fault in line 1"), false},
		{&fs.PathError{Op: "open", Path: name, Err: syscall.ENOENT}, false}} {
		_, err := files.Take(w.Watch, func() (int, error) { return 0, fmt.Errorf("policies: %w", c.err) })
		if !errors.Is(err, c.err) {
			t.Errorf("%v", err)
		}
		if w.after(0) {
			t.Errorf("%v: tried again at once", c.err)
		}
		if got := w.after(time.Minute); got != c.again {
			t.Errorf("%v: tried again: %v", c.err, got)
		}
	}
}

// What files say may depend on the time.
func TestAgain(t *testing.T) {
	name := filepath.Join(t.TempDir(), "a")
	write(t, name, "x")
	w := watch(t, name)
	w.Again(w.now.Add(time.Hour))
	if w.after(time.Hour - 1) {
		t.Error("before the time")
	}
	if !w.after(1) {
		t.Error("it was not read again")
	}
	w.take()
	if w.after(1000 * time.Hour) {
		t.Error("more than once")
	}
}

// What never settles is told, once.
func TestWatchTellsOfUnrest(t *testing.T) {
	name := filepath.Join(t.TempDir(), "a")
	write(t, name, "")
	w := watch(t, name)
	told := 0
	for i := range 300 {
		write(t, name, strings.Repeat("x", i+1))
		if w.after(100 * time.Millisecond) {
			t.Fatal("it never settled")
		}
		if w.Restless(w.now) {
			told++
		}
	}
	if told != 1 {
		t.Errorf("told %d times", told)
	}
	w.settles("the end")
	if w.Restless(w.now.Add(time.Hour)) {
		t.Error("unrest is told of what has settled")
	}
}

// Who asks is answered by the goroutine that follows, and does not wait for a
// disk longer than he wants to.
func TestFollow(t *testing.T) {
	name := filepath.Join(t.TempDir(), "a")
	write(t, name, "one")
	w := files.NewWatch(func() ([]string, error) { return files.Glob(name) })
	read := func() (string, error) { raw, err := os.ReadFile(name); return string(raw), err }
	if _, err := files.Take(w, read); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	got, ended := make(chan string, 1), make(chan struct{})
	go func() {
		defer close(ended)
		w.Follow(ctx, func() {
			text, err := files.Take(w, read)
			if err != nil {
				t.Error(err)
			}
			got <- text
		}, func() { t.Error("restless") })
	}()
	write(t, name, "two three")
	if text := <-got; text != "two three" {
		t.Errorf("%q", text)
	}
	if err := w.Ask(ctx, func() error { return fs.ErrInvalid }); !errors.Is(err, fs.ErrInvalid) {
		t.Errorf("%v", err)
	}
	disk := make(chan struct{})
	for range 2 { // the one that is read for, and the one behind it
		short, stop := context.WithTimeout(ctx, 20*time.Millisecond)
		if err := w.Ask(short, func() error { <-disk; return nil }); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%v", err)
		}
		stop()
	}
	close(disk)
	cancel()
	<-ended
}

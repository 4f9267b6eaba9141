package audit

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

const childEnv = "PLATELET_AUDIT_CHILD"

// writeForEver is the child of the crash test: it writes until it is killed.
func writeForEver(dir string) int {
	cfg := configIn(dir)
	cfg.FileSize, cfg.Checkpoint = 64<<10, 10*time.Millisecond
	l := New(cfg)
	go func() {
		for i := 0; ; i++ {
			for l.Status().Queued > batchSize/8 { // what is written is many small batches
				time.Sleep(time.Millisecond)
			}
			l.Record(numbered(i))
		}
	}()
	if err := l.Run(context.Background()); err != nil {
		fmt.Fprintln(os.Stderr, err)
	}
	return 1
}

// Killed at any moment, a dozen times, the log is whole: what half a line
// there is gets put aside.
func TestKilledWhileWriting(t *testing.T) {
	dir := t.TempDir()
	cfg := configIn(dir)
	cfg.FileSize = 64 << 10
	var entries int64
	for run := range 12 {
		child := exec.Command("/proc/self/exe")
		child.Env = append(os.Environ(), childEnv+"="+dir)
		child.Stderr = os.Stderr
		if err := child.Start(); err != nil {
			t.Fatal(err)
		}
		kill := func() { _ = child.Process.Kill(); _ = child.Wait() }
		t.Cleanup(kill)
		more := bytesIn(cfg.Dir) + int64(100_000*(1+run%3))
		within(t, "the child to write", func() bool { return bytesIn(cfg.Dir) > more })
		kill()
		r := verify(t, cfg.Dir, Options{})
		if !r.OK() {
			t.Fatalf("after kill %d: %v", run, r.Faults)
		}
		entries = r.Entries
	}
	written(t, cfg, 1)
	if r := verify(t, cfg.Dir, Options{}); !r.OK() || r.Proven != r.Entries || r.Entries <= entries {
		t.Errorf("after all kills: %+v", r)
	}
}

// bytesIn is the size of a directory's files.
func bytesIn(dir string) (n int64) {
	files, _ := listFiles(dir) // not there yet
	for _, f := range files {
		if info, err := os.Stat(f.path); err == nil {
			n += info.Size()
		}
	}
	return n
}

// A line that a crash left half is put aside wherever it was cut, the chain says
// so, and goes on.
func TestTornLineIsPutAside(t *testing.T) {
	dir := t.TempDir()
	cfg := configIn(dir)
	written(t, cfg, 5)
	path, points := filepath.Join(cfg.Dir, fileName(0)), filepath.Join(cfg.Dir, checkpointFile)
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	signed, err := os.ReadFile(points)
	if err != nil {
		t.Fatal(err)
	}
	half, err := (&Entry{Seq: 6, Event: numbered(6)}).line()
	if err != nil {
		t.Fatal(err)
	}
	blocks := make([]byte, 3*maxLine) // as a power failure leaves
	for _, half := range [][]byte{half[:1], half[:2], half[:len(half)/2], half[:len(half)-1], blocks} {
		n := len(half)
		if err := os.WriteFile(path, append(bytes.Clone(whole), half[:n]...), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(points, signed, 0o600); err != nil {
			t.Fatal(err)
		}
		before := verify(t, cfg.Dir, Options{})
		if !before.OK() || before.Torn != int64(n) {
			t.Fatalf("%d bytes of a line: %+v", n, before)
		}
		written(t, cfg, 1)
		var story []string
		r := verify(t, cfg.Dir, Options{Each: func(e Entry) error { story = append(story, e.What+" "+e.Detail["aside"]); return nil }})
		aside := fmt.Sprintf("%s.torn-%d", fileName(0), len(whole))
		if !r.OK() || len(story) != 10 || story[7] != EventCut+" "+aside {
			t.Fatalf("%d bytes of a line: %+v, %v", n, r, story)
		}
		if kept, err := os.ReadFile(filepath.Join(cfg.Dir, aside)); err != nil || !bytes.Equal(kept, half[:n]) {
			t.Fatalf("put aside %q, want %q: %v", kept, half[:n], err)
		}
	}
}

// The first line of a file may be torn as well.
func TestTornFirstLine(t *testing.T) {
	cfg := configIn(t.TempDir())
	cfg.FileSize = 1 // every batch begins a file
	written(t, cfg, 1)
	files, err := listFiles(cfg.Dir)
	if err != nil || len(files) < 2 {
		t.Fatal(files, err)
	}
	last := files[len(files)-1]
	for _, size := range []int64{0, 10} {
		if err := os.Truncate(last.path, size); err != nil {
			t.Fatal(err)
		}
		if err := os.Remove(filepath.Join(cfg.Dir, checkpointFile)); err != nil { // it is over the line that goes
			t.Fatal(err)
		}
		written(t, cfg, 1)
		if r := verify(t, cfg.Dir, Options{}); !r.OK() || r.Proven != r.Entries {
			t.Fatalf("cut to %d bytes: %+v", size, r)
		}
		if files, err = listFiles(cfg.Dir); err != nil {
			t.Fatal(err)
		}
		last = files[len(files)-1]
	}
}

// A disk that is full ends nothing: what fits is written, the rest is counted,
// and when there is room again the chain says how much is missing.
func TestFullDisk(t *testing.T) {
	dir := t.TempDir()
	cfg := configIn(dir)
	if err := os.Mkdir(cfg.Dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("tmpfs", cfg.Dir, "tmpfs", 0, "size=256k"); err != nil {
		t.Fatalf("needs root, for a small file system: %v", err)
	}
	t.Cleanup(func() { _ = unix.Unmount(cfg.Dir, unix.MNT_DETACH) })
	l, stop := running(t, cfg)
	within(t, "the disk to be full", func() bool {
		l.Record(numbered(1))
		return l.Status().Error != ""
	})
	if s := l.Status(); !strings.Contains(s.Error, "no space") {
		t.Errorf("the status says %q", s.Error)
	}
	const sent = 2 * queueSize
	for i := range sent {
		l.Record(numbered(i)) // returns
	}
	lost := l.Status().Lost
	if lost == 0 || lost > sent {
		t.Errorf("%d of %d lost", lost, sent)
	}
	if r := verify(t, cfg.Dir, Options{}); !r.OK() {
		t.Errorf("the log on the full disk: %v", r.Faults)
	}
	if err := unix.Mount("tmpfs", cfg.Dir, "tmpfs", unix.MS_REMOUNT, "size=64m"); err != nil {
		t.Fatal(err)
	}
	within(t, "the disk to be written again", func() bool { s := l.Status(); return s.Error == "" && s.Queued == 0 })
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	told := "0"
	r := verify(t, cfg.Dir, Options{Each: func(e Entry) error {
		if e.What == EventLost {
			told = e.Detail["events"]
		}
		return nil
	}})
	if !r.OK() || r.Proven != r.Entries || told != fmt.Sprint(lost) {
		t.Errorf("%+v; the chain says %s were lost, %d were", r, told, lost)
	}
}

// A directory that cannot be had does not hold anybody up either, and is used
// when it can.
func TestDirectoryThatCannotBeHad(t *testing.T) {
	cfg := configIn(t.TempDir())
	if err := os.WriteFile(cfg.Dir, []byte("in the way"), 0o600); err != nil {
		t.Fatal(err)
	}
	l, stop := running(t, cfg)
	l.Record(numbered(1))
	within(t, "the error to be shown", func() bool { return l.Status().Error != "" })
	if err := os.Remove(cfg.Dir); err != nil {
		t.Fatal(err)
	}
	within(t, "the event to be written", func() bool { s := l.Status(); return s.Error == "" && s.Entries == 2 })
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	if r := verify(t, cfg.Dir, Options{}); !r.OK() || r.Entries != 2 {
		t.Errorf("%+v", r)
	}
}

// Who changes the log beside the controller that writes it is found out at
// once, and the chain says so.
func TestChangedWhileWritten(t *testing.T) {
	for name, change := range map[string]func(path string) error{
		"removed":   os.Remove,
		"cut":       func(path string) error { return os.Truncate(path, 1000) },
		"continued": func(path string) error { return appendTo(path, "{}\n") },
		"replaced": func(path string) error {
			raw, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			if err := os.Remove(path); err != nil {
				return err
			}
			return os.WriteFile(path, bytes.Replace(raw, []byte("10.0.0.1"), []byte("10.0.0.2"), 1), 0o600)
		},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := configIn(t.TempDir())
			l, stop := running(t, cfg)
			for i := range 10 {
				l.Record(numbered(i))
			}
			within(t, "ten events", func() bool { return l.Status().Entries == 11 })
			if err := change(filepath.Join(cfg.Dir, fileName(0))); err != nil {
				t.Fatal(err)
			}
			l.Record(numbered(10))
			if err := stop(); err != nil {
				t.Fatal(err)
			}
			damaged := 0
			r := verify(t, cfg.Dir, Options{Each: func(e Entry) error {
				if e.What == EventDamaged {
					damaged++
				}
				return nil
			}})
			if damaged == 0 {
				t.Error("the chain does not say so")
			}
			if r.OK() {
				t.Errorf("%+v", r)
			}
		})
	}
}

func appendTo(path, text string) error {
	f, err := os.OpenFile(path, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = f.WriteString(text)
	return err
}

// Two controllers do not write to one directory.
func TestOneWriterAtATime(t *testing.T) {
	cfg := configIn(t.TempDir())
	first, stop := running(t, cfg)
	first.Record(numbered(1))
	within(t, "the first one's entry", func() bool { return first.Status().Entries == 2 })
	second, stopSecond := running(t, cfg)
	within(t, "the second one to say so", func() bool { return strings.Contains(second.Status().Error, "another platelet") })
	second.Record(numbered(2))
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	within(t, "the second one's entry", func() bool { return second.Status().Entries == 4 }) // and one about the first, which said no goodbye
	if err := stopSecond(); err != nil {
		t.Fatal(err)
	}
	if r := verify(t, cfg.Dir, Options{}); !r.OK() || r.Entries != 4 {
		t.Errorf("%+v", r)
	}
}

// A key that is lost is replaced; the old checkpoints still count, and the chain
// says that another one signs.
func TestLostKey(t *testing.T) {
	cfg := configIn(t.TempDir())
	written(t, cfg, 3)
	if err := os.Remove(cfg.Key); err != nil {
		t.Fatal(err)
	}
	written(t, cfg, 3)
	said := false
	r := verify(t, cfg.Dir, Options{Each: func(e Entry) error { said = said || e.What == EventKey; return nil }})
	if !r.OK() || !said || len(r.Keys) != 2 || r.Proven != r.Entries {
		t.Errorf("said %v: %+v", said, r)
	}
}

// A log that was cut behind the controller's back, to where its chain and its
// file end well, is found at the next start, by the checkpoints.
func TestCutWhileStopped(t *testing.T) {
	cfg := configIn(t.TempDir())
	written(t, cfg, 5)
	path := filepath.Join(cfg.Dir, fileName(0))
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, bytes.Join(lines(raw)[:4], nil), 0o600); err != nil {
		t.Fatal(err)
	}
	written(t, cfg, 5)
	var why []string
	r := verify(t, cfg.Dir, Options{Each: func(e Entry) error {
		if e.What == EventDamaged {
			why = append(why, e.Why)
		}
		return nil
	}})
	if r.OK() || len(why) != 1 || !strings.Contains(why[0], "7 entries were signed, but only 4 are here") {
		t.Errorf("%v: %+v", why, r)
	}
}

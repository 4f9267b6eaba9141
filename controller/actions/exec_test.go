package actions

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/platelet-sdn/platelet/controller/response/playbook"
)

// script writes a command; it says what it was given.
func script(t *testing.T, text string) map[string]Command {
	t.Helper()
	name := filepath.Join(t.TempDir(), "script")
	if err := os.WriteFile(name, []byte("#!/bin/sh\n"+text), 0o755); err != nil {
		t.Fatal(err)
	}
	return map[string]Command{"c": {Path: name}}
}

func TestExecTakesArgumentsAsTheyAre(t *testing.T) {
	t.Setenv("SECRET", "hush")
	commands := script(t, `for a; do echo "<$a>"; done; cat; env`)
	out, err := New(commands).Do(t.Context(), call(playbook.Exec{Command: "c", Args: []string{"a b", "$(id); `id`", "--x=*"}, Stdin: "in\n"}))
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"<a b>", "<$(id); `id`>", "<--x=*>", "\nin\n", "PLATELET_KEY=r-1-step"} {
		if !strings.Contains(out, want) {
			t.Errorf("%q is missing in %s", want, out)
		}
	}
	if strings.Contains(out, "hush") {
		t.Error("our environment was passed on")
	}
}

func TestExecFails(t *testing.T) {
	if _, err := New(script(t, "echo no; exit 3")).Do(t.Context(), call(playbook.Exec{Command: "c"})); err == nil || permanent(err) || !strings.Contains(err.Error(), "exit status 3: no") {
		t.Errorf("exit code 3: %v", err)
	}
	if _, err := New(nil).Do(t.Context(), call(playbook.Exec{Command: "c"})); !permanent(err) {
		t.Errorf("not on the list: %v", err)
	}
	commands := script(t, "")
	if err := os.Chmod(commands["c"].Path, 0o777); err != nil {
		t.Fatal(err)
	}
	if _, err := New(commands).Do(t.Context(), call(playbook.Exec{Command: "c"})); !permanent(err) {
		t.Errorf("anybody may write it: %v", err)
	}
	if _, err := New(map[string]Command{"c": {Path: "/nosuch"}}).Do(t.Context(), call(playbook.Exec{Command: "c"})); !permanent(err) {
		t.Errorf("not there: %v", err)
	}
	if out, err := New(script(t, "yes | head -c 1000000")).Do(t.Context(), call(playbook.Exec{Command: "c"})); err != nil || len(out) > maxOutput {
		t.Errorf("%d bytes of output: %v", len(out), err)
	}
}

// Its time over, a command ends with everything that it started.
func TestExecLeavesNothingBehind(t *testing.T) {
	for name, text := range map[string]string{
		"time is up":   "sleep 1000 & echo $! > %; exec sleep 1000",
		"left running": "sleep 1000 & echo $! > %",
	} {
		t.Run(name, func(t *testing.T) {
			pid := filepath.Join(t.TempDir(), "pid")
			ctx, cancel := context.WithCancel(t.Context())
			go func() { // when it has begun
				for ctx.Err() == nil {
					if raw, err := os.ReadFile(pid); err == nil && len(raw) > 1 && name == "time is up" {
						cancel()
					}
					time.Sleep(time.Millisecond)
				}
			}()
			_, err := New(script(t, strings.ReplaceAll(text, "%", pid))).Do(ctx, call(playbook.Exec{Command: "c"}))
			cancel()
			if (err != nil) != (name == "time is up") {
				t.Errorf("%v", err)
			}
			raw, err := os.ReadFile(pid)
			if err != nil {
				t.Fatal(err)
			}
			child := filepath.Join("/proc", strings.TrimSpace(string(raw)), "stat")
			for late := time.Now().Add(20 * time.Second); ; time.Sleep(time.Millisecond) {
				stat, err := os.ReadFile(child)
				if err != nil || strings.Contains(string(stat), ") Z ") { // gone, or only not yet buried
					return
				}
				if time.Now().After(late) {
					t.Fatalf("still there: %s", stat)
				}
			}
		})
	}
}

func TestExecAsAnotherUser(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("only root may become somebody else")
	}
	dir, err := os.MkdirTemp("", "plx")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	name := filepath.Join(dir, "c")
	if err := os.WriteFile(name, []byte("#!/bin/sh\nid -un; id -G\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	out, err := New(map[string]Command{"c": {Path: name, User: "nobody"}}).Do(t.Context(), call(playbook.Exec{Command: "c"}))
	if err != nil || !strings.HasPrefix(out, "nobody\n") || strings.Contains(out, "\n0") {
		t.Errorf("%q, %v", out, err)
	}
	if _, err := New(map[string]Command{"c": {Path: name, User: "no such user"}}).Do(t.Context(), call(playbook.Exec{Command: "c"})); !permanent(err) {
		t.Errorf("no such user: %v", err)
	}
}

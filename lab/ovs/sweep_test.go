package ovs

import (
	"os"
	"os/exec"
	"strconv"
	"syscall"
	"testing"
)

// What carries the mark of a run that is over is ended, and nothing else.
func TestSweepEndsWhatWasLeft(t *testing.T) {
	gone := exec.Command("true")
	if err := gone.Run(); err != nil {
		t.Fatal(err)
	}
	start := func(starter int) *exec.Cmd {
		cmd := exec.Command("sleep", "60")
		cmd.Env = append(os.Environ(), isolatedEnv+"="+strconv.Itoa(starter))
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		return cmd
	}
	left, other := start(gone.Process.Pid), start(os.Getpid())
	defer func() { _ = other.Process.Kill(); _ = other.Wait() }()
	sweep(gone.Process.Pid)
	if err := left.Wait(); err == nil || err.Error() != "signal: killed" {
		t.Errorf("what was left: %v", err)
	}
	if err := other.Process.Signal(syscall.Signal(0)); err != nil {
		t.Errorf("another run's process: %v", err)
	}
}

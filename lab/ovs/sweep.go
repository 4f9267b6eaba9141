package ovs

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
)

// sweep ends what isolated tests left running: daemons of tests that were
// interrupted, or that went into the background by themselves. All that a run
// started carries the mark of its starter in its environment; mine are those
// of this starter, which has ended its run, and those of starters that are no
// more.
func sweep(mine int) {
	files, err := filepath.Glob("/proc/[0-9]*/environ")
	if err != nil {
		return // never: the pattern is well-formed
	}
	for _, f := range files {
		environ, err := os.ReadFile(f)
		if err != nil {
			continue // it has ended meanwhile, or is not ours to look at
		}
		starter, ok := starterOf(environ)
		if !ok || starter != mine && syscall.Kill(starter, 0) != syscall.ESRCH {
			continue
		}
		pid, err := strconv.Atoi(filepath.Base(filepath.Dir(f)))
		if err != nil || pid == os.Getpid() {
			continue
		}
		if err := syscall.Kill(pid, syscall.SIGKILL); err == nil {
			fmt.Fprintf(os.Stderr, "isolate: process %d was left running, and is ended\n", pid)
		}
	}
}

// starterOf reads the mark in a process's environment.
func starterOf(environ []byte) (int, bool) {
	for v := range bytes.SplitSeq(environ, []byte{0}) {
		if id, ok := bytes.CutPrefix(v, []byte(isolatedEnv+"=")); ok {
			starter, err := strconv.Atoi(string(id))
			return starter, err == nil && starter > 0
		}
	}
	return 0, false
}

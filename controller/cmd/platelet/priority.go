package main

import (
	"fmt"
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// raisePriority sets the nice value of the whole process. Under a flood every
// core is busy with the attack, and a controller that waits its turn there
// reacts tens of milliseconds late; ovs-vswitchd runs at -10 for that reason.
//
// Linux keeps the value per thread, and new threads have that of the thread
// that makes them: with all present ones set, the later ones follow.
func raisePriority(nice int) error {
	tasks, err := os.ReadDir("/proc/self/task")
	if err != nil {
		return fmt.Errorf("raise priority: %w", err)
	}
	for _, t := range tasks {
		tid, err := strconv.Atoi(t.Name())
		if err != nil {
			continue
		}
		if err := unix.Setpriority(unix.PRIO_PROCESS, tid, nice); err != nil {
			return fmt.Errorf("raise priority to nice %d: %w", nice, err)
		}
	}
	return nil
}

package measure

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"syscall"
	"time"
)

// Process is a controller that runs as a process of its own, as it does in
// production, so that it is measured with everything that costs it there.
type Process struct {
	cmd    *exec.Cmd
	log    string
	exited chan struct{}
	err    error // valid after exited
}

// stopPatience is how long a process may take to end in order.
const stopPatience = 10 * time.Second

// StartProcess starts a program whose output goes to a log file.
func StartProcess(log string, program string, args ...string) (*Process, error) {
	out, err := os.Create(log)
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", program, err)
	}
	defer out.Close()
	cmd := exec.Command(program, args...)
	cmd.Stdout, cmd.Stderr = out, out
	// An interrupt at the terminal is for us; we end it in order. A
	// controller must not outlive a measurement that was killed, either.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGTERM}
	p := &Process{cmd: cmd, log: log, exited: make(chan struct{})}
	started := make(chan error, 1)
	go p.run(started)
	if err := <-started; err != nil {
		return nil, fmt.Errorf("start %s: %w", program, err)
	}
	return p, nil
}

// run starts the process and waits for its end on one thread, because the
// kernel takes the end of the starting thread for the parent's.
func (p *Process) run(started chan<- error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if err := p.cmd.Start(); err != nil {
		started <- err
		return
	}
	started <- nil
	p.err = p.cmd.Wait()
	close(p.exited)
}

// Ready waits until check succeeds. It fails at once, with the end of the
// log, when the process has ended instead.
func (p *Process) Ready(ctx context.Context, check func(context.Context) error) error {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		err := check(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-p.exited:
			return fmt.Errorf("%s ended: %w\n%s", p.cmd.Path, p.err, p.tail())
		case <-ctx.Done():
			return fmt.Errorf("wait for %s: %w (last: %w)\n%s", p.cmd.Path, ctx.Err(), err, p.tail())
		case <-tick.C:
		}
	}
}

// Stop asks the process to end, and ends it after 10 s.
func (p *Process) Stop() error {
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("stop %s: %w", p.cmd.Path, err)
	}
	late := time.AfterFunc(stopPatience, func() { _ = p.cmd.Process.Kill() })
	defer late.Stop()
	<-p.exited
	if p.err != nil {
		return fmt.Errorf("%s: %w\n%s", p.cmd.Path, p.err, p.tail())
	}
	return nil
}

// Alive is nil while the process runs; after its end it tells how it ended,
// with the end of the log.
func (p *Process) Alive() error {
	select {
	case <-p.exited:
	default:
		return nil
	}
	if p.err != nil {
		return fmt.Errorf("%s ended: %w\n%s", p.cmd.Path, p.err, p.tail())
	}
	return fmt.Errorf("%s ended without being asked to\n%s", p.cmd.Path, p.tail())
}

// Pid is the process's number.
func (p *Process) Pid() int { return p.cmd.Process.Pid }

// tail is the end of the log.
func (p *Process) tail() string {
	data, err := os.ReadFile(p.log)
	if err != nil {
		return err.Error()
	}
	lines := strings.Split(strings.TrimSpace(string(data)), "\n")
	return strings.Join(lines[max(0, len(lines)-20):], "\n")
}

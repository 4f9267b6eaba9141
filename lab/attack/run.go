package attack

import (
	"bytes"
	"context"
	"fmt"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/platelet-sdn/platelet/lab/agent"
	"github.com/platelet-sdn/platelet/lab/namespace"
	"github.com/platelet-sdn/platelet/lab/runner"
)

// hardLimit ends a tool even when we crash: nobody wants a flood to outlive
// its measurement.
const hardLimit = 30 * time.Second

// Running is an attack under way.
type Running struct {
	cancel context.CancelFunc
	done   chan struct{}
	err    error // valid after done
	// budget counts what agents of ours send; nil where a tool runs.
	budget *agent.Budget
}

// Start starts the attack. A tool that comes to its end is started again,
// until Stop, the end of the context or of the time it is given, unless the
// settings say once.
func (a Attack) Start(ctx context.Context, lab *runner.Lab, r Roles, set Settings) (*Running, error) {
	set = set.withDefaults()
	if a.play != nil {
		return a.startPlay(ctx, lab, r, set)
	}
	if _, err := exec.LookPath(a.program); err != nil {
		return nil, fmt.Errorf("attack %s: %w (scripts/install-deps.sh installs it)", a.Name, err)
	}
	ctx, cancel := context.WithTimeout(ctx, min(set.For, hardLimit))
	run := &Running{cancel: cancel, done: make(chan struct{})}
	first, err := a.launch(lab, r)
	if err != nil {
		cancel()
		return nil, err
	}
	go run.keep(ctx, a, lab, r, set, first)
	return run, nil
}

// tool is one start of the program.
type tool struct {
	cmd    *namespace.Cmd
	out    *bytes.Buffer
	exited chan error
}

func (a Attack) launch(lab *runner.Lab, r Roles) (*tool, error) {
	limit := strconv.Itoa(int(hardLimit / time.Second))
	args := []string{"--foreground", "-s", "KILL", limit, a.program}
	for _, arg := range a.args {
		args = append(args, strings.ReplaceAll(arg, "TARGET", a.target(r)))
	}
	cmd, err := lab.Command(context.Background(), r.Attacker, "timeout", args...)
	if err != nil {
		return nil, fmt.Errorf("attack %s: %w", a.Name, err)
	}
	t := &tool{cmd: cmd, out: &bytes.Buffer{}, exited: make(chan error, 1)}
	cmd.Stdout, cmd.Stderr = t.out, t.out
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // so that all of it can be ended
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("attack %s: %w", a.Name, err)
	}
	go func() { t.exited <- cmd.Wait() }()
	return t, nil
}

// keep keeps the attack going.
func (run *Running) keep(ctx context.Context, a Attack, lab *runner.Lab, r Roles, set Settings, t *tool) {
	defer close(run.done)
	defer run.cancel()
	for {
		select {
		case <-ctx.Done():
			_ = syscall.Kill(-t.cmd.Process.Pid, syscall.SIGKILL)
			<-t.exited
			return
		case err := <-t.exited:
			if err != nil {
				run.err = fmt.Errorf("attack %s: %w: %s", a.Name, err, strings.TrimSpace(t.out.String()))
				return
			}
			if set.Once {
				return
			}
		}
		next, err := a.launch(lab, r)
		if err != nil {
			run.err = err
			return
		}
		t = next
	}
}

// Stop ends the attack and reports what went wrong with it. It returns when
// no more packets can leave.
func (run *Running) Stop() error {
	run.cancel()
	<-run.done
	return run.err
}

// Done is closed when the attack has ended, by itself or by Stop.
func (run *Running) Done() <-chan struct{} { return run.done }

// Spent is what agents of ours have sent in raw frames so far; zero for tools
// and for attacks that use the kernel's sockets.
func (run *Running) Spent() agent.Spent {
	if run.budget == nil {
		return agent.Spent{}
	}
	return run.budget.Spent()
}

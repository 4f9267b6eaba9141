package actions

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/platelet-sdn/platelet/controller/response/playbook"
	"github.com/platelet-sdn/platelet/controller/response/run"
)

const (
	maxOutput = 4 << 10
	// reapTime is how long after the end of a command its output is still
	// waited for.
	reapTime = 2 * time.Second
)

// exec runs a command of the list, and nothing that it started outlives it.
func (a *Actions) exec(ctx context.Context, c run.Call, e playbook.Exec) (string, error) {
	command, ok := a.commands[e.Command]
	if !ok {
		return "", run.Permanent(fmt.Errorf("command %q is not on the list", e.Command))
	}
	if err := trustworthy(command.Path); err != nil {
		return "", run.Permanent(err)
	}
	attr, err := attributes(command.User)
	if err != nil {
		return "", run.Permanent(err)
	}
	cmd := exec.CommandContext(ctx, command.Path, e.Args...)
	cmd.Dir, cmd.SysProcAttr, cmd.WaitDelay = "/", attr, reapTime
	cmd.Env = []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LANG=C.UTF-8",
		"PLATELET_RUN=" + c.Facts.Run, "PLATELET_KEY=" + c.Key, "PLATELET_ATTEMPT=" + strconv.Itoa(c.Attempt)}
	cmd.Stdin = strings.NewReader(e.Stdin)
	var out head4k
	cmd.Stdout, cmd.Stderr = &out, &out
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	if err := cmd.Start(); err != nil {
		return "", run.Permanent(fmt.Errorf("start %s: %w", e.Command, err))
	}
	err = cmd.Wait()
	_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) // whatever it left behind; usually nothing
	switch {
	case ctx.Err() != nil:
		return "", fmt.Errorf("%s was killed: %w", e.Command, context.Cause(ctx))
	case errors.Is(err, exec.ErrWaitDelay): // it succeeded, but its children kept the output
		return out.String(), nil
	case err != nil:
		return "", fmt.Errorf("%s: %w: %s", e.Command, err, out.String())
	}
	return out.String(), nil
}

// trustworthy refuses a command that others than root or ourselves could have
// changed.
func trustworthy(path string) error {
	info, err := os.Stat(path)
	if err != nil {
		return fmt.Errorf("command: %w", err)
	}
	owner, ok := info.Sys().(*syscall.Stat_t)
	if !ok || owner.Uid != 0 && int(owner.Uid) != os.Getuid() || !info.Mode().IsRegular() || info.Mode().Perm()&0o022 != 0 {
		return fmt.Errorf("command %s: is not a file that only root, or we ourselves, can write", path)
	}
	return nil
}

// attributes put a command into a process group of its own.
func attributes(name string) (*syscall.SysProcAttr, error) {
	attr := &syscall.SysProcAttr{Setpgid: true}
	if name == "" {
		return attr, nil
	}
	u, err := user.Lookup(name)
	if err != nil {
		return nil, fmt.Errorf("user of the command: %w", err)
	}
	uid, err := strconv.ParseUint(u.Uid, 10, 32)
	if err != nil {
		return nil, fmt.Errorf("user of the command: %w", err)
	}
	gid, err := strconv.ParseUint(u.Gid, 10, 32)
	if err != nil {
		return nil, fmt.Errorf("user of the command: %w", err)
	}
	attr.Credential = &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
	return attr, nil
}

// head4k keeps the beginning of an output and lets the rest go.
type head4k struct{ b []byte }

func (h *head4k) Write(p []byte) (int, error) {
	h.b = append(h.b, p[:min(len(p), maxOutput-len(h.b))]...)
	return len(p), nil
}

func (h *head4k) String() string {
	return strings.ToValidUTF8(strings.TrimSpace(string(h.b)), "?")
}

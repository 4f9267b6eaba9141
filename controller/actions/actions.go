// Package actions carries out the actions of playbooks: it has the sockets and
// the processes that the language and its executor do without.
package actions

import (
	"context"
	"fmt"
	"runtime/debug"
	"strings"

	"github.com/platelet-sdn/platelet/controller/response/playbook"
	"github.com/platelet-sdn/platelet/controller/response/run"
)

// Command is one that playbooks may run.
type Command struct {
	Path string // absolute; of a file that only root, or we ourselves, can write
	User string // runs it; empty for our own
}

// Actions implements run.Doer.
type Actions struct {
	commands map[string]Command
	version  string
}

// New returns the actions with the commands that exec may run, by name.
func New(commands map[string]Command) *Actions {
	version := "devel"
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" {
		version = info.Main.Version
	}
	return &Actions{commands: commands, version: version}
}

// Do implements run.Doer.
func (a *Actions) Do(ctx context.Context, c run.Call) (string, error) {
	switch args := c.Args.(type) {
	case playbook.Webhook:
		return webhook(ctx, c.Key, args)
	case playbook.Exec:
		return a.exec(ctx, c, args)
	case playbook.Notify:
		return a.notify(ctx, c, args)
	case playbook.Intel:
		return intel(c, args)
	case playbook.Docker:
		return redeploy(ctx, c.Key, args)
	}
	return "", run.Permanent(fmt.Errorf("there is no action with arguments %T", c.Args))
}

func (a *Actions) notify(ctx context.Context, c run.Call, n playbook.Notify) (string, error) {
	var said []string
	if n.Syslog != nil {
		if err := a.syslog(ctx, c, *n.Syslog); err != nil {
			return "", fmt.Errorf("syslog: %w", err)
		}
		said = append(said, "sent to "+n.Syslog.To)
	}
	if n.Email != nil {
		if err := email(ctx, c, *n.Email); err != nil {
			return "", fmt.Errorf("e-mail: %w", err)
		}
		said = append(said, fmt.Sprintf("%s took the mail for %d", n.Email.Server, len(n.Email.To)))
	}
	return strings.Join(said, ", "), nil
}

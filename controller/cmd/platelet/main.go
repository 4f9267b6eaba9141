// Platelet is a self-healing network controller for Open vSwitch and OVN.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	_ "time/tzdata" // of maintenance windows, on machines without
	_ "time/tzdata" // playbooks and exemptions name time zones, also where none are installed

	"github.com/spf13/cobra"

	"github.com/platelet-sdn/platelet/lab/ipcmd"
	"github.com/platelet-sdn/platelet/segmentation/strictyaml"
)

func main() {
	// In an image built from scratch we are also ip and sysctl.
	if code, ok := ipcmd.Applet(os.Args, os.Stdout, os.Stderr); ok {
		os.Exit(code)
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	err := root().ExecuteContext(ctx)
	if err == nil {
		return
	}
	fmt.Fprintln(os.Stderr, err)
	os.Exit(exitCode(err))
}

// exitError carries the exit code of a command that ran elsewhere.
type exitError struct {
	code int
	err  error
}

func (e *exitError) Error() string { return e.err.Error() }
func (e *exitError) Unwrap() error { return e.err }

// exitCode is 2 for bad input, 1 for everything else that failed.
func exitCode(err error) int {
	var bad strictyaml.Errors
	var one *strictyaml.Error
	var exit *exitError
	switch {
	case errors.As(err, &exit):
		return exit.code
	case errors.As(err, &bad), errors.As(err, &one):
		return 2
	}
	return 1
}

func root() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "platelet",
		Short: "See an attack, seal exactly the wound, prove it, and let go when it has healed",
		Long: `Platelet is a self-healing network controller for Open vSwitch and OVN: it
notices an attack within milliseconds, contains it where it enters, proves that
the containment holds and hurts nobody else, and lets go when it is over.`,
		SilenceErrors: true,
		SilenceUsage:  true,
	}
	cmd.AddCommand(runCommand(), cleanCommand(), checkCommand(), replayCommand(), playbookCommand(), policyCommand(), evaluateCommand(), trainCommand(), modelCommand(), learnCommand(), auditCommand(), labCommand())
	addClientCommands(cmd)
	cmd.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error { // of all of them
		return usage("%s: %w; see %s --help", cmd.CommandPath(), err, cmd.CommandPath())
	})
	sayHow(cmd)
	return cmd
}

// sayHow has what is wrong with the arguments of a command, and of those under it,
// said with the command's name and how it is used.
func sayHow(cmd *cobra.Command) {
	if check := cmd.Args; check != nil {
		cmd.Args = func(cmd *cobra.Command, args []string) error {
			if err := check(cmd, args); err != nil {
				return usage("%s: %v; usage: %s", cmd.CommandPath(), err, cmd.UseLine())
			}
			return nil
		}
	}
	if cmd.HasParent() && cmd.HasSubCommands() && !cmd.Runnable() { // else an unknown word gives the help, and success
		cmd.RunE = func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return cmd.Help()
			}
			near := ""
			if list := cmd.SuggestionsFor(args[0]); len(list) > 0 {
				near = fmt.Sprintf(" (did you mean %q?)", list[0])
			}
			return usage("%s: there is no command %q%s; see %s --help", cmd.CommandPath(), args[0], near, cmd.CommandPath())
		}
	}
	for _, sub := range cmd.Commands() {
		sayHow(sub)
	}
}

// usage marks a mistake on the command line: exit code 2.
func usage(format string, args ...any) error {
	return &exitError{code: 2, err: fmt.Errorf(format, args...)}
}

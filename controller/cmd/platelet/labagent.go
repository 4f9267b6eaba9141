package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/platelet-sdn/platelet/lab/agent"
	"github.com/platelet-sdn/platelet/lab/attack"
	"github.com/platelet-sdn/platelet/lab/runner"
)

// labAgent is what runs inside nodes of a lab.
func labAgent(o *runner.Options) *cobra.Command {
	cmd := &cobra.Command{Use: "agent", Short: "What runs inside a lab's nodes"}
	cmd.AddCommand(agentIdle(), agentAttack(o))
	return cmd
}

func agentIdle() *cobra.Command {
	return &cobra.Command{Use: "idle", Short: "Keep a node up until told to end; for a container's first process", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return idle(cmd.Context()) }}
}

// idle waits for the end. As a container's first process it inherits every
// orphan, and takes in those that ended: nobody else would.
func idle(ctx context.Context) error {
	ended := make(chan os.Signal, 1)
	signal.Notify(ended, syscall.SIGCHLD)
	defer signal.Stop(ended)
	for {
		if err := reap(); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return nil
		case <-ended:
		}
	}
}

// reap takes in all children that have ended.
func reap() error {
	for {
		var status syscall.WaitStatus
		pid, err := syscall.Wait4(-1, &status, syscall.WNOHANG, nil)
		switch {
		case errors.Is(err, syscall.EINTR):
		case errors.Is(err, syscall.ECHILD), err == nil && pid == 0:
			return nil
		case err != nil:
			return fmt.Errorf("agent: wait for children: %w", err)
		}
	}
}

func agentAttack(o *runner.Options) *cobra.Command {
	var f attackFlags
	var iface string
	var to, nets []string
	cmd := &cobra.Command{
		Use: "attack ATTACK --iface IFACE --to ADDR...", Short: "Attack from the node that this runs in, and nowhere else", Args: cobra.ExactArgs(1),
		Long: `Plays one attack from the node that this runs in: a node of a running lab
(platelet lab exec NODE -- platelet lab agent attack ...), or a container of
containerlab's that runs Platelet's image. Everywhere else it refuses.`,
		RunE: func(cmd *cobra.Command, args []string) error {
			all, err := f.find(args[0])
			if err != nil {
				return err
			}
			if len(all) != 1 {
				return usage("lab agent attack: name one attack")
			}
			addrs, err := parseAll(to, netip.ParseAddr)
			if err != nil {
				return usage("lab agent attack: --to: %v", err)
			}
			prefixes, err := parseAll(nets, netip.ParsePrefix)
			if err != nil {
				return usage("lab agent attack: --net: %v", err)
			}
			station, err := agent.Here(iface, prefixes, *o)
			if err != nil {
				return fmt.Errorf("lab agent attack: %w", err)
			}
			return f.report(cmd, func(set attack.Settings, show func(summary) error) error {
				run, err := all[0].Alone(cmd.Context(), station, addrs, set)
				if err != nil {
					return err
				}
				<-run.Done()
				err = run.Stop()
				return errors.Join(show(newSummary(all[0], station.Node, run.Spent())), err)
			})
		},
	}
	f.register(cmd)
	cmd.Flags().StringVar(&iface, "iface", "", "the interface to attack from")
	cmd.Flags().StringSliceVar(&to, "to", nil, "addresses to attack: the victim's, for ARP spoofing also the gateway's, or all to sweep")
	cmd.Flags().StringSliceVar(&nets, "net", nil, "further subnets of the lab, in a container: private ones alone")
	_ = cmd.MarkFlagRequired("iface")
	return cmd
}

// parseAll parses every text.
func parseAll[T any](texts []string, parse func(string) (T, error)) ([]T, error) {
	out := make([]T, 0, len(texts))
	for _, t := range texts {
		v, err := parse(t)
		if err != nil {
			return nil, err
		}
		out = append(out, v)
	}
	return out, nil
}

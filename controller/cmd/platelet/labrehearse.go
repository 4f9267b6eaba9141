package main

import (
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/platelet-sdn/platelet/lab/clab"
	"github.com/platelet-sdn/platelet/lab/demo"
	"github.com/platelet-sdn/platelet/lab/peer"
	"github.com/platelet-sdn/platelet/lab/runner"
)

func labDemo(o *runner.Options) *cobra.Command {
	cmd := &cobra.Command{Use: "demo TOPOLOGY", Short: "Show the loop closing: two real attacks, contained, proven and released", Args: cobra.ExactArgs(1), RunE: func(cmd *cobra.Command, args []string) error {
		t, err := clab.Load(args[0])
		if err != nil {
			return err
		}
		out := cmd.OutOrStdout()
		color := false
		if f, ok := out.(*os.File); ok {
			if st, err := f.Stat(); err == nil {
				color = st.Mode()&os.ModeCharDevice != 0
			}
		}
		return demo.Demo(cmd.Context(), demo.Config{Topology: t, Options: *o, Controller: startLabController, Out: out, Color: color, WarmUp: warmUp})
	}}
	addReconfigure(cmd, o)
	return cmd
}

// warmUp is how long honest traffic runs before the first attack: a controller
// that has just started cannot tell new clients from forged ones yet.
const warmUp = 6 * time.Second

func labBenchPeer(o *runner.Options) *cobra.Command {
	var name string
	var runs int
	cmd := &cobra.Command{Use: "bench-peer TOPOLOGY", Short: "Measure beside Debian's fastnetmon, on the same lab and attack", Args: cobra.ExactArgs(1), RunE: func(cmd *cobra.Command, args []string) error {
		t, err := clab.Load(args[0])
		if err != nil {
			return err
		}
		r, err := peer.Compare(cmd.Context(), peer.Config{Topology: t, Options: *o, Attack: name, Runs: runs, Controller: startLabController, Log: cmd.ErrOrStderr()})
		if err != nil {
			return err
		}
		return r.Print(cmd.OutOrStdout())
	}}
	addReconfigure(cmd, o)
	cmd.Flags().StringVar(&name, "attack", "hping3-udp-flood", "the attack")
	cmd.Flags().IntVar(&runs, "runs", 5, "how often each")
	return cmd
}

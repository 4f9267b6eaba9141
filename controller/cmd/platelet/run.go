package main

import (
	"os"
	"os/signal"
	"runtime"
	"syscall"

	"github.com/sirupsen/logrus"
	"github.com/spf13/cobra"

	"github.com/platelet-sdn/platelet/controller"
)

const (
	// receivers is the number of receiving threads: one for sFlow, one for
	// IPFIX.
	receivers = 2
	// flushers is the number of threads that wait for the disk: one for the
	// state, one for the audit log.
	flushers = 2
)

func runCommand() *cobra.Command {
	var file, level string
	var readOnly, takeOver, jsonLog bool
	var nice int
	cmd := &cobra.Command{
		Use:   "run",
		Short: "Run the controller",
		Long: `Run the controller. Without a configuration file it attaches to the local Open
vSwitch, sets telemetry up (restored at exit), observes, and says what it would
do. With --read-only it changes nothing on the switch and uses what that
exports already.

One Platelet at a time holds a bridge. Where another does, this one says who and
waits, until that one ends or is gone; with --take-over it takes the bridges at
once, and the switch refuses whatever the other still sends. Containments of the
other stay for their TTL.

At SIGHUP the files of playbooks are read again, as they are when they change.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := configured(file)
			if err != nil {
				return err
			}
			log := logrus.New()
			log.SetOutput(cmd.ErrOrStderr())
			lvl, err := logrus.ParseLevel(level)
			if err != nil {
				return usage("run: %v", err)
			}
			log.SetLevel(lvl)
			if jsonLog {
				log.SetFormatter(&logrus.JSONFormatter{TimestampFormat: "2006-01-02T15:04:05.000000Z07:00"})
			} else {
				log.SetFormatter(&logrus.TextFormatter{FullTimestamp: true, TimestampFormat: "15:04:05.000"})
			}
			if err := raisePriority(nice); err != nil {
				log.WithError(err).Warn("reactions may be late while the machine is busy")
			}
			// A thread in a system call keeps its processor, as the Go runtime
			// counts them, for up to 10 ms; with one to spare for each that
			// receives or flushes, a decision never waits for it.
			runtime.GOMAXPROCS(runtime.NumCPU() + receivers + flushers)
			reload := make(chan os.Signal, 1)
			signal.Notify(reload, syscall.SIGHUP)
			defer signal.Stop(reload)
			c, err := controller.New(cfg, controller.Options{ReadOnly: readOnly, TakeOver: takeOver, Reload: reload, Log: log})
			if err != nil {
				return err
			}
			return c.Run(cmd.Context())
		},
	}
	cmd.Flags().StringVarP(&file, "config", "c", "", "configuration file")
	cmd.Flags().BoolVar(&readOnly, "read-only", false, "change nothing on the switch")
	cmd.Flags().BoolVar(&takeOver, "take-over", false, "take bridges from another Platelet that holds them")
	cmd.Flags().IntVar(&nice, "nice", -10, "scheduling priority, -20 (most urgent) to 19; -10 is that of ovs-vswitchd")
	cmd.Flags().StringVar(&level, "log-level", "info", "debug, info, warn or error")
	cmd.Flags().BoolVar(&jsonLog, "log-json", false, "log one JSON object a line")
	return cmd
}

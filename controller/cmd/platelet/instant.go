package main

import (
	"errors"
	"time"

	"github.com/spf13/cobra"
)

// instant is a time that a flag names; zero if it does not.
type instant struct{ time.Time }

// atFlag adds the flag for the time at which something is judged.
func atFlag(cmd *cobra.Command, at *instant, usage string) {
	cmd.Flags().Var(at, "at", usage)
}

// or is the time, or another one if none was named.
func (i *instant) or(other time.Time) time.Time {
	if i.IsZero() {
		return other
	}
	return i.Time
}

// String implements pflag.Value.
func (i *instant) String() string {
	if i.IsZero() {
		return ""
	}
	return i.Format(time.RFC3339)
}

// Set implements pflag.Value.
func (i *instant) Set(text string) (err error) {
	if i.Time, err = time.Parse(time.RFC3339, text); err != nil {
		return errors.New("not a time as 2026-11-23T12:00:00Z is one")
	}
	return nil
}

// Type implements pflag.Value.
func (i *instant) Type() string { return "time" }

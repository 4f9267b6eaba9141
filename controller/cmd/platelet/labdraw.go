package main

import (
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"github.com/platelet-sdn/platelet/lab/clab"
	"github.com/platelet-sdn/platelet/lab/draw"
)

// labDraw draws a topology without bringing it up, so any that can be read
// can be drawn.
func labDraw() *cobra.Command {
	var file string
	cmd := &cobra.Command{
		Use: "draw TOPOLOGY", Short: "Draw a topology as a picture (SVG)", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			t, err := clab.Load(args[0])
			if err != nil {
				return err
			}
			picture := draw.SVG(t)
			if file == "" || file == "-" {
				_, err = cmd.OutOrStdout().Write(picture)
			} else {
				err = os.WriteFile(file, picture, 0o644)
			}
			if err != nil {
				return fmt.Errorf("lab draw: %w", err)
			}
			return nil
		},
	}
	cmd.Flags().StringVarP(&file, "output", "o", "", "where the picture goes; standard output when not given")
	return cmd
}

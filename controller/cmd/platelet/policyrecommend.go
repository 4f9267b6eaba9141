package main

import (
	"fmt"
	"net/netip"
	"os"

	"github.com/spf13/cobra"

	"github.com/platelet-sdn/platelet/controller/advise"
	"github.com/platelet-sdn/platelet/controller/config"
	"github.com/platelet-sdn/platelet/segmentation/recommend"
)

func policyRecommendCommand() *cobra.Command {
	var records, internal []string
	var file, inventory, to string
	var o recommend.Options
	var c clientFlags
	cmd := &cobra.Command{
		Use: "recommend", Short: "Learn a least-privilege policy from what a controller saw or from records, for review", Args: cobra.NoArgs,
		Long: `Learn a policy that allows what hosts were seen to use, and nothing else: hosts
that behave alike become a group, by their labels where the inventory has some that
explain it; each rule says in a comment how often, by whom and on how many days it
was needed. What nobody answered, what scanners and hosts with findings opened, and
what happened once is left out, and counted at the top. Everything is staged:
review it, try it with policy simulate, then enforce it.

Without --records, a running controller is asked for what it has seen (since it
was started, with policies or segmentation.observe). Records are everything that
replay reads; "-" is standard input. --records may be given several times.`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := configured(file)
			if err != nil {
				return err
			}
			for _, s := range internal {
				p, err := netip.ParsePrefix(s)
				if err != nil {
					return usage("policy recommend: --internal %q is not a CIDR", s)
				}
				o.Internal = append(o.Internal, p.Masked())
			}
			if o.MinConfidence <= 0 || o.MinConfidence >= 1 {
				return usage("policy recommend: --min-confidence %v is not between 0 and 1", o.MinConfidence)
			}
			raw, err := recommended(cmd, &c, cfg, inventory, records, o)
			if err != nil {
				return err
			}
			if to == "" {
				_, err = cmd.OutOrStdout().Write(raw)
				return err
			}
			if err := os.WriteFile(to, raw, 0o644); err != nil {
				return fmt.Errorf("policy recommend: %w", err)
			}
			return nil
		},
	}
	cmd.Flags().StringArrayVarP(&records, "records", "r", nil, "recorded telemetry")
	inventoryFlag(cmd, &inventory)
	cmd.Flags().StringArrayVar(&internal, "internal", nil, "networks that the policy is for (private and link-local ones)")
	cmd.Flags().Float64Var(&o.MinConfidence, "min-confidence", recommend.DefaultConfidence, "how certain the least certain rule must be, 0 to 1")
	cmd.Flags().StringVarP(&to, "output", "o", "", "file to write (standard output)")
	cmd.Flags().StringVarP(&file, "config", "c", "", "configuration file, for its detectors")
	c.add(cmd, false)
	return cmd
}

// recommended asks a controller, or reads records.
func recommended(cmd *cobra.Command, c *clientFlags, cfg config.File, inventory string, records []string, o recommend.Options) ([]byte, error) {
	if len(records) == 0 {
		if inventory != "" {
			return nil, usage("policy recommend: --inventory is for --records; a controller has its own")
		}
		return c.client().Recommend(cmd.Context(), o)
	}
	inv, err := readInventory(inventory)
	if err != nil {
		return nil, err
	}
	r, faults, err := advise.Recommend(cmd.Context(), cfg, inv, advise.Records{Inputs: records, Stdin: cmd.InOrStdin()}, o)
	for _, f := range faults {
		fmt.Fprintln(cmd.ErrOrStderr(), f)
	}
	if err != nil {
		return nil, err
	}
	return r.YAML()
}

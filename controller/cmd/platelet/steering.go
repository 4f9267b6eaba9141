package main

import (
	"errors"
	"net/netip"
	"time"

	"github.com/spf13/cobra"

	"github.com/platelet-sdn/platelet/controller/response"
	"github.com/platelet-sdn/platelet/detector"
)

func segmentCommand() *cobra.Command {
	var c clientFlags
	var d time.Duration
	var peer, service string
	var dry bool
	cmd := &cobra.Command{Use: "segment HOST", Short: "Keep a host from a peer or a service, and from nothing else",
		Args: cobra.ExactArgs(1), RunE: func(cmd *cobra.Command, args []string) error {
			o, err := segmentOrder(args[0], peer, service)
			if err != nil {
				return usage("segment: %v", err)
			}
			o.For = d
			return c.contain(cmd, o, dry)
		}}
	cmd.Flags().StringVar(&peer, "from", "", "address of the peer")
	cmd.Flags().StringVar(&service, "service", "", "tcp/PORT, udp/PORT or sctp/PORT")
	cmd.Flags().DurationVar(&d, "for", 10*time.Minute, "how long")
	cmd.Flags().BoolVar(&dry, "dry-run", false, "say what it would have hit in the last hour, and do nothing")
	c.add(cmd, true)
	return cmd
}

// segmentOrder reads what a host is to be kept from.
func segmentOrder(host, peer, service string) (o response.Order, err error) {
	if o.Host, err = netip.ParseAddr(host); err != nil {
		return o, err
	}
	if peer == "" && service == "" {
		return o, errors.New("needs --from, --service, or both")
	}
	if peer != "" {
		if o.Peer, err = netip.ParseAddr(peer); err != nil {
			return o, err
		}
	}
	if service == "" {
		return o, nil
	}
	var s response.Service
	err = s.UnmarshalText([]byte(service))
	o.Proto, o.Service = s.Proto, s.Port
	return o, err
}

func extendCommand() *cobra.Command {
	var c clientFlags
	var d time.Duration
	cmd := &cobra.Command{Use: "extend ID", Short: "Hold a containment for at least this much longer", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return c.client().Extend(cmd.Context(), args[0], d)
		}}
	cmd.Flags().DurationVar(&d, "for", time.Hour, "how long from now")
	c.add(cmd, false)
	return cmd
}

func exemptCommand() *cobra.Command {
	var c clientFlags
	var d time.Duration
	var kinds, services []string
	var why string
	var all, end bool
	cmd := &cobra.Command{Use: "exempt HOST", Short: "Leave a host alone for a time, and let it go if it is held",
		Long: `Leave a host alone for a time: a scanner with a licence, a machine under repair.
Say from which kinds of findings: it may be taken over, and is then still contained
for everything else. Findings about it are told as ever, and nothing is done about
those kinds. What holds it for one of them is taken off at once. An operator's own quarantine of it is still possible.`,
		Args: cobra.ExactArgs(1), RunE: func(cmd *cobra.Command, args []string) error {
			host, err := netip.ParseAddr(args[0])
			if err != nil {
				return usage("exempt: %v", err)
			}
			if end {
				return c.client().Unexempt(cmd.Context(), host)
			}
			if all != (len(kinds) == 0) {
				return usage("exempt: needs --kind, or --all")
			}
			list, about := make([]detector.Kind, len(kinds)), make([]response.Service, len(services))
			for i, k := range kinds {
				list[i] = detector.Kind(k)
			}
			for i, s := range services {
				if err := about[i].UnmarshalText([]byte(s)); err != nil {
					return usage("exempt: %v", err)
				}
			}
			return c.client().Exempt(cmd.Context(), host, list, about, d, why)
		}}
	cmd.Flags().DurationVar(&d, "for", time.Hour, "how long, at most 720h")
	cmd.Flags().StringSliceVar(&kinds, "kind", nil, "kinds of findings that it is exempt from")
	cmd.Flags().BoolVar(&all, "all", false, "exempt it from all kinds")
	cmd.Flags().StringSliceVar(&services, "service", nil, "only from findings about these services: tcp/PORT, udp/PORT or sctp/PORT")
	cmd.Flags().StringVar(&why, "why", "", "reason")
	cmd.Flags().BoolVar(&end, "end", false, "end it")
	c.add(cmd, false)
	return cmd
}

package main

import (
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/platelet-sdn/platelet/controller/response"
	"github.com/platelet-sdn/platelet/detector"
	"github.com/platelet-sdn/platelet/flowcollector/flow"
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
	name, number, _ := strings.Cut(service, "/")
	o.Proto = map[string]uint8{"tcp": flow.ProtoTCP, "udp": flow.ProtoUDP, "sctp": flow.ProtoSCTP}[name]
	port, err := strconv.ParseUint(number, 10, 16)
	if err != nil || o.Proto == 0 || port == 0 {
		return o, fmt.Errorf("service %q is not tcp/PORT, udp/PORT or sctp/PORT", service)
	}
	o.Service = uint16(port)
	return o, nil
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
	var kinds []string
	var why string
	var end bool
	cmd := &cobra.Command{Use: "exempt HOST", Short: "Leave a host alone for a time, and let it go if it is held",
		Long: `Leave a host alone for a time: a scanner with a licence, a machine under repair.
Findings about it are told as ever, and nothing is done about them. What holds it is
taken off at once. An operator's own quarantine of it is still possible.`,
		Args: cobra.ExactArgs(1), RunE: func(cmd *cobra.Command, args []string) error {
			host, err := netip.ParseAddr(args[0])
			if err != nil {
				return usage("exempt: %v", err)
			}
			if end {
				return c.client().Unexempt(cmd.Context(), host)
			}
			list := make([]detector.Kind, len(kinds))
			for i, k := range kinds {
				list[i] = detector.Kind(k)
			}
			return c.client().Exempt(cmd.Context(), host, list, d, why)
		}}
	cmd.Flags().DurationVar(&d, "for", time.Hour, "how long, at most 720h")
	cmd.Flags().StringSliceVar(&kinds, "kind", nil, "kinds of findings that it is exempt from; all without")
	cmd.Flags().StringVar(&why, "why", "", "reason")
	cmd.Flags().BoolVar(&end, "end", false, "end it")
	c.add(cmd, false)
	return cmd
}

package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/platelet-sdn/platelet/flowcollector/flow"
	"github.com/platelet-sdn/platelet/segmentation/oracle"
	"github.com/platelet-sdn/platelet/segmentation/policy"
	"github.com/platelet-sdn/platelet/segmentation/sourceguard"
)

// policyFlags are those of commands that judge policies for an inventory at a
// time.
type policyFlags struct {
	inventory, output string
	at                instant
	staged            bool
}

func (f *policyFlags) add(cmd *cobra.Command) {
	inventoryFlag(cmd, &f.inventory)
	atFlag(cmd, &f.at, "time at which it happens, RFC 3339 (now)")
	cmd.Flags().BoolVar(&f.staged, "staged", false, "take staged policies for enforced ones")
	cmd.Flags().StringVarP(&f.output, "output", "o", "text", "text or json")
}

// read reads what the flags and arguments name.
func (f *policyFlags) read(files []string) (*policy.Set, policy.Inventory, time.Time, error) {
	var inv policy.Inventory
	now := f.at.or(time.Now())
	if f.output != "text" && f.output != "json" {
		return nil, inv, now, usage("output %q is not text or json", f.output)
	}
	set, err := readPolicies(files)
	if err != nil {
		return nil, inv, now, err
	}
	if f.staged {
		enforceStaged(set)
	}
	inv, err = readInventory(f.inventory)
	return set, inv, now, err
}

func enforceStaged(set *policy.Set) {
	for i := range set.Policies {
		set.Policies[i].Mode = policy.ModeEnforce
	}
	for i := range set.SourceGuards {
		set.SourceGuards[i].Mode = policy.ModeEnforce
	}
}

func policyTraceCommand() *cobra.Command {
	var f policyFlags
	var q question
	var exit bool
	cmd := &cobra.Command{
		Use: "trace FILE...", Short: "Say whether a connection is allowed, and which rules decide", Args: cobra.MinimumNArgs(1),
		Long: `Say what becomes of a connection that --from opens to --to: allow, deny, reject or
rate-limit, and which rule decides on each side. A side without a rule is empty,
and allows. What would be different if the staged policies were enforced is told
beside ("staged").

--from and --to are addresses, or workloads of the inventory; of several
addresses every pair of one family is told, one line of JSON each. icmp between
IPv6 addresses is icmp6; without --type it is an echo request. With --enters, the
source guard of that port, as the inventory has it, is asked before all policies.

The exit code is 0 for every answer, 2 for bad input; with --exit-code it is 1
when a connection is denied or rejected.`,
		RunE: func(cmd *cobra.Command, args []string) error {
			set, inv, now, err := f.read(args)
			if err != nil {
				return err
			}
			connections, err := q.connections(inv)
			if err != nil {
				return err
			}
			o, plan := oracle.New(set, inv, now), sourceguard.Resolve(set, inv, now)
			allowed := true
			for _, c := range connections {
				v := o.Verdict(c)
				guardSource(&plan, q.enters, c, &v)
				allowed = allowed && v.Allowed()
				if err := printVerdict(cmd.OutOrStdout(), f.output, c, v); err != nil {
					return err
				}
			}
			if exit && !allowed {
				return errors.New("denied") // exit code 1
			}
			return nil
		},
	}
	f.add(cmd)
	q.add(cmd)
	cmd.Flags().BoolVar(&exit, "exit-code", false, "exit with 1 when a connection is denied or rejected")
	return cmd
}

// guardSource has the guard of a port decide before all policies.
func guardSource(plan *sourceguard.Plan, place string, c oracle.Connection, v *oracle.Verdict) {
	i := slices.IndexFunc(plan.Ports, func(p sourceguard.Port) bool { return place == p.Port || place == p.Switch+"/"+p.Port })
	if i < 0 || c.Src.IsUnspecified() || plan.Ports[i].Owns(c.Src) {
		return
	}
	p := &plan.Ports[i]
	out := oracle.Outcome{Action: policy.ActionDeny, Why: fmt.Sprintf("dropped by source guard %s at port %s/%s: %s is no address of %s", p.Guard, p.Switch, p.Port, c.Src, p.Workload)}
	if p.Enforce {
		*v = oracle.Verdict{Outcome: out}
		return
	}
	v.Staged = &out
}

// question is a connection as it is asked for.
type question struct {
	from, to, proto string
	enters          string
	port, srcPort   uint16
	icmpType, code  uint8
	flags           interface{ Changed(string) bool }
}

func (q *question) add(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.StringVar(&q.from, "from", "", "who opens it: an address or a workload")
	flags.StringVar(&q.to, "to", "", "to whom: an address or a workload")
	flags.StringVar(&q.enters, "enters", "", "switch port by which its packets come in, \"port\" or \"switch/port\", where sources may be guarded")
	flags.StringVar(&q.proto, "proto", "tcp", "tcp, udp, sctp, icmp, icmp6 or a number")
	flags.Uint16Var(&q.port, "port", 0, "port of --to, for tcp, udp and sctp")
	flags.Uint16Var(&q.srcPort, "source-port", 0, "port of --from, which tells DHCP from other datagrams (one above 49151)")
	flags.Uint8Var(&q.icmpType, "type", 0, "ICMP type")
	flags.Uint8Var(&q.code, "code", 0, "ICMP code")
	_ = cmd.MarkFlagRequired("from") // they have them
	_ = cmd.MarkFlagRequired("to")
	q.flags = flags
}

// connections are those between all addresses of one family.
func (q *question) connections(inv policy.Inventory) ([]oracle.Connection, error) {
	from, err := addressesOf("from", q.from, inv)
	if err != nil {
		return nil, err
	}
	to, err := addressesOf("to", q.to, inv)
	if err != nil {
		return nil, err
	}
	var out []oracle.Connection
	for _, src := range from {
		for _, dst := range to {
			if src.Is4() != dst.Is4() {
				continue
			}
			c, err := q.connection(src, dst)
			if err != nil {
				return nil, err
			}
			out = append(out, c)
		}
	}
	if len(out) == 0 {
		return nil, usage("%s and %s have no addresses of one family", q.from, q.to)
	}
	return out, nil
}

func (q *question) connection(src, dst netip.Addr) (oracle.Connection, error) {
	c := oracle.Connection{Src: src, Dst: dst}
	if err := c.Proto.UnmarshalText([]byte(q.proto)); err != nil || c.Proto == 0 {
		return c, usage("--proto: %q is not tcp, udp, sctp, icmp, icmp6 or a number from 1 to 255", q.proto)
	}
	if uint8(c.Proto) == flow.ProtoICMP && src.Is6() {
		c.Proto = policy.Proto(flow.ProtoICMPv6)
	}
	given := q.flags.Changed
	switch {
	case uint8(c.Proto) == flow.ProtoICMPv6 && src.Is4():
		return c, usage("--proto: icmp6 is between IPv6 addresses")
	case c.Proto.HasPorts() != given("port"):
		return c, usage("--port goes with tcp, udp and sctp, which need it")
	case !c.Proto.IsICMP() && (given("type") || given("code")):
		return c, usage("--type and --code go with icmp and icmp6")
	}
	if c.Proto.HasPorts() {
		c.DstPort, c.SrcPort = q.port, 1<<16-1
		if given("source-port") {
			c.SrcPort = q.srcPort
		}
	}
	if c.Proto.IsICMP() {
		c.Type, c.Code = q.icmpType, q.code
		if !given("type") { // echo request
			c.Type = 8
			if src.Is6() {
				c.Type = 128
			}
		}
	}
	return c, nil
}

// addressesOf reads an address, or takes those of a workload.
func addressesOf(flag, text string, inv policy.Inventory) ([]netip.Addr, error) {
	if a, err := netip.ParseAddr(text); err == nil && a.Zone() == "" {
		return []netip.Addr{a.Unmap()}, nil
	}
	i := slices.IndexFunc(inv.Workloads, func(w policy.Workload) bool { return w.Name == text })
	switch {
	case i < 0:
		return nil, usage("--%s: %q is neither an address nor a workload of the inventory", flag, text)
	case len(inv.Workloads[i].Addrs) == 0:
		return nil, usage("--%s: workload %s has no address", flag, text)
	}
	return inv.Workloads[i].Addrs, nil
}

// asked is a connection in JSON.
type asked struct {
	From netip.Addr   `json:"from"`
	To   netip.Addr   `json:"to"`
	On   policy.Proto `json:"proto"`
	Port *uint16      `json:"port,omitempty"`
	Type *uint8       `json:"type,omitempty"`
	Code *uint8       `json:"code,omitempty"`
}

func askedOf(c oracle.Connection) asked {
	a := asked{From: c.Src, To: c.Dst, On: c.Proto}
	switch {
	case c.Proto.HasPorts():
		a.Port = &c.DstPort
	case c.Proto.IsICMP():
		a.Type, a.Code = &c.Type, &c.Code
	}
	return a
}

// serviceText is the service of a connection in words.
func serviceText(c oracle.Connection) string {
	switch {
	case c.Proto.HasPorts():
		return fmt.Sprintf("%s %d", c.Proto, c.DstPort)
	case c.Proto.IsICMP():
		return fmt.Sprintf("%s type %d code %d", c.Proto, c.Type, c.Code)
	}
	return "protocol " + c.Proto.String()
}

func printVerdict(out io.Writer, format string, c oracle.Connection, v oracle.Verdict) error {
	if format == "json" {
		return json.NewEncoder(out).Encode(struct {
			oracle.Verdict
			asked
		}{v, askedOf(c)})
	}
	_, err := fmt.Fprintf(out, "%s: %s to %s, %s\n  %s\n", v.Action, c.Src, c.Dst, serviceText(c), v.Why)
	if err == nil && v.Staged != nil {
		_, err = fmt.Fprintf(out, "  with staged policies enforced: %s\n    %s\n", v.Staged.Action, v.Staged.Why)
	}
	return err
}

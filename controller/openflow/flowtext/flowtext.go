// Package flowtext writes flows as ovs-ofctl reads them, by go-openvswitch's
// types wherever those can express a flow.
//
// They cannot express everything: no instructions (meter, goto_table, ...), no
// groups or samples, no resubmit to table 0, no hard timeout and no flags.
// What they would lose, or turn into something else, this package writes
// itself, in the same order of fields.
package flowtext

import (
	"fmt"
	"strings"

	"github.com/digitalocean/go-openvswitch/ovs"

	"github.com/platelet-sdn/platelet/controller/openflow"
)

// Text returns the flow in ovs-ofctl's syntax, as add-flow takes it, on one
// line. A flow of somebody else's that holds what the codec does not know
// comes out as text that ovs-ofctl refuses, never as another flow.
func Text(f *openflow.Flow) string {
	text := ""
	if o, ok := OVS(f); ok {
		if b, err := o.MarshalText(); err == nil {
			text = string(b)
		}
	}
	if text == "" {
		text = own(f)
	}
	return extras(f) + text
}

// extras are the properties that ovs.Flow has no place for.
func extras(f *openflow.Flow) string {
	var s strings.Builder
	if f.HardTimeout != 0 {
		fmt.Fprintf(&s, "hard_timeout=%d,", f.HardTimeout)
	}
	for _, flag := range [...]struct {
		bit  uint16
		name string
	}{
		{openflow.FlagSendFlowRemoved, "send_flow_rem"}, {openflow.FlagCheckOverlap, "check_overlap"}, {openflow.FlagResetCounts, "reset_counts"},
		{openflow.FlagNoPacketCounts, "no_packet_counts"}, {openflow.FlagNoByteCounts, "no_byte_counts"},
	} {
		if f.Flags&flag.bit != 0 {
			s.WriteString(flag.name + ",")
		}
	}
	return s.String()
}

// own writes what ovs.Flow cannot express, in its order.
func own(f *openflow.Flow) string {
	match := f.Match.String()
	if match != "" {
		match += ","
	}
	return fmt.Sprintf("priority=%d,%stable=%d,idle_timeout=%d,cookie=0x%016x,actions=%s",
		f.Priority, match, f.Table, f.IdleTimeout, f.Cookie, f.Instructions.String())
}

// OVS returns the flow as go-openvswitch has it, apart from hard timeout and
// flags; ok is false when its types cannot express the match or the actions.
func OVS(f *openflow.Flow) (flow *ovs.Flow, ok bool) {
	rest := f.Instructions
	rest.Actions = nil
	if rest.Key() != "" { // another instruction than to apply actions
		return nil, false
	}
	flow = &ovs.Flow{Priority: int(f.Priority), Table: int(f.Table), IdleTimeout: int(f.IdleTimeout), Cookie: f.Cookie}
	if flow.Protocol, flow.Matches, ok = matches(f.Match); !ok {
		return nil, false
	}
	if flow.Actions, ok = actions(f.Actions); !ok {
		return nil, false
	}
	return flow, true
}

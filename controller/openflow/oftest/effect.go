package oftest

import (
	"fmt"
	"strings"

	of "github.com/platelet-sdn/platelet/controller/openflow"
)

// Effect is something that happens to a packet: Output, ToNormal,
// ToController, Sampled, Metered, Tracked, Selected or Dropped.
type Effect interface {
	fmt.Stringer
	effect()
}

// Output is a packet leaving by a port.
type Output struct {
	Port   uint32
	Packet Packet
}

// ToNormal is a packet handed to the switch's own forwarding (the NORMAL
// port), which this package does not model.
type ToNormal struct{ Packet Packet }

// ToController is a packet sent to a controller.
type ToController struct {
	Reason uint8 // section 7.4.1, enum ofp_packet_in_reason
	MaxLen uint16
	ID     uint16 // the controller's, 0 is the default
	Packet Packet
}

// Sampled is a packet reported to a collector set, with its probability.
type Sampled struct {
	of.Sample
	Packet Packet
}

// Metered is a packet at a meter; one that did not pass goes nowhere after.
type Metered struct {
	ID     uint32
	Passed bool
}

// Tracked is what the connection tracker said of a packet, and whether it
// keeps the connection.
type Tracked struct {
	State     CTState
	Zone      uint16
	Mark      uint32
	Committed bool
	// Full says that a new connection was not kept because its zone is at
	// its limit.
	Full bool
}

// Selected is a select group's choice. Which one the switch takes is its
// own business: any of the alternatives is right.
type Selected struct {
	Group        uint32
	Bucket       int
	Alternatives []int
}

// Dropped is the end of a packet that nothing became of, and why; or of the
// whole translation, when the flows send it in circles.
type Dropped struct{ Why string }

func (Output) effect()       {}
func (ToNormal) effect()     {}
func (ToController) effect() {}
func (Sampled) effect()      {}
func (Metered) effect()      {}
func (Tracked) effect()      {}
func (Selected) effect()     {}
func (Dropped) effect()      {}

func (e Output) String() string   { return fmt.Sprintf("output:%s %s", of.PortText(e.Port), e.Packet) }
func (e ToNormal) String() string { return fmt.Sprintf("NORMAL %s", e.Packet) }
func (e ToController) String() string {
	return fmt.Sprintf("controller(reason=%d,max_len=%d,id=%d) %s", e.Reason, e.MaxLen, e.ID, e.Packet)
}
func (e Sampled) String() string { return fmt.Sprintf("%s %s", e.Sample, e.Packet) }
func (e Metered) String() string {
	if e.Passed {
		return fmt.Sprintf("meter:%d passed", e.ID)
	}
	return fmt.Sprintf("meter:%d dropped it", e.ID)
}
func (e Tracked) String() string {
	s := fmt.Sprintf("ct zone=%d: %s", e.Zone, e.State)
	switch {
	case e.Committed:
		s += fmt.Sprintf(", committed with mark 0x%x", e.Mark)
	case e.Full:
		s += ", zone is full"
	}
	return s
}
func (e Selected) String() string {
	return fmt.Sprintf("group %d chose bucket %d of %v", e.Group, e.Bucket, e.Alternatives)
}
func (e Dropped) String() string { return "drop: " + e.Why }

// Step is one visit of a table.
type Step struct {
	// Pass counts the packet's walks through the tables: recirculation by a
	// ct action begins another one.
	Pass  int
	Depth int // of resubmits, for printing
	Table uint8
	// Rule is the flow that matched, as it was then; nil is a miss.
	Rule *Rule
	// Conjunction is the one by which it matched, 0 for none.
	Conjunction uint32
	// Ties are other flows that match with the same priority. Which one
	// Open vSwitch takes is not defined: a table with ties is a mistake.
	Ties []*Rule
	// Ambiguous says that it is not defined which flow the switch takes,
	// because of Ties or because two conjunctions of one priority hold.
	Ambiguous bool
}

func (s Step) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s%d. ", strings.Repeat(" ", 4*s.Depth), s.Table)
	if s.Rule == nil {
		b.WriteString("no match")
		return b.String()
	}
	b.WriteString(s.Rule.String())
	if s.Conjunction != 0 {
		fmt.Fprintf(&b, " (conjunction %d)", s.Conjunction)
	}
	for _, t := range s.Ties {
		fmt.Fprintf(&b, "\n%s   tie with %s", strings.Repeat(" ", 4*s.Depth), t)
	}
	return b.String()
}

// Result is what happened to a packet.
type Result struct {
	Effects []Effect
	Steps   []Step
	// By is the flow that decided: the one that forwarded the packet first,
	// or else the last one that it met; nil when it met none.
	By *Rule
	// Finals are the packet as each pass left it, before the next.
	Finals []Packet
}

// Outputs returns the ports that the packet left by, in order; a packet
// given to NORMAL leaves by openflow.PortNormal.
func (r *Result) Outputs() []uint32 {
	var out []uint32
	for _, e := range r.Effects {
		switch e := e.(type) {
		case Output:
			out = append(out, e.Port)
		case ToNormal:
			out = append(out, of.PortNormal)
		}
	}
	return out
}

// Forwarded reports whether the packet left at all.
func (r *Result) Forwarded() bool { return len(r.Outputs()) > 0 }

// Ambiguous returns the steps at which it is not defined what the switch
// does.
func (r *Result) Ambiguous() []Step {
	var out []Step
	for _, s := range r.Steps {
		if s.Ambiguous {
			out = append(out, s)
		}
	}
	return out
}

// String returns the trace and the effects, one per line.
func (r *Result) String() string {
	var b strings.Builder
	pass := 0
	for _, s := range r.Steps {
		if s.Pass != pass {
			pass = s.Pass
			fmt.Fprintf(&b, "-- pass %d\n", pass+1)
		}
		fmt.Fprintln(&b, s)
	}
	for _, e := range r.Effects {
		fmt.Fprintln(&b, "=>", e)
	}
	return b.String()
}

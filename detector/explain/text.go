package explain

import (
	"fmt"
	"io"
	"net/netip"
	"strings"
	"time"

	"github.com/platelet-sdn/platelet/flowcollector/flow"
)

// Record is an excerpt of a flow record, for people.
type Record struct {
	Time      string  `json:"time"`
	Telemetry string  `json:"telemetry"` // tap, sflow, ipfix, packet or log
	Signal    string  `json:"signal"`
	Src       string  `json:"src"`
	Dst       string  `json:"dst"`
	SrcMAC    string  `json:"src_mac,omitempty"`
	DstMAC    string  `json:"dst_mac,omitempty"`
	Proto     string  `json:"proto,omitempty"`
	Flags     string  `json:"tcp_flags,omitempty"`
	Packets   uint64  `json:"packets"`
	Bytes     uint64  `json:"bytes"`
	Rate      float64 `json:"sampling"` // packets that each stands for
	InPort    uint32  `json:"in_port,omitempty"`
}

func excerpt(r flow.Record) Record {
	x := Record{
		Time: time.Unix(0, r.Time).UTC().Format(time.RFC3339Nano), Telemetry: r.Source.String(), Signal: r.Signal.String(),
		Src: endpoint(r.Src, r.SrcPort), Dst: endpoint(r.Dst, r.DstPort), Flags: flow.FlagNames(r.TCPFlags),
		Packets: r.Packets, Bytes: r.Bytes, Rate: r.Rate, InPort: r.InPort,
	}
	if !r.SrcMAC.IsZero() {
		x.SrcMAC = r.SrcMAC.String()
	}
	if !r.DstMAC.IsZero() {
		x.DstMAC = r.DstMAC.String()
	}
	if r.Proto != 0 {
		x.Proto = flow.ProtoName(r.Proto)
	}
	return x
}

func endpoint(a netip.Addr, port uint16) string {
	switch {
	case !a.IsValid():
		return ""
	case port == 0:
		return a.String()
	}
	return netip.AddrPortFrom(a, port).String()
}

// WriteText writes the explanation for a person.
func (x Explanation) WriteText(w io.Writer) error {
	var b strings.Builder
	fmt.Fprintf(&b, "%s  %s\n", x.ID, x.Summary)
	technique := ""
	for _, t := range []string{x.Technique, x.ICS} {
		if t != "" {
			technique += " " + t
		}
	}
	if technique != "" {
		technique = "; ATT&CK" + technique
	}
	fmt.Fprintf(&b, "%s: %s%s\n(%s)\n", x.Kind, x.About, technique, x.Source)
	for _, part := range []struct {
		title string
		lines []string
	}{
		{"What happened", x.Happened}, {"What would be normal", x.Normal}, {"What carried the score", x.Carried},
		{"What would have kept it from firing", x.NotFiring}, {"What is not known", x.Unknown},
	} {
		section(&b, part.title, part.lines)
	}
	if len(x.Risk.Kinds) > 1 {
		fmt.Fprintf(&b, "\nThe host's risk: %.3f\n", x.Risk.Probability)
		for _, k := range x.Risk.Kinds {
			fmt.Fprintf(&b, "  %s (%s) %.3f\n", k.Kind, k.Family, k.Probability)
		}
	}
	if len(x.Excerpt) > 0 {
		b.WriteString("\nThe latest of its records\n")
	}
	for _, r := range x.Excerpt {
		fmt.Fprintf(&b, "  %s %s %s %s > %s %s", r.Time, r.Telemetry, r.Signal, r.Src, r.Dst, r.Proto)
		if r.Flags != "" {
			fmt.Fprintf(&b, " [%s]", r.Flags)
		}
		fmt.Fprintf(&b, ", %d packets, %d bytes", r.Packets, r.Bytes)
		if r.Rate > 1 {
			fmt.Fprintf(&b, ", 1 in %s", number(r.Rate))
		}
		b.WriteByte('\n')
	}
	_, err := io.WriteString(w, b.String())
	return err
}

func section(b *strings.Builder, title string, lines []string) {
	if len(lines) == 0 {
		return
	}
	fmt.Fprintf(b, "\n%s\n", title)
	for _, l := range lines {
		fmt.Fprintf(b, "  %s\n", l)
	}
}

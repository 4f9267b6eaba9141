package openc2

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"strings"
	"time"

	"github.com/platelet-sdn/platelet/controller/response"
	"github.com/platelet-sdn/platelet/flowcollector/flow"
)

// command is an OpenC2 command (Language Specification 1.0, section 3.3.1).
type command struct {
	Action   string                     `json:"action"`
	Target   map[string]json.RawMessage `json:"target"`
	Args     args                       `json:"args"`
	Actuator map[string]json.RawMessage `json:"actuator"`
	ID       string                     `json:"command_id"`
}

// args are the arguments of the language (section 3.3.1.4) and those of the
// profile (SLPF 1.0, section 2.3). Times are milliseconds since 1970.
type args struct {
	Start    *int64    `json:"start_time"`
	Stop     *int64    `json:"stop_time"`
	Duration *int64    `json:"duration"`
	Response string    `json:"response_requested"`
	SLPF     *slpfArgs `json:"slpf"`
}

type slpfArgs struct {
	DropProcess string `json:"drop_process"`
	Persistent  *bool  `json:"persistent"`
	Direction   string `json:"direction"`
	InsertRule  *int64 `json:"insert_rule"`
}

// specifiers say which device is meant (SLPF 1.0, section 2.4). A command that
// reaches us over HTTPS is meant for us, whatever they call it; they only have to be
// some.
type specifiers struct {
	Hostname string   `json:"hostname"`
	Group    string   `json:"named_group"`
	Asset    string   `json:"asset_id"`
	Tuple    []string `json:"asset_tuple"`
}

// connection is a five-tuple (section 3.4.1.10); what is left out is any.
type connection struct {
	Protocol string `json:"protocol"`
	Src      string `json:"src_addr"`
	SrcPort  uint16 `json:"src_port"`
	Dst      string `json:"dst_addr"`
	DstPort  uint16 `json:"dst_port"`
}

// fault is an answer other than 200. The status codes of the language (section
// 3.3.2.2) are those of HTTP.
type fault struct {
	status int
	text   string
}

func (f *fault) Error() string { return f.text }

func bad(format string, a ...any) error {
	return &fault{http.StatusBadRequest, fmt.Sprintf(format, a...)}
}

func unsupported(format string, a ...any) error {
	return &fault{http.StatusNotImplemented, fmt.Sprintf(format, a...)}
}

// strict decodes one JSON value and refuses what it does not know.
func strict(raw []byte, into any) error {
	dec := json.NewDecoder(bytes.NewReader(raw))
	dec.DisallowUnknownFields()
	if err := dec.Decode(into); err != nil {
		return bad("%v at offset %d", err, dec.InputOffset())
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return bad("something follows at offset %d", dec.InputOffset())
	}
	return nil
}

// parse reads a command and checks what every command has to heed.
func parse(raw []byte) (c command, target string, err error) {
	if err := strict(raw, &c); err != nil {
		return c, "", err
	}
	if len(c.Target) != 1 {
		return c, "", bad("a command has one target, not %d", len(c.Target))
	}
	for target = range c.Target {
	}
	for profile, raw := range c.Actuator {
		if profile != "slpf" {
			return c, "", &fault{http.StatusNotFound, fmt.Sprintf("there is no actuator of profile %q here", profile)}
		}
		if err := strict(raw, &specifiers{}); err != nil {
			return c, "", err
		}
	}
	if s := c.Args.SLPF; s != nil {
		switch {
		case s.DropProcess != "" && s.DropProcess != "none":
			return c, "", unsupported("drop_process %q", s.DropProcess)
		case s.InsertRule != nil:
			return c, "", unsupported("insert_rule: rules have no order that could be chosen")
		case s.Direction == "ingress" || s.Direction == "egress":
			return c, "", unsupported("direction %q alone: what is denied is denied both ways", s.Direction)
		case s.Direction != "" && s.Direction != "both":
			return c, "", bad("direction %q", s.Direction)
		}
	}
	switch c.Args.Response {
	case "", "none", "ack", "status", "complete":
	default:
		return c, "", bad("response_requested %q", c.Args.Response)
	}
	return c, target, nil
}

// span is how long a command is to hold; the given default where it does not say.
func (a *args) span(now time.Time, otherwise time.Duration) (time.Duration, error) {
	switch {
	case a.Start != nil && a.Stop != nil && a.Duration != nil:
		return 0, bad("start_time, stop_time and duration say too much together")
	case a.Start != nil && time.UnixMilli(*a.Start).After(now.Add(time.Second)):
		return 0, unsupported("start_time: nothing is scheduled for later")
	case a.Duration != nil:
		if *a.Duration <= 0 || *a.Duration > longest.Milliseconds() {
			return 0, bad("duration %d ms is outside 1 ms to %s", *a.Duration, longest)
		}
		return time.Duration(*a.Duration) * time.Millisecond, nil
	case a.Stop != nil:
		d := time.UnixMilli(*a.Stop).Sub(now)
		if d <= 0 || d > longest {
			return 0, bad("stop_time is not within %s from now", longest)
		}
		return d, nil
	}
	return otherwise, nil
}

// longest is how long anything may hold.
const longest = 30 * 24 * time.Hour

// order reads what is to be denied or allowed.
func order(target string, raw json.RawMessage) (o response.Order, err error) {
	switch target {
	case "ipv4_net", "ipv6_net":
		var text string
		if err := strict(raw, &text); err != nil {
			return o, err
		}
		o.Host, err = single(text, target == "ipv4_net")
		return o, err
	case "ipv4_connection", "ipv6_connection":
		var c connection
		if err := strict(raw, &c); err != nil {
			return o, err
		}
		return c.order(target == "ipv4_connection")
	}
	return o, unsupported("target %q", target)
}

// single reads an address, or a network of one: nobody is cut off by the dozen.
func single(text string, four bool) (netip.Addr, error) {
	address, bits, cut := strings.Cut(text, "/")
	a, err := netip.ParseAddr(address)
	if err != nil || a.Is4() != four || a.Zone() != "" {
		return a, bad("%q is no address of this family", text)
	}
	if cut && bits != fmt.Sprint(a.BitLen()) {
		return a, unsupported("%q: hosts are contained one by one", text)
	}
	return a, nil
}

func (c *connection) order(four bool) (o response.Order, err error) {
	if c.Src == "" {
		return o, unsupported("a connection without src_addr: whose traffic is meant has to be known")
	}
	if c.SrcPort != 0 {
		return o, unsupported("src_port: the next connection has another")
	}
	if o.Host, err = single(c.Src, four); err != nil {
		return o, err
	}
	if c.Dst != "" {
		if o.Peer, err = single(c.Dst, four); err != nil {
			return o, err
		}
	}
	protocols := map[string]uint8{"": 0, "tcp": flow.ProtoTCP, "udp": flow.ProtoUDP, "sctp": flow.ProtoSCTP, "icmp": flow.ProtoICMP}
	var known bool
	if o.Proto, known = protocols[c.Protocol]; !known {
		return o, bad("protocol %q", c.Protocol)
	}
	if c.Protocol == "icmp" && !four {
		o.Proto = flow.ProtoICMPv6
	}
	o.Service = c.DstPort
	switch {
	case c.DstPort != 0 && (o.Proto == 0 || c.Protocol == "icmp"):
		return o, bad("dst_port needs protocol tcp, udp or sctp")
	case c.Dst == "" && o.Proto == 0:
		return o, bad("a connection of anything to anybody is a net: deny that")
	}
	return o, nil
}

package replay

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
)

// Format is a kind of recording.
type Format string

// The kinds of recordings that are read.
const (
	FormatPcap     Format = "pcap"
	FormatPcapng   Format = "pcapng"
	FormatZeekTSV  Format = "Zeek conn.log"
	FormatZeekJSON Format = "Zeek conn.log in JSON lines"
	FormatGoflow   Format = "goflow2 JSON lines"
	FormatArgus    Format = "Argus binetflow"
	FormatFlowCSV  Format = "flow CSV"
)

// UnknownFormatError says why an input was not recognised.
type UnknownFormatError struct {
	// Why describes what was found instead of a known format.
	Why string
}

// Error implements the error interface.
func (e *UnknownFormatError) Error() string {
	return "format not recognised: " + e.Why + "; looked for pcap and pcapng, " +
		"a Zeek conn.log (a #fields line with conn_state, or JSON lines with id.orig_h and conn_state), " +
		"Argus binetflow (a header with StartTime, SrcAddr, DstAddr), " +
		"goflow2 JSON lines (src_addr and time_received_ns), " +
		"and a CSV that starts with ts,dur,proto,src,sport,dst,dport,state; each plain or gzip"
}

// Detect tells the format of an input from its first bytes, never from its name.
func Detect(head []byte) (Format, error) {
	if len(head) == 0 {
		return "", &UnknownFormatError{Why: "the input is empty"}
	}
	if len(head) >= 4 {
		switch [4]byte(head) {
		case [4]byte{0xa1, 0xb2, 0xc3, 0xd4}, [4]byte{0xd4, 0xc3, 0xb2, 0xa1},
			[4]byte{0xa1, 0xb2, 0x3c, 0x4d}, [4]byte{0x4d, 0x3c, 0xb2, 0xa1}:
			return FormatPcap, nil
		case [4]byte{0x0a, 0x0d, 0x0d, 0x0a}:
			return FormatPcapng, nil
		}
	}
	line := firstLine(trimBOM(head))
	switch {
	case bytes.HasPrefix(line, []byte("#")):
		return detectZeek(head)
	case bytes.HasPrefix(line, []byte("{")):
		return detectJSON(line)
	}
	return detectCSV(line)
}

func firstLine(head []byte) []byte {
	head = bytes.TrimLeft(head, " \t\r\n")
	line, _, _ := bytes.Cut(head, []byte("\n"))
	return bytes.TrimSpace(line)
}

// detectZeek looks for the columns in the header, because all of Zeek's logs
// begin alike.
func detectZeek(head []byte) (Format, error) {
	for line := range bytes.Lines(head) {
		if !bytes.HasPrefix(line, []byte("#fields")) {
			continue
		}
		if bytes.Contains(line, []byte("id.orig_h")) && bytes.Contains(line, []byte("conn_state")) {
			return FormatZeekTSV, nil
		}
		return "", &UnknownFormatError{Why: "a log of Zeek's that is not a conn.log"}
	}
	return "", &UnknownFormatError{Why: "comment lines without #fields"}
}

func detectJSON(line []byte) (Format, error) {
	var keys map[string]json.RawMessage
	if err := json.Unmarshal(line, &keys); err != nil {
		return "", &UnknownFormatError{Why: fmt.Sprintf("the first line looks like JSON, but %v", err)}
	}
	has := func(names ...string) bool {
		for _, n := range names {
			if _, ok := keys[n]; !ok {
				return false
			}
		}
		return true
	}
	switch {
	case has("ts", "id.orig_h", "conn_state"), has("_path", "ts"):
		return FormatZeekJSON, nil
	case has("src_addr", "time_received_ns"):
		return FormatGoflow, nil
	}
	return "", &UnknownFormatError{Why: "JSON lines of another kind"}
}

func detectCSV(line []byte) (Format, error) {
	columns, err := parseHeader(string(line))
	if err == nil {
		switch {
		case columns.has(argusRequired...):
			return FormatArgus, nil
		case columns.has(flowCSVRequired()...):
			return FormatFlowCSV, nil
		}
	}
	const shown = 60
	if len(line) > shown {
		line = line[:shown]
	}
	return "", &UnknownFormatError{Why: fmt.Sprintf("it begins with %q", line)}
}

// columns maps lower-case names of a header line to positions.
type columns struct {
	index map[string]int
	count int
}

var errNoHeader = errors.New("no header line")

func parseHeader(line string) (columns, error) {
	names := strings.Split(line, ",")
	if len(names) < 2 {
		return columns{}, errNoHeader
	}
	c := columns{index: make(map[string]int, len(names)), count: len(names)}
	for i, n := range names {
		c.index[strings.ToLower(strings.TrimSpace(n))] = i
	}
	return c, nil
}

func (c *columns) has(names ...string) bool {
	for _, n := range names {
		if _, ok := c.index[n]; !ok {
			return false
		}
	}
	return true
}

// pick returns the trimmed field of the named column, or "" if there is none.
func (c *columns) pick(fields []string, name string) string {
	i, ok := c.index[name]
	if !ok || i >= len(fields) {
		return ""
	}
	return strings.TrimSpace(fields[i])
}

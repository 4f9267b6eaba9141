package replay

import (
	"encoding/hex"
	"errors"
	"fmt"
	"strings"

	"github.com/platelet-sdn/platelet/flowcollector/flow"
)

// zeekTSV reads the tab separated form. It is a rowParser.
type zeekTSV struct {
	label     labeller
	separator string
	// index maps column names to positions; nil before the first #fields.
	index map[string]int
	count int
	// tail are the columns that were appended to the last one with spaces
	// between them, as the labels of IoT-23 are.
	tail []string
}

func newZeekTSV(label labeller) *zeekTSV { return &zeekTSV{label: label, separator: "\t"} }

var errNoFields = errors.New("row before a #fields line")

// zeekRequired are the columns that make a log a conn.log.
var zeekRequired = [...]string{
	"ts", "id.orig_h", "id.orig_p", "id.resp_h", "id.resp_p", "proto", "conn_state",
}

func (z *zeekTSV) row(line []byte, batch []flow.Record) ([]flow.Record, error) {
	text := string(line)
	if strings.HasPrefix(text, "#") {
		return batch, z.directive(text)
	}
	if z.index == nil {
		return batch, errNoFields
	}
	fields := strings.Split(text, z.separator)
	if len(fields) != z.count {
		return batch, fmt.Errorf("%d fields where the header has %d", len(fields), z.count)
	}
	if len(z.tail) > 0 {
		fields = append(fields[:z.count-1], splitSpaces(fields[z.count-1])...)
	}
	row := z.fields(fields)
	c, err := row.conversation()
	if err != nil {
		return batch, err
	}
	return z.label.finish(c, row.label, row.detail, batch), nil
}

func (z *zeekTSV) fields(fields []string) zeekRow {
	get := func(name string) string {
		i, ok := z.index[name]
		if !ok || i >= len(fields) {
			return ""
		}
		return fields[i]
	}
	row := zeekRow{
		ts: get("ts"), duration: get("duration"),
		origHost: get("id.orig_h"), origPort: get("id.orig_p"),
		respHost: get("id.resp_h"), respPort: get("id.resp_p"),
		proto: get("proto"), state: get("conn_state"), history: get("history"),
		origPackets: get("orig_pkts"), respPackets: get("resp_pkts"),
		origBytes: get("orig_ip_bytes"), respBytes: get("resp_ip_bytes"),
		origPayload: get("orig_bytes"), respPayload: get("resp_bytes"),
		origMAC: get("orig_l2_addr"), respMAC: get("resp_l2_addr"),
		label:  get("label"),
		detail: firstSet(get("detailedlabel"), get("detailed-label")),
	}
	return row
}

// directive reads a header line. Headers come again where logs were joined.
func (z *zeekTSV) directive(line string) error {
	switch {
	case strings.HasPrefix(line, "#separator "):
		return z.setSeparator(strings.TrimPrefix(line, "#separator "))
	case strings.HasPrefix(line, "#fields"):
		return z.setFields(strings.TrimPrefix(line, "#fields"))
	}
	return nil
}

// setSeparator reads the separator, which is written as \x09.
func (z *zeekTSV) setSeparator(s string) error {
	s = strings.TrimSpace(s)
	raw, err := hex.DecodeString(strings.ReplaceAll(s, `\x`, ""))
	if err != nil || len(raw) == 0 {
		return &fieldError{"#separator", s}
	}
	z.separator = string(raw)
	return nil
}

func (z *zeekTSV) setFields(s string) error {
	z.index, z.tail = nil, nil
	names := strings.Split(strings.TrimPrefix(s, z.separator), z.separator)
	count := len(names)
	if last := splitSpaces(names[count-1]); len(last) > 1 {
		z.tail = last[1:]
		names = append(names[:count-1], last...)
	}
	index := make(map[string]int, len(names))
	for i, n := range names {
		index[strings.TrimSpace(n)] = i
	}
	for _, n := range zeekRequired {
		if _, ok := index[n]; !ok {
			return fmt.Errorf("not a conn.log: no column %s", n)
		}
	}
	z.index, z.count = index, count
	return nil
}

// splitSpaces splits at runs of two or more spaces.
func splitSpaces(s string) []string {
	var parts []string
	for _, p := range strings.Split(s, "  ") {
		if p = strings.TrimSpace(p); p != "" {
			parts = append(parts, p)
		}
	}
	if len(parts) == 0 {
		return []string{s}
	}
	return parts
}

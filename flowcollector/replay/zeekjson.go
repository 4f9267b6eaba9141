package replay

import (
	"encoding/json"
	"fmt"

	"github.com/platelet-sdn/platelet/flowcollector/flow"
)

// scalar is a JSON number or string as text: numbers keep all their digits, and
// exporters do not agree on which fields are numbers.
type scalar string

// UnmarshalJSON implements json.Unmarshaler.
func (s *scalar) UnmarshalJSON(b []byte) error {
	switch {
	case len(b) == 0 || b[0] == '{' || b[0] == '[':
		return fmt.Errorf("want a number or a string, not %.20q", b)
	case string(b) == "null":
		*s = ""
	case b[0] == '"':
		var text string
		if err := json.Unmarshal(b, &text); err != nil {
			return err
		}
		*s = scalar(text)
	default:
		*s = scalar(b)
	}
	return nil
}

// zeekJSONRow is the JSON form of a row.
type zeekJSONRow struct {
	Path        string `json:"_path"`
	TS          scalar `json:"ts"`
	Duration    scalar `json:"duration"`
	OrigHost    string `json:"id.orig_h"`
	OrigPort    scalar `json:"id.orig_p"`
	RespHost    string `json:"id.resp_h"`
	RespPort    scalar `json:"id.resp_p"`
	Proto       scalar `json:"proto"`
	State       string `json:"conn_state"`
	History     string `json:"history"`
	OrigPackets scalar `json:"orig_pkts"`
	RespPackets scalar `json:"resp_pkts"`
	OrigIPBytes scalar `json:"orig_ip_bytes"`
	RespIPBytes scalar `json:"resp_ip_bytes"`
	OrigBytes   scalar `json:"orig_bytes"`
	RespBytes   scalar `json:"resp_bytes"`
	OrigMAC     string `json:"orig_l2_addr"`
	RespMAC     string `json:"resp_l2_addr"`
	Label       scalar `json:"label"`
	Detail      string `json:"detailedlabel"`
}

// zeekJSON reads the JSON lines form. It is a rowParser.
type zeekJSON struct {
	label labeller
}

func (z *zeekJSON) row(line []byte, batch []flow.Record) ([]flow.Record, error) {
	var j zeekJSONRow
	if err := json.Unmarshal(line, &j); err != nil {
		return batch, fmt.Errorf("JSON: %w", err)
	}
	if j.Path != "" && j.Path != "conn" {
		return batch, nil // Zeek can stream all its logs into one file
	}
	row := zeekRow{
		ts: string(j.TS), duration: string(j.Duration),
		origHost: j.OrigHost, origPort: string(j.OrigPort),
		respHost: j.RespHost, respPort: string(j.RespPort),
		proto: string(j.Proto), state: j.State, history: j.History,
		origPackets: string(j.OrigPackets), respPackets: string(j.RespPackets),
		origBytes: string(j.OrigIPBytes), respBytes: string(j.RespIPBytes),
		origPayload: string(j.OrigBytes), respPayload: string(j.RespBytes),
		origMAC: j.OrigMAC, respMAC: j.RespMAC,
	}
	c, err := row.conversation()
	if err != nil {
		return batch, err
	}
	return z.label.finish(c, string(j.Label), j.Detail, batch), nil
}

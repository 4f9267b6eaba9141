package detector

import (
	"encoding/json"
	"net/netip"
	"time"
)

// wireFinding is the JSON form of a finding: times in RFC 3339 with
// nanoseconds, UTC; an unknown host is the empty string.
type wireFinding struct {
	Type       string     `json:"type"`
	ID         string     `json:"id"`
	Time       string     `json:"time"`
	FirstSeen  string     `json:"first_seen"`
	Kind       Kind       `json:"kind"`
	Host       string     `json:"host"`
	HostMAC    string     `json:"host_mac,omitempty"`
	Origin     string     `json:"origin,omitempty"`
	Victims    []string   `json:"victims"`
	Score      float64    `json:"score"`
	Confidence float64    `json:"confidence"`
	Severity   Severity   `json:"severity"`
	Technique  string     `json:"technique"`
	ICS        string     `json:"technique_ics,omitempty"`
	Family     Family     `json:"family"`
	State      State      `json:"state"`
	Evidence   []Evidence `json:"evidence"`
	Limits     []Limit    `json:"limits,omitempty"`
	Records    int64      `json:"records"`
	Spoofed    bool       `json:"spoofed"`
	Sequential bool       `json:"sequential"`
	MayContain bool       `json:"may_contain"`
	Agrees     []Vote     `json:"agrees,omitempty"`
	Exporter   string     `json:"exporter,omitempty"`
	Domain     uint32     `json:"domain,omitempty"`
	InPort     uint32     `json:"in_port,omitempty"`
	Proto      uint8      `json:"proto,omitempty"`
	DstPort    uint16     `json:"dst_port,omitempty"`
	Rate       float64    `json:"rate_pps,omitempty"`
	Baseline   float64    `json:"baseline_pps,omitempty"`
}

// MarshalJSON gives the form that replay prints and that events carry.
func (f Finding) MarshalJSON() ([]byte, error) {
	w := wireFinding{
		Type: "finding", ID: f.ID, Time: stamp(f.Time), FirstSeen: stamp(f.FirstSeen),
		Kind: f.Kind, Host: text(f.Host), Origin: text(f.Origin), Victims: make([]string, 0, len(f.Victims)),
		Score: f.Score, Confidence: f.Confidence, Severity: f.Severity, Technique: f.Technique, ICS: f.ICS, Family: f.Family,
		State: f.State, Evidence: f.Evidence, Limits: f.Limits, Records: f.Records,
		Spoofed: f.Spoofed, Sequential: f.Sequential, MayContain: f.MayContain(), Agrees: f.Agrees,
		Exporter: text(f.Exporter.Addr), Domain: f.Exporter.Domain, InPort: f.InPort,
		Proto: f.Proto, DstPort: f.DstPort, Rate: f.Rate, Baseline: f.Baseline,
	}
	if !f.HostMAC.IsZero() {
		w.HostMAC = f.HostMAC.String()
	}
	if w.Evidence == nil {
		w.Evidence = []Evidence{}
	}
	for _, v := range f.Victims {
		w.Victims = append(w.Victims, text(v))
	}
	return json.Marshal(w)
}

// MarshalJSON gives the form that events carry.
func (n Notice) MarshalJSON() ([]byte, error) {
	return json.Marshal(struct {
		Type  string   `json:"type"`
		Time  string   `json:"time"`
		State Learning `json:"state"`
		Host  string   `json:"host"` // empty: all hosts
		Why   string   `json:"why"`
	}{"learning", stamp(n.Time), n.What, text(n.Host), n.Why})
}

func stamp(ns int64) string { return time.Unix(0, ns).UTC().Format(time.RFC3339Nano) }

func text(a netip.Addr) string {
	if !a.IsValid() {
		return ""
	}
	return a.String()
}

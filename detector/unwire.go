package detector

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"time"

	"github.com/platelet-sdn/platelet/flowcollector/flow"
)

// UnmarshalJSON reads what MarshalJSON wrote; the excerpt of records and the
// sampling rates are not part of it. What is missing has its zero value.
func (f *Finding) UnmarshalJSON(raw []byte) error {
	var w wireFinding
	if err := json.Unmarshal(raw, &w); err != nil {
		return err
	}
	out := Finding{
		ID: w.ID, Kind: w.Kind, State: w.State, Score: w.Score, Confidence: w.Confidence, Severity: w.Severity, Technique: w.Technique, ICS: w.ICS, Family: w.Family,
		Evidence: w.Evidence, Limits: w.Limits, Records: w.Records, Spoofed: w.Spoofed, Sequential: w.Sequential, Agrees: w.Agrees,
		Exporter: flow.Exporter{Domain: w.Domain}, InPort: w.InPort, Proto: w.Proto, DstPort: w.DstPort, Rate: w.Rate, Baseline: w.Baseline,
	}
	for _, t := range []struct {
		name, text string
		into       *int64
	}{{"time", w.Time, &out.Time}, {"first_seen", w.FirstSeen, &out.FirstSeen}} {
		if t.text == "" {
			continue
		}
		at, err := time.Parse(time.RFC3339Nano, t.text)
		if err != nil {
			return fmt.Errorf("finding: %s: %w", t.name, err)
		}
		*t.into = at.UnixNano()
	}
	for _, a := range []struct {
		name, text string
		into       *netip.Addr
	}{{"host", w.Host, &out.Host}, {"origin", w.Origin, &out.Origin}, {"exporter", w.Exporter, &out.Exporter.Addr}} {
		if err := a.into.UnmarshalText([]byte(a.text)); err != nil {
			return fmt.Errorf("finding: %s: %w", a.name, err)
		}
	}
	for _, v := range w.Victims {
		a, err := netip.ParseAddr(v)
		if err != nil {
			return fmt.Errorf("finding: victims: %w", err)
		}
		out.Victims = append(out.Victims, a)
	}
	if w.HostMAC != "" {
		if err := out.HostMAC.UnmarshalText([]byte(w.HostMAC)); err != nil {
			return fmt.Errorf("finding: host_mac: %w", err)
		}
	}
	*f = out
	return nil
}

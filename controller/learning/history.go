package learning

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/platelet-sdn/platelet/detector/model"
)

const (
	// hourWindows is how many windows of an hour are kept, hostWindows how
	// many of these may be of one host: history is a sample of the site, not
	// of whoever is loudest.
	hourWindows    = 256
	hostHourWindow = 4
	historyDays    = 14
	historyWeight  = 0.2
	maxHourFile    = 2 << 20
	hourLayout     = "2006010215"
)

// past is a window of the site's history: nobody was found to do anything wrong
// in it, which is weak evidence that nobody did.
type past struct {
	Host   netip.Addr `json:"host"`
	Start  int64      `json:"start"`
	Schema string     `json:"schema"`
	Values Vector     `json:"values"`
}

// History keeps a sample of the site's windows, a file per hour of record time.
type History struct {
	dir   string
	hour  string
	count int
	hosts map[netip.Addr]int
}

// OpenHistory returns the history of a state directory.
func OpenHistory(stateDir string) *History {
	return &History{dir: filepath.Join(stateDir, "models", "history")}
}

// Add keeps a window if there is room for it in its hour.
func (h *History) Add(p past) error {
	hour := time.Unix(0, p.Start).UTC().Format(hourLayout)
	if hour != h.hour {
		h.hour, h.count, h.hosts = hour, 0, map[netip.Addr]int{}
		if err := h.expire(time.Unix(0, p.Start)); err != nil {
			return err
		}
	}
	if h.count >= hourWindows || h.hosts[p.Host] >= hostHourWindow {
		return nil
	}
	line, err := json.Marshal(p)
	if err != nil {
		return fmt.Errorf("keep history: %w", err)
	}
	if err := os.MkdirAll(h.dir, 0o700); err != nil {
		return fmt.Errorf("keep history: %w", err)
	}
	if err := appendLine(h.file(hour), line, maxHourFile); err != nil && !errors.Is(err, ErrFull) {
		return fmt.Errorf("keep history: %w", err)
	}
	h.count++
	h.hosts[p.Host]++
	return nil
}

func (h *History) file(hour string) string { return filepath.Join(h.dir, hour+".jsonl") }

// files lists the hours that are kept, oldest first.
func (h *History) files() ([]string, error) {
	names, err := filepath.Glob(filepath.Join(h.dir, "??????????.jsonl"))
	if err != nil {
		return nil, fmt.Errorf("list history: %w", err)
	}
	slices.Sort(names)
	return names, nil
}

// expire removes what is older than historyDays.
func (h *History) expire(now time.Time) error {
	names, err := h.files()
	if err != nil {
		return err
	}
	oldest := h.file(now.UTC().Add(-historyDays * 24 * time.Hour).Format(hourLayout))
	for _, name := range names {
		if name >= oldest {
			break
		}
		if err := os.Remove(name); err != nil {
			return fmt.Errorf("remove old history: %w", err)
		}
	}
	return nil
}

// Examples reads the history as benign examples of little weight, without the
// days on which an operator confirmed a finding about the host.
func (h *History) Examples(schema model.Schema, set int, verdicts []Verdict) (list []model.Example, skipped int, err error) {
	confirmed := map[netip.Addr][]int64{}
	for _, v := range verdicts {
		if v.Real {
			confirmed[v.Host] = append(confirmed[v.Host], v.At)
		}
	}
	names, err := h.files()
	if err != nil {
		return nil, 0, err
	}
	for _, name := range names {
		malformed, err := readLines(name, maxVerdictLine, func(line []byte) error {
			var p past
			if err := json.Unmarshal(line, &p); err != nil {
				return err
			}
			near := func(at int64) bool { return max(at-p.Start, p.Start-at) < int64(verdictsAltered) }
			if p.Schema != schema.Hash || len(p.Values) != len(schema.Names) || slices.ContainsFunc(confirmed[p.Host], near) {
				skipped++
				return nil
			}
			list = append(list, model.Example{Values: p.Values, Host: p.Host.String(), Set: set, Time: p.Start, Weight: historyWeight})
			return nil
		})
		if err != nil {
			return nil, skipped, err
		}
		skipped += malformed
	}
	return list, skipped, nil
}

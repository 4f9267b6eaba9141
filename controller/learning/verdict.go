package learning

import (
	"bufio"
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	"github.com/platelet-sdn/platelet/detector"
	"github.com/platelet-sdn/platelet/detector/model"
)

// ErrFull says that verdicts exceed their room.
var ErrFull = errors.New("no room for more verdicts")

const (
	maxVerdicts     = 64 << 20 // bytes of the file
	maxWhy          = 1000
	maxVerdictLine  = 64 << 10
	verdictWeight   = 1.0 // of one verdict, over all windows behind it
	operatorPerDay  = 20  // verdicts of one operator that count fully, per day
	verdictsPerDay  = 50  // of all operators
	verdictsAltered = 24 * time.Hour
)

// Vector is a window's features; what is not known (NaN) is null in JSON.
type Vector []float64

// MarshalJSON writes NaN as null.
func (v Vector) MarshalJSON() ([]byte, error) {
	out := []byte{'['}
	for i, x := range v {
		if i > 0 {
			out = append(out, ',')
		}
		if math.IsNaN(x) || math.IsInf(x, 0) {
			out = append(out, "null"...)
		} else {
			out = strconv.AppendFloat(out, x, 'g', 6, 64)
		}
	}
	return append(out, ']'), nil
}

// UnmarshalJSON reads null as NaN.
func (v *Vector) UnmarshalJSON(raw []byte) error {
	var list []*float64
	if err := json.Unmarshal(raw, &list); err != nil {
		return err
	}
	*v = make(Vector, len(list))
	for i, x := range list {
		(*v)[i] = math.NaN()
		if x != nil {
			(*v)[i] = *x
		}
	}
	return nil
}

// Verdict is what an operator says of a finding.
type Verdict struct {
	Finding string        `json:"finding"`
	Kind    detector.Kind `json:"kind"`
	Host    netip.Addr    `json:"host,omitzero"`
	// Real is true when the finding was right.
	Real bool      `json:"real"`
	Who  string    `json:"who"`
	Time time.Time `json:"time"`
	Why  string    `json:"why,omitempty"`
	// Schema is the hash of the features, At when the windows behind the
	// finding began, and Windows what they held.
	Schema  string   `json:"schema"`
	At      int64    `json:"at"`
	Windows []Vector `json:"windows"`
}

// Verdicts is the file of them, one a line. A later verdict on the same finding
// takes the place of an earlier one, which stays in the file.
type Verdicts struct{ path string }

// OpenVerdicts returns the verdicts of a state directory.
func OpenVerdicts(stateDir string) *Verdicts {
	return &Verdicts{path: filepath.Join(stateDir, "models", "verdicts.jsonl")}
}

// Add stores a verdict durably.
func (v *Verdicts) Add(x Verdict) error {
	if len(x.Why) > maxWhy {
		return fmt.Errorf("a reason has at most %d bytes", maxWhy)
	}
	line, err := json.Marshal(x)
	if err != nil {
		return fmt.Errorf("store verdict: %w", err)
	}
	return locked(filepath.Dir(v.path), func() error { return appendLine(v.path, line, maxVerdicts) })
}

// appendLine adds a line to a file of limited size. A line that a crash cut off
// is ended first.
func appendLine(path string, line []byte, limit int64) error {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return err
	}
	if st.Size()+int64(len(line)) > limit {
		return fmt.Errorf("%w: %s has %d bytes", ErrFull, path, st.Size())
	}
	if st.Size() > 0 {
		var last [1]byte
		if _, err := f.ReadAt(last[:], st.Size()-1); err != nil {
			return err
		}
		if last[0] != '\n' {
			line = append([]byte{'\n'}, line...)
		}
	}
	if _, err := f.Write(append(line, '\n')); err != nil {
		return err
	}
	return f.Sync()
}

// All reads the verdicts that stand, oldest first. What cannot be read, such as
// a line that a crash cut off, is counted.
func (v *Verdicts) All() (list []Verdict, malformed int, err error) {
	latest := map[string]Verdict{}
	malformed, err = readLines(v.path, maxVerdictLine, func(line []byte) error {
		var x Verdict
		if err := json.Unmarshal(line, &x); err != nil {
			return err
		}
		latest[x.Finding] = x
		return nil
	})
	for _, x := range latest {
		list = append(list, x)
	}
	slices.SortFunc(list, func(a, b Verdict) int {
		return cmp.Or(a.Time.Compare(b.Time), cmp.Compare(a.Finding, b.Finding))
	})
	return list, malformed, err
}

// readLines calls f for each line; a missing file has none.
func readLines(path string, longest int, f func([]byte) error) (malformed int, err error) {
	file, err := os.Open(path)
	if errors.Is(err, os.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	defer file.Close()
	lines := bufio.NewScanner(file)
	lines.Buffer(make([]byte, 0, 4<<10), longest)
	for lines.Scan() {
		if line := bytes.TrimSpace(lines.Bytes()); len(line) > 0 && f(line) != nil {
			malformed++
		}
	}
	if err := lines.Err(); err != nil {
		return malformed, fmt.Errorf("read %s: %w", path, err)
	}
	return malformed, nil
}

// examplesOf turns verdicts into examples of a set. Each weighs verdictWeight
// over all its windows; what an operator, or all of them, say beyond their
// allowance of a day shares that allowance, so that no evening of clicking, and
// no stolen account, outweighs the rest.
func examplesOf(verdicts []Verdict, schema model.Schema, set int) (list []model.Example, skipped int) {
	type day struct {
		who string
		day int64
	}
	counts := map[day]float64{}
	for _, v := range verdicts {
		d := v.Time.Unix() / 86400
		counts[day{v.Who, d}]++
		counts[day{"", d}]++ // nobody's name is empty
	}
	for _, v := range verdicts {
		if v.Schema != schema.Hash || len(v.Windows) == 0 {
			skipped++
			continue
		}
		d := v.Time.Unix() / 86400
		weight := verdictWeight * min(1, operatorPerDay/counts[day{v.Who, d}], verdictsPerDay/counts[day{"", d}])
		for _, w := range v.Windows {
			if len(w) != len(schema.Names) {
				skipped++
				continue
			}
			list = append(list, model.Example{Values: w, Malicious: v.Real, Host: v.Host.String(), Set: set,
				Time: v.At, Weight: weight / float64(len(v.Windows)), Verdict: true})
		}
	}
	return list, skipped
}

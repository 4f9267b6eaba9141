// Package simulate plays a learned policy on incidents made from the lab's attack
// matrix, beside the rule, the best single rung and the best possible choice, to
// see what it costs to learn and that no more is risked than may be.
//
// Of each attack the matrix says what was measured: how fast it sends, how long
// the proof took after containment, and which kind of finding it raises. What a
// rung would have done that was not played then is modelled, by what the rungs
// do: a limit lets its packets per second pass; a segment stops all that goes
// where the finding says, until the attacker turns elsewhere; a quarantine stops
// all, and the host's own work. How often attackers turn elsewhere, findings are
// wrong and hosts have work or clients of their own is assumed: see World.
package simulate

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"strings"

	"github.com/platelet-sdn/platelet/detector"
)

// Attack is a row of the matrix.
type Attack struct {
	Lab  string        `json:"lab"`
	Name string        `json:"name"`
	Kind detector.Kind `json:"kind"` // of the finding
	// Rate is in packets per second, Proof the seconds from containment to its
	// proof; 0 where it was not contained.
	Rate  float64 `json:"rate"`
	Proof float64 `json:"proof_s"`
	// Spoofed is set where the sources are forged.
	Spoofed bool `json:"spoofed"`
}

// maxMatrix bounds a report of measurements, in bytes.
const maxMatrix = 64 << 20

// Read reads the attacks of a report that `platelet lab measure -o json` wrote, as
// far as there is a kind of finding for them.
func Read(from io.Reader) ([]Attack, error) {
	raw, err := io.ReadAll(io.LimitReader(from, maxMatrix+1))
	if err != nil {
		return nil, fmt.Errorf("read measurements: %w", err)
	}
	if len(raw) > maxMatrix {
		return nil, fmt.Errorf("read measurements: more than %d bytes", maxMatrix)
	}
	var doc struct {
		Schema string `json:"schema"`
		Labs   []struct {
			Name    string `json:"name"`
			Attacks []struct {
				Name     string        `json:"name"`
				Expected detector.Kind `json:"expected_finding"`
				Summary  struct {
					Sent     uint64  `json:"sent"`
					TTC      latency `json:"ttc_ms"`
					Verified latency `json:"verified_ms"`
					Benign   struct {
						During struct {
							Seconds float64 `json:"s"`
						} `json:"during"`
					} `json:"benign"`
				} `json:"summary"`
			} `json:"attacks"`
		} `json:"labs"`
	}
	var wrong *json.UnmarshalTypeError
	switch err := json.Unmarshal(raw, &doc); {
	case errors.As(err, &wrong): // whose text is that of all our types
		return nil, fmt.Errorf("read measurements: %s is a JSON %s, which a report has not there", cmp.Or(wrong.Field, "the whole"), wrong.Value)
	case err != nil:
		return nil, fmt.Errorf("read measurements: %w", err)
	}
	if !strings.HasPrefix(doc.Schema, "platelet-measure/1") {
		return nil, fmt.Errorf("read measurements: schema %q is not platelet-measure/1", doc.Schema)
	}
	var out []Attack
	for _, lab := range doc.Labs {
		for _, a := range lab.Attacks {
			s := &a.Summary
			if _, known := a.Expected.Info(); !known || s.Sent == 0 || !(s.Benign.During.Seconds > 0) {
				continue
			}
			x := Attack{Lab: lab.Name, Name: a.Name, Kind: a.Expected, Rate: float64(s.Sent) / s.Benign.During.Seconds}
			if s.TTC.N > 0 && s.Verified.N > 0 {
				x.Proof = max(0, s.Verified.P50-s.TTC.P50) / 1000
			}
			// Forged is what says so, and what hping3 sends by its default here.
			x.Spoofed = strings.HasSuffix(a.Name, "-spoofed") || a.Expected == detector.KindSYNFlood && !strings.HasSuffix(a.Name, "-direct")
			if math.IsInf(x.Rate, 0) || math.IsInf(x.Proof, 0) {
				return nil, fmt.Errorf("read measurements: %s of %s has figures without bounds", a.Name, lab.Name)
			}
			out = append(out, x)
		}
	}
	if len(out) == 0 {
		return nil, errors.New("read measurements: no attack in it was measured")
	}
	return out, nil
}

type latency struct {
	N   int     `json:"n"`
	P50 float64 `json:"p50"`
}

package model

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"time"
)

// ErrFile says that bytes are no model file, or not one that can be trusted.
var ErrFile = errors.New("not a usable model file")

const (
	fileFormat  = "platelet-model"
	fileVersion = 1
)

// file is the envelope: the hash covers the bytes of Model as they stand.
type file struct {
	Format  string          `json:"format"`
	Version int             `json:"version"`
	SHA256  string          `json:"sha256"`
	Model   json.RawMessage `json:"model"`
}

// Provenance says where a model comes from.
type Provenance struct {
	Created time.Time `json:"created"`
	Who     string    `json:"who"`
	Tool    string    `json:"tool"` // program and version
	Seed    uint64    `json:"seed"`
	// Base is the hash of the model whose training was continued, if any.
	Base string `json:"base,omitempty"`
	Sets []Set  `json:"sets"`
}

// Set is one input of a training.
type Set struct {
	Name   string `json:"name"`
	SHA256 string `json:"sha256,omitempty"`
	// Windows counts vectors with a label; of these Malicious and Benign are
	// the log's, Verdicts an operator's.
	Windows   int       `json:"windows"`
	Benign    int       `json:"benign"`
	Malicious int       `json:"malicious"`
	Verdicts  int       `json:"verdicts,omitempty"`
	Hosts     int       `json:"hosts"`
	From      time.Time `json:"from"`
	To        time.Time `json:"to"`
}

// Encode returns the file of a model and sets its hash.
func (m *Model) Encode() ([]byte, error) {
	if err := m.validate(); err != nil {
		return nil, fmt.Errorf("encode model: %w", err)
	}
	raw, err := json.Marshal(m)
	if err != nil {
		return nil, fmt.Errorf("encode model: %w", err)
	}
	m.hash = digest(raw)
	out, err := json.Marshal(file{Format: fileFormat, Version: fileVersion, SHA256: m.hash, Model: raw})
	if err != nil {
		return nil, fmt.Errorf("encode model: %w", err)
	}
	if len(out) >= MaxFile {
		return nil, fmt.Errorf("encode model: %d bytes, at most %d are read back", len(out), MaxFile)
	}
	return append(out, '\n'), nil
}

func digest(raw []byte) string {
	sum := sha256.Sum256(raw)
	return hex.EncodeToString(sum[:])
}

// Decode reads a model file. Errors wrap ErrFile and say what is wrong; whether
// the model fits the features at hand is for Schema.Fits to say.
func Decode(r io.Reader) (*Model, error) {
	raw, err := io.ReadAll(io.LimitReader(r, MaxFile+1))
	if err != nil {
		return nil, fmt.Errorf("read model: %w", err)
	}
	if len(raw) > MaxFile {
		return nil, fmt.Errorf("%w: larger than %d bytes", ErrFile, MaxFile)
	}
	var f file
	if err := json.Unmarshal(raw, &f); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrFile, err)
	}
	switch {
	case f.Format != fileFormat:
		return nil, fmt.Errorf("%w: its format is %.40q, not %q", ErrFile, f.Format, fileFormat)
	case f.Version != fileVersion:
		return nil, fmt.Errorf("%w: it has version %d, this program reads version %d", ErrFile, f.Version, fileVersion)
	case digest(f.Model) != f.SHA256:
		return nil, fmt.Errorf("%w: its content has changed since it was written (SHA-256 %.12s, it says %.12s)", ErrFile, digest(f.Model), f.SHA256)
	}
	m := &Model{hash: f.SHA256}
	dec := json.NewDecoder(bytes.NewReader(f.Model))
	dec.DisallowUnknownFields()
	if err := dec.Decode(m); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrFile, err)
	}
	if err := m.validate(); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrFile, err)
	}
	m.Linear.index(m.Bins, m.Rising)
	m.Linear.settle(m.Bins)
	return m, nil
}

// validate checks everything that scoring relies on.
func (m *Model) validate() error {
	if err := m.Schema.valid(); err != nil {
		return err
	}
	if len(m.Bins) != len(m.Schema.Names) {
		return fmt.Errorf("bins of %d features, %d are named", len(m.Bins), len(m.Schema.Names))
	}
	for _, f := range m.Rising {
		if f < 0 || f >= len(m.Bins) {
			return fmt.Errorf("feature %d, of which more is more suspicious, is not there", f)
		}
	}
	steps := 0
	for f, cuts := range m.Bins {
		if len(cuts) >= maxBins {
			return fmt.Errorf("feature %q has %d cuts, at most %d", m.Schema.Names[f], len(cuts), maxBins-1)
		}
		for i, c := range cuts {
			if !finite(c) || i > 0 && c <= cuts[i-1] {
				return fmt.Errorf("the cuts of feature %q do not ascend", m.Schema.Names[f])
			}
		}
		steps += len(cuts)
	}
	if m.Linear == nil || len(m.Linear.Z) != steps+1 || len(m.Linear.N) != steps+1 {
		return fmt.Errorf("the regression does not have %d steps", steps+1)
	}
	if !finite(m.Linear.Z...) || !finite(m.Linear.N...) || !bounded(1e9, m.Linear.Z...) || !bounded(1e9, m.Linear.N...) {
		return errors.New("the regression holds numbers out of range")
	}
	for _, n := range m.Linear.N {
		if n < 0 {
			return errors.New("the regression holds a negative sum of squares")
		}
	}
	return errors.Join(m.validTrees(), m.validClaims())
}

func (m *Model) validTrees() error {
	if len(m.Trees) > maxTrees || !bounded(1e3, m.TreeBias) {
		return fmt.Errorf("%d trees, at most %d, or a bias out of range", len(m.Trees), maxTrees)
	}
	for i := range m.Trees {
		t := &m.Trees[i]
		for n, f := range t.Feature {
			if f < noSplit || int(f) >= len(m.Bins) || f != noSplit && (t.Bin[n] < 1 || int(t.Bin[n]) > len(m.Bins[f])) {
				return fmt.Errorf("tree %d splits at a bin that is not there", i)
			}
		}
		if !bounded(maxNodeValue, t.Value[:]...) {
			return fmt.Errorf("tree %d holds a value out of range", i)
		}
	}
	return nil
}

// validClaims checks what the model says of itself.
func (m *Model) validClaims() error {
	c, p := &m.Calibration, &m.Provenance
	switch {
	case !(c.Slope >= 0 && c.Slope <= maxSlope) || !bounded(100, c.Offset, c.Shift) || !(c.Prior > 0 && c.Prior < 1) || !(c.Ceiling >= 0 && c.Ceiling <= 1):
		return errors.New("the calibration is out of range")
	case !(m.Threshold > 0 && m.Threshold <= 1):
		return fmt.Errorf("the threshold %v is not in (0, 1]", m.Threshold)
	case len(p.Sets) > maxSets || len(m.Metrics) > maxSets || len(m.Anchors) > maxAnchors:
		return errors.New("more sets, metrics or anchors than a model may have")
	case len(p.Who) > maxText || len(p.Tool) > maxText || len(p.Base) > maxText:
		return errors.New("the provenance is longer than it may be")
	}
	for _, s := range p.Sets {
		if len(s.Name) > maxText || min(s.Windows, s.Benign, s.Malicious, s.Verdicts, s.Hosts) < 0 {
			return errors.New("a set's provenance is out of range")
		}
	}
	if len(m.Normal) != len(m.Bins) || !finite(m.Normal...) {
		return errors.New("what is normal does not fit the features")
	}
	for _, a := range m.Anchors {
		if len(a.Values) != len(m.Bins) || !finite(a.Values...) || len(a.Set) > maxText {
			return errors.New("an anchor does not fit the features")
		}
	}
	return nil
}

func finite(list ...float64) bool {
	for _, x := range list {
		if math.IsNaN(x) || math.IsInf(x, 0) {
			return false
		}
	}
	return true
}

func bounded(limit float64, list ...float64) bool {
	for _, x := range list {
		if !(math.Abs(x) <= limit) {
			return false
		}
	}
	return true
}

package learning

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"github.com/platelet-sdn/platelet/detector"
	"github.com/platelet-sdn/platelet/detector/model"
)

// Whatever stands in the state directory, what comes out of it can be trained on:
// the right number of features and a weight within bounds.
func FuzzState(f *testing.F) {
	f.Add([]byte(`{"finding":"f-1","host":"10.0.0.1","real":true,"who":"ann","time":"2026-01-01T00:00:00Z","schema":"x","at":1,"windows":[[1,null,3]]}`))
	f.Add([]byte(`{"host":"10.0.0.1","start":1,"schema":"x","values":[1,2]}`))
	f.Add([]byte("\n\n{\n"))
	schema := detector.ModelSchema()
	full, err := json.Marshal(past{Schema: schema.Hash, Values: make(Vector, len(schema.Names))})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(full)
	f.Fuzz(func(t *testing.T, raw []byte) {
		dir := t.TempDir()
		v, h := OpenVerdicts(dir), OpenHistory(dir)
		if err := os.MkdirAll(h.dir, 0o700); err != nil {
			t.Fatal(err)
		}
		for _, path := range []string{v.path, filepath.Join(h.dir, "2026010100.jsonl")} {
			if err := os.WriteFile(path, raw, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		list, _, err := v.All()
		if err != nil {
			return // a line longer than any of ours
		}
		examples, _ := examplesOf(list, schema, 0)
		more, _, err := h.Examples(schema, 1, list)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range append(examples, more...) {
			if len(e.Values) != len(schema.Names) || !(e.Weight > 0 && e.Weight <= verdictWeight) {
				t.Fatalf("%d values, weight %v", len(e.Values), e.Weight)
			}
		}
		_, err = model.Train(append(examples, more...), model.Options{Schema: schema, Sets: []model.Set{{}, {}}})
		_ = err // too few labels, mostly; it must not panic
	})
}

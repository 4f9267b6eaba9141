package learn

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/platelet-sdn/platelet/controller/response"
	"github.com/platelet-sdn/platelet/detector"
)

func choice(i int) Played {
	return Played{
		Type: typeChoice, Time: time.Unix(int64(i), 0).UTC(), Decision: fmt.Sprintf("d-%d", i), Finding: fmt.Sprintf("f-%d", i), Kind: detector.KindPortScan,
		Target: "10.0.0.9", Schema: Schema, Context: contextOf(detector.KindPortScan, i%7),
		Arms: []Arm{{response.ActionSegment, 0.03}, {response.ActionQuarantine, 0.97}}, Rule: response.ActionQuarantine,
		Wanted: response.ActionSegment, Action: response.ActionQuarantine, Mode: response.LearningExplore, Policy: "clucb/1+3", Seed: 7,
	}
}

func outcome(i int, reward float64) Outcome {
	return Outcome{Type: typeOutcome, Time: time.Unix(int64(i), 0).UTC(), Decision: fmt.Sprintf("d-%d", i), Reward: reward, Parts: Parts{Stopped: reward}}
}

func line(t interface{ Fatal(...any) }, x any) []byte {
	raw, err := encode(x)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

// Wherever a crash cuts the log off, whole lines are read, nothing is called a
// fault, and what is written after it is read too.
func TestLogOutlivesCrashes(t *testing.T) {
	state := t.TempDir()
	rapid.Check(t, func(t *rapid.T) {
		if err := os.RemoveAll(Dir(state)); err != nil {
			t.Fatal(err)
		}
		var all []byte
		n := rapid.IntRange(0, 12).Draw(t, "choices")
		for i := range n {
			all = append(append(all, line(t, choice(i))...), line(t, outcome(i, 0.5))...)
		}
		cut := rapid.IntRange(0, len(all)).Draw(t, "cut")
		if err := os.MkdirAll(Dir(state), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file(Dir(state), 0), all[:cut], 0o600); err != nil {
			t.Fatal(err)
		}
		whole := bytes.Count(all[:cut], []byte("\n"))
		log, err := ReadLog(state)
		if err != nil || len(log.Faults) > 0 || len(log.Choices)+len(log.Outcomes) != whole {
			t.Fatalf("%d choices, %d outcomes of %d lines; faults %v, %v", len(log.Choices), len(log.Outcomes), whole, log.Faults, err)
		}
		w := &writer{dir: Dir(state), most: maxFile}
		if err := errors.Join(w.append(line(t, choice(100))), w.append(line(t, outcome(100, 1))), w.close()); err != nil {
			t.Fatal(err)
		}
		if log, err = ReadLog(state); err != nil || len(log.Faults) > 0 || len(log.Choices)+len(log.Outcomes) != whole+2 {
			t.Fatalf("after another start: %d choices, %d outcomes of %d lines; faults %v, %v", len(log.Choices), len(log.Outcomes), whole+2, log.Faults, err)
		}
	})
}

func TestLogIsBounded(t *testing.T) {
	state := t.TempDir()
	w := &writer{dir: Dir(state), most: 4096}
	const n = 300
	for i := range n {
		if err := w.append(append(line(t, choice(i)), line(t, outcome(i, 0.5))...)); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.close(); err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob(filepath.Join(Dir(state), "choices*"))
	if err != nil || len(files) != keptFiles {
		t.Fatalf("%v, %v", files, err)
	}
	for _, f := range files {
		if st, err := os.Stat(f); err != nil || st.Size() > w.most {
			t.Errorf("%s: %d bytes, %v", f, st.Size(), err)
		}
	}
	log, err := ReadLog(state)
	if err != nil || len(log.Choices) == 0 || len(log.Choices) >= n || len(log.Outcomes) != len(log.Choices) {
		t.Fatalf("%d choices, %d outcomes, %v", len(log.Choices), len(log.Outcomes), err)
	}
	for i, c := range log.Choices { // the latest, in order
		if want := fmt.Sprintf("d-%d", n-len(log.Choices)+i); c.Decision != want {
			t.Fatalf("choice %d is %s, want %s", i, c.Decision, want)
		}
	}
}

func TestFaultsHaveAPlace(t *testing.T) {
	bad := choice(2)
	bad.Arms[0].Propensity = 0.5
	never := choice(3)
	never.Action, never.Arms[0].Propensity, never.Arms[1].Propensity = response.ActionSegment, 0, 1
	context := choice(4)
	context.Context = context.Context[:3]
	text := string(line(t, choice(1))) + "nonsense\n" + string(line(t, bad)) + string(line(t, never)) + string(line(t, context)) +
		`{"type":"outcome","decision":"d-1","reward":1.5}` + "\n" + `{"type":"outcome","decision":"d-1","colour":"red"}` + "\n" + `{"type":"verdict"}` + "\n" +
		strings.Repeat("x", maxLine+10) + "\n" + string(line(t, outcome(1, 0.25)))
	log := &Log{Outcomes: map[string]Outcome{}}
	if err := log.read("c.jsonl", strings.NewReader(text)); err != nil {
		t.Fatal(err)
	}
	if len(log.Choices) != 1 || log.Outcomes["d-1"].Reward != 0.25 || len(log.Faults) != 8 {
		t.Fatalf("%d choices, %d faults: %v", len(log.Choices), len(log.Faults), log.Faults)
	}
	for i, err := range log.Faults {
		if want := fmt.Sprintf("c.jsonl:%d: ", i+2); !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%v, want a fault at %s", err, want)
		}
	}
}

// What is read can be written and read again, and nothing that is read breaks what
// comes after.
func FuzzLog(f *testing.F) {
	f.Add(line(f, choice(1)))
	f.Add(append(line(f, choice(1)), line(f, outcome(1, 0.75))...))
	f.Add([]byte("{\"type\":\"choice\"}\n{\"type\":\"outcome\"}\n\n{"))
	f.Add([]byte(`{"type":"choice","decision":"d","schema":"context/0","context":null,"arms":[{"action":"segment","p":1}],"rule":"segment","wanted":"segment","action":"segment","mode":"off","policy":"rule","seed":0}` + "\n"))
	f.Fuzz(func(t *testing.T, raw []byte) {
		log := &Log{Outcomes: map[string]Outcome{}}
		if err := log.read("fuzz", bytes.NewReader(raw)); err != nil {
			t.Fatal(err)
		}
		log.drop()
		again := &Log{Outcomes: map[string]Outcome{}}
		var text []byte
		for _, c := range log.Choices {
			text = append(text, line(t, c)...)
		}
		if err := again.read("again", bytes.NewReader(text)); err != nil || len(again.Faults) > 0 || len(again.Choices) != len(log.Choices) {
			t.Fatalf("%v, %v", err, again.Faults)
		}
		l := New(Config{Mode: response.LearningLive, Alpha: 0.1, Explore: 0.05, Seed: 1})
		for i := range log.Choices {
			l.restore(&log.Choices[i], log.Outcomes)
		}
		if r := log.Report(Judge{Alpha: 0.1, MinSamples: 10}); r.Promotable {
			t.Fatal("promoted by noise")
		}
	})
}

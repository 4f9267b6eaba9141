package model

import (
	"fmt"
	"os"
	"strings"
	"testing"
)

// The table of the card is made from the model:
//
//	UPDATE=1 go test ./detector/model -run TestCard
func TestCard(t *testing.T) {
	const path, begin, end = "CARD.md", "<!-- metrics:begin -->\n", "<!-- metrics:end -->\n"
	m, err := Starter()
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	b.WriteString("| set left out | benign windows (hosts) | malicious windows (hosts) | AUC | found | false per host-hour | rule | AUC | found | false per host-hour |\n|---|---|---|---|---|---|---|---|---|---|\n")
	for _, x := range m.Metrics {
		side := "≥"
		if x.Rule.Below {
			side = "<"
		}
		fmt.Fprintf(&b, "| %s | %d (%d) | %d (%d) | %s | %d | %s | %s %s %.3g | %s | %d | %s |\n", x.Set, x.Benign, x.Hosts, x.Malicious, x.Attackers,
			either(x.AUC, min(x.Benign, x.Malicious)), x.Found, either(x.False, x.Benign), x.Rule.Feature, side, x.Rule.Cut,
			either(x.Rule.AUC, min(x.Benign, x.Malicious)), x.Rule.Found, either(x.Rule.False, x.Benign))
	}
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, ok := strings.Cut(string(raw), begin)
	_, after, ok2 := strings.Cut(rest, end)
	if !ok || !ok2 {
		t.Fatal("the card has no place for its metrics")
	}
	want := before + begin + b.String() + end + after
	if os.Getenv("UPDATE") != "" {
		if err := os.WriteFile(path, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if want != string(raw) {
		t.Errorf("%s is not what the model says; run the command above this test", path)
	}
	for _, s := range m.Provenance.Sets {
		if dir := strings.FieldsFunc(s.Name, func(r rune) bool { return r == '/' || r == ' ' })[0]; !strings.Contains(before, dir) {
			t.Errorf("the card does not name the set %s", s.Name)
		}
	}
}

func either(v float64, n int) string {
	if n == 0 {
		return "–"
	}
	return fmt.Sprintf("%.2f", v)
}

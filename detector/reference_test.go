package detector

import (
	"fmt"
	"os"
	"strings"
	"testing"
)

// reference writes what REFERENCE.md holds, from the code.
func reference() string {
	var b strings.Builder
	b.WriteString("# Findings and features\n\nGenerated from the code (`UPDATE_REFERENCE=1 go test -run Reference ./detector`), and held to it by a test.\n\n" +
		"## Kinds of findings\n\nTechniques are MITRE ATT&CK, Enterprise and ICS matrix. A finding acts by itself only when a sequential test decided or when " +
		"findings of\ntwo families agree about a host, each with a probability of 0.95 or more; everything else alerts. Severity is what a finding starts with.\n\n" +
		"| kind | what it is | technique | ICS | severity | family | after |\n|---|---|---|---|---|---|---|\n")
	dash := func(s string) string {
		if s == "" {
			return "–"
		}
		return s
	}
	for _, k := range Kinds() {
		fmt.Fprintf(&b, "| `%s` | %s | %s | %s | %s | %s | %s |\n", k.Kind, k.About, dash(k.Technique), dash(k.ICS), k.Severity, k.Family, k.Source)
	}
	b.WriteString("\n## Features of a host's minute\n\nWhat models learn from, and what baselines are kept of. *log*: sizes span orders of magnitude, models take log(1+x). " +
		"*sampled*: what packet\nsampling does to it: noisier, or hidden (then it is 0, and detectors that need it abstain).\n\n" +
		"| feature | unit | what it is | from | log | sampled |\n|---|---|---|---|---|---|\n")
	for _, f := range Features() {
		log, sampled := "", "hidden"
		if f.Log {
			log = "yes"
		}
		if f.Sampled {
			sampled = "noisier"
		}
		fmt.Fprintf(&b, "| `%s` | %s | %s | %s | %s | %s |\n", f.Name, f.Unit, f.About, f.Source, dash(log), sampled)
	}
	return b.String()
}

func TestReference(t *testing.T) {
	const path = "REFERENCE.md"
	want := reference()
	if os.Getenv("UPDATE_REFERENCE") != "" {
		if err := os.WriteFile(path, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	have, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if string(have) != want {
		t.Error("REFERENCE.md does not say what the code says; UPDATE_REFERENCE=1 go test -run Reference ./detector writes it")
	}
}

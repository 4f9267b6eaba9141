package main

import (
	"bytes"
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/platelet-sdn/platelet/controller/config"
	"github.com/platelet-sdn/platelet/controller/response/playbook"
	"github.com/platelet-sdn/platelet/segmentation/policy"
	"github.com/platelet-sdn/platelet/segmentation/strictyaml"
)

// call runs a command line in this process.
func call(t *testing.T, args ...string) (stdout string, code int, err error) {
	t.Helper()
	var out bytes.Buffer
	cmd := root()
	cmd.SetArgs(args)
	cmd.SetOut(&out)
	cmd.SetErr(io.Discard)
	if err = cmd.ExecuteContext(t.Context()); err != nil {
		code = exitCode(err)
	}
	return out.String(), code, err
}

func write(t *testing.T, name, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestCheck(t *testing.T) {
	good := write(t, "good.yaml", "mode: advise\n")
	if out, code, err := call(t, "check", good, "../../../lab/first.clab.yml"); code != 0 || strings.Count(out, "good\n") != 2 {
		t.Errorf("exit %d, %v: %s", code, err, out)
	}
	bad := write(t, "bad.yaml", "mode: advise\nresponse:\n  tll: 5s\n")
	_, code, err := call(t, "check", good, bad)
	if code != 2 || err == nil || !strings.HasPrefix(err.Error(), bad+":3:3: ") {
		t.Errorf("exit %d: %v, want 2 and a fault at %s:3:3", code, err, bad)
	}
	topo := write(t, "bad.clab.yml", "name: x\ntopology:\n  nodes:\n    a: {kind: linux, imagee: x}\n")
	if _, code, err = call(t, "check", topo); code != 2 || !strings.Contains(err.Error(), ":4:") {
		t.Errorf("exit %d: %v", code, err)
	}
	if _, code, _ = call(t, "run", "-c", bad); code != 2 {
		t.Errorf("run with a bad configuration: exit %d, want 2", code)
	}
}

func TestReplayPrintsTheDocumentedLines(t *testing.T) {
	out, code, err := call(t, "replay", "-o", "json", "../../../flowcollector/testdata/ovs-ipfix-flow-sample.pcap")
	if code != 0 {
		t.Fatal(err)
	}
	seen := map[string]int{}
	var last map[string]any
	for line := range strings.Lines(out) {
		last = map[string]any{}
		if err := json.Unmarshal([]byte(line), &last); err != nil {
			t.Fatalf("%s: %v", line, err)
		}
		kind, _ := last["type"].(string)
		seen[kind]++
		for _, key := range map[string][]string{
			"finding":  {"id", "time", "first_seen", "kind", "host", "victims", "score", "confidence", "severity", "technique", "state", "evidence", "records"},
			"decision": {"id", "time", "finding", "action", "target", "ttl_s", "why", "state"},
			"summary":  {"records", "span_s", "hosts", "findings", "decisions", "malformed"},
		}[kind] {
			if _, ok := last[key]; !ok {
				t.Errorf("a %s without %q: %s", kind, key, line)
			}
		}
	}
	// The capture holds an nmap -sS of 200 ports by 10.99.0.1, seen by a
	// flow-based sample of its port.
	if seen["finding"] != 1 || seen["decision"] != 1 || seen["summary"] != 1 || last["type"] != "summary" {
		t.Errorf("got %v:\n%s", seen, out)
	}
	if again, _, _ := call(t, "replay", "-o", "json", "../../../flowcollector/testdata/ovs-ipfix-flow-sample.pcap"); again != out {
		t.Error("a second replay tells another story")
	}
}

func TestReplayFaults(t *testing.T) {
	if _, code, err := call(t, "replay", write(t, "x.log", "not a flow log\n")); code == 0 {
		t.Error("replayed what is no recording")
	} else if !strings.Contains(err.Error(), "x.log") {
		t.Errorf("the error does not name the file: %v", err)
	}
	if _, code, _ := call(t, "replay", "-o", "xml", "x"); code != 2 {
		t.Errorf("unknown output format: exit %d, want 2", code)
	}
}

func TestNoControllerIsAClearError(t *testing.T) {
	_, code, err := call(t, "status", "--socket", filepath.Join(t.TempDir(), "none.sock"))
	if code != 1 || !strings.Contains(err.Error(), "platelet run") {
		t.Errorf("exit %d: %v", code, err)
	}
}

var fence = regexp.MustCompile("(?s)```(yaml|sh)\n(.*?)```")

// Every configuration in the README is valid, every command line exists with
// its flags. That the commands do what they say is tested on a real switch in
// package controller.
func TestReadmeExamples(t *testing.T) {
	raw, err := os.ReadFile("../../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	configs, commands := 0, 0
	for _, m := range fence.FindAllStringSubmatch(string(raw), -1) {
		if m[1] == "yaml" {
			configs++
			if strings.HasPrefix(m[2], "apiVersion: playbook/") {
				if books, err := playbook.Parse("README.md", []byte(m[2])); err != nil || playbook.Check(books, nil) != nil {
					t.Error(err, playbook.Check(books, nil))
				}
				continue
			}
			if regexp.MustCompile("(?m)^(policies|invariants):$").MatchString(m[2]) { // in part; see TestReadmePolicies
				if err := strictyaml.Decode("README.md", []byte(m[2]), &policy.File{}); err != nil {
					t.Error(err)
				}
				continue
			}
			if _, err := config.Parse("README.md", []byte(m[2])); err != nil {
				t.Error(err)
			}
			continue
		}
		for line := range strings.Lines(m[2]) {
			line, _, _ = strings.Cut(strings.TrimSpace(line), " #")
			line = strings.TrimPrefix(line, "sudo ")
			if rest, ok := strings.CutPrefix(strings.TrimPrefix(line, "bin/"), "platelet "); ok {
				commands++
				checkCommandLine(t, strings.Fields(rest))
			}
		}
	}
	if configs == 0 || commands < 20 {
		t.Errorf("found %d configurations and %d commands", configs, commands)
	}
}

func checkCommandLine(t *testing.T, args []string) {
	t.Helper()
	cmd, rest, err := root().Find(args)
	if err != nil || !cmd.Runnable() {
		t.Errorf("README: platelet %s: no such command (%v)", strings.Join(args, " "), err)
		return
	}
	if err := cmd.ParseFlags(rest); err != nil {
		t.Errorf("README: platelet %s: %v", strings.Join(args, " "), err)
		return
	}
	if validate := cmd.Args; validate != nil {
		if err := validate(cmd, cmd.Flags().Args()); err != nil {
			t.Errorf("README: platelet %s: %v", strings.Join(args, " "), err)
		}
	}
}

// A mistake in a flag is bad input like any other, and --at says what it wants.
func TestMistakesInFlags(t *testing.T) {
	for _, c := range []struct {
		want string
		args []string
	}{
		{"unknown flag: --att", []string{"policy", "trace", designPolicies, "--att", "x"}},
		{"2026-11-23T12:00:00Z", []string{"policy", "trace", designPolicies, "--from", "10.0.0.1", "--to", "10.0.0.2", "--port", "1", "--at", "noon"}},
		{"--at", []string{"policy", "lint", designPolicies, "--at", "noon"}},
		{"--at", []string{"policy", "compile", designPolicies, "--at", ""}},
		{"--at", []string{"playbook", "test", "--finding", "f", "--at", "noon"}},
	} {
		if _, code, err := call(t, c.args...); code != 2 || err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%v: exit %d, %v", c.args, code, err)
		}
	}
}

// Numbers are numbers in YAML too, and exact.
func TestNumbersInYAML(t *testing.T) {
	var out strings.Builder
	if err := print(&out, "yaml", []byte(`[{"bytes":18446744073709551615,"share":0.25,"small":1e-7,"name":"5","list":[1]}]`), nil); err != nil {
		t.Fatal(err)
	}
	if want := "- bytes: 18446744073709551615\n  list:\n    - 1\n  name: \"5\"\n  share: 0.25\n  small: 1e-7\n"; out.String() != want {
		t.Errorf("got\n%s\nwant\n%s", out.String(), want)
	}
}

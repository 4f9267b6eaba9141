package main

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const desk = `apiVersion: playbook/v1
playbooks:
- name: desk
  trigger: {kinds: [port-scan], tags: {env: prod}}
  people: 1
  steps:
  - {name: contain, action: quarantine}
  - name: ticket
    action: webhook
    with: {url: "https://desk.example/hook?token=hush", body: "{{json .Host.Address}}", headers: {X-Api-Key: hush}}
    rollback: {action: exec, with: {command: close, args: ["{{.Run}}"]}}
  - {name: worse, if: {severity: critical}, action: wait, with: {for: 1s}}
`

const aScan = `{"type":"finding","id":"f-1","time":"2026-11-23T09:00:00Z","first_seen":"2026-11-23T08:59:59Z","kind":"port-scan","host":"10.0.0.7","victims":["10.0.0.9"],"score":0.97,"confidence":0.99,"severity":"high","technique":"T1046","family":"sequential","state":"firing","evidence":[],"records":37,"spoofed":false,"sequential":true,"may_contain":true}
`

// playbooks writes a configuration with a file of playbooks beside it.
func playbooks(t *testing.T, books, rest string) (configuration, finding string) {
	t.Helper()
	dir := t.TempDir()
	for name, text := range map[string]string{"c.yaml": "mode: autonomous\nprotected: [10.0.0.1]\nplaybooks: [books/*.yaml]\n" + rest, "books/desk.yaml": books, "f.json": aScan} {
		name = filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return filepath.Join(dir, "c.yaml"), filepath.Join(dir, "f.json")
}

func TestPlaybookTest(t *testing.T) {
	file, finding := playbooks(t, desk, "playbook_exec: {close: {path: /usr/local/bin/close}}\n")
	out, _, err := call(t, "playbook", "test", "-c", file, "--finding", finding, "--tag", "env=prod")
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"+ playbook desk", "action quarantine 10.0.0.7", "guard people", "step ticket: webhook, 1 attempts of 10s, on failure stop",
		`body: '"10.0.0.7"'`, "undone by exec", "step worse: wait, skipped: if: severity below critical"} {
		if !strings.Contains(out, want) {
			t.Errorf("%q is missing in\n%s", want, out)
		}
	}
	if strings.Contains(out, "hush") {
		t.Errorf("a secret is shown:\n%s", out)
	}
	out, _, err = call(t, "playbook", "test", "-c", file, "--finding", finding)
	if err != nil || !strings.Contains(out, "- playbook desk") || !strings.Contains(out, "+ playbook contain-host") {
		t.Errorf("%v: without the tag\n%s", err, out)
	}
	if _, _, err := call(t, "playbook", "test", "-c", file, "--finding", file); err == nil {
		t.Error("a configuration was taken for a finding")
	}
}

func TestPlaybookListAndShow(t *testing.T) {
	file, _ := playbooks(t, desk, "playbook_exec: {close: {path: /usr/local/bin/close}}\nresponse: {actions: {beacon: alert}}\n")
	out, _, err := call(t, "playbook", "list", "-c", file)
	lines := strings.Split(strings.TrimSpace(out), "\n")
	if err != nil || len(lines) != 7 || !strings.HasPrefix(lines[1], "desk ") || !strings.HasPrefix(lines[2], "actions-alert ") {
		t.Errorf("%v\n%s", err, out)
	}
	out, _, err = call(t, "playbook", "show", "-c", file, "desk")
	if err != nil {
		t.Fatal(err)
	}
	again, _ := playbooks(t, out, "playbook_exec: {close: {path: /usr/local/bin/close}}\n")
	if _, _, err := call(t, "check", again); err != nil {
		t.Errorf("%v\nof %s", err, out)
	}
	if _, code, err := call(t, "playbook", "show", "nosuch"); code != 2 {
		t.Errorf("no such playbook: %v", err)
	}
}

func TestCheckOfPlaybooks(t *testing.T) {
	file, _ := playbooks(t, desk, "")
	books := filepath.Join(filepath.Dir(file), "books", "desk.yaml")
	_, code, err := call(t, "check", file)
	if err == nil || code != 2 || err.Error() != books+`:3:3: playbook desk: command "close" is not in playbook_exec of the configuration` {
		t.Errorf("configuration: %v", err)
	}
	out, _, err := call(t, "check", books)
	if err != nil || out != books+": playbooks, good\n"+books+": note: runs close: checking the configuration tells whether it may\n" {
		t.Errorf("playbooks: %v\n%s", err, out)
	}
	file, _ = playbooks(t, strings.Replace(desk, "action: quarantine", "action: reroute", 1), "playbook_exec: {close: {path: /bin/true}}\n")
	if _, _, err = call(t, "check", file); err == nil || !strings.Contains(err.Error(), "needs response.honeypot") {
		t.Errorf("no honeypot: %v", err)
	}
	gone, _ := playbooks(t, desk, "playbook_exec: {close: {path: bin/true}}\n")
	if _, _, err = call(t, "check", gone); err == nil || !strings.Contains(err.Error(), ":4:31: playbook_exec.close.path") {
		t.Errorf("relative command: %v", err)
	}
	one := write(t, "c.yaml", "playbooks: [nosuch.yaml]\n")
	if _, _, err = call(t, "check", one); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("missing file: %v", err)
	}
}

func TestPlaybooksOfOthers(t *testing.T) {
	out, _, err := call(t, "playbook", "export", "contain-host")
	if err != nil {
		t.Fatal(err)
	}
	text, _, err := call(t, "playbook", "import", write(t, "cacao.json", strings.Replace(out, `"type": "manual"`, `"type": "bash"`, 1)))
	if err == nil || exitCode(err) != 2 || !strings.Contains(err.Error(), `"bash"`) {
		t.Errorf("a shell: %v: %s", err, text)
	}
	file, _ := playbooks(t, desk, "playbook_exec: {close: {path: /bin/true}}\n")
	if _, code, err := call(t, "playbook", "export", "-c", file, "desk"); code != 2 || !strings.Contains(err.Error(), "step worse: a condition") {
		t.Errorf("%d: %v", code, err)
	}
}

// What is wrong on a command line is said with the command and how it is used, and
// is exit code 2, also where only the name of a group of commands is right.
func TestWrongCommandLines(t *testing.T) {
	file := filepath.Join(t.TempDir(), "list.json")
	if err := os.WriteFile(file, []byte("[]"), 0o600); err != nil {
		t.Fatal(err)
	}
	for line, want := range map[string]string{
		"playbook import":                  "platelet playbook import: accepts 1 arg(s), received 0; usage: platelet playbook import FILE",
		"learn repor":                      `platelet learn: there is no command "repor" (did you mean "report"?)`,
		"audit list --last x":              `platelet audit list: invalid argument "x" for "--last" flag`,
		"playbook test --finding " + file:  "holds no finding: needs a line of JSON",
		"playbook import " + file:          "the whole is a JSON array",
		"lab nothing-of-the-kind":          "there is no command",
		"playbook export --colour contain": "unknown flag: --colour; see platelet playbook export --help",
	} {
		cmd := root()
		cmd.SetArgs(strings.Fields(line))
		cmd.SetOut(io.Discard)
		if err := cmd.ExecuteContext(t.Context()); err == nil || !strings.Contains(err.Error(), want) || exitCode(err) != 2 {
			t.Errorf("%s: %v (exit code %d), want %q", line, err, exitCode(err), want)
		}
	}
}

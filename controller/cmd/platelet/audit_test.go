package main

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const oldLog = "../../audit/testdata/log"

// copiedLog is a log that a test may change.
func copiedLog(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.CopyFS(dir, os.DirFS(oldLog)); err != nil {
		t.Fatal(err)
	}
	return dir
}

func TestAuditVerify(t *testing.T) {
	out, code, err := call(t, "audit", "verify", oldLog)
	if code != 0 || !strings.Contains(out, "whole: entries 0 to 13 in 1 files") || !strings.Contains(out, "key: platelet-audit-") {
		t.Errorf("exit %d: %v\n%s", code, err, out)
	}
	if out, code, err := call(t, "audit", "verify", oldLog+"/audit-000000000000.jsonl", "-o", "json"); code != 0 || !json.Valid([]byte(out)) {
		t.Errorf("exit %d: %v\n%s", code, err, out)
	}
	if out, code, err := call(t, "audit", "verify", "--checkpoint", oldLog+"/checkpoints", oldLog); code != 0 {
		t.Errorf("exit %d: %v\n%s", code, err, out)
	}

	dir := copiedLog(t)
	path := filepath.Join(dir, "audit-000000000000.jsonl")
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, bytes.Replace(raw, []byte("10.77.0.15"), []byte("10.77.0.16"), 1), 0o600); err != nil {
		t.Fatal(err)
	}
	out, code, _ = call(t, "audit", "verify", dir)
	if code != 1 || !strings.Contains(out, "audit-000000000000.jsonl:3: was changed") {
		t.Errorf("exit %d:\n%s", code, out)
	}
	if _, code, _ := call(t, "audit", "verify", filepath.Join(dir, "none")); code != 2 {
		t.Errorf("of what is not there, exit %d", code)
	}
	if _, code, _ := call(t, "audit", "verify", "--checkpoint", filepath.Join(dir, "none"), dir); code != 2 {
		t.Errorf("with a checkpoint that is not there, exit %d", code)
	}
	if _, code, _ := call(t, "audit", "verify", "--key", "platelet-audit-00000000+00000000+AAAA", oldLog); code != 1 {
		t.Errorf("with another key, exit %d", code)
	}
}

func TestAuditShow(t *testing.T) {
	out, code, err := call(t, "audit", "show", "d-0123456789ab", "--dir", oldLog)
	if code != 0 || strings.Count(out, "\n") != 10 || !strings.Contains(out, "released by root") {
		t.Errorf("exit %d: %v\n%s", code, err, out)
	}
	out, code, err = call(t, "audit", "show", "f-0123456789abcdef", "--dir", oldLog, "-o", "json")
	var entries []map[string]any
	if code != 0 || json.Unmarshal([]byte(out), &entries) != nil || len(entries) != 10 {
		t.Errorf("exit %d: %v\n%s", code, err, out)
	}
	if _, code, err := call(t, "audit", "show", "d-none", "--dir", oldLog); code != 1 || !strings.Contains(err.Error(), "nothing about d-none") {
		t.Errorf("exit %d: %v", code, err)
	}
}

func TestAuditListAndExport(t *testing.T) {
	out, code, err := call(t, "audit", "list", "--dir", oldLog, "--last", "3")
	if code != 0 || strings.Count(out, "\n") != 3 || !strings.Contains(out, "    13  ") {
		t.Errorf("exit %d: %v\n%s", code, err, out)
	}
	if out, _, _ := call(t, "audit", "list", "--dir", oldLog, "--event", "operator.", "--event", "controller.st"); strings.Count(out, "\n") != 4 {
		t.Errorf("by event:\n%s", out)
	}
	if out, _, _ := call(t, "audit", "list", "--dir", oldLog, "--since", "1us", "-o", "json"); strings.TrimSpace(out) != "[]" {
		t.Errorf("of the last microsecond:\n%s", out)
	}
	out, code, err = call(t, "audit", "export", "--dir", oldLog)
	if code != 0 || strings.Count(out, `"class_uid":2004`) != 3 || strings.Count(out, `"class_uid":7004`) != 4 {
		t.Errorf("exit %d: %v\n%s", code, err, out)
	}
	raw, err := os.ReadFile(oldLog + "/audit-000000000000.jsonl")
	if err != nil {
		t.Fatal(err)
	}
	if out, _, _ := call(t, "audit", "export", "--dir", oldLog, "-o", "json"); strings.Count(out, "\n") != bytes.Count(raw, []byte("\n")) {
		t.Errorf("as it is:\n%s", out)
	}
	if _, code, _ := call(t, "audit", "export", "--dir", oldLog, "-o", "xml"); code != 2 {
		t.Errorf("in another form: exit %d", code)
	}
}

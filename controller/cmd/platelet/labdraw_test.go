package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/google/shlex"
)

func TestLabDraw(t *testing.T) {
	file := filepath.Join(t.TempDir(), "first.svg")
	var out bytes.Buffer
	for _, args := range [][]string{{"lab", "draw", "../../../lab/first.clab.yml"}, {"lab", "draw", "-o", file, "../../../lab/first.clab.yml"}} {
		cmd := root()
		cmd.SetArgs(args)
		cmd.SetOut(&out)
		if err := cmd.Execute(); err != nil {
			t.Fatal(err)
		}
	}
	written, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	committed, err := os.ReadFile("../../../lab/first.svg")
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(written, committed) || !bytes.Equal(out.Bytes(), committed) {
		t.Error("draw does not draw the picture that is committed")
	}
	cmd := root()
	cmd.SetArgs([]string{"lab", "draw", "-o", "/nowhere/x.svg", "../../../lab/first.clab.yml"})
	if err := cmd.Execute(); err == nil {
		t.Error("no error for a directory that is not there")
	}
}

// TestLabPagesSpeakOurLanguage: every platelet command on the pages of the
// labs names a command of ours, flags it knows, and a topology that exists.
func TestLabPagesSpeakOurLanguage(t *testing.T) {
	pages, err := filepath.Glob("../../../lab/*.md")
	if err != nil || len(pages) < 6 {
		t.Fatalf("%d pages, %v", len(pages), err)
	}
	quoted := regexp.MustCompile("`(platelet [^`]*)`")
	for _, page := range pages {
		text, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		found := 0
		for _, m := range quoted.FindAllStringSubmatch(string(text), -1) {
			found++
			if err := parses(m[1]); err != nil {
				t.Errorf("%s: %s: %v", page, m[1], err)
			}
		}
		if found < 3 {
			t.Errorf("%s has %d commands of ours", page, found)
		}
	}
}

// parses tells whether a command line would be understood, without running
// it.
func parses(line string) error {
	words, err := shlex.Split(line)
	if err != nil {
		return err
	}
	cmd, args, err := root().Find(words[1:])
	if err != nil {
		return err
	}
	if err := cmd.ParseFlags(args); err != nil {
		return err
	}
	for _, arg := range cmd.Flags().Args() {
		if strings.HasSuffix(arg, ".yml") {
			if _, err := os.Stat(filepath.Join("../../..", arg)); err != nil {
				return err
			}
		}
	}
	if !cmd.Runnable() {
		return fmt.Errorf("%q does nothing", cmd.CommandPath())
	}
	return cmd.ValidateArgs(cmd.Flags().Args())
}

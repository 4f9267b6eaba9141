package clab

import (
	"fmt"
	"os"
	"regexp"
	"strings"
)

// maxEnvFile bounds a file of variables, in bytes.
const maxEnvFile = 1 << 20

// ReadEnvFile reads the variables of an env-file. It reads what containerlab's
// reader reads of files that people write: NAME=value or NAME: value per line,
// "export" before it, comments, quotes, \n in double quotes, and $NAME of
// variables further up in the file. Faults come with the line.
func ReadEnvFile(path string) (map[string]string, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("env-file: %w", err)
	}
	if len(data) > maxEnvFile {
		return nil, fmt.Errorf("env-file %s: more than %d bytes", path, maxEnvFile)
	}
	env, err := ParseEnv(string(data))
	if err != nil {
		return nil, fmt.Errorf("env-file %s:%w", path, err)
	}
	return env, nil
}

var envLine = regexp.MustCompile(`^\s*(?:export\s+)?([A-Za-z0-9_.]+)\s*[=:]\s*(.*)$`)

// ParseEnv reads variables from text; an error begins with the line.
func ParseEnv(text string) (map[string]string, error) {
	out := map[string]string{}
	lines := strings.Split(strings.ReplaceAll(text, "\r\n", "\n"), "\n")
	for i := 0; i < len(lines); i++ {
		if trimmed := strings.TrimSpace(lines[i]); trimmed == "" || trimmed[0] == '#' {
			continue
		}
		m := envLine.FindStringSubmatch(lines[i])
		if m == nil {
			return nil, fmt.Errorf("%d: needs NAME=value, got %q", i+1, lines[i])
		}
		name, value := m[1], m[2]
		if value == "" || value[0] != '"' && value[0] != '\'' {
			out[name] = expandEnv(plainValue(value), out)
			continue
		}
		first := i
		for closing(value) < 0 { // a quoted value may go over several lines
			if i++; i == len(lines) {
				return nil, fmt.Errorf("%d: the quote is not closed", first+1)
			}
			value += "\n" + lines[i]
		}
		end := closing(value)
		if rest := strings.TrimSpace(value[end+1:]); rest != "" && rest[0] != '#' {
			return nil, fmt.Errorf("%d: %q after the closing quote", i+1, rest)
		}
		out[name] = value[1:end]
		if value[0] == '"' {
			out[name] = expandEnv(unescape(value[1:end]), out)
		}
	}
	return out, nil
}

// plainValue ends before a comment, which has a space before it.
func plainValue(v string) string {
	for i := len(v) - 1; i > 0; i-- {
		if v[i] == '#' && (v[i-1] == ' ' || v[i-1] == '\t') {
			v = v[:i]
			break
		}
	}
	return strings.TrimSpace(v)
}

// closing finds the quote that ends a quoted value.
func closing(v string) int {
	for i := 1; i < len(v); i++ {
		if v[i] == v[0] && v[i-1] != '\\' {
			return i
		}
	}
	return -1
}

func unescape(v string) string {
	v = strings.NewReplacer(`\n`, "\n", `\r`, "\r").Replace(v)
	return escaped.ReplaceAllString(v, "$1")
}

var (
	escaped = regexp.MustCompile(`\\([^$])`)
	envRef  = regexp.MustCompile(`(\\)?\$(\()?\{?([A-Z0-9_]+)?\}?`)
)

// expandEnv replaces $NAME and ${NAME} by what the file has said so far.
func expandEnv(v string, env map[string]string) string {
	return envRef.ReplaceAllStringFunc(v, func(ref string) string {
		m := envRef.FindStringSubmatch(ref)
		switch {
		case m[1] != "":
			return ref[1:]
		case m[3] != "":
			return env[m[3]]
		}
		return ref
	})
}

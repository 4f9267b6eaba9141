package clab

import (
	"fmt"
	"regexp"
	"strings"
	"unicode"
	"unicode/utf8"
)

// substitute replaces variables of the environment in the text before it is
// parsed, the way containerlab does: $NAME and ${NAME} where NAME is set and
// not empty, ${NAME:-default} and its relatives, and $$ for a dollar. What
// is not set stays, without its braces. A name begins with a letter or '_';
// $1 and $(…) are left to the node's own shell.
func substitute(data []byte, lookup func(string) (string, bool)) ([]byte, error) {
	s := scanner{in: string(data), lookup: lookup}
	var out strings.Builder
	for s.pos < len(s.in) {
		i := strings.IndexByte(s.in[s.pos:], '$')
		if i < 0 {
			out.WriteString(s.in[s.pos:])
			break
		}
		out.WriteString(s.in[s.pos : s.pos+i])
		s.pos += i + 1
		text, err := s.dollar()
		if err != nil {
			return nil, err
		}
		out.WriteString(text)
	}
	return []byte(out.String()), nil
}

// scanner stands behind a dollar sign.
type scanner struct {
	in     string
	pos    int
	lookup func(string) (string, bool)
}

// dollar reads what a dollar sign introduces.
func (s *scanner) dollar() (string, error) {
	r, w := utf8.DecodeRuneInString(s.in[s.pos:])
	switch {
	case r == '$':
		s.pos++
		return "$", nil
	case r == '{':
		s.pos++
		return s.braces()
	case w > 0 && isWord(r) && !unicode.IsDigit(r):
		name := s.word()
		if name == "_" {
			return "$_", nil
		}
		return s.value(name), nil
	}
	return "$", nil
}

// braces reads "NAME}" or "NAME operator default}".
func (s *scanner) braces() (string, error) {
	if r, _ := utf8.DecodeRuneInString(s.in[s.pos:]); unicode.IsDigit(r) {
		return "${", nil
	}
	start := s.pos
	line := 1 + strings.Count(s.in[:start], "\n")
	end := strings.IndexAny(s.in[s.pos:], "}\r\n")
	if end < 0 || s.in[s.pos+end] != '}' {
		return "", fmt.Errorf("line %d: ${ without a closing brace", line)
	}
	name := s.word()
	rest := s.in[s.pos : start+end]
	s.pos = start + end + 1
	if !readable.MatchString(rest) || name == "" {
		// Containerlab makes something of it, but nothing that its author
		// can have meant.
		return "", fmt.Errorf("line %d: %s is no ${NAME} and no ${NAME:-default}", line, s.in[start-2:s.pos])
	}
	return s.expand(name, rest), nil
}

// readable matches what may stand between a name and the closing brace: an
// operator, and a default that is plain or one variable.
var readable = regexp.MustCompile(`^(?::?[-=+](?:\$[A-Za-z_]\w*|[^$:+=-][^$]*)?|)$`)

// expand applies an operator, as a shell would.
func (s *scanner) expand(name, rest string) string {
	v, set := s.lookup(name)
	for _, op := range []string{":-", ":=", ":+", "-", "=", "+"} {
		word, ok := strings.CutPrefix(rest, op)
		if !ok {
			continue
		}
		if ref, ok := strings.CutPrefix(word, "$"); ok && ref != "" {
			word = s.value(ref)
		}
		switch {
		case strings.HasSuffix(op, "+"):
			if set {
				return word
			}
			return ""
		case strings.HasPrefix(op, ":") && v != "", !strings.HasPrefix(op, ":") && set:
			return s.value(name)
		}
		return word
	}
	return s.value(name)
}

// word reads a run of letters, digits and underscores.
func (s *scanner) word() string {
	start := s.pos
	for s.pos < len(s.in) {
		r, w := utf8.DecodeRuneInString(s.in[s.pos:])
		if !isWord(r) {
			break
		}
		s.pos += w
	}
	return s.in[start:s.pos]
}

func isWord(r rune) bool { return r == '_' || unicode.IsLetter(r) || unicode.IsDigit(r) }

// value is a variable's, or its name where it has none.
func (s *scanner) value(name string) string {
	if v, _ := s.lookup(name); v != "" {
		return v
	}
	return "$" + name
}

package strictyaml

import (
	"fmt"
	"slices"
	"strings"
)

// Position is a place in a file; Line and Column count from 1.
type Position struct {
	File         string
	Line, Column int
}

// String is "file:line:column", as editors understand it.
func (p Position) String() string { return fmt.Sprintf("%s:%d:%d", p.File, p.Line, p.Column) }

// Error is one fault of a document.
type Error struct {
	File         string
	Line, Column int
	Msg          string
}

// Error is "file:line:column: message".
func (e *Error) Error() string {
	return fmt.Sprintf("%s:%d:%d: %s", e.File, e.Line, e.Column, e.Msg)
}

// Errors are the faults of one or more documents, in order of position.
type Errors []*Error

// Error is one fault per line.
func (e Errors) Error() string {
	lines := make([]string, len(e))
	for i, one := range e {
		lines[i] = one.Error()
	}
	return strings.Join(lines, "\n")
}

// Unwrap lets errors.As find single faults.
func (e Errors) Unwrap() []error {
	out := make([]error, len(e))
	for i, one := range e {
		out[i] = one
	}
	return out
}

// Err sorts the faults by position and returns them as an error, which is
// nil when there are none.
func (e Errors) Err() error {
	if len(e) == 0 {
		return nil
	}
	slices.SortStableFunc(e, func(a, b *Error) int {
		if c := strings.Compare(a.File, b.File); c != 0 {
			return c
		}
		if a.Line != b.Line {
			return a.Line - b.Line
		}
		return a.Column - b.Column
	})
	return e
}

// Nearest finds the valid word that was probably meant, for messages such as
// "did you mean". It is empty when nothing is near.
func Nearest(word string, valid []string) string {
	best, bestDist := "", max(1, min(3, len(word)/3))+1
	for _, v := range valid {
		if d := distance(strings.ToLower(word), strings.ToLower(v)); d < bestDist {
			best, bestDist = v, d
		}
	}
	return best
}

// distance is the number of insertions, deletions, replacements and swaps
// of neighbours that turn a into b (optimal string alignment).
func distance(a, b string) int {
	if len(a) > 64 || len(b) > 64 {
		return 65
	}
	var rows [3][65]int // the row before the previous, previous, current
	for j := range len(b) + 1 {
		rows[1][j] = j
	}
	for i := 1; i <= len(a); i++ {
		before, prev, cur := &rows[0], &rows[1], &rows[2]
		cur[0] = i
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			cur[j] = min(prev[j]+1, cur[j-1]+1, prev[j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				cur[j] = min(cur[j], before[j-2]+1)
			}
		}
		rows[0], rows[1] = rows[1], rows[2]
	}
	return rows[1][len(b)]
}

// didYouMean is the tail of a message about an unknown word.
func didYouMean(word string, valid []string) string {
	if near := Nearest(word, valid); near != "" {
		return fmt.Sprintf(" (did you mean %q?)", near)
	}
	if n := len(valid); n > 0 && n <= 12 {
		return " (valid: " + strings.Join(valid, ", ") + ")"
	}
	return ""
}

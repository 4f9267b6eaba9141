package audit

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

// checkpointFile holds the signed checkpoints, oldest first, a blank line
// between two.
const checkpointFile = "checkpoints"

// Checkpoint says which root the log had over its first Size entries.
type Checkpoint struct {
	Size int64     `json:"size"`
	Root tlog.Hash `json:"root"`
	Key  string    `json:"key"` // name of the key that signed it
	// Where it was read: the file and the line of its size.
	File string `json:"file,omitempty"`
	Line int    `json:"line,omitempty"`
}

// sign returns the note for a tree, in the form of C2SP's tlog-checkpoint: the
// log's name, the size, the root, a blank line, the signature.
func (k key) sign(t *tree) (string, error) {
	text := fmt.Sprintf("%s\n%d\n%s\n", k.Name(), t.size, t.hash())
	raw, err := note.Sign(&note.Note{Text: text}, k.Signer)
	return string(raw), err
}

// parseCheckpoint reads one signed note.
func parseCheckpoint(raw string, known note.Verifiers) (Checkpoint, error) {
	n, err := note.Open([]byte(raw), known)
	if err != nil {
		return Checkpoint{}, err
	}
	// Spare bits would let one signature be written in several ways.
	if _, err := base64.StdEncoding.Strict().DecodeString(n.Sigs[0].Base64); err != nil {
		return Checkpoint{}, fmt.Errorf("signature: %w", err)
	}
	lines := strings.Split(n.Text, "\n")
	if len(lines) < 4 || lines[0] != n.Sigs[0].Name {
		return Checkpoint{}, errors.New("is no checkpoint of the key that signed it")
	}
	c := Checkpoint{Key: n.Sigs[0].Name}
	if c.Size, err = strconv.ParseInt(lines[1], 10, 64); err != nil || c.Size < 0 || strconv.FormatInt(c.Size, 10) != lines[1] {
		return Checkpoint{}, fmt.Errorf("%q is no size", lines[1])
	}
	c.Root, err = tlog.ParseHash(lines[2])
	return c, err
}

// foundNote is a signed note and where it stood.
type foundNote struct {
	text string
	line int // of its size
}

// wholeNotes reads a checkpoint file, in which each note ends with a blank line
// behind its signatures. It returns those that are complete and how many bytes
// they take up.
func wholeNotes(raw []byte) (notes []foundNote, size int) {
	begin, line := 0, 1
	signed := false
	first := line
	for at := 0; at < len(raw); line++ {
		n := bytes.IndexByte(raw[at:], '\n')
		if n < 0 {
			break
		}
		text := raw[at : at+n]
		at += n + 1
		switch {
		case bytes.HasPrefix(text, []byte("— ")):
			signed = true
		case len(text) == 0 && signed:
			notes = append(notes, foundNote{string(raw[begin : at-1]), first + 1})
			begin, size, first, signed = at, at, line+1, false
		}
	}
	return notes, size
}

// findNotes reads notes that somebody else kept: a checkpoint file, one note,
// or lines of a log that quote them in a field named checkpoint, as ours do.
func findNotes(raw []byte) []foundNote {
	var quoted []foundNote
	for i, line := range strings.Split(string(raw), "\n") {
		if text, ok := quotedNote(line); ok {
			quoted = append(quoted, foundNote{text, i + 1})
		}
	}
	if len(quoted) > 0 {
		return quoted
	}
	notes, _ := wholeNotes(append(bytes.TrimRight(raw, "\n"), "\n\n"...))
	return notes
}

// quotedNote finds a note in a line of a log, whatever stands before it:
// checkpoint="..." in text, "checkpoint":"..." in JSON.
func quotedNote(line string) (text string, ok bool) {
	if _, rest, found := strings.Cut(line, `checkpoint="`); found {
		quoted, err := strconv.QuotedPrefix(`"` + rest)
		if err != nil {
			return "", false
		}
		text, err = strconv.Unquote(quoted)
		return text, err == nil
	}
	if _, rest, found := strings.Cut(line, `"checkpoint":`); found {
		ok = json.NewDecoder(strings.NewReader(rest)).Decode(&text) == nil && text != ""
	}
	return text, ok
}

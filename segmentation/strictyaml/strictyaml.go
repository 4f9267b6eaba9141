// Package strictyaml decodes YAML without forgiving anything: unknown keys,
// duplicate keys and values of the wrong type are errors with file, line and
// column, and all of them are reported, not only the first. A configuration
// that means something else than its author thinks must never take effect in
// a network.
//
// Aliases and merge keys work, within bounds that make alias bombs harmless.
package strictyaml

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"gopkg.in/yaml.v3"
)

const (
	// maxBytes bounds a document; the largest policy files are far below.
	maxBytes = 16 << 20
	// maxDepth bounds nesting, and with it recursion, alias cycles included.
	maxDepth = 64
	// aliasFactor bounds by how much aliases may multiply the nodes that
	// the document writes out, above a floor of aliasFloor.
	aliasFactor = 10
	aliasFloor  = 10_000
	// maxDocs bounds the documents of a stream.
	maxDocs = 10_000
	// maxErrors is how many errors are worth reading at once.
	maxErrors = 50
)

// Decode decodes one YAML document into out, a pointer. Fields that the
// document does not name keep the value they have, so defaults are set
// before. The error is of type Errors when the document is at fault.
func Decode(file string, data []byte, out any) error {
	doc, err := Parse(file, data)
	if err != nil {
		return err
	}
	return doc.Decode(out)
}

// Doc is a parsed document that remembers where everything stands.
type Doc struct {
	file string
	root *yaml.Node // nil when the document is empty
	// start is where the document begins, which may be before its first value.
	start *yaml.Node
	size  int // nodes written out
}

// Parse parses one YAML document. The file is only a name for messages.
func Parse(file string, data []byte) (*Doc, error) {
	docs, err := parse(file, data, 2)
	switch {
	case err != nil:
		return nil, err
	case len(docs) == 0:
		return &Doc{file: file}, nil
	case len(docs) > 1:
		second := docs[1].start
		return nil, Errors{{File: file, Line: second.Line, Column: second.Column, Msg: "a second document starts here; one file holds one document"}}
	}
	return docs[0], nil
}

// ParseAll parses a stream of YAML documents, without those that are empty.
func ParseAll(file string, data []byte) ([]*Doc, error) {
	docs, err := parse(file, data, maxDocs+1)
	if err != nil {
		return nil, err
	}
	if len(docs) > maxDocs {
		at := docs[maxDocs].start
		return nil, Errors{{File: file, Line: at.Line, Column: at.Column, Msg: fmt.Sprintf("more than %d documents", maxDocs)}}
	}
	return slices.DeleteFunc(docs, func(d *Doc) bool { return isNull(d.root) }), nil
}

// parse parses the first documents of a stream.
func parse(file string, data []byte, most int) ([]*Doc, error) {
	if len(data) > maxBytes {
		return nil, Errors{{File: file, Line: 1, Column: 1, Msg: fmt.Sprintf("file has more than %d bytes", maxBytes)}}
	}
	dec := yaml.NewDecoder(bytes.NewReader(data))
	var docs []*Doc
	for len(docs) < most {
		var node yaml.Node
		switch err := dec.Decode(&node); {
		case errors.Is(err, io.EOF):
			return docs, nil
		case err != nil:
			return nil, Errors{syntaxError(file, err)}
		}
		docs = append(docs, &Doc{file: file, root: node.Content[0], start: &node, size: count(&node, 0)})
	}
	return docs, nil
}

// Decode decodes the document into out, a pointer.
func (d *Doc) Decode(out any) error {
	v := reflect.ValueOf(out)
	if v.Kind() != reflect.Pointer || v.IsNil() {
		return fmt.Errorf("strictyaml: decode into %T: need a pointer", out)
	}
	if d.root == nil {
		return nil
	}
	dec := &decoder{file: d.file, budget: d.size*aliasFactor + aliasFloor}
	dec.value(d.root, v.Elem(), "", 0)
	return dec.errs.Err()
}

// File is the name given to Parse.
func (d *Doc) File() string { return d.file }

// count counts nodes without following aliases. Depth ends it early: a
// deeper document is refused when decoded.
func count(n *yaml.Node, depth int) int {
	if depth > maxDepth {
		return 0
	}
	total := 1
	for _, c := range n.Content {
		total += count(c, depth+1)
	}
	return total
}

var yamlLine = regexp.MustCompile(`^(?:yaml: )?line (\d+): (.*)$`)

// syntaxError gives the parser's error a position. The parser knows lines
// only, and not always.
func syntaxError(file string, err error) *Error {
	e := &Error{File: file, Line: 1, Column: 1, Msg: strings.TrimPrefix(err.Error(), "yaml: ")}
	if m := yamlLine.FindStringSubmatch(err.Error()); m != nil {
		if line, convErr := strconv.Atoi(m[1]); convErr == nil && line > 0 {
			e.Line, e.Msg = line, m[2]
		}
	}
	return e
}

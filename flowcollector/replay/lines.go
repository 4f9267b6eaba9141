package replay

import (
	"bufio"
	"bytes"
	"errors"
	"io"

	"github.com/platelet-sdn/platelet/flowcollector/flow"
)

// maxLine bounds a line of a log, in bytes. The longest that we know, a Zeek row
// with many tunnel parents, is a few KB.
const maxLine = 1 << 20

var (
	errLineTooLong = errors.New("line too long")
	errNotText     = errors.New("line contains a NUL byte")
)

// rowParser turns one line of a log into records.
type rowParser interface {
	row(line []byte, batch []flow.Record) ([]flow.Record, error)
}

// lineDecoder reads a log line by line. It is a decoder.
type lineDecoder struct {
	name   string
	r      *bufio.Reader
	parser rowParser
	line   int64
	long   []byte // the beginning of a line longer than r's buffer
}

func newLineDecoder(name string, r *bufio.Reader, p rowParser) *lineDecoder {
	return &lineDecoder{name: name, r: r, parser: p}
}

func (d *lineDecoder) next(batch []flow.Record) ([]flow.Record, error) {
	line, err := d.read()
	switch {
	case errors.Is(err, errLineTooLong):
	case err != nil && (len(line) == 0 || !errors.Is(err, io.EOF)):
		return batch, err
	default:
		batch, err = d.parse(line, batch)
	}
	d.line++
	if err != nil {
		return batch, &Fault{Input: d.name, Position: d.line, Err: err}
	}
	return batch, nil
}

func (d *lineDecoder) parse(line []byte, batch []flow.Record) ([]flow.Record, error) {
	line = bytes.TrimRight(trimBOM(line), "\r\n")
	switch {
	case len(bytes.TrimSpace(line)) == 0:
		return batch, nil
	case bytes.IndexByte(line, 0) >= 0:
		return batch, errNotText
	}
	return d.parser.row(line, batch)
}

// read returns the next line. What exceeds maxLine is skipped, not kept.
func (d *lineDecoder) read() ([]byte, error) {
	d.long = d.long[:0]
	tooLong := false
	for {
		part, err := d.r.ReadSlice('\n')
		if err == nil && len(d.long) == 0 && !tooLong {
			return part, nil
		}
		if !tooLong {
			d.long = append(d.long, part...)
		}
		if len(d.long) > maxLine {
			tooLong, d.long = true, d.long[:0]
		}
		switch {
		case errors.Is(err, bufio.ErrBufferFull):
		case tooLong:
			return nil, errLineTooLong
		default:
			return d.long, err
		}
	}
}

func trimBOM(line []byte) []byte { return bytes.TrimPrefix(line, []byte("\xef\xbb\xbf")) }

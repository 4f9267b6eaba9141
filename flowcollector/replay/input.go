package replay

import (
	"bufio"
	"bytes"
	"compress/flate"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/platelet-sdn/platelet/flowcollector/flow"
)

// peekLen is how much of an input is looked at to find out what it is. It has
// to hold the first line of a log.
const peekLen = 64 << 10

// input is one open file with the decoder that reads it.
type input struct {
	name  string
	file  io.Closer // nil for standard input
	order *orderer
	// untemplated counts the data sets without a template.
	untemplated int64
}

func openInput(name string, opts Options, window int) (*input, error) {
	raw, file, err := openFile(name, opts)
	if err != nil {
		return nil, err
	}
	in := &input{name: name, file: file}
	torn := &tornReader{r: raw}
	r := bufio.NewReaderSize(torn, peekLen)
	if head, _ := r.Peek(2); bytes.Equal(head, []byte{0x1f, 0x8b}) { // RFC 1952, section 2.3.1
		zr, err := gzip.NewReader(r)
		if err != nil {
			return nil, errors.Join(fmt.Errorf("gzip header: %w", err), in.close())
		}
		torn = &tornReader{r: zr}
		r = bufio.NewReaderSize(torn, peekLen)
	}
	src, err := in.newDecoder(r, opts)
	if err != nil {
		return nil, errors.Join(err, in.close())
	}
	if _, ok := src.(*pcapDecoder); ok {
		window = min(window, captureWindow)
	}
	in.order = newOrderer(&tornDecoder{decoder: src, name: name, torn: torn}, window)
	return in, nil
}

func openFile(name string, opts Options) (io.Reader, io.Closer, error) {
	if name == Stdin {
		if opts.Stdin == nil {
			return nil, nil, errors.New("no standard input given")
		}
		return opts.Stdin, nil, nil
	}
	f, err := os.Open(name)
	if err != nil {
		return nil, nil, err
	}
	return f, f, nil
}

func (in *input) close() error {
	if in.file == nil {
		return nil
	}
	file := in.file
	in.file = nil
	return file.Close()
}

// newDecoder finds out what r holds and returns the decoder for it.
func (in *input) newDecoder(r *bufio.Reader, opts Options) (decoder, error) {
	head, err := r.Peek(peekLen)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	format, err := Detect(head)
	if err != nil {
		return nil, err
	}
	name := in.name
	row := labeller{input: name, call: opts.Label}
	switch format {
	case FormatPcap, FormatPcapng:
		return newPcapDecoder(name, r, format, newExports(opts.SkipEgress, func() { in.untemplated++ }))
	case FormatZeekTSV:
		return newLineDecoder(name, r, newZeekTSV(row)), nil
	case FormatZeekJSON:
		return newLineDecoder(name, r, &zeekJSON{label: row}), nil
	case FormatGoflow:
		return newLineDecoder(name, r, &goflow{}), nil
	case FormatArgus:
		return newLineDecoder(name, r, &argus{label: row}), nil
	default:
		return newLineDecoder(name, r, &flowCSV{label: row}), nil
	}
}

// tornReader makes a torn compressed file end where it is torn, so that what
// came before can be used.
type tornReader struct {
	r   io.Reader
	err error
}

// Read implements io.Reader.
func (t *tornReader) Read(p []byte) (int, error) {
	if t.err != nil {
		return 0, io.EOF
	}
	n, err := t.r.Read(p)
	var corrupt flate.CorruptInputError
	if errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, gzip.ErrChecksum) ||
		errors.Is(err, gzip.ErrHeader) || errors.As(err, &corrupt) {
		t.err, err = err, io.EOF
	}
	return n, err
}

// tornDecoder reports the tear after everything else. It is a decoder.
type tornDecoder struct {
	decoder
	name     string
	torn     *tornReader
	position int64
	reported bool
}

func (d *tornDecoder) next(batch []flow.Record) ([]flow.Record, error) {
	batch, err := d.decoder.next(batch)
	if errors.Is(err, io.EOF) && d.torn.err != nil && !d.reported {
		d.reported = true
		return batch, &Fault{Input: d.name, Position: d.position, Err: d.torn.err}
	}
	d.position++
	return batch, err
}

package replay

import "github.com/platelet-sdn/platelet/flowcollector/flow"

// rowReader parses the fields of a row and keeps the first error, so that a row
// is read as a list and checked once.
type rowReader struct {
	err error
}

func keep[T any](p *rowReader, v T, err error) T {
	if p.err == nil {
		p.err = err
	}
	return v
}

func (p *rowReader) time(field, s string) int64 {
	v, err := parseTime(field, s)
	return keep(p, v, err)
}

func (p *rowReader) seconds(field, s string) int64 {
	v, err := parseSeconds(field, s)
	return keep(p, v, err)
}

func (p *rowReader) count(field, s string) uint64 {
	v, err := parseCount(field, s)
	return keep(p, v, err)
}

func (p *rowReader) port(field, s string) uint16 {
	v, err := parsePort(field, s)
	return keep(p, v, err)
}

func (p *rowReader) endpoint(field, s string) endpoint {
	v, err := parseEndpoint(field, s)
	return keep(p, v, err)
}

// labeller passes the labels of an input's rows on, if anybody wants them.
type labeller struct {
	input string
	call  func(Label)
}

func (l labeller) row(c *conversation, text, detail string) {
	if l.call == nil || unset(text) && unset(detail) {
		return
	}
	l.call(Label{
		Input: l.input, Time: c.start, Duration: c.duration,
		Src: c.src.addr, Dst: c.dst.addr, SrcPort: c.srcPort, DstPort: c.dstPort,
		Proto: c.proto, Class: classify(text), Text: text, Detail: detail,
	})
}

// finish reports a row's label and appends its records.
func (l labeller) finish(c *conversation, text, detail string, batch []flow.Record) []flow.Record {
	l.row(c, text, detail)
	return c.records(batch)
}
